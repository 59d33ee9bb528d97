"""The judge on latency: histograms are folded, one verdict for each goal is asked for. Its bets are checked by adding
up all outcomes, and over whole ramps with a fixed seed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict
from random import Random
from statistics import median

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.verdict import (
    Histogram,
    Judgement,
    LatencyEvidence,
    LatencyIncrement,
    QuantileGoal,
    QuantileLimit,
    Verdict,
    decide_latency,
    fold_latency,
    judge_latency,
    judge_latency_alone,
    of_cumulative,
    quantile_range,
)
from spinyard.core.verdict.histogram import count_below, count_up_to
from spinyard.core.verdict.quantile_bets import Limit, _bets, log_e_beyond, log_e_share, log_e_within
from spinyard.core.verdict.quantiles import STRETCH_REQUESTS_MAX

ALPHA = 0.05
FINE = tuple(round(10 * 1.05**n, 3) for n in range(120))
COARSE = (10.0, 20.0, 40.0, 80.0, 160.0)
P50, P95, P99 = (QuantileGoal(q, margin=0.25) for q in (0.5, 0.95, 0.99))
NONE = Histogram()


def histogram(times_ms: Sequence[float], bounds: tuple[float, ...] = FINE) -> Histogram:
    counts = [0] * (len(bounds) + 1)
    for ms in times_ms:
        counts[bisect_right(bounds, ms)] += 1
    return Histogram(bounds, tuple(counts))


def drawn(random: Random, n: int, factor: float = 1.0, plus: float = 0.0, spread: float = 0.6) -> Histogram:
    return histogram([random.lognormvariate(math.log(60.0), spread) * factor + plus for _ in range(n)])


def fed(
    *sides: tuple[Histogram, Histogram], step: int = 1, share: float = 0.5, evidence: LatencyEvidence | None = None
):
    evidence = evidence or LatencyEvidence()
    for old, new in sides:
        evidence = fold_latency(evidence, LatencyIncrement(step, share, old, new))
    return evidence


def only(evidence: LatencyEvidence, goal: QuantileGoal = P95, alpha: float = ALPHA) -> Judgement:
    (judgement,) = judge_latency(evidence, [goal], alpha=alpha)
    return judgement


small_counts = st.lists(st.integers(0, 40), min_size=len(COARSE) + 1, max_size=len(COARSE) + 1)
histograms = small_counts.map(lambda counts: Histogram(COARSE, tuple(counts)))
goals = st.builds(QuantileGoal, st.sampled_from([0.5, 0.9, 0.99]), st.sampled_from([0.1, 1.0, 3.0]), st.just(0.0))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (NONE, NONE),
        (drawn(Random(1), 5_000), NONE),
        (NONE, drawn(Random(1), 5_000)),
        (NONE, drawn(Random(1), 99, 50.0)),
    ],
    ids=["nothing", "only old", "only new", "only new, very slow"],
)
def test_without_requests_on_both_sides_nothing_is_decided(old: Histogram, new: Histogram) -> None:
    for judgement in judge_latency(fed((old, new)), [P50, P95, P99], alpha=ALPHA):
        assert judgement.verdict is Verdict.INCONCLUSIVE
        assert judgement.missing
        assert (judgement.log_e_fail, judgement.log_e_pass) == (0.0, 0.0)


@given(histograms, goals)
def test_an_empty_side_never_decides_whatever_the_other_one_shows(side: Histogram, goal: QuantileGoal) -> None:
    assert only(fed((side, NONE)), goal).verdict is Verdict.INCONCLUSIVE
    assert only(fed((NONE, side)), goal).verdict is Verdict.INCONCLUSIVE
    assert only(LatencyEvidence(), goal).verdict is Verdict.INCONCLUSIVE


def test_sides_that_are_alike_pass_and_say_with_what() -> None:
    random = Random(2)
    passed = fed((drawn(random, 6_000), drawn(random, 6_000)))
    for judgement in judge_latency(passed, [P50, P95], alpha=0.01):
        assert judgement.verdict is Verdict.PASS
        assert judgement.why.startswith("within the limit: new p")
        assert judgement.new.requests == 6_000
        assert judgement.test == "quantile of two sides"
        assert judgement.unit == "ms"
        assert judgement.missing == ""


def test_four_hundred_milliseconds_more_are_found_within_thirty_requests_of_the_new_side() -> None:
    random, evidence = Random(3), LatencyEvidence()
    while set(decide_latency(evidence, [P50, P95, P99], alpha=0.01)) == {Verdict.INCONCLUSIVE}:
        evidence = fed((drawn(random, 9), drawn(random, 1, plus=400.0)), share=0.1, evidence=evidence)
    verdicts = {str(j.verdict) for j in judge_latency(evidence, [P50, P95, P99], alpha=0.01)}
    assert "fail" in verdicts
    assert "pass" not in verdicts
    assert sum(evidence.new) <= 30


def test_a_slow_tail_fails_the_tail_and_not_the_middle() -> None:
    """One request in ten misses its cache on the new side."""
    random = Random(4)
    slow = histogram(
        [600.0 if random.random() < 0.1 else random.lognormvariate(math.log(60), 0.3) for _ in range(3000)]
    )
    middle, tail = judge_latency(fed((drawn(random, 3_000, spread=0.3), slow)), [P50, P95], alpha=0.01)
    assert (middle.verdict, tail.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert "too slow: new p95" in tail.why


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_what_is_needed_is_about_what_is_needed(share: float) -> None:
    random, told, taken = Random(6), [], []
    for _ in range(9):
        evidence, begun = LatencyEvidence(), 0
        while decide_latency(evidence, [P50], alpha=0.01) == (Verdict.INCONCLUSIVE,):
            if not begun and sum(evidence.new) >= 100:
                begun = sum(evidence.new)
                told.append(only(evidence, P50, 0.01).needs or 0)
            n = max(20, sum(evidence.new) // 8)
            evidence = fed((drawn(random, round(n / share) - n), drawn(random, n)), share=share, evidence=evidence)
        taken.append(sum(evidence.new) - begun)
    assert median(told) / 3 <= median(taken) <= median(told) * 3


def test_nothing_seen_yet_says_the_least_that_can_do() -> None:
    needs = [j.needs or 0 for j in judge_latency(LatencyEvidence(), [P50, P95, P99], alpha=0.01)]
    assert needs == sorted(needs)
    assert needs[0] >= 7
    assert needs[2] >= 459, "0.99 ** 459 is just below 0.01"


def test_bounds_that_are_wider_than_the_margin_never_pass_and_say_so() -> None:
    random = Random(7)
    times = [random.uniform(45.0, 75.0) for _ in range(4_000)]
    alike = fed((histogram(times, COARSE), histogram(times, COARSE)))
    judgement = only(alike, P50, 0.01)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.missing == "a margin of at least 100 % or 40 ms, or finer bounds: 40 to 80 ms is counted as one"
    assert only(alike, QuantileGoal(0.5, margin=1.0), 0.01).verdict is Verdict.PASS
    assert only(alike, QuantileGoal(0.5, absolute_ms=40.0), 0.01).verdict is Verdict.PASS


@given(st.floats(1.0, 200.0), st.floats(1.0, 4.0), st.sampled_from([0.3, 0.9, 3.0]))
@settings(max_examples=60)
def test_a_bucket_is_taken_as_it_is_worst_for_either_verdict(ms: float, ratio: float, margin: float) -> None:
    """All of a side takes the same time: whatever the bounds hide, no verdict contradicts the true times."""
    old, new = histogram([ms] * 2_000, COARSE), histogram([ms * ratio] * 2_000, COARSE)
    verdict = only(fed((old, new)), QuantileGoal(0.5, margin=margin), 0.01).verdict
    assert verdict is not (Verdict.FAIL if ratio <= 1.0 + margin else Verdict.PASS)


@given(histograms, histograms, goals, st.sampled_from([0.1, 0.5]))
@settings(max_examples=150)
def test_a_slower_new_side_never_looks_better(old: Histogram, new: Histogram, goal: QuantileGoal, share: float) -> None:
    slower = Histogram(COARSE, (0, *new.counts[:-2], new.counts[-2] + new.counts[-1]))
    q, limit = goal.quantile, goal.limit
    assert log_e_within(q, limit, share, old, slower) <= log_e_within(q, limit, share, old, new) + 1e-9
    assert log_e_beyond(q, limit, share, old, slower) >= log_e_beyond(q, limit, share, old, new) - 1e-9


@given(histograms, histograms, goals)
@settings(max_examples=100)
def test_a_wider_margin_never_makes_a_pass_harder_or_a_fail_easier(
    old: Histogram, new: Histogram, goal: QuantileGoal
) -> None:
    q, narrow, wide = goal.quantile, goal.limit, Limit(goal.limit.factor * 1.5, 3.0)
    assert log_e_within(q, wide, 0.5, old, new) >= log_e_within(q, narrow, 0.5, old, new) - 1e-9
    assert log_e_beyond(q, wide, 0.5, old, new) <= log_e_beyond(q, narrow, 0.5, old, new) + 1e-9


@given(histograms, histograms, goals)
@settings(max_examples=100)
def test_both_verdicts_are_never_shown_at_once(old: Histogram, new: Histogram, goal: QuantileGoal) -> None:
    q, limit, bound = goal.quantile, goal.limit, math.log(1.0 / ALPHA)
    if old.total and new.total:
        both = log_e_within(q, limit, 0.5, old, new), log_e_beyond(q, limit, 0.5, old, new)
        assert min(both) < bound


@given(st.lists(st.tuples(histograms, histograms), min_size=1, max_size=4), goals, st.sampled_from([0.01, 0.3]))
@settings(max_examples=150)
def test_the_short_way_to_a_verdict_says_the_same(
    parts: list[tuple[Histogram, Histogram]], goal: QuantileGoal, alpha: float
) -> None:
    evidence = fed(*[part for part in parts for _ in range(3)])
    asked = [goal, P50, P99]
    judged = judge_latency(evidence, asked, alpha=alpha)
    assert decide_latency(evidence, asked, alpha=alpha) == tuple(judgement.verdict for judgement in judged)


@given(st.lists(st.tuples(histograms, histograms), min_size=1, max_size=5))
@settings(max_examples=50)
def test_it_does_not_matter_in_how_many_measurements_a_step_came(parts: list[tuple[Histogram, Histogram]]) -> None:
    old = sum((part[0] for part in parts), NONE)
    new = sum((part[1] for part in parts), NONE)
    assert only(fed(*parts)) == only(fed((old, new)))


def test_each_step_must_be_passed_on_its_own_evidence() -> None:
    random = Random(8)
    first = fed((drawn(random, 5_000), drawn(random, 5_000)))
    assert only(first, P50).verdict is Verdict.PASS
    second = fed((drawn(random, 20), drawn(random, 20)), step=2, evidence=first)
    assert only(second, P50).verdict is Verdict.INCONCLUSIVE
    assert sum(second.new) == 20


def test_totals_that_lie_because_weight_and_load_moved_together_are_not_compared() -> None:
    random = Random(9)
    quiet = fed((drawn(random, 9_000), drawn(random, 1_000)), share=0.1)
    busy = fed((drawn(random, 1_000, 3.0), drawn(random, 1_000, 3.0)), step=2, evidence=quiet)
    assert only(busy, P50, 0.01).verdict is Verdict.PASS


def test_a_version_that_turns_slow_after_an_hour_is_found_within_seconds() -> None:
    random, evidence = Random(10), LatencyEvidence()
    good = [(drawn(random, 500), drawn(random, 500)) for _ in range(20)]
    evidence = fed(*(good * 9))
    assert sum(evidence.new) == 90_000
    assert only(evidence, P50, 0.01).verdict is Verdict.PASS
    seconds = 0
    while only(evidence, P50, 0.01).verdict is not Verdict.FAIL and seconds < 60:
        evidence, seconds = fed((drawn(random, 25), drawn(random, 25, plus=400.0)), evidence=evidence), seconds + 1
    assert seconds <= 12
    assert sum(evidence.stretch_new) < STRETCH_REQUESTS_MAX + 500


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (drawn(Random(1), 9), Histogram(FINE, (-1, *(0,) * len(FINE))), "new side's histogram has negative counts"),
        (Histogram(FINE, (1, 2)), NONE, "old side's histogram has 2 counts for 120 bounds"),
        (Histogram((2.0, 1.0), (0, 0, 0)), NONE, "bounds that do not ascend"),
        (Histogram((math.nan,), (0, 0)), NONE, "a bound that is not a positive number"),
        (drawn(Random(1), 9), histogram([1.0], COARSE), "between different bounds"),
    ],
    ids=["went backwards", "too few counts", "bounds mixed up", "no number", "other bounds"],
)
def test_nonsense_is_an_error_and_leaves_no_trace(old: Histogram, new: Histogram, said: str) -> None:
    good = (drawn(Random(11), 50), drawn(Random(12), 50))
    broken = fed(good, (old, new))
    assert only(broken).verdict is Verdict.ERROR
    assert said in only(broken).why
    assert only(broken).missing == "a measurement that can be used"
    assert fed(good, evidence=broken) == fed(good, good), "and it can be gone on from"


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_an_error(share: float) -> None:
    assert only(fed((NONE, NONE), share=share)).verdict is Verdict.ERROR


def test_another_share_begins_a_new_step_though_the_number_is_the_same() -> None:
    """The bets are tied to the share: they may not change while they run."""
    before = fed((drawn(Random(1), 90), drawn(Random(2), 10)), share=0.1)
    after = fed((drawn(Random(3), 50), drawn(Random(4), 50)), share=0.5, evidence=before)
    assert (after.share, after.steps, sum(after.new)) == (0.5, 2, 50)


def test_other_bounds_than_before_begin_a_new_step() -> None:
    before = fed((drawn(Random(1), 100), drawn(Random(2), 100)))
    after = fed((histogram([50.0] * 9, COARSE), histogram([50.0] * 9, COARSE)), evidence=before)
    assert (after.bounds_ms, after.steps, sum(after.new)) == (COARSE, 2, 9)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"quantile": 0.0, "margin": 0.1}, "quantile"),
        ({"quantile": 1.0, "margin": 0.1}, "quantile"),
        ({"quantile": math.nan, "margin": 0.1}, "quantile"),
        ({"quantile": 0.5}, "needs a margin"),
        ({"quantile": 0.5, "margin": -0.1}, "negative"),
        ({"quantile": 0.5, "margin": math.nan}, "negative"),
        ({"quantile": 0.5, "absolute_ms": math.inf}, "negative"),
    ],
)
def test_a_goal_that_is_none_is_refused(arguments: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        QuantileGoal(**arguments)


def test_too_small_an_alpha_and_too_many_goals_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        judge_latency(LatencyEvidence(), [P50], alpha=1e-9)
    with pytest.raises(ValueError, match="at most 8"):
        judge_latency(LatencyEvidence(), [P50] * 9, alpha=0.01)
    with pytest.raises(ValueError, match="limit_ms"):
        QuantileLimit(0.5, 0.0)


# -- one side against a limit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plus", "expected"), [(0.0, Verdict.PASS), (400.0, Verdict.FAIL)], ids=["within", "400 ms slower"]
)
def test_at_full_weight_it_is_held_against_a_limit(plus: float, expected: Verdict) -> None:
    evidence = fed((NONE, drawn(Random(13), 2_000, plus=plus)), share=1.0)
    for judgement in judge_latency_alone(evidence, [QuantileLimit(0.5, 120.0), QuantileLimit(0.95, 300.0)], alpha=0.01):
        assert judgement.verdict is expected
        assert judgement.test == "quantile against a limit"
    (empty,) = judge_latency_alone(LatencyEvidence(), [QuantileLimit(0.5, 120.0)], alpha=0.01)
    assert empty.verdict is Verdict.INCONCLUSIVE
    assert "requests on the new side" in empty.missing


def test_at_full_weight_too_what_turns_slow_late_is_found() -> None:
    random = Random(14)
    evidence = fed(*[(NONE, drawn(random, 1_000))] * 50, share=1.0)
    evidence = fed(*[(NONE, drawn(random, 50, plus=400.0))] * 4, share=1.0, evidence=evidence)
    (judgement,) = judge_latency_alone(evidence, [QuantileLimit(0.5, 120.0)], alpha=0.01)
    assert judgement.verdict is Verdict.FAIL


# -- what it rests on --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", [True, False], ids=["against beyond", "against within"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("q", [0.5, 0.95])
def test_no_bet_at_any_place_wins_when_its_hypothesis_is_true(q: float, share: float, within: bool) -> None:
    """One request on each side: all true shares at a place v that the hypothesis allows. Requests are independent, so
    the means multiply. A bet may know the count of the surely faster or of the no slower, of which v's own is between.
    """
    grid = [q * k / 20 for k in range(21)], [q + (1 - q) * k / 20 for k in range(21)]
    for bet in _bets(q, share, within):
        mean_old = [
            p * math.exp(bet.old_hit) + (1 - p) * math.exp(bet.old_miss) for p in grid[0 if bet.at_least else 1]
        ]
        mean_new = [p * math.exp(bet.new_hit) + (1 - p) * math.exp(bet.new_miss) for p in grid[0 if within else 1]]
        assert max(mean_old) <= 1.0 + 1e-9
        assert max(mean_new) <= 1.0 + 1e-9
    assert sum(math.exp(bet.log_stake) for bet in _bets(q, share, within)) == pytest.approx(1.0)


@given(small_counts, st.sampled_from([0.5, 0.95]), st.booleans())
def test_a_bet_is_never_helped_by_what_the_bounds_hide(counts: list[int], q: float, within: bool) -> None:
    """More requests that were surely faster, or fewer that were no slower, would only have won more: the counts at the
    two bounds are the worst between them."""
    for bet in _bets(q, 0.3, within):
        assert (bet.old_hit >= bet.old_miss) == bet.at_least or bet.old_hit == bet.old_miss
        assert (bet.new_hit >= bet.new_miss) if within else (bet.new_hit <= bet.new_miss)


@given(st.lists(st.floats(0.5, 300.0), max_size=40), st.floats(0.1, 400.0))
def test_counts_at_a_time_between_two_bounds_are_enclosed(times: list[float], ms: float) -> None:
    counted = histogram(times, COARSE)
    cumulative = counted.cumulative()
    assert count_below(COARSE, cumulative, ms) <= sum(t <= ms for t in times)
    assert sum(t < ms for t in times) <= count_up_to(COARSE, cumulative, ms)


@pytest.mark.parametrize(("log_e", "buckets_later"), [(log_e_beyond, 2), (log_e_within, 0)], ids=["failed", "passed"])
def test_looking_at_every_measurement_is_wrong_in_at_most_alpha_of_ramps(
    log_e: Callable[..., float], buckets_later: int
) -> None:
    """At the edge of the hypothesis as the bounds show it, where it is most often wrong: each bound is twice the
    one before, and so is the limit; times lie where they are worst in their buckets."""
    alpha, ramps, random = 0.3, 150, Random(20260102)
    bounds = tuple(2.0**n for n in range(12))
    wrong, bound = 0, math.log(1.0 / alpha)
    for _ in range(ramps):
        old, new = [0] * 13, [0] * 13
        for _ in range(80):
            for side, start, n in ((old, 0, 12), (new, buckets_later, 8)):
                for _ in range(n):
                    side[start + random.randrange(10)] += 1
            sides = Histogram(bounds, tuple(old)), Histogram(bounds, tuple(new))
            if log_e(0.5, Limit(2.0, 0.0), 0.4, *sides, bound) >= bound:
                wrong += 1
                break
    assert 0 < wrong / ramps <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / ramps)


def test_one_side_s_bets_keep_their_error_too() -> None:
    """Two thirds of 150 coins, looked at after each."""
    alpha, random, wrong = 0.2, Random(5), 0
    for _ in range(200):
        hits = 0
        for n in range(1, 150):
            hits += random.random() < 2 / 3
            if log_e_share(2 / 3, hits, n, above=True) >= math.log(1 / alpha):
                wrong += 1
                break
    assert 0 < wrong / 200 <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / 200)


def test_the_range_of_a_quantile_holds_it_at_all_times() -> None:
    random, outside, true_p95 = Random(15), 0, 60.0 * math.exp(0.6 * 1.6448536)
    for _ in range(60):
        seen = NONE
        for _ in range(12):
            seen += drawn(random, 40)
            low, high = quantile_range(0.95, seen, 0.1)
            if not low <= true_p95 <= (high if high is not None else math.inf):
                outside += 1
                break
    assert outside <= 6 + 3 * math.sqrt(6)
    low, high = quantile_range(0.95, drawn(random, 20_000), 0.1)
    assert high is not None and high / low < 1.25
    assert quantile_range(0.95, NONE, 0.1) == (0.0, None)


# -- histograms --------------------------------------------------------------------------------------------------------


def test_cumulative_buckets_become_counts() -> None:
    assert of_cumulative([(10, 3), (20, 3), (40, 9)]) == Histogram((10.0, 20.0, 40.0), (3, 0, 6, 0))
    assert of_cumulative([(10, 3), (20, 5), (math.inf, 9)]) == Histogram((10.0, 20.0), (3, 2, 4))
    assert of_cumulative([(10, 3), (20, 5)], total=9) == Histogram((10.0, 20.0), (3, 2, 4))
    assert of_cumulative([]) == NONE
    assert of_cumulative([(10, 3), (20, 2)]).problem


@given(histograms, histograms, histograms)
def test_histograms_add_up_in_any_order(a: Histogram, b: Histogram, c: Histogram) -> None:
    assert (a + b) + c == a + (b + c) == (c + b) + a
    assert a + NONE == NONE + a == a
    assert (a + b) - b == a


def test_histograms_with_different_bounds_are_not_added() -> None:
    with pytest.raises(ValueError, match="different bounds"):
        _ = histogram([1.0], COARSE) + histogram([1.0], FINE)


def test_evidence_goes_through_json_and_is_small() -> None:
    evidence = fed((drawn(Random(1), 100_000 // 50), drawn(Random(2), 2_000)))
    back = msgspec.json.decode(msgspec.json.encode(evidence), type=LatencyEvidence)
    assert back == evidence
    assert asdict(back) == asdict(evidence)
    assert len(msgspec.json.encode(evidence)) < 3_000
