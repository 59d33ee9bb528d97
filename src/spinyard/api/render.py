"""Views as published JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from starlette.responses import Response

from spinyard.api.camel import camel, time_text
from spinyard.api.deps import PreflightResult
from spinyard.api.render_rollout import rollout_brief_json, rollout_json, steps_text
from spinyard.api.render_spinout import spinout_json
from spinyard.core.plan import Resource
from spinyard.core.spec import ClaimSpec, Kind, ObjectSpec, RolloutSpec, ServiceSpec, TemplateSpec
from spinyard.core.spinout import SpinoutSpec
from spinyard.manifest import API_VERSION, to_json
from spinyard.ports.store import StoredEvent
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.diff import diff
from spinyard.usecases.explain import Explanation
from spinyard.usecases.plan import Change, ChangeAction
from spinyard.usecases.pool_stats import STEP_SECONDS, PoolStats
from spinyard.usecases.views import ObjectView, status_of

Json = dict[str, Any]

UNDRIVEN = frozenset({Kind.TEMPLATE, Kind.SPIN})
"""kinds whose spec nobody changes after their start"""
LOOPBACK = "127.0.0.1"
_UNSET: tuple[object, ...] = (None, "", {}, [])


def object_json(found: ObjectView, gateway: str = "") -> Json:
    """`gateway`: host and port of the data plane, for the addresses of claims."""
    stored, row = found.stored, found.stored.row
    metadata = {
        "namespace": row.namespace,
        "name": row.name,
        "uid": row.uid,
        "labels": dict(row.labels),
        "annotations": dict(stored.annotations),
        "generation": row.generation,
        "resourceVersion": str(row.resource_version),
        "creationTimestamp": time_text(row.created_at),
        "deletionTimestamp": time_text(row.delete_at),
        "ownerReferences": [{"uid": row.owner_uid}] if row.owner_uid else [],
    }
    return {**to_json(row.kind, metadata, row.spec, found.template), "status": status_json(found, gateway)}


def spec_json(kind: Kind, spec: ObjectSpec, template: TemplateSpec | None) -> Any:
    return to_json(kind, {}, spec, template)["spec"]


def status_json(found: ObjectView, gateway: str = "") -> Json:
    stored, row = found.stored, found.stored.row
    own = camel(found.status)
    if "timeline" in own:
        own["timeline"] = [{"state": state, "at": time_text(at)} for state, at in own["timeline"]]
    if isinstance(row.spec, ClaimSpec):
        own = {**own, **_claim_json(found, row.spec, gateway)}
    if isinstance(row.spec, RolloutSpec):
        shown = rollout_json(row.spec, row.status, is_over=found.is_finished)
        own = {**shown, "observedGeneration": own.get("observedGeneration", 0)}
    if isinstance(row.spec, SpinoutSpec):
        shown = spinout_json(row.spec, row.status, is_over=found.is_finished)
        own = {**shown, "observedGeneration": own.get("observedGeneration", 0)}
    if found.rollout is not None:
        own["rollout"] = rollout_brief_json(found.rollout)
    shown = {
        **own,
        "observedGeneration": own.get("observedGeneration", row.generation if row.kind in UNDRIVEN else 0),
        "state": row.state,
        "reason": stored.reason,
        "message": stored.why,
        "nextTryAt": None if stored.finished_at else time_text(stored.wake_at),
        "stateSince": time_text(stored.state_since or row.created_at),
        "finishedAt": time_text(stored.finished_at),
        "outcome": row.outcome,
        "paused": True if row.paused else None,
        "conditions": own.get("conditions", []),
    }
    return {k: v for k, v in shown.items() if v not in _UNSET or k == "conditions"}


def _claim_json(found: ObjectView, spec: ClaimSpec, gateway: str) -> Json:
    shown: Json = {
        "host": spec.host,
        "expiresAt": time_text(spec.expires_at),
        "cold": bool(found.status.get("cold", False)),
        "bound": found.member is not None,
        "placeInQueue": found.place_in_queue,
        "member": None,
    }
    if found.member is not None:
        ports = status_of(found.member).get("ports", {})
        shown["member"] = {
            "name": found.member.row.name,
            "state": found.member.row.state,
            "address": LOOPBACK,
            "ports": ports,
            "url": _claim_url(spec, ports, gateway),
        }
    return shown


def _claim_url(spec: ClaimSpec, ports: Mapping[str, int], gateway: str) -> str | None:
    """By its host name through the gateway; of a pool without one, straight at its first port."""
    if spec.host and gateway:
        return f"http://{spec.host}:{gateway.rpartition(':')[2]}/"
    return f"http://{LOOPBACK}:{next(iter(ports.values()))}/" if ports else None


def stats_json(id: ObjectId, found: PoolStats) -> Json:
    steps: list[Json] = [
        {"since": time_text(s.since), "warm": s.warm, "cold": s.cold, "failed": s.failed, "waiting": s.waiting}
        for s in found.steps
    ]
    members = [
        {"name": m.name, "ageSeconds": round(m.age_seconds, 3), "idleSeconds": round(m.idle_seconds, 3)}
        for m in found.members
    ]
    totals = {word: sum(step[word] for step in steps) for word in ("warm", "cold", "failed", "waiting")}
    return {
        "kind": "PoolStats",
        "namespace": id.namespace,
        "pool": id.name,
        "at": time_text(found.now),
        "claims": totals,
        "hitRate": None if found.hit_rate is None else round(found.hit_rate, 4),
        "stepSeconds": STEP_SECONDS,
        "steps": steps,
        "members": members,
        "idleSeconds": round(sum(m.idle_seconds for m in found.members), 3),
    }


def list_json(items: Sequence[Json], *, next: str = "", resource_version: str = "") -> Json:
    metadata = {"continue": next, "resourceVersion": resource_version}
    return {"apiVersion": API_VERSION, "kind": "List", "items": list(items), "metadata": metadata}


def event_json(event: StoredEvent) -> Json:
    return {
        "kind": "Event",
        "token": event_token(event),
        "at": time_text(event.at),
        "type": event.type,
        "reason": event.reason,
        "message": event.message,
        "actor": event.actor,
        "state": event.state,
        "involved": {"kind": str(event.kind), "namespace": event.namespace, "name": event.name, "uid": event.uid},
    }


def event_token(event: StoredEvent) -> str:
    return f"{event.commit_seq}.{event.index}"


def resource_json(resource: Resource) -> Json:
    shown = {
        "kind": "Resource",
        "key": resource.key,
        "owner": resource.owner,
        "provider": resource.provider,
        "type": resource.kind,
        "wanted": resource.wanted,
        "retained": resource.retained,
        "createdAt": time_text(resource.created_at or None),
        "absentAt": time_text(resource.absent_at),
        "closedAt": time_text(resource.closed_at),
    }
    return {k: v for k, v in shown.items() if v is not None}


def explanation_json(found: Explanation) -> Json:
    return {
        "kind": "Explanation",
        "cause": found.cause,
        "who": str(found.who),
        "evidence": [{"source": e.source, "at": time_text(e.at), "text": e.text} for e in found.evidence],
        "nextTryAt": time_text(found.next_try_at),
        "nextStep": found.next_step,
    }


def plan_json(changes: Sequence[tuple[Change, TemplateSpec | None]], preflight: Sequence[PreflightResult]) -> Json:
    """Each change with the template that the object has before it."""
    results = [
        {"check": p.check, "status": p.status, "object": p.object, "message": p.message, "nextStep": p.next_step}
        for p in preflight
    ]
    return {"kind": "Plan", "changes": [_change_json(c, t) for c, t in changes], "preflight": results}


def _change_json(change: Change, template_before: TemplateSpec | None) -> Json:
    before = _before_json(change, template_before)
    after = _after_json(change)
    differences = diff(before, after) if change.action is ChangeAction.UPDATE else ()
    return {
        "action": str(change.action),
        "kind": str(change.id.kind),
        "namespace": change.id.namespace,
        "name": change.id.name,
        "diff": [{"path": d.path, "before": d.before, "after": d.after} for d in differences],
        "details": _details(change, after),
    }


def _before_json(change: Change, template: TemplateSpec | None) -> Json:
    if change.before is None:
        return {}
    row = change.before.row
    metadata = {"labels": dict(row.labels), "annotations": dict(change.before.annotations)}
    return {"metadata": metadata, "spec": spec_json(row.kind, row.spec, template)}


def _after_json(change: Change) -> Json:
    """Of a Service that is rolled out: as it is when that has succeeded."""
    spec = change.spec
    if spec is None:
        return {}
    if change.rollout is not None and isinstance(spec, ServiceSpec):
        spec = replace(spec, template_ref=change.rollout.template_ref)
    metadata = {"labels": dict(change.labels), "annotations": dict(change.annotations)}
    return {"metadata": metadata, "spec": spec_json(change.id.kind, spec, change.template)}


def _details(change: Change, after: Json) -> list[str]:
    if change.action is ChangeAction.DELETE:
        return ["Everything it made is removed; what is declared `retain: true` stays and is listed."]
    if change.rollout is not None:
        return [f"Rolled out: {change.rollout.old_digest} to {change.digest}, {steps_text(change.rollout.strategy)}."]
    if change.action is not ChangeAction.CREATE:
        return []
    spec = after.get("spec", {})
    out = []
    if change.template is not None:
        command = " ".join([*change.template.command, *change.template.args])[:200]
        out.append(f"Template {change.digest}: {command}")
    if change.id.kind is Kind.SERVICE and "external" not in spec:
        out.append(f"{spec.get('replicas', 1)} instances")
    if change.id.kind is Kind.WARM_POOL:
        out.append(f"{spec.get('min')} warm, at most {spec.get('max')} alive")
    for host in spec.get("route", {}).get("hosts", []):
        out.append(f"Route {host}{spec['route'].get('pathPrefix', '/')}")
    return out


def respond_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(body), status_code=status, media_type="application/json", headers=dict(headers or {})
    )
