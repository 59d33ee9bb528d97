"""Spinouts as published JSON. Pure. Weights in a status are parts of 10,000, as the engine counts them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from spinyard.api.camel import camel, time_text
from spinyard.core.chain import Record
from spinyard.core.observed import ShadowFound
from spinyard.core.spinout import Approval, SpinoutSpec
from spinyard.core.verdict import Evidence, judge
from spinyard.manifest.rollout_render import weight_percent
from spinyard.spinout.compare import Sample
from spinyard.spinout.status import SpinoutStatus, decode_spinout_status
from spinyard.usecases.spinout_history import Verification
from spinyard.usecases.spinout_plan import SpinoutForecast
from spinyard.usecases.spinout_token import SideToken

Json = dict[str, Any]


def spinout_json(spec: SpinoutSpec, blob: bytes, *, is_over: bool = False) -> Json:
    """What a person reads. Counters as they were read, and what else is for the next pass, are left out. `step` is the
    index into the spec's steps; `passed`: what was left."""
    status = _decoded(blob)
    return {
        "started": spec.started,
        "attempt": status.attempt,
        "attemptAt": time_text(status.attempt_at) if status.attempt_at else None,
        "step": status.step,
        "weight": status.weight,
        "shownWeight": status.shown_weight,
        "highestWeight": status.highest,
        "mirror": status.mirror,
        "heldFrom": status.held_from,
        "heldWhy": status.held_why,
        "stepBegunAt": time_text(status.step_begun_at) if status.step_begun_at else None,
        "baseline": camel(msgspec.to_builtins(status.baseline)) if status.baseline is not None else None,
        "old": camel(msgspec.to_builtins(status.old)),
        "new": camel(msgspec.to_builtins(status.new)),
        "gates": camel(msgspec.to_builtins(status.gates)),
        "evidence": _evidence_json(status.evidence, spec.gates.alpha),
        "needs": "" if is_over else status.needs,
        "passed": camel(msgspec.to_builtins(status.passed)),
        "approvals": [_approval_json(one) for one in spec.approvals],
        "promoted": spec.promoted,
        "promotedFully": True if spec.promoted_fully else None,
        "abort": spec.abort,
        "stopped": status.stopped,
        "stoppedReason": status.stopped_reason,
        "paged": True if status.paged else None,
        "capacityFloor": spec.capacity_floor,
        "configDigest": status.config_digest,
        "contractDigest": spec.contract_digest,
        "conditions": [{"type": name, "status": "True"} for name in status.conditions],
        "lastError": status.last_error,
        "lastErrorClass": status.last_error_class,
    }


def spinout_plan_json(found: SpinoutForecast) -> Json:
    """Weights in percent, as in a manifest. "unknown": nobody counts the requests, or there are none."""
    planned, spec = found.planned, found.planned.spec
    row = planned.found.row
    return {
        "kind": "SpinoutPlan",
        "namespace": row.namespace,
        "name": row.name,
        "state": row.state,
        "parent": spec.parent,
        "unit": spec.unit,
        "routes": [
            {"route": one.route, "moves": one.moves, "copied": one.copied, "why": one.why} for one in planned.routes
        ],
        "phases": [
            {"phase": one.phase, "by": one.by, "needs": one.needs, "done": one.is_done} for one in planned.phases
        ],
        "requestsPerSecond": _or_unknown(found.per_second),
        "requestsOf": "boundary" if planned.is_counted else "parent",
        "baseline": {"requestsNeeded": spec.baseline_requests, "seconds": _or_unknown(found.baseline_seconds)},
        "shadow": {"compared": spec.shadow.compared_min, "seconds": _or_unknown(found.shadow_seconds)}
        if spec.shadow.enabled
        else None,
        "steps": [
            {
                "weight": weight_percent(step.weight),
                "holdSeconds": step.hold_seconds,
                "waitsForPromotion": step.waits_for_person,
                "requestsNeeded": "unknown" if step.requests is None else step.requests,
                "seconds": _or_unknown(step.seconds),
            }
            for step in found.steps
        ],
        "soakSeconds": spec.soak_seconds,
        "waitsForPromotion": any(step.waits_for_person for step in found.steps),
        "estimatedSeconds": _or_unknown(found.seconds),
        "refused": [{"code": one.code, "message": one.message, "nextStep": one.next_step} for one in planned.refused],
    }


def record_json(record: Record) -> Json:
    return {
        "seq": record.seq,
        "at": time_text(record.at),
        "actor": record.actor,
        "kind": record.kind,
        "body": _body(record.body),
        "before": record.before,
        "hash": record.hash,
    }


def history_json(records: Sequence[Record], found: Verification, *, more: int | None) -> Json:
    """`continue`: of the next page, empty on the last one."""
    return {
        "kind": "SpinoutHistory",
        "metadata": {"continue": "" if more is None else str(more)},
        "verification": verification_json(found),
        "items": [record_json(one) for one in records],
    }


def verification_json(found: Verification) -> Json:
    broken = found.broken
    return {
        "kind": "SpinoutVerification",
        "whole": found.is_whole,
        "records": found.records,
        "head": found.head,
        "brokenAt": broken.seq if broken is not None else None,
        "why": broken.why if broken is not None else "",
    }


def diffs_json(found: ShadowFound | None, samples: Sequence[Sample]) -> Json:
    """`compared` counts nothing before the noise is known. `samples`: the newest first."""
    seen = found or ShadowFound(0, 0)
    return {
        "kind": "SpinoutDiffs",
        "known": found is not None,
        "compared": seen.compared,
        "different": seen.different,
        "errors": seen.errors,
        "skipped": seen.skipped,
        "fields": [{"name": name, "count": count} for name, count in seen.fields],
        "samples": [
            {
                "at": time_text(one.at),
                "method": one.method,
                "path": one.path,
                "fields": [{"name": name, "parent": old, "unit": new} for name, old, new in one.fields],
            }
            for one in reversed(samples)
        ],
    }


def token_json(made: SideToken) -> Json:
    return {
        "kind": "SideToken",
        "token": made.token,
        "header": made.header,
        "side": made.side,
        "expiresAt": time_text(made.expires_at),
    }


def _approval_json(one: Approval) -> Json:
    return {
        "phase": one.phase,
        "actor": one.actor,
        "at": time_text(one.at),
        "attempt": one.attempt,
        "evidence": one.evidence,
        **({"decision": one.decision} if one.decision else {}),
        **({"waives": one.waives} if one.waives else {}),
        **({"expiresAt": time_text(one.expires_at)} if one.expires_at is not None else {}),
    }


def _body(body: bytes) -> Any:
    """One that somebody tampered with is shown as the text it is."""
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return body.decode(errors="replace")


def _or_unknown(value: float | None) -> float | str:
    return "unknown" if value is None else round(value, 1)


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


def _decoded(blob: bytes) -> SpinoutStatus:
    """One that a newer version wrote in another shape is not shown rather than refused."""
    try:
        return decode_spinout_status(blob)
    except msgspec.MsgspecError:
        return SpinoutStatus()
