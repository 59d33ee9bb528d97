"""A Spinout's spec as a person writes it. What people did with the verbs, and what the server filled in, is not."""

from __future__ import annotations

from spinyard.core.shift import Sticky
from spinyard.core.spinout import (
    Bound,
    BoundaryRoute,
    LatencyGoal,
    Objective,
    Shadow,
    SpinoutGates,
    SpinoutSpec,
    SpinoutStep,
    ThresholdGate,
)
from spinyard.manifest.rollout_render import percent, weight_percent
from spinyard.manifest.scalars import plain_number
from spinyard.spinout.routes import route_text

Fields = dict[str, object]


def spinout_fields(spec: SpinoutSpec) -> Fields:
    return {
        "parent": spec.parent,
        "unit": spec.unit,
        **_texts(owner=spec.owner, escalation=spec.escalation, objective=spec.objective),
        "boundary": {
            "routes": [_route(route) for route in spec.routes],
            "forwardToOwner": spec.forward_to_owner,
        },
        **({"contract": {"text": spec.contract}} if spec.contract else {}),
        **_key(spec.key),
        "steps": [_step(step) for step in spec.steps],
        "gates": _gates(spec.gates),
        "shadow": _shadow(spec.shadow),
        "baseline": {"duration": plain_number(spec.baseline_seconds), "minRequests": spec.baseline_requests},
        "soak": plain_number(spec.soak_seconds),
        "inconclusive": str(spec.inconclusive),
        "deadline": plain_number(spec.deadline_seconds),
        "abortDeadline": plain_number(spec.abort_deadline_seconds),
    }


def _texts(**given: str) -> Fields:
    return {name: text for name, text in given.items() if text}


def _route(route: BoundaryRoute) -> object:
    if not route.writes:
        return route_text(route)
    return {**_texts(method=route.method), "path": route.path, "writes": list(route.writes)}


def _key(key: Sticky) -> Fields:
    """Nothing when each request is on its own."""
    if key.client_address:
        return {"key": {"clientAddress": True}}
    if not (key.header or key.cookie):
        return {}
    return {"key": _texts(header=key.header, cookie=key.cookie) | {"noKey": "parent" if key.no_key_old else "any"}}


def _step(step: SpinoutStep) -> Fields:
    fields: Fields = {"weight": weight_percent(step.weight)}
    if step.wait:
        fields["pause"] = True
    elif step.hold_seconds:
        fields["pause"] = plain_number(step.hold_seconds)
    return fields


def _gates(gates: SpinoutGates) -> Fields:
    joined = gates.trace_join_min
    return {
        "success": {"margin": percent(gates.margin), "alpha": plain_number(gates.alpha)},
        **({"latency": [_latency(goal) for goal in gates.latency]} if gates.latency else {}),
        **({"objective": _objective(gates.objective)} if gates.objective else {}),
        **({"traceJoin": {"min": percent(joined)}} if joined is not None else {}),
        **({"thresholds": [_threshold(threshold) for threshold in gates.thresholds]} if gates.thresholds else {}),
    }


def _latency(goal: LatencyGoal) -> Fields:
    return {
        "quantile": plain_number(goal.quantile),
        **({} if goal.max_ratio is None else {"maxRatio": plain_number(goal.max_ratio)}),
        **({} if not goal.max_seconds_more else {"plus": plain_number(goal.max_seconds_more)}),
        **({} if goal.max_seconds is None else {"max": plain_number(goal.max_seconds)}),
    }


def _objective(objective: Objective) -> Fields:
    return {
        "target": percent(objective.target),
        "window": plain_number(objective.window_seconds),
        "minEvents": objective.events_min,
        "minErrors": objective.errors_min,
    }


def _threshold(threshold: ThresholdGate) -> Fields:
    bound = "max" if threshold.bound is Bound.MAX else "min"
    return {
        "name": threshold.name,
        "prometheus": {"url": threshold.url, "query": threshold.query},
        bound: plain_number(threshold.limit),
        "stale": plain_number(threshold.stale_seconds),
    }


def _shadow(shadow: Shadow) -> Fields | bool:
    if not shadow.enabled:
        return False
    lists = {"ignore": shadow.ignore, "unordered": shadow.unordered, "redact": shadow.redact}
    return {
        "share": weight_percent(shadow.share),
        "minCompared": shadow.compared_min,
        "maxDifferent": percent(shadow.different_max),
        **{name: list(names) for name, names in lists.items() if names},
    }
