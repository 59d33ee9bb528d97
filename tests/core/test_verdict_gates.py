"""Plain thresholds, shares, and that each gate has been seen to fail before it may pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.core.verdict import Histogram, Judgement, QuantileGoal, QuantileLimit, Verdict
from spinyard.core.verdict.burn import BurnObjective, Pair
from spinyard.core.verdict.gate import (
    BurnGate,
    CanFail,
    FigureGate,
    LatencyGate,
    LatencyLimitGate,
    Proof,
    ShareGate,
    SuccessGate,
    probe,
    proven,
    self_test,
)
from spinyard.core.verdict.judgement import plain
from spinyard.core.verdict.threshold import Direction, Sample, Threshold, judge_share, judge_threshold

NOW = 1_000.0
DEPTH = Threshold(100.0, stale_seconds=30.0, samples_min=2, unit="messages")
JOINED = Threshold(0.95, Direction.MIN)
BOUNDS = tuple(10.0 * 1.2**n for n in range(50))


@pytest.mark.parametrize(
    ("threshold", "sample", "expected", "said"),
    [
        (DEPTH, Sample(99.0, NOW, 2), Verdict.PASS, "within the limit: 99 messages, max 100 messages"),
        (DEPTH, Sample(100.0, NOW, 2), Verdict.PASS, "within"),
        (DEPTH, Sample(100.1, NOW, 2), Verdict.FAIL, "beyond the limit: 100.1 messages"),
        (DEPTH, Sample(500.0, NOW, 1), Verdict.INCONCLUSIVE, "of 1 samples; needs 1 more"),
        (DEPTH, Sample(500.0, NOW - 31, 2), Verdict.INCONCLUSIVE, "the sample is 31 s old, at most 30 s is fresh"),
        (DEPTH, Sample(500.0, NOW + 31, 2), Verdict.INCONCLUSIVE, "from 31 s ahead"),
        (DEPTH, Sample(5.0, math.nan, 2), Verdict.INCONCLUSIVE, "not decided"),
        (DEPTH, Sample(math.nan, NOW, 2), Verdict.ERROR, "nan, which is no figure"),
        (DEPTH, Sample(math.inf, NOW, 2), Verdict.ERROR, "inf, which is no figure"),
        (DEPTH, None, Verdict.INCONCLUSIVE, "no sample"),
        (JOINED, Sample(0.96, NOW), Verdict.PASS, "0.96, min 0.95"),
        (JOINED, Sample(0.94, NOW), Verdict.FAIL, "0.94, min 0.95"),
    ],
    ids=lambda value: str(value) if isinstance(value, Verdict) else None,
)
def test_a_figure_against_its_limit(threshold: Threshold, sample: Sample | None, expected: Verdict, said: str) -> None:
    judgement = judge_threshold(threshold, sample, now=NOW)
    assert judgement.verdict is expected
    assert said in judgement.why
    assert bool(judgement.missing) == (expected in (Verdict.INCONCLUSIVE, Verdict.ERROR))


@given(st.floats(), st.floats(), st.integers(-3, 5))
def test_what_is_missing_stale_or_no_number_never_decides(value: float, at: float, samples: int) -> None:
    verdict = judge_threshold(DEPTH, Sample(value, at, samples), now=NOW).verdict
    is_good = math.isfinite(value) and abs(NOW - at) <= 30.0 and samples >= 2
    assert (verdict in (Verdict.PASS, Verdict.FAIL)) == is_good


@pytest.mark.parametrize(
    ("good", "total", "expected"),
    [
        (0, 0, Verdict.INCONCLUSIVE),
        (20, 20, Verdict.INCONCLUSIVE),
        (1_000, 1_000, Verdict.PASS),
        (500, 1_000, Verdict.FAIL),
        (5, 3, Verdict.ERROR),
    ],
)
def test_a_share_against_its_limit(good: int, total: int, expected: Verdict) -> None:
    judgement = judge_share(0.95, good, total, alpha=0.05)
    assert judgement.verdict is expected
    assert bool(judgement.missing) == (expected in (Verdict.INCONCLUSIVE, Verdict.ERROR))


@pytest.mark.parametrize("wrong", [{"limit": math.nan}, {"stale_seconds": 0.0}, {"samples_min": 0}])
def test_a_threshold_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Threshold(**{"limit": 1.0, **wrong})  # type: ignore[arg-type]


GATES: dict[str, CanFail] = {
    "success": SuccessGate(0.05, 0.01),
    "success, wide margin": SuccessGate(0.9, 0.0001),
    "latency": LatencyGate((QuantileGoal(0.5, 0.5), QuantileGoal(0.99, 0.25, 10.0)), 0.01, BOUNDS),
    "latency, bounds wider than the margin": LatencyGate((QuantileGoal(0.95, 0.05),), 0.01, BOUNDS),
    "latency against a limit": LatencyLimitGate((QuantileLimit(0.95, 300.0),), 0.01, BOUNDS),
    "share": ShareGate(0.95, 0.01),
    "burn": BurnGate(BurnObjective(0.999)),
    "burn, minutes": BurnGate(BurnObjective(0.9, window_seconds=600.0)),
    "at most": FigureGate(Threshold(0.0)),
    "at least": FigureGate(Threshold(-5.0, Direction.MIN, samples_min=40)),
}


@pytest.mark.parametrize("gate", GATES.values(), ids=GATES)
def test_each_kind_of_gate_is_seen_to_fail_on_evidence_made_from_its_own_configuration(gate: CanFail) -> None:
    proof = self_test(gate)
    assert proof.ok, proof.why
    assert proof.why.startswith("seen to fail: ")
    assert proof.bad
    assert {one.verdict for one in proof.bad} == {Verdict.FAIL}


TOOTHLESS: dict[str, CanFail] = {
    "a margin of all": LatencyGate((QuantileGoal(0.95, 0.5, 1e9),), 0.01, BOUNDS),
    "one goal of two beyond the bounds": LatencyGate((QuantileGoal(0.5, 0.5), QuantileGoal(0.9, 1e6)), 0.01, BOUNDS),
    "the old side above all bounds": LatencyGate((QuantileGoal(0.5, 0.5),), 0.01, BOUNDS, typical_ms=1e7),
    "no goals": LatencyGate((), 0.01, BOUNDS),
    "a limit above the bounds": LatencyLimitGate((QuantileLimit(0.95, 1e7),), 0.01, BOUNDS),
    "a rate that cannot be reached": BurnGate(BurnObjective(0.5, pairs=(Pair(14.4, 3600.0, 300.0),))),
    "more events than there will be": BurnGate(BurnObjective(0.999, events_min=10**9)),
    "a limit above all numbers": FigureGate(Threshold(1.7e308)),
    "an alpha that is none": SuccessGate(0.05, 0.0),
    "a share that is none": ShareGate(1.0, 0.01),
}


@pytest.mark.parametrize("gate", TOOTHLESS.values(), ids=TOOTHLESS)
def test_a_gate_that_cannot_fail_is_found(gate: CanFail) -> None:
    proof = self_test(gate)
    assert not proof.ok
    assert proof.why


@dataclass(frozen=True)
class Parity:
    """A gate of somebody else's, with a judge that may be broken."""

    bad: Verdict = Verdict.FAIL
    good: Verdict = Verdict.PASS

    def on_bad(self) -> Sequence[Judgement]:
        return (plain(self.bad, "every answer differs", "parity"),)

    def on_good(self) -> Sequence[Judgement]:
        return (plain(self.good, "no answer differs", "parity"),)


@pytest.mark.parametrize(
    ("gate", "ok"),
    [
        (Parity(), True),
        (Parity(good=Verdict.INCONCLUSIVE), True),
        (Parity(good=Verdict.FAIL), False),
        (Parity(good=Verdict.ERROR), False),
        (Parity(bad=Verdict.PASS), False),
        (Parity(bad=Verdict.INCONCLUSIVE), False),
        (Parity(bad=Verdict.ERROR), False),
    ],
)
def test_the_bad_must_fail_and_the_good_must_not(gate: Parity, ok: bool) -> None:
    assert self_test(gate).ok is ok


@pytest.mark.parametrize("proof", [None, Proof(False, "it said pass")], ids=["not tried", "tried, did not fail"])
def test_a_pass_without_a_proof_is_an_error_and_other_verdicts_stay(proof: Proof | None) -> None:
    passed = proven(plain(Verdict.PASS, "fine", "parity"), proof)
    assert passed.verdict is Verdict.ERROR
    assert "has not been seen to fail" in passed.why
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.ERROR):
        assert proven(plain(verdict, "as it is", "parity"), proof).verdict is verdict
    proof = self_test(GATES["share"])
    assert proven(plain(Verdict.PASS, "fine", "parity"), proof).verdict is Verdict.PASS


def test_a_probe_is_where_it_should_be() -> None:
    assert probe((10.0, 20.0), 15.0).bucket_of(0.5) == (10.0, 20.0)
    assert probe((10.0, 20.0), 25.0).bucket_of(0.5) == (20.0, None)
    assert Histogram().bucket_of(0.5) is None
