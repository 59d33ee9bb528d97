"""From the published Spinout to `core.spinout`, with its steps filled in."""

from __future__ import annotations

from spinyard.core.shift import Sticky
from spinyard.core.spinout import (
    Bound,
    BoundaryRoute,
    Inconclusive,
    LatencyGoal,
    Objective,
    Shadow,
    SpinoutGates,
    SpinoutSpec,
    SpinoutStep,
    ThresholdGate,
)
from spinyard.manifest import spinout_shapes as shapes
from spinyard.manifest.rollout_convert import CANARY_WEIGHTS, share
from spinyard.manifest.spinout_contract import contract_of


def spinout(shape: shapes.SpinoutSpecShape) -> SpinoutSpec:
    contract, digest = contract_of(shape.contract)
    steps = shape.steps
    return SpinoutSpec(
        parent=shape.parent,
        unit=shape.unit,
        routes=tuple(_route(route) for route in shape.boundary.routes),
        owner=shape.owner,
        escalation=shape.escalation,
        objective=shape.objective,
        contract=contract,
        contract_digest=digest,
        key=_key(shape.key) if shape.key else Sticky(),
        forward_to_owner=shape.boundary.forward_to_owner,
        steps=tuple(_step(step) for step in steps)
        if steps
        else tuple(SpinoutStep(weight) for weight in CANARY_WEIGHTS),
        gates=_gates(shape.gates),
        shadow=_shadow(shape.shadow),
        baseline_seconds=shape.baseline.duration,
        baseline_requests=shape.baseline.min_requests,
        soak_seconds=shape.soak,
        inconclusive=Inconclusive(shape.inconclusive),
        deadline_seconds=shape.deadline,
        abort_deadline_seconds=shape.abort_deadline,
    )


def _route(shape: shapes.BoundaryRouteShape) -> BoundaryRoute:
    return BoundaryRoute(shape.path, shape.method or "", tuple(shape.writes))


def _key(shape: shapes.KeyShape) -> Sticky:
    return Sticky(shape.header or "", shape.cookie or "", bool(shape.client_address), shape.no_key == "parent")


def _step(shape: shapes.SpinoutStepShape) -> SpinoutStep:
    waits = shape.pause is True
    return SpinoutStep(round(shape.weight * 100), 0.0 if waits else float(shape.pause), waits)


def _gates(shape: shapes.GatesShape) -> SpinoutGates:
    return SpinoutGates(
        margin=share(shape.success.margin),
        alpha=float(shape.success.alpha),
        latency=tuple(LatencyGoal(goal.quantile, goal.max_ratio, goal.plus, goal.max) for goal in shape.latency),
        objective=_objective(shape.objective) if shape.objective else None,
        trace_join_min=share(shape.trace_join.min) if shape.trace_join else None,
        thresholds=tuple(_threshold(threshold) for threshold in shape.thresholds),
    )


def _objective(shape: shapes.ObjectiveShape) -> Objective:
    return Objective(share(shape.target), shape.window, shape.min_events, shape.min_errors)


def _threshold(shape: shapes.ThresholdShape) -> ThresholdGate:
    is_max = shape.max is not None
    limit = shape.max if shape.max is not None else shape.min
    assert limit is not None, "one of the two was checked before"
    source = shape.prometheus
    return ThresholdGate(
        shape.name, source.url, source.query, float(limit), Bound.MAX if is_max else Bound.MIN, shape.stale
    )


def _shadow(shape: shapes.ShadowShape) -> Shadow:
    if not shape.enabled:
        return Shadow(enabled=False)
    return Shadow(
        share=round(shape.share * 100),
        compared_min=shape.min_compared,
        different_max=share(shape.max_different),
        ignore=tuple(shape.ignore),
        unordered=tuple(shape.unordered),
        redact=tuple(shape.redact),
    )
