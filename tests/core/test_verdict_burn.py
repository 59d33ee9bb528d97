"""Burn rates of an objective over several windows, on a clock that is an argument."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.verdict import Judgement, Verdict
from spinyard.core.verdict.burn import DAY, PERIOD, BurnObjective, BurnSeries, Pair, add, judge_burn, pack, unpack

START = 1_900_000_000.0
MONTH = BurnObjective(0.999)
TEN_MINUTES = BurnObjective(0.99, window_seconds=100 * 60.0)
"""the longest window of 3 of 30 days is ten minutes here"""


def seen(objective: BurnObjective, *stretches: tuple[float, float, float, float], step: float = 1.0) -> BurnSeries:
    """(from, until, requests a second, share that is bad), in seconds after START; a reading each `step`."""
    series = BurnSeries()
    for begin, end, rate, bad_share in stretches:
        for n in range(round((end - begin) / step)):
            events = round(rate * step)
            bad = round(events * bad_share)
            series = add(series, objective, at=START + begin + (n + 1) * step, good=events - bad, bad=bad)
    return series


def at(series: BurnSeries, objective: BurnObjective, after: float) -> Judgement:
    return judge_burn(series, objective, now=START + after)


def test_nothing_seen_is_not_decided_and_says_what_is_missing() -> None:
    judgement = judge_burn(BurnSeries(), MONTH, now=START)
    assert (judgement.verdict, judgement.missing) == (Verdict.INCONCLUSIVE, "a first reading")


def test_no_first_reading_for_ninety_seconds_is_an_outage_too() -> None:
    assert judge_burn(BurnSeries(), MONTH, now=START + 90.0, since=START).verdict is Verdict.INCONCLUSIVE
    assert judge_burn(BurnSeries(), MONTH, now=START + 91.0, since=START).verdict is Verdict.FAIL


def test_a_healthy_service_passes_with_its_figures() -> None:
    judgement = at(seen(TEN_MINUTES, (0, 60, 20, 0.0)), TEN_MINUTES, 60)
    assert judgement.verdict is Verdict.PASS
    assert (judgement.value_new, judgement.unit) == (0.0, "x the budget")
    assert "the objective 0.99 over 1.67 h" in judgement.why


@pytest.mark.parametrize(
    ("bad_share", "seconds", "expected"),
    [(1.0, 5, Verdict.FAIL), (0.2, 30, Verdict.FAIL), (0.005, 600, Verdict.PASS), (0.02, 600, Verdict.FAIL)],
    ids=["all bad", "20 times the budget", "half of it", "twice of it"],
)
def test_a_steady_rate_of_errors_is_judged_by_the_budget(bad_share: float, seconds: float, expected: Verdict) -> None:
    objective = TEN_MINUTES
    series = seen(objective, (0, seconds, 200, bad_share))
    assert at(series, objective, seconds).verdict is expected


def test_twenty_percent_errors_at_fifty_a_second_are_found_within_seconds() -> None:
    series = seen(TEN_MINUTES, (0, 120, 50, 0.0))
    for second in range(1, 60):
        series = add(series, TEN_MINUTES, at=START + 120 + second, good=40, bad=10)
        if at(series, TEN_MINUTES, 120 + second).verdict is Verdict.FAIL:
            break
    assert second <= 10


def test_what_is_over_does_not_go_on_failing() -> None:
    """Bad for 20 s: it fails by the long windows' memory only as long as the short ones are bad too."""
    broken = seen(TEN_MINUTES, (0, 60, 50, 0.0), (60, 80, 50, 0.5))
    assert at(broken, TEN_MINUTES, 80).verdict is Verdict.FAIL
    mended = broken
    for second in range(1, 61):
        mended = add(mended, TEN_MINUTES, at=START + 80 + second, good=50, bad=0)
    assert at(mended, TEN_MINUTES, 140).verdict is Verdict.PASS


def test_a_moment_in_a_month_is_not_an_outage_but_an_hour_of_two_percent_is() -> None:
    blip = seen(MONTH, (0, 6 * 3600, 100, 0.0), (6 * 3600, 6 * 3600 + 20, 100, 0.5), step=10.0)
    assert at(blip, MONTH, 6 * 3600 + 20).verdict is Verdict.PASS
    worse = seen(MONTH, (0, 3600, 100, 0.0), (3600, 2 * 3600, 100, 0.02), step=10.0)
    judgement = at(worse, MONTH, 2 * 3600)
    assert judgement.verdict is Verdict.FAIL
    assert "the limit is 14.4" in judgement.why


def test_slow_spending_is_seen_by_the_long_windows_only() -> None:
    series = seen(MONTH, (0, 3 * DAY, 10, 0.002), step=600.0)
    judgement = at(series, MONTH, 3 * DAY)
    assert judgement.verdict is Verdict.FAIL
    assert "over 3 d" in judgement.why


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [(0, 0, Verdict.INCONCLUSIVE), (20, 20, Verdict.INCONCLUSIVE), (96, 4, Verdict.PASS), (50, 50, Verdict.FAIL)],
    ids=["no events", "too few events", "too few bad ones", "enough of both"],
)
def test_a_few_bad_requests_of_few_do_not_fail(good: int, bad: int, expected: Verdict) -> None:
    series = add(BurnSeries(), MONTH, at=START, good=good, bad=bad)
    judgement = judge_burn(series, MONTH, now=START)
    assert judgement.verdict is expected
    if expected is Verdict.INCONCLUSIVE:
        assert judgement.needs == 50 - good - bad
        assert f"needs {judgement.needs} more events" in judgement.why


def test_silence_first_stops_passing_then_counts_as_an_outage() -> None:
    series = seen(TEN_MINUTES, (0, 60, 20, 0.0))
    assert at(series, TEN_MINUTES, 60 + 15).verdict is Verdict.PASS
    stale = at(series, TEN_MINUTES, 60 + 40)
    assert (stale.verdict, stale.missing) == (Verdict.INCONCLUSIVE, "a reading that is not stale")
    absent = at(series, TEN_MINUTES, 60 + 94)
    assert absent.verdict is Verdict.FAIL
    assert absent.why == "no data for 94 s counts as an outage (after 90 s)"
    assert absent.missing == "any reading"


def test_readings_without_events_are_data_and_not_an_outage() -> None:
    quiet = seen(TEN_MINUTES, (0, 60, 20, 0.0), (60, 400, 0, 0.0))
    assert at(quiet, TEN_MINUTES, 400).verdict is Verdict.PASS
    gone = seen(TEN_MINUTES, (0, 60, 20, 0.0), (60, 1000, 0, 0.0))
    assert at(gone, TEN_MINUTES, 1000).verdict is Verdict.INCONCLUSIVE, "all events are out of the longest window"


def test_old_errors_leave_the_windows() -> None:
    series = seen(TEN_MINUTES, (0, 30, 50, 1.0), (30, 700, 50, 0.0))
    assert at(series, TEN_MINUTES, 700).verdict is Verdict.PASS
    assert at(series, TEN_MINUTES, 700).new.failures == 0


def test_a_clock_that_goes_back_counts_into_the_present() -> None:
    series = seen(TEN_MINUTES, (0, 60, 20, 0.0))
    back = add(series, TEN_MINUTES, at=START + 5, good=0, bad=7)
    assert back.seen_at == series.seen_at
    assert back.tiers[0].bad[-1] == 7


def test_another_objective_s_windows_begin_a_new_series() -> None:
    series = seen(TEN_MINUTES, (0, 60, 20, 1.0))
    assert judge_burn(series, MONTH, now=START + 60).missing == "a reading for these"
    fresh = add(series, MONTH, at=START + 61, good=3, bad=0)
    assert sum(fresh.tiers[0].good) == 3
    assert sum(fresh.tiers[0].bad) == 0


def test_a_series_is_bounded_and_goes_through_json_and_bytes() -> None:
    series = BurnSeries()
    for n in range(1_000):
        series = add(series, MONTH, at=START + n * 6 * 3600.0 / 7, good=123_456_789, bad=9_876_543)
    assert all(len(tier.good) <= 36 for tier in series.tiers)
    assert len(pack(series)) <= 1_300
    assert len(msgspec.json.encode(series)) <= 3_500
    assert unpack(pack(series)) == series
    assert msgspec.json.decode(msgspec.json.encode(series), type=BurnSeries) == series


@given(st.lists(st.tuples(st.floats(0, 4_000), st.integers(0, 90), st.integers(0, 90)), max_size=25))
@settings(max_examples=80)
def test_packing_loses_nothing_and_never_decides_on_an_empty_series(readings: list[tuple[float, int, int]]) -> None:
    series, after = BurnSeries(), 0.0
    assert judge_burn(series, TEN_MINUTES, now=START).verdict is Verdict.INCONCLUSIVE
    for gap, good, bad in readings:
        after += gap
        series = add(series, TEN_MINUTES, at=START + after, good=good, bad=bad)
    assert unpack(pack(series)) == series
    assert sum(sum(tier.good) + sum(tier.bad) for tier in series.tiers) <= 4 * sum(g + b for _, g, b in readings)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=40), st.integers(0, 39))
@settings(max_examples=80)
def test_an_error_instead_of_a_success_never_makes_it_better(readings: list[tuple[int, int]], which: int) -> None:
    order = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 2}

    def verdict(changed: bool) -> Verdict:
        series = BurnSeries()
        for n, (good, bad) in enumerate(readings):
            moved = good if changed and n == which % len(readings) else 0
            series = add(series, TEN_MINUTES, at=START + n, good=good - moved, bad=bad + moved)
        return at(series, TEN_MINUTES, len(readings) - 1).verdict

    assert order[verdict(True)] >= order[verdict(False)]


@pytest.mark.parametrize("packed", [b"x", b"\0" * 8 + b"\4", pack(seen(TEN_MINUTES, (0, 3, 5, 0.0))) + b"!"])
def test_what_is_no_series_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed series"):
        unpack(packed)
    assert unpack(b"") == BurnSeries()


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": 1.0},
        {"target": 0.0},
        {"window_seconds": 0.0},
        {"events_min": 0},
        {"errors_min": 0},
        {"stale_seconds": 100.0},
        {"pairs": ()},
        {"pairs": (Pair(1.0, 10.0, 20.0),)},
        {"pairs": (Pair(1.0, PERIOD, 60.0),)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_an_objective_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(MONTH, **wrong)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="no counts"):
        add(BurnSeries(), MONTH, at=START, good=-1, bad=0)
