"""What a change of a Service's template would go through: instances, requests, time. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Analysis, Gauge, Kind, RolloutStrategy, ServiceSpec
from spinyard.core.verdict import Counts, Evidence, Increment, Verdict, fold, judge, judge_alone
from spinyard.core.verdict.evidence import BLOCK_MIN
from spinyard.errors import Conflict
from spinyard.ports.store import Transaction
from spinyard.spin.rollout.measure import RATE_REQUESTS_MIN, STEP_REQUESTS_MIN
from spinyard.spin.sides import cluster_name, side_of
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.refusals import being_deleted
from spinyard.usecases.rollouts import find_rollout, rollout_spec, running_of
from spinyard.usecases.views import get_live

REQUESTS_MAX = 20_000
"""on the new side, in a forecast"""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a plan is made from. `clusters`: those whose requests are the Service's present traffic."""

    service: ObjectId
    strategy: RolloutStrategy
    replicas: int
    template_digest: str
    running: str
    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """`requests`: that the new side needs when none fails; None: more than REQUESTS_MAX. `hold_seconds`: with the soak
    in the last one. `seconds` None: not known, or it never ends by itself."""

    weight: int
    instances: int
    hold_seconds: float
    waits_for_person: bool
    requests: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class RolloutForecast:
    """`seconds`: of all steps, without the start of instances; None: not known."""

    planned: Planned
    per_second: float | None
    steps: tuple[PlannedStep, ...]
    seconds: float | None


def plan_rollout(tx: Transaction, namespace: str, name: str) -> Planned:
    """`name` of a Service, or of a Rollout. Raises NotFound, Conflict (no_strategy, being_deleted)."""
    service = tx.find(Kind.SERVICE, namespace, name)
    if service is None:
        name = rollout_spec(find_rollout(tx, namespace, name)).service
    id = ObjectId(Kind.SERVICE, namespace, name)
    service = service or get_live(tx, id)
    row, spec = service.row, service.row.spec
    assert isinstance(spec, ServiceSpec)
    if row.delete_at is not None:
        raise being_deleted(id)
    running = running_of(tx, service)
    strategy = rollout_spec(running).strategy if running is not None else spec.strategy
    if strategy is None:
        raise Conflict(
            f"{id} has no `spec.rollout`: another template replaces its instances one after the other.",
            code="no_strategy",
            next_step="Write `rollout: {type: canary}` into its spec and apply it, to have it judged.",
        )
    sides = [spec.side, *([side_of(running.row.uid)] if running is not None else [])]
    clusters = tuple(cluster_name(namespace, name, row.uid, side) for side in sides)
    return Planned(
        id, strategy, spec.replicas, row.template_digest, running.row.name if running is not None else "", clusters
    )


def forecast(planned: Planned, per_second: float | None) -> RolloutForecast:
    """`per_second`: requests of both sides together, None when nobody counts them."""
    strategy = planned.strategy
    weights = tuple(step.weight for step in strategy.steps) or (WEIGHT_ALL,)
    needs = requests_needed(strategy.analysis, weights)
    steps = []
    for number, weight in enumerate(weights):
        step = strategy.steps[number] if strategy.steps else None
        hold = (step.hold_seconds if step else 0.0) + (strategy.soak_seconds if number == len(weights) - 1 else 0.0)
        waits = step is not None and step.wait
        steps.append(
            PlannedStep(
                weight=weight,
                instances=instances_for(strategy, planned.replicas, weight),
                hold_seconds=hold,
                waits_for_person=waits,
                requests=needs[number],
                seconds=None if waits else _seconds(needs[number], weight, hold, per_second),
            )
        )
    known = [step.seconds for step in steps]
    total = None if None in known else sum(seconds for seconds in known if seconds is not None)
    return RolloutForecast(planned, per_second, tuple(steps), total)


def instances_for(strategy: RolloutStrategy, replicas: int, weight: int) -> int:
    """Of the new side, for that share of the requests."""
    whole = max(1, replicas)
    return whole if strategy.blue_green else max(1, math.ceil(whole * weight / WEIGHT_ALL))


@lru_cache(maxsize=256)
def requests_needed(analysis: Analysis, weights: tuple[int, ...]) -> tuple[int | None, ...]:
    """Of each step, on the new side, until every gate that counts requests has enough, when no request fails."""
    compared = _until_pass(analysis, [w for w in weights if w < WEIGHT_ALL]) if analysis.enabled else []
    out: list[int | None] = []
    for weight in weights:
        judged: int | None = 0
        if analysis.enabled:
            judged = compared[len(out)] if weight < WEIGHT_ALL else _alone(analysis)
        others = [limit.min_requests for limit in analysis.latency]
        others += [RATE_REQUESTS_MIN for limit in analysis.gauges if limit.gauge is Gauge.FAILURE_RATE]
        out.append(None if judged is None else max([judged, *others]))
    return tuple(out)


def _alone(analysis: Analysis) -> int | None:
    """At full weight, held against an old side of which nothing failed."""
    _, needs = judge_alone(min(0.999, analysis.margin), Counts(), alpha=analysis.alpha)
    return needs if needs is not None and needs <= REQUESTS_MAX else None


def _until_pass(analysis: Analysis, weights: Sequence[int]) -> list[int | None]:
    """Evidence of a step counts in the next."""
    evidence = Evidence(analysis.margin)
    out: list[int | None] = []
    for step, weight in enumerate(weights):
        share = weight / WEIGHT_ALL
        new = max(BLOCK_MIN, math.ceil(BLOCK_MIN * share / (1.0 - share)))
        block = Increment(step, Counts(max(BLOCK_MIN, round(new * (1.0 - share) / share))), Counts(new))
        seen = 0
        while seen < STEP_REQUESTS_MIN or judge(evidence, alpha=analysis.alpha).verdict is not Verdict.PASS:
            if seen >= REQUESTS_MAX:
                return out + [None] * (len(weights) - step)
            evidence = fold(evidence, block)
            seen += new
        out.append(seen)
    return out


def _seconds(requests: int | None, weight: int, hold: float, per_second: float | None) -> float | None:
    if requests == 0:
        return hold
    if requests is None or not per_second:
        return None
    return max(hold, requests / (per_second * weight / WEIGHT_ALL))
