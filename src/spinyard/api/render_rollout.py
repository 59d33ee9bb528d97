"""Rollouts as published JSON. Pure. Weights in a status are parts of 10,000, as the engine counts them."""

from __future__ import annotations

from typing import Any

import msgspec

from spinyard.api.camel import camel
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import RolloutSpec, RolloutStrategy
from spinyard.core.verdict import Evidence, judge
from spinyard.manifest.rollout_render import strategy_fields, weight_percent
from spinyard.ports.store import StoredObject
from spinyard.spin.rollout.status import RolloutStatus, decode_rollout_status
from spinyard.usecases.rollout_plan import RolloutForecast

Json = dict[str, Any]


def rollout_json(spec: RolloutSpec, blob: bytes, *, is_over: bool = False) -> Json:
    """What a person reads. Counters as they were read, and what else is for the next pass, are left out. `step` is the
    index into the strategy's steps; `steps`: those that were left."""
    status = _decoded(blob)
    return {
        "service": spec.service,
        "oldTemplateDigest": spec.old_digest,
        "templateDigest": spec.template_digest,
        "step": status.step,
        "weight": status.weight,
        "shownWeight": status.shown_weight,
        "replicas": status.replicas,
        "stepBegunAt": camel({"step_begun_at": status.step_begun_at})["stepBegunAt"],
        "old": camel(msgspec.to_builtins(status.old)),
        "new": camel(msgspec.to_builtins(status.new)),
        "gates": camel(msgspec.to_builtins(status.gates)),
        "evidence": _evidence_json(status.evidence, spec.strategy.analysis.alpha),
        "needs": "" if is_over else status.needs,
        "steps": camel(msgspec.to_builtins(status.steps)),
        "stopped": status.stopped,
        "stoppedReason": status.stopped_reason,
        "lastError": status.last_error,
        "lastErrorClass": status.last_error_class,
    }


def rollout_brief_json(found: StoredObject) -> Json:
    """As its Service shows it."""
    status = _decoded(found.row.status)
    return {
        "name": found.row.name,
        "state": found.row.state,
        "step": status.step,
        "weight": status.weight,
        "shownWeight": status.shown_weight,
    }


def forecast_json(found: RolloutForecast) -> Json:
    """Weights in percent, as in a manifest. "unknown": nobody counts the requests, or there are none."""
    planned = found.planned
    steps = [
        {
            "weight": weight_percent(step.weight),
            "instances": step.instances,
            "holdSeconds": step.hold_seconds,
            "waitsForPromotion": step.waits_for_person,
            "requestsNeeded": "unknown" if step.requests is None else step.requests,
            "seconds": _or_unknown(step.seconds),
        }
        for step in found.steps
    ]
    return {
        "kind": "RolloutPlan",
        "namespace": planned.service.namespace,
        "service": planned.service.name,
        "replicas": planned.replicas,
        "templateDigest": planned.template_digest,
        "running": planned.running or None,
        "strategy": strategy_fields(planned.strategy),
        "requestsPerSecond": _or_unknown(found.per_second),
        "steps": steps,
        "waitsForPromotion": any(step.waits_for_person for step in found.steps),
        "estimatedSeconds": _or_unknown(found.seconds),
    }


def _or_unknown(value: float | None) -> float | str:
    return "unknown" if value is None else round(value, 1)


def steps_text(strategy: RolloutStrategy) -> str:
    if strategy.blue_green:
        return "all requests at once when all new instances are up"
    weights = " / ".join(f"{step.weight * 100 / WEIGHT_ALL:g}" for step in strategy.steps) or "100"
    return f"in steps of {weights} %"


def _evidence_json(evidence: Evidence | None, alpha: float) -> Json:
    """All that was counted, over all steps, and how far each of the two sums is from its bound."""
    if evidence is None:
        return {}
    found = judge(evidence, alpha=alpha)
    return {
        "verdict": str(found.verdict),
        "old": {"requests": found.old.requests, "failures": found.old.failures},
        "new": {"requests": found.new.requests, "failures": found.new.failures},
        "margin": found.margin,
        "alpha": found.alpha,
        "logEFail": round(found.log_e_fail, 4),
        "logEPass": round(found.log_e_pass, 4),
        "bound": round(found.bound, 4),
    }


def _decoded(blob: bytes) -> RolloutStatus:
    """One that a newer version wrote in another shape is not shown rather than refused."""
    try:
        return decode_rollout_status(blob)
    except msgspec.MsgspecError:
        return RolloutStatus()
