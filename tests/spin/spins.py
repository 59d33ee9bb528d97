"""A spin in any state, and one decision about it, without anything around."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spinyard.core.ids import ResourceKey, Uid, resource_key
from spinyard.core.observed import Answer, EndpointFacts, Failure, Look, Present, ProcessFacts, Seen, Unknown
from spinyard.core.plan import Plan, Reservation, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, Port, SpinSpec, TemplateSpec, digest_of
from spinyard.core.want import EndpointState, EndpointWant
from spinyard.spin.decide import SpinDomain
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.spin.status import SpinStatus, decode_status, encode_status

NOW = 1_000_000.0
UID = Uid("bcdfghjkmnpqrstvwxz2")
PROCESS = resource_key(UID, "process")
ENDPOINT = resource_key(UID, "endpoint")
RULES = SpinRules(providers={"process": ProviderFacts("host:test", (20000, 29999))})
DOMAIN = SpinDomain(RULES)
RUNNING = Present(ProcessFacts(running=True, pid=7))


def template(**fields: Any) -> TemplateSpec:
    return TemplateSpec(command=("serve",), ports=(Port("http"),), **fields)


def spin(state: str, made_of: TemplateSpec, status: SpinStatus, *, routed: bool = True, **fields: Any) -> ObjectRow:
    digest = digest_of(made_of)
    cluster = "default/web/bcdfghjk" if routed else ""
    spec = SpinSpec(digest, cluster=cluster, service_uid="b" * 20, service_name="web")
    held = (Reservation("ports/host:test", "port/http", slot=20001),)
    row = ObjectRow(
        uid=UID,
        kind=Kind.SPIN,
        namespace="default",
        name="web-bcdfgh",
        spec=spec,
        status=encode_status(status),
        state=state,
        created_at=NOW - 1000,
        template_digest=digest,
        template=made_of,
        reservations=held,
    )
    return replace(row, **fields)


def ledger(key: str, kind: str, *, wanted: bool = True, stored: EndpointWant | None = None) -> Resource:
    provider = "proxy" if kind == "endpoint" else "process"
    return Resource(resource_key(UID, key), UID, provider, kind, wanted, stored)


def endpoint_row(state: EndpointState = EndpointState.ACTIVE) -> Resource:
    want = EndpointWant(cluster="default/web/bcdfghjk", address="127.0.0.1", port=20001, state=state, spin="web-bcdfgh")
    return ledger("endpoint", "endpoint", stored=want)


def decide(
    row: ObjectRow, now: float, known: Mapping[Any, Answer], failures: dict[ResourceKey, Failure] | None = None
) -> Plan:
    """`known`: by resource key, or by the purpose of a watch, or "probe"; what is not named is unknown."""
    answers: dict[Look, Answer] = {}
    for look in DOMAIN.looks(row, now):
        name = str(getattr(look, "key", None) or getattr(look, "purpose", "probe"))
        answers[look] = known.get(name, Unknown("not told"))
    return DOMAIN.decide(row, Seen(answers, failures or {}), now)


def after(row: ObjectRow, plan: Plan) -> ObjectRow:
    """The row as the store would hold it."""
    kept = {resource.key: resource for resource in row.resources} | {r.key: r for r in plan.resources}
    return replace(
        row,
        state=plan.state,
        status=plan.status,
        resources=tuple(resource for resource in kept.values() if resource.closed_at is None),
        outcome=plan.outcome or row.outcome,
    )


def status_of(plan: Plan) -> SpinStatus:
    return decode_status(plan.status)


def endpoint(*, healthy: bool = True, state: str = "active", active: int = 0) -> Present:
    return Present(EndpointFacts(acknowledged=True, healthy=healthy, active_requests=active, state=state))
