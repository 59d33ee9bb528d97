"""A Service in any state with children of any kind, and one decision about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from spinyard.core.ids import Digest, Uid, resource_key
from spinyard.core.observed import (
    Absent,
    Answer,
    ChildBrief,
    ChildFailure,
    ChildGroup,
    Children,
    DirectoryFacts,
    Look,
    LookChildren,
    LookResource,
    Present,
    RouteFacts,
    Seen,
)
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, Port, Route, ServiceSpec, TemplateSpec, digest_of
from spinyard.core.want import RouteWant
from spinyard.spin.service.decide import ServiceDomain
from spinyard.spin.service.status import ServiceStatus, decode_service_status
from spinyard.spin.snapshot import ProviderFacts, SpinRules

NOW = 1_000_000.0
UID = Uid("bcdfghjkmnpqrstvwxz2")
ROUTE = resource_key(UID, "route")
DOMAIN = ServiceDomain(SpinRules(providers={name: ProviderFacts("host:test", (1, 9)) for name in ("process", "other")}))
OLD = TemplateSpec(command=("old",), ports=(Port("http"),))
NEW = replace(OLD, command=("new",))


def service(made_of: TemplateSpec = OLD, status: ServiceStatus | None = None, **fields: Any) -> ObjectRow:
    digest = digest_of(made_of)
    spec = ServiceSpec(replicas=3, template_digest=digest, route=Route(("web.test",)))
    row = ObjectRow(
        uid=UID,
        kind=Kind.SERVICE,
        namespace="default",
        name="web",
        spec=spec,
        status=msgspec.json.encode(status or ServiceStatus(since=NOW - 600)),
        state="available",
        created_at=NOW - 1000,
        template_digest=digest,
        template=made_of,
    )
    return replace(row, **fields)


def asked(row: ObjectRow, **fields: Any) -> ObjectRow:
    """The same Service with another wish."""
    made_of = fields.pop("template", row.template)
    assert isinstance(row.spec, ServiceSpec)
    digest = digest_of(made_of)
    spec = replace(row.spec, template_digest=digest, **fields)
    return replace(row, spec=spec, generation=row.generation + 1, template=made_of, template_digest=digest)


def group(
    state: str, made_of: TemplateSpec, slots: range, *, deleting: bool = False, created_at: float = NOW - 500
) -> ChildGroup:
    digest = digest_of(made_of)
    oldest = tuple(ChildBrief(Uid(f"child-{slot}"), str(slot), state, digest, deleting, created_at) for slot in slots)
    return ChildGroup(state, digest, deleting, len(slots), oldest[:16])


def failures(made_of: TemplateSpec, count: int, *, newest: float, apart: float = 1.0) -> tuple[ChildFailure, ...]:
    digest = digest_of(made_of)
    return tuple(
        ChildFailure(Uid(f"failed-{n}"), digest, newest - n * apart, None, "ProcessExited", "it exited with code 1")
        for n in range(count)
    )


def fleet(*groups: ChildGroup, failed: tuple[ChildFailure, ...] = (), highest_slot: int = 99, **more: Any) -> Children:
    return Children(groups=groups, failures=failed, highest_slot=highest_slot, **more)


def decide(row: ObjectRow, children: Children, now: float = NOW, *, absent: tuple[str, ...] = ()) -> Plan:
    """Everything of its own is there as the ledger says, but for what is `absent`."""
    stored = {resource.key: resource.stored_want for resource in row.resources}
    answers: dict[Look, Answer] = {}
    for look in DOMAIN.looks(row, now):
        if isinstance(look, LookChildren):
            answers[look] = children
        elif isinstance(look, LookResource):
            want = stored.get(look.key)
            facts = RouteFacts(True, want=want) if isinstance(want, RouteWant) else DirectoryFacts("/x")
            answers[look] = Absent() if look.key in absent else Present(facts)
    return DOMAIN.decide(row, Seen(answers), now)


def after(row: ObjectRow, plan: Plan) -> ObjectRow:
    kept = {resource.key: resource for resource in row.resources} | {r.key: r for r in plan.resources}
    open_rows = tuple(resource for resource in kept.values() if resource.closed_at is None)
    return replace(row, state=plan.state, status=plan.status, resources=open_rows)


def status_of(plan: Plan) -> ServiceStatus:
    return decode_service_status(plan.status)


def digest(made_of: TemplateSpec) -> Digest:
    return digest_of(made_of)
