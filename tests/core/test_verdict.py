"""The judge as its callers see it: evidence is folded, a verdict is asked for. Its bets: test_verdict_bets.py."""

from __future__ import annotations

import math
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.core.verdict import Counts, Evidence, Increment, Verdict, fold, judge, judge_split
from spinyard.core.verdict.evidence import BLOCK_MIN

MARGIN, ALPHA = 0.05, 0.05


def fed(*measurements: tuple[int, int, int, int], step: int = 0, evidence: Evidence | None = None) -> Evidence:
    """(old requests, old failures, new requests, new failures), one after the other."""
    evidence = evidence or Evidence(margin=MARGIN)
    for n_old, f_old, n_new, f_new in measurements:
        evidence = fold(evidence, Increment(step, Counts(n_old, f_old), Counts(n_new, f_new)))
    return evidence


def verdict(evidence: Evidence, alpha: float = ALPHA) -> Verdict:
    return judge(evidence, alpha=alpha).verdict


@st.composite
def counts(draw: st.DrawFn, requests_max: int = 60) -> Counts:
    requests = draw(st.integers(0, requests_max))
    return Counts(requests, draw(st.integers(0, requests)))


increments = st.builds(Increment, st.integers(0, 2), counts(), counts())


def test_nothing_seen_decides_nothing_and_says_how_much_is_needed() -> None:
    judgement = judge(Evidence(margin=MARGIN), alpha=ALPHA)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.needs is not None and 50 <= judgement.needs <= 150
    assert f"needs about {judgement.needs} more requests on the new side" in judgement.why


@pytest.mark.parametrize(
    "alone",
    [(10_000, 0, 0, 0), (0, 0, 10_000, 0), (10_000, 9_000, 0, 0), (0, 0, 10_000, 10_000)],
    ids=["old, good", "new, good", "old, bad", "new, bad"],
)
def test_one_side_alone_never_decides(alone: tuple[int, int, int, int]) -> None:
    evidence = fed(*[alone] * 50)
    assert verdict(evidence) is Verdict.INCONCLUSIVE
    assert judge(evidence, alpha=ALPHA).log_e_fail == pytest.approx(0.0)
    assert judge(evidence, alpha=ALPHA).log_e_pass == pytest.approx(0.0)


def test_a_side_that_falls_silent_leaves_the_evidence_where_it_was() -> None:
    before = fed(*[(9, 0, 1, 0)] * 100)
    after = fed(*[(90, 3, 0, 0)] * 100, evidence=before)
    assert (after.worse, after.not_worse) == (before.worse, before.not_worse)


def test_a_healthy_version_passes_after_about_seventy_requests() -> None:
    passed = next(n for n in range(1, 200) if verdict(fed(*[(1, 0, 1, 0)] * n)) is Verdict.PASS)
    assert 59 <= passed <= 75


def test_a_version_with_a_fifth_of_errors_fails_within_forty_requests_of_the_first_step() -> None:
    evidence = Evidence(margin=MARGIN)
    while verdict(evidence) is Verdict.INCONCLUSIVE:
        evidence = fed((45, 0, 5, 1), evidence=evidence)
    assert verdict(evidence) is Verdict.FAIL
    assert evidence.new.requests <= 40


def test_both_sides_failing_alike_is_never_the_fault_of_the_new_one() -> None:
    evidence = Evidence(margin=MARGIN)
    for _ in range(300):
        evidence = fed((9, 9, 1, 1), (90, 45, 10, 5), evidence=evidence)
        assert verdict(evidence) is not Verdict.FAIL


def test_evidence_accumulates_over_steps() -> None:
    first = fed(*[(36, 0, 4, 0)] * 9)
    assert verdict(first) is Verdict.INCONCLUSIVE
    assert verdict(fed(*[(4, 0, 4, 0)] * 9, step=1, evidence=first)) is Verdict.PASS
    assert verdict(fed(*[(4, 0, 4, 0)] * 9, step=1)) is Verdict.INCONCLUSIVE


def test_totals_that_lie_because_weight_and_base_rate_moved_together_are_not_believed() -> None:
    quiet = fed(*[(450, 0, 50, 0)] * 10)
    stormy = fed(*[(25, 5, 25, 5)] * 20, step=1, evidence=quiet)
    assert stormy.new.rate > 3 * stormy.old.rate, "the totals alone would say much worse"
    assert verdict(stormy, alpha=0.01) is not Verdict.FAIL
    assert stormy.worse.log_total < 1.0


def test_worse_by_less_than_the_margin_is_a_pass_that_says_so() -> None:
    judgement = judge(fed(*[(500, 1, 500, 8)] * 30), alpha=0.01)
    assert judgement.verdict is Verdict.PASS
    assert judgement.why.startswith("worse, but by less than the margin")
    assert judgement.log_e_fail > judgement.bound


def test_a_version_that_turns_bad_after_an_hour_is_found_within_twenty_seconds() -> None:
    good = fed(*[(25, 0, 25, 0), (25, 1, 25, 0), (25, 0, 25, 1), (25, 0, 25, 0)] * 900)
    assert verdict(good, alpha=0.01) is Verdict.PASS
    bad, seconds = good, 0
    while verdict(bad, alpha=0.01) is not Verdict.FAIL and seconds < 60:
        bad, seconds = fed((25, 0, 25, 5), evidence=bad), seconds + 1
    assert seconds <= 20


@pytest.mark.parametrize(
    ("measurement", "said"),
    [
        ((10, 0, -1, 0), "new side counts -1 requests"),
        ((10, -2, 10, 0), "old side counts 10 requests and -2 failures"),
        ((10, 0, 10, 11), "new side counts 10 requests and 11 failures"),
        ((-5, -5, 10, 0), "old side counts -5 requests"),
    ],
    ids=["went backwards", "failures below zero", "more failures than requests", "restarted"],
)
def test_nonsense_is_an_error_and_leaves_no_trace(measurement: tuple[int, int, int, int], said: str) -> None:
    before = fed((40, 1, 40, 1))
    broken = fed(measurement, evidence=before)
    assert verdict(broken) is Verdict.ERROR
    assert said in judge(broken, alpha=ALPHA).why
    assert fed((9, 0, 9, 1), evidence=broken) == fed((9, 0, 9, 1), evidence=before), "and it can be gone on from"


def test_counters_that_went_backwards_differ_by_something_that_is_refused() -> None:
    delta = Counts(10, 0) - Counts(4_000, 12)
    assert verdict(fold(Evidence(margin=MARGIN), Increment(0, Counts(5, 0), delta))) is Verdict.ERROR


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1, math.nan])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        Evidence(margin=margin)


@pytest.mark.parametrize("alpha", [0.0, 1e-9, 1.0, math.nan])
def test_an_alpha_that_cannot_be_kept_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        judge(Evidence(margin=MARGIN), alpha=alpha)


@given(st.lists(increments, max_size=30))
def test_evidence_goes_through_json_unchanged(measured: list[Increment]) -> None:
    evidence = Evidence(margin=MARGIN)
    for increment in measured:
        evidence = fold(evidence, increment)
    text = msgspec.json.encode(evidence)
    assert msgspec.json.decode(text, type=Evidence) == evidence
    assert len(text) < 1_500


@given(st.lists(increments, max_size=10), increments, counts(), counts())
def test_how_a_block_is_cut_into_measurements_does_not_matter(
    before: list[Increment], first: Increment, old: Counts, new: Counts
) -> None:
    evidence = Evidence(margin=MARGIN)
    for increment in before:
        evidence = fold(evidence, increment)
    opened = fold(evidence, first)
    if opened.blocks > fold(evidence, Increment(first.step, Counts(), Counts())).blocks:
        return  # the first measurement was a block already: what comes after it is judged knowing it
    cut = fold(opened, Increment(first.step, old, new))
    whole = fold(evidence, Increment(first.step, first.old + old, first.new + new))
    assert cut == whole


@given(st.lists(increments, max_size=10), counts(), counts())
def test_a_failure_more_never_speaks_for_its_side(before: list[Increment], old: Counts, new: Counts) -> None:
    evidence = Evidence(margin=MARGIN)
    for increment in before:
        evidence = fold(evidence, increment)
    one = judge(fold(evidence, Increment(3, old, new)), alpha=ALPHA)
    if new.failures < new.requests:
        more = judge(fold(evidence, Increment(3, old, Counts(new.requests, new.failures + 1))), alpha=ALPHA)
        assert more.log_e_fail >= one.log_e_fail - 1e-9
        assert more.log_e_pass <= one.log_e_pass + 1e-9
    if old.failures < old.requests:
        more = judge(fold(evidence, Increment(3, Counts(old.requests, old.failures + 1), new)), alpha=ALPHA)
        assert more.log_e_fail <= one.log_e_fail + 1e-9
        assert more.log_e_pass >= one.log_e_pass - 1e-9


@given(counts(10**9), counts(10**9), counts(10**9), counts(10**9), st.sampled_from([1e-6, 0.01, 0.5, 0.999999]))
def test_numbers_stay_finite_up_to_a_billion_requests(
    a: Counts, b: Counts, c: Counts, d: Counts, margin: float
) -> None:
    evidence = Evidence(margin=margin)
    for step, (old, new) in enumerate([(a, b), (c, d), (a, d), (Counts(1, 1), Counts(10**9, 10**9))]):
        evidence = fold(evidence, Increment(step, old, new))
        judgement = judge(evidence, alpha=0.01)
        assert math.isfinite(judgement.log_e_fail) and math.isfinite(judgement.log_e_pass)
        assert all(math.isfinite(log) for log in (*evidence.worse.logs, *evidence.not_worse.logs))
        assert judgement.needs is None or judgement.needs > 0


@given(st.lists(increments, max_size=20))
def test_no_verdict_before_both_sides_had_a_block(measured: list[Increment]) -> None:
    evidence = Evidence(margin=MARGIN)
    for increment in measured:
        evidence = fold(evidence, Increment(0, increment.old, increment.new))
        if min(evidence.old.requests, evidence.new.requests) < BLOCK_MIN:
            assert verdict(evidence) is Verdict.INCONCLUSIVE


def test_a_measurement_and_its_judgement_take_less_than_a_millisecond() -> None:
    evidence = fed((450, 5, 50, 5))
    began = time.process_time()
    for _ in range(100):
        judge(fed((4_500, 120, 5_000, 125), evidence=evidence), alpha=ALPHA)
    assert (time.process_time() - began) / 100 < 0.001


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_split_as_asked_is_not_blamed_and_a_skewed_one_is(share: float) -> None:
    new = round(20_000 * share)
    assert not judge_split(share, Counts(20_000 - new), Counts(new), alpha=0.01)[0]
    assert judge_split(share, Counts(20_000 - 2 * new + new // 2), Counts(new * 2 - new // 2), alpha=0.01)[0]
    assert judge_split(share, Counts(20_000), Counts(0), alpha=0.01)[0], "all on the old side is skewed as well"


@pytest.mark.parametrize(("old", "new", "share"), [(0, 0, 0.5), (5, 5, 0.0), (5, 5, 1.0), (-3, 9, 0.5)])
def test_a_split_that_cannot_be_judged_is_not_blamed(old: int, new: int, share: float) -> None:
    assert judge_split(share, Counts(old), Counts(new), alpha=0.01) == (False, 0.0)
