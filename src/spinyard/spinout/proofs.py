"""That each gate can fail: tried once for each configuration, with evidence that is bad beyond doubt (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from spinyard.core.figures import Gate
from spinyard.core.spinout import Bound, LatencyGoal, ThresholdGate
from spinyard.core.verdict import (
    Counts,
    Judgement,
    QuantileGoal,
    Verdict,
    judge_alone,
)
from spinyard.core.verdict.gate import (
    PROBE_REQUESTS,
    CanFail,
    self_test,
)
from spinyard.core.verdict.judgement import plain
from spinyard.core.verdict.threshold import Direction, Threshold
from spinyard.spinout.status import Proven

WORDS_MAX = 200


@dataclass(frozen=True, slots=True)
class AloneGate:
    """The unit alone against a rate of failures."""

    limit: float
    alpha: float

    def on_bad(self) -> Sequence[Judgement]:
        return (self._judged(PROBE_REQUESTS),)

    def on_good(self) -> Sequence[Judgement]:
        return (self._judged(0),)

    def _judged(self, failures: int) -> Judgement:
        seen = Counts(PROBE_REQUESTS, failures)
        verdict, _ = judge_alone(self.limit, seen, alpha=self.alpha)
        return plain(verdict, f"{failures} of {PROBE_REQUESTS} failed", test="one side alone", new=seen)


@dataclass(frozen=True, slots=True)
class ParityGate:
    """Answers that differ."""

    different_max: float

    def on_bad(self) -> Sequence[Judgement]:
        return (self._judged(1.0),)

    def on_good(self) -> Sequence[Judgement]:
        return (self._judged(0.0),)

    def _judged(self, share: float) -> Judgement:
        verdict = parity_verdict(share, self.different_max)
        return plain(verdict, f"{share:.0%} of the answers differ", test="share of answers")


def parity_verdict(share: float, different_max: float) -> Verdict:
    return Verdict.FAIL if share > different_max else Verdict.PASS


def threshold_of(gate: ThresholdGate) -> Threshold:
    direction = Direction.MAX if gate.bound is Bound.MAX else Direction.MIN
    return Threshold(gate.limit, direction, gate.stale_seconds)


def pair_goal(goal: LatencyGoal) -> QuantileGoal:
    margin = max(0.0, (goal.max_ratio or 1.0) - 1.0)
    return QuantileGoal(goal.quantile, margin, max(goal.max_seconds_more * 1000.0, 0.0 if margin else 1.0))


def tried(name: str, make: Callable[[], CanFail]) -> Proven:
    """What cannot even be made from its configuration cannot fail either."""
    try:
        proof = self_test(make())
    except ValueError as error:
        return Proven(name, False, f"it cannot be judged: {error}"[:WORDS_MAX])
    return Proven(name, proof.ok, proof.why[:WORDS_MAX])


def with_proof(gate: Gate, proofs: Sequence[Proven]) -> Gate:
    """The gate; but a pass of one that was not seen to fail is an error."""
    proof = next((one for one in proofs if one.name == gate.name), None)
    if gate.verdict != Verdict.PASS or (proof is not None and proof.ok):
        return gate
    why = proof.why if proof is not None else "it was not tried"
    return msgspec.structs.replace(
        gate, verdict=str(Verdict.ERROR), why=f"it would pass, but has not been seen to fail ({why})"
    )
