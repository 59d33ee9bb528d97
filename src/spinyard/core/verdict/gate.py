"""A gate that has never been seen to fail may not pass (SPINOUT, invariant 8).

Each gate makes evidence from its own configuration that is bad beyond doubt, and evidence that is good, and is judged
by the very judge that judges the traffic: the bad must fail, the good must not. A limit that nothing can exceed, bounds
that end below it: such a gate is found before it lets anything through.

    proof = self_test(LatencyGate(goals, alpha, bounds_ms))
    judgement = proven(judge_latency(...)[0], proof)           # a pass without a proof is an error
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from spinyard.core.verdict.burn import BurnObjective, BurnSeries, add, judge_burn
from spinyard.core.verdict.counts import Counts, Increment
from spinyard.core.verdict.evidence import Evidence, fold
from spinyard.core.verdict.histogram import Histogram
from spinyard.core.verdict.judgement import Judgement, Verdict, judge
from spinyard.core.verdict.quantiles import (
    LatencyEvidence,
    LatencyIncrement,
    QuantileGoal,
    QuantileLimit,
    fold_latency,
    judge_latency,
    judge_latency_alone,
)
from spinyard.core.verdict.threshold import Direction, Sample, Threshold, judge_share, judge_threshold

PROBE_REQUESTS = 100_000
PROBE_AT = 1_000_000.0


class CanFail(Protocol):
    """A gate: of contracts, of shadowing, of whatever. Each entry is one judgement that is shown by itself."""

    def on_bad(self) -> Sequence[Judgement]: ...

    def on_good(self) -> Sequence[Judgement]: ...


@dataclass(frozen=True, slots=True)
class Proof:
    """`why`: what was seen, in words; `bad`: the judgement on bad evidence, to be stored beside the gate."""

    ok: bool
    why: str
    bad: tuple[Judgement, ...] = ()


def self_test(gate: CanFail) -> Proof:
    """A gate that cannot even judge its probe has no proof."""
    try:
        bad, good = tuple(gate.on_bad()), tuple(gate.on_good())
    except (ValueError, ArithmeticError) as error:
        return Proof(False, f"it cannot judge evidence made from its own configuration: {error}")
    missed = [one for one in bad if one.verdict is not Verdict.FAIL]
    if missed or not bad:
        said = f"{missed[0].verdict}: {missed[0].why}" if missed else "nothing"
        return Proof(False, f"on evidence that is bad beyond doubt it said {said}", bad)
    false = [one for one in good if one.verdict in (Verdict.FAIL, Verdict.ERROR)]
    if false:
        return Proof(False, f"on evidence that is good it said {false[0].verdict}: {false[0].why}", bad)
    return Proof(True, f"seen to fail: {bad[0].why}", bad)


def proven(judgement: Judgement, proof: Proof | None) -> Judgement:
    """The judgement; but a pass of a gate that was not seen to fail is an error."""
    if judgement.verdict is not Verdict.PASS or (proof is not None and proof.ok):
        return judgement
    why = proof.why if proof is not None else "it was not tried"
    return replace(
        judgement,
        verdict=Verdict.ERROR,
        why=f"it would pass, but has not been seen to fail ({why})",
        missing="a gate that was seen to fail",
    )


@dataclass(frozen=True, slots=True)
class SuccessGate:
    margin: float
    alpha: float

    def on_bad(self) -> Sequence[Judgement]:
        return (self._judged(PROBE_REQUESTS, PROBE_REQUESTS),)

    def on_good(self) -> Sequence[Judgement]:
        return (self._judged(PROBE_REQUESTS, 0),)

    def _judged(self, requests: int, failures: int) -> Judgement:
        step = Increment(1, Counts(requests, 0), Counts(requests, failures))
        return judge(fold(Evidence(margin=self.margin), step), alpha=self.alpha)


@dataclass(frozen=True, slots=True)
class LatencyGate:
    """`typical_ms`: about what the old side takes. The bounds must go far enough beyond what it may become."""

    goals: tuple[QuantileGoal, ...]
    alpha: float
    bounds_ms: tuple[float, ...]
    typical_ms: float = 50.0

    def on_bad(self) -> Sequence[Judgement]:
        out = []
        for nth, goal in enumerate(self.goals):
            slow = 2.0 * goal.limit.of(self._bucket_end())
            out.append(self._judged(slow)[nth])
        return out

    def on_good(self) -> Sequence[Judgement]:
        return self._judged(self.typical_ms)

    def _bucket_end(self) -> float:
        at = bisect_left(self.bounds_ms, self.typical_ms)
        return self.bounds_ms[at] if at < len(self.bounds_ms) else math.inf

    def _judged(self, new_ms: float) -> Sequence[Judgement]:
        sides = probe(self.bounds_ms, self.typical_ms), probe(self.bounds_ms, new_ms)
        evidence = fold_latency(LatencyEvidence(), LatencyIncrement(1, 0.5, *sides))
        return judge_latency(evidence, self.goals, alpha=self.alpha)


@dataclass(frozen=True, slots=True)
class LatencyLimitGate:
    limits: tuple[QuantileLimit, ...]
    alpha: float
    bounds_ms: tuple[float, ...]

    def on_bad(self) -> Sequence[Judgement]:
        return [self._judged(2.0 * limit.limit_ms)[nth] for nth, limit in enumerate(self.limits)]

    def on_good(self) -> Sequence[Judgement]:
        return [self._judged(limit.limit_ms / 2.0)[nth] for nth, limit in enumerate(self.limits)]

    def _judged(self, ms: float) -> Sequence[Judgement]:
        step = LatencyIncrement(1, 1.0, Histogram(), probe(self.bounds_ms, ms))
        return judge_latency_alone(fold_latency(LatencyEvidence(), step), self.limits, alpha=self.alpha)


@dataclass(frozen=True, slots=True)
class ShareGate:
    at_least: float
    alpha: float

    def on_bad(self) -> Sequence[Judgement]:
        return (judge_share(self.at_least, 0, PROBE_REQUESTS, alpha=self.alpha),)

    def on_good(self) -> Sequence[Judgement]:
        return (judge_share(self.at_least, PROBE_REQUESTS, PROBE_REQUESTS, alpha=self.alpha),)


@dataclass(frozen=True, slots=True)
class BurnGate:
    """Two ways to fail: all requests bad, and no reading."""

    objective: BurnObjective

    def on_bad(self) -> Sequence[Judgement]:
        silent = PROBE_AT + 2.0 * self.objective.absent_seconds
        return self._judged(0, PROBE_REQUESTS, PROBE_AT), self._judged(PROBE_REQUESTS, 0, silent)

    def on_good(self) -> Sequence[Judgement]:
        return (self._judged(PROBE_REQUESTS, 0, PROBE_AT),)

    def _judged(self, good: int, bad: int, now: float) -> Judgement:
        return judge_burn(add(BurnSeries(), self.objective, at=PROBE_AT, good=good, bad=bad), self.objective, now=now)


@dataclass(frozen=True, slots=True)
class FigureGate:
    threshold: Threshold

    def on_bad(self) -> Sequence[Judgement]:
        return (self._judged(1.0),)

    def on_good(self) -> Sequence[Judgement]:
        return (self._judged(-1.0),)

    def _judged(self, beyond: float) -> Judgement:
        limit = self.threshold.limit
        away = beyond * max(1.0, abs(limit))
        value = limit + away if self.threshold.direction is Direction.MAX else limit - away
        return judge_threshold(self.threshold, Sample(value, PROBE_AT, self.threshold.samples_min), now=PROBE_AT)


def probe(bounds_ms: tuple[float, ...], ms: float) -> Histogram:
    """All requests took so long."""
    at = bisect_left(bounds_ms, ms)
    return Histogram(bounds_ms, tuple(PROBE_REQUESTS if n == at else 0 for n in range(len(bounds_ms) + 1)))
