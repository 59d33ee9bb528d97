"""The judge on latency: is a quantile of the new side's above what the old side's allows? Asked at any time.

    evidence = LatencyEvidence()                                           # kept in the status of who is judged
    evidence = fold_latency(evidence, LatencyIncrement(step, share, old, new))   # once for each usable measurement
    judgements = judge_latency(evidence, goals, alpha=0.01)                # one for each goal, as often as one likes
    judgements = judge_latency_alone(evidence, limits, alpha=0.01)         # at full weight: nobody to compare with

`pass`: "above the limit" is refuted, by what came in the present step: a step is passed on its own evidence, since who
was fast with a tenth of the traffic may be slow with half. `fail`: "within the limit" is refuted, by the present step
or by its latest stretch. Without requests on both sides nothing is decided. Method, guarantees, limits: docs/judge.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from spinyard.core.verdict.histogram import Histogram, count_below, count_up_to
from spinyard.core.verdict.judgement import ALPHA_MIN, Judgement, Verdict
from spinyard.core.verdict.latency_words import Seen, found
from spinyard.core.verdict.quantile_bets import (
    Limit,
    log_e_beyond,
    log_e_share,
    log_e_within,
    scale_until,
    scale_until_share,
)
from spinyard.core.verdict.stakes import log_sum

STEP_PART, STRETCH_PART = 0.75, 0.25
STRETCH_REQUESTS_MAX = 1_000
"""on the new side: then the next stretch begins, so that a version that turns slow late is found by what is new"""
GOALS_MAX = 8
NEEDS_MAX = 100_000_000


@dataclass(frozen=True, slots=True)
class QuantileGoal:
    """New quantile <= old quantile * (1 + margin) + absolute_ms. ValueError for what is no goal; with neither margin
    nor absolute_ms two sides that are alike could never pass."""

    quantile: float
    margin: float = 0.0
    absolute_ms: float = 0.0

    def __post_init__(self) -> None:
        _check_quantile(self.quantile)
        if not (0.0 <= self.margin < math.inf and 0.0 <= self.absolute_ms < math.inf):
            raise ValueError(f"margin and absolute_ms must not be negative: {self.margin}, {self.absolute_ms}")
        if not self.margin + self.absolute_ms > 0.0:
            raise ValueError("a goal needs a margin or absolute_ms: without, sides that are alike never pass")

    @property
    def limit(self) -> Limit:
        return Limit(1.0 + self.margin, self.absolute_ms)


@dataclass(frozen=True, slots=True)
class QuantileLimit:
    """The quantile <= limit_ms, whatever anybody else's is."""

    quantile: float
    limit_ms: float

    def __post_init__(self) -> None:
        _check_quantile(self.quantile)
        if not 0.0 < self.limit_ms < math.inf:
            raise ValueError(f"limit_ms must be above 0, it is {self.limit_ms}")


@dataclass(frozen=True, slots=True)
class LatencyIncrement:
    """What both sides answered in one stretch at one weight. `step`: another number for another weight; `share`: of the
    requests that the new side is asked to take (0 .. 1). A stretch with a change of weight or a gap in it is missing
    data: it is not folded."""

    step: int
    share: float
    old: Histogram
    new: Histogram


@dataclass(frozen=True, slots=True)
class LatencyEvidence:
    """Of the present step, and of its latest stretch. Plain numbers, texts and tuples: goes through JSON as it is, in a
    size that grows only with the logarithm of the counts (1.0 kB with 46 bounds, 3.1 kB with 167)."""

    bounds_ms: tuple[float, ...] = ()
    step: int = 0
    share: float = 0.5
    steps: int = 0
    stretches: int = 0
    old: tuple[int, ...] = ()
    new: tuple[int, ...] = ()
    stretch_old: tuple[int, ...] = ()
    stretch_new: tuple[int, ...] = ()
    problem: str = ""
    """why the last measurement could not be used; empty when it could"""

    def side(self, counts: tuple[int, ...]) -> Histogram:
        return Histogram(self.bounds_ms if counts else (), counts)


def fold_latency(evidence: LatencyEvidence, increment: LatencyIncrement) -> LatencyEvidence:
    """One more measurement. What makes no sense changes nothing but `problem`, until the next one that does. Other
    bounds than before begin a new step: counts between different bounds are not comparable."""
    problem = _problem(increment)
    if problem:
        return replace(evidence, problem=problem)
    old, new = increment.old, increment.new
    bounds = old.bounds_ms or new.bounds_ms
    is_next = increment.step != evidence.step or not evidence.steps or increment.share != evidence.share
    if is_next or (bounds and evidence.bounds_ms and bounds != evidence.bounds_ms):
        evidence = LatencyEvidence(bounds, increment.step, increment.share, evidence.steps + 1, evidence.stretches + 1)
    elif sum(evidence.stretch_new) >= STRETCH_REQUESTS_MAX:
        evidence = replace(evidence, stretches=evidence.stretches + 1, stretch_old=(), stretch_new=())
    return replace(
        evidence,
        bounds_ms=evidence.bounds_ms or bounds,
        old=(evidence.side(evidence.old) + old).counts,
        new=(evidence.side(evidence.new) + new).counts,
        stretch_old=(evidence.side(evidence.stretch_old) + old).counts,
        stretch_new=(evidence.side(evidence.stretch_new) + new).counts,
        problem="",
    )


def judge_latency(evidence: LatencyEvidence, goals: Sequence[QuantileGoal], *, alpha: float) -> tuple[Judgement, ...]:
    """One for each goal. All pass wrongly at most with probability alpha in the first step in which one of them should
    not; one of them fails wrongly, at any time in all steps, at most with probability alpha (split over the goals).
    ValueError when alpha is not in ALPHA_MIN .. 0.5, or there are more goals than GOALS_MAX."""
    _check(alpha, len(goals))
    return tuple(_judge(evidence, goal, alpha, len(goals)) for goal in goals)


def decide_latency(evidence: LatencyEvidence, goals: Sequence[QuantileGoal], *, alpha: float) -> tuple[Verdict, ...]:
    """The verdicts of `judge_latency`, without their figures: an order of magnitude sooner while nothing is decided."""
    _check(alpha, len(goals))
    old, new = evidence.side(evidence.old), evidence.side(evidence.new)
    if evidence.problem or not old.total or not new.total:
        return (Verdict.ERROR if evidence.problem else Verdict.INCONCLUSIVE,) * len(goals)
    bound, count = math.log(1.0 / alpha), len(goals)
    return tuple(_decided(evidence, goal, old, new, bound, count) for goal in goals)


def judge_latency_alone(
    evidence: LatencyEvidence, limits: Sequence[QuantileLimit], *, alpha: float
) -> tuple[Judgement, ...]:
    """The new side against fixed limits; the old side is not looked at. Guarantees and errors as `judge_latency`."""
    _check(alpha, len(limits))
    return tuple(_judge_alone(evidence, limit, alpha, len(limits)) for limit in limits)


def _judge(evidence: LatencyEvidence, goal: QuantileGoal, alpha: float, goals: int) -> Judgement:
    q, limit, share, bound = goal.quantile, goal.limit, evidence.share, math.log(1.0 / alpha)
    old, new = evidence.side(evidence.old), evidence.side(evidence.new)
    offset = _step_offset(evidence, goals)
    log_e_pass = log_e_fail = 0.0
    needs: int | None = None
    if old.total and new.total:
        stretch_old, stretch_new = evidence.side(evidence.stretch_old), evidence.side(evidence.stretch_new)
        log_e_pass = log_e_within(q, limit, share, old, new)
        whole = log_e_beyond(q, limit, share, old, new)
        latest = log_e_beyond(q, limit, share, stretch_old, stretch_new)
        log_e_fail = log_sum((whole + offset, latest + _stretch_offset(evidence, goals)))
    verdict = _verdict(evidence.problem, log_e_fail, log_e_pass, bound)
    if verdict is Verdict.INCONCLUSIVE:
        needs = _least_sure(q, bound)
        if old.total and new.total:
            scales = (
                scale_until(q, limit, share, old, new, bound, within=True),
                scale_until(q, limit, share, old, new, bound - offset, within=False),
            )
            needs = _more(new.total, scales)
    seen = Seen(goal.quantile, old, new, limit, alone_ms=None)
    return found(seen, verdict, evidence.problem, goal.margin, alpha, log_e_fail, log_e_pass, bound, needs)


def _decided(
    evidence: LatencyEvidence, goal: QuantileGoal, old: Histogram, new: Histogram, bound: float, goals: int
) -> Verdict:
    q, limit, share = goal.quantile, goal.limit, evidence.share
    # Both parts below half of what the bound asks: so is their sum.
    half = bound - math.log(2.0)
    whole_offset, latest_offset = _step_offset(evidence, goals), _stretch_offset(evidence, goals)
    latest_sides = evidence.side(evidence.stretch_old), evidence.side(evidence.stretch_new)
    whole = log_e_beyond(q, limit, share, old, new, half - whole_offset)
    latest = whole
    if evidence.stretch_new != evidence.new or evidence.stretch_old != evidence.old:
        latest = log_e_beyond(q, limit, share, *latest_sides, half - latest_offset)
    if max(whole + whole_offset, latest + latest_offset) >= half:
        whole, latest = (log_e_beyond(q, limit, share, *sides) for sides in ((old, new), latest_sides))
        if log_sum((whole + whole_offset, latest + latest_offset)) >= bound:
            return Verdict.FAIL
    is_within = log_e_within(q, limit, share, old, new, bound) >= bound
    return Verdict.PASS if is_within else Verdict.INCONCLUSIVE


def _judge_alone(evidence: LatencyEvidence, limit: QuantileLimit, alpha: float, limits: int) -> Judgement:
    q, ms, bound = limit.quantile, limit.limit_ms, math.log(1.0 / alpha)
    new = evidence.side(evidence.new)
    log_e_pass = log_e_fail = 0.0
    needs: int | None = _least_sure(q, bound)
    if new.total:
        bounds, cumulative = new.bounds_ms, new.cumulative()
        surely, at_most = count_below(bounds, cumulative, ms), count_up_to(bounds, cumulative, ms)
        latest = evidence.side(evidence.stretch_new)
        at_most_latest = count_up_to(bounds, latest.cumulative(), ms)
        offset = _step_offset(evidence, limits)
        log_e_pass = log_e_share(q, surely, new.total, above=True)
        whole = log_e_share(q, at_most, new.total, above=False) + offset
        late = log_e_share(q, at_most_latest, latest.total, above=False)
        log_e_fail = log_sum((whole, late + _stretch_offset(evidence, limits)))
        scales = (
            scale_until_share(q, surely, new.total, bound, above=True),
            scale_until_share(q, at_most, new.total, bound - offset, above=False),
        )
        needs = _more(new.total, scales)
    verdict = _verdict(evidence.problem, log_e_fail, log_e_pass, bound)
    if verdict is not Verdict.INCONCLUSIVE:
        needs = None
    seen = Seen(q, Histogram(), new, None, alone_ms=ms)
    return found(seen, verdict, evidence.problem, 0.0, alpha, log_e_fail, log_e_pass, bound, needs)


def _verdict(problem: str, log_e_fail: float, log_e_pass: float, bound: float) -> Verdict:
    """Fail first: what came lately outweighs a good hour before."""
    if problem:
        return Verdict.ERROR
    if log_e_fail >= bound:
        return Verdict.FAIL
    return Verdict.PASS if log_e_pass >= bound else Verdict.INCONCLUSIVE


def _step_offset(evidence: LatencyEvidence, goals: int) -> float:
    """Log of what is staked on the present step's being the bad one: 1/2, 1/6, 1/12 ... of its part."""
    return math.log(STEP_PART / goals) - _spread(evidence.steps)


def _stretch_offset(evidence: LatencyEvidence, goals: int) -> float:
    return math.log(STRETCH_PART / goals) - _spread(evidence.stretches)


def _spread(nth: int) -> float:
    return math.log(max(1, nth) * (max(1, nth) + 1))


def _more(seen: int, scales: tuple[float | None, float | None]) -> int | None:
    scale = min((s for s in scales if s is not None), default=None)
    if scale is None or seen * scale > NEEDS_MAX:
        return None
    return max(1, math.ceil(seen * (scale - 1.0)))


def _least_sure(q: float, bound: float) -> int:
    """Without any slow request: bets that all are faster, at the best distance."""
    return math.ceil((bound + 2.0) / -math.log(q))


def _problem(increment: LatencyIncrement) -> str:
    if not 0.0 <= increment.share <= 1.0:
        return f"a share of {increment.share} is none"
    for name, side in (("old", increment.old), ("new", increment.new)):
        if side.problem:
            return f"the {name} side's histogram has {side.problem}"
    old, new = increment.old.bounds_ms, increment.new.bounds_ms
    return "the sides are counted between different bounds" if old and new and old != new else ""


def _check(alpha: float, goals: int) -> None:
    if not ALPHA_MIN <= alpha <= 0.5:
        raise ValueError(f"alpha must be between {ALPHA_MIN} and 0.5, it is {alpha}")
    if goals > GOALS_MAX:
        raise ValueError(f"{goals} goals for latency; at most {GOALS_MAX}")


def _check_quantile(quantile: float) -> None:
    if not 0.0 < quantile < 1.0:
        raise ValueError(f"quantile must be between 0 and 1, it is {quantile}")
