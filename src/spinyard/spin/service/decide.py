"""What a Service does next: its own things first, then its children, one bounded step per pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import assert_never

import msgspec

from spinyard.core.actions import Action, Ensure
from spinyard.core.ids import Digest
from spinyard.core.machine import Machine
from spinyard.core.observed import (
    Absent,
    Look,
    LookChildren,
    LookObject,
    LookResource,
    Observed,
    Present,
    RouteFacts,
    Seen,
)
from spinyard.core.plan import EventDraft, Plan, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import DirectoryScope, Kind, Probe, ServiceSpec, TcpSocket, TemplateSpec
from spinyard.core.unmake import unmake
from spinyard.core.want import DirectoryWant, EndpointWant, RouteWant, Want
from spinyard.spin.gate import gate_looks, with_trials_returned
from spinyard.spin.service.new_side import NewSide, directory_names, keep_new_side, new_crew, split_of, told
from spinyard.spin.service.roll import counted, delete_all, roll
from spinyard.spin.service.sides import checked_digests, remembered_sides, sides_of
from spinyard.spin.service.snapshot import ALIVE, ServiceSnapshot, fleet_of, resource_row, set_condition
from spinyard.spin.service.status import TRANSITIONS, ServiceState, ServiceStatus, decode_service_status
from spinyard.spin.snapshot import PROXY, SpinRules

RETRY_SECONDS = 1.0
DROPPED = frozenset({"endpoint", "route"})
"""kinds that go when the wish no longer names them; directories stay until the Service goes"""


def decide(s: ServiceSnapshot) -> Plan:
    return told(s, decided(s))


def decided(s: ServiceSnapshot) -> Plan:
    state = ServiceState(s.row.state)
    match state:
        case ServiceState.TERMINATED:
            return s.plan(state, "nothing is left of it", "CleanupVerified", s.status, wake_in=None)
        case ServiceState.TERMINATING:
            return terminating(s)
        case ServiceState.PENDING | ServiceState.PROGRESSING | ServiceState.AVAILABLE | ServiceState.DEGRADED:
            if s.deleting:
                why = "deleted" if s.row.delete_at is not None else "its TTL has passed"
                return s.plan(ServiceState.TERMINATING, why, "Deleted", s.status, wake_in=0.0)
            return living(s, state)
        case never:
            assert_never(never)


def living(s: ServiceSnapshot, state: ServiceState) -> Plan:
    s = replace(s, status=remembered(s))
    waiting = waits_for(s)
    if state is ServiceState.PENDING and waiting:
        return s.plan(state, waiting, "DependencyNotReady", s.status, wake_in=1.0)
    rows, actions, missing = own_things(s)
    if rows or missing:
        status = s.status
        failure = next((f for action in actions if (f := s.seen.outcomes.get(action.key)) is not None), None)
        if failure is not None:
            status = msgspec.structs.replace(status, last_error=failure.message, last_error_class=failure.error_class)
        why = missing[0] if missing else "making what it owns"
        beside = {f"dir/{name}" for name in directory_names(s)}
        if any(part.startswith("dir/") and part not in beside for part in missing) or s.spec.external is not None:
            after = ServiceState.PROGRESSING if state is ServiceState.PENDING else state
            wake_in = 0.1 if failure is None else max(RETRY_SECONDS, failure.retry_after_seconds or 0.0)
            new = kept_meanwhile(replace(s, status=status))
            return s.plan(after, why, "Preparing", new.status, wake_in=wake_in, actions=actions, resources=rows,
                          children=new.children, events=new.events)  # fmt: skip
    if s.spec.external is not None:
        return external(s, state)
    plan = roll(s, state)
    if rows or actions or missing:
        # What it asked for counts when it was seen, and what was dropped when it was seen gone.
        plan = replace(plan, wake_at=min(s.now + RETRY_SECONDS, plan.wake_at or math.inf))
    return replace(plan, actions=actions + plan.actions, resources=rows + plan.resources)


def kept_meanwhile(s: ServiceSnapshot) -> NewSide:
    """Nothing is started before what it shares is there. A Rollout is told of its weight, and may go back."""
    if s.spec.external is not None:
        return NewSide(s.status)
    sides = sides_of(s)
    return keep_new_side(replace(s, status=counted(s, sides.stable), row=replace(s.row, paused=True)), sides)


def remembered(s: ServiceSnapshot) -> ServiceStatus:
    """What must be known of the wish before this one."""
    route = s.spec.route
    # Without the side: a promotion is no reason to replace what runs.
    wiring = f"{s.cluster_of('')} {route.port}" if route is not None else "none"
    status = remembered_sides(s)
    if (status.wiring and wiring != status.wiring) or s.spec.restarted_at != status.restarted_at:
        first = max(status.spawned, s.children.highest_slot + 1)
        status = msgspec.structs.replace(status, first_slot=first, restarted_at=s.spec.restarted_at)
    status = msgspec.structs.replace(status, wiring=wiring, probes=probes(s))
    named = {s.key(part) for part, _, _, _ in own_wants(s)}
    epochs = dict(status.epochs)
    for row in s.row.resources:
        if row.wanted and row.key not in named and row.kind in DROPPED:
            part = row.key.split("/", 1)[1].split("~", 1)[0]
            epochs[part] = epochs.get(part, 0) + 1
    if epochs != status.epochs:
        status = msgspec.structs.replace(status, epochs=epochs)
    if s.template is not None:
        mine = {directory.name: directory.retain for directory in s.template.data_directories}
        kept = {name for name in status.kept_directories if name not in mine}
        kept |= {name for name, retain in mine.items() if retain}
        kept |= {d.name for d in s.part.directories if d.retain} if s.part is not None else set()
        status = msgspec.structs.replace(status, kept_directories=tuple(sorted(kept)))
    return status


def probes(s: ServiceSnapshot) -> dict[str, Probe | None]:
    """Only as long as they matter: of the wish, and of instances that the data plane may still check."""
    if s.template is None:
        return {}
    alive = {str(group.template_digest) for group in s.children.groups if group.state in ALIVE}
    kept = {digest: known for digest, known in s.status.probes.items() if digest in alive or digest == s.status.good}
    return kept | {str(s.spec.template_digest): checked(s.template)}


def checked(template: TemplateSpec) -> Probe | None:
    """The probe that the data plane can make itself."""
    probe = template.readiness_probe
    return None if probe is None or probe.exec is not None else probe


def health_check(s: ServiceSnapshot) -> Probe | None:
    """There is one for all instances of a cluster. While templates with different probes serve beside each other, each
    was seen ready by its own before it was registered, and the check is what all of them pass: a connection."""
    if s.template is None:
        return s.spec.external.readiness_probe if s.spec.external is not None else None
    if LookChildren(s.row.uid) not in s.seen.answers:
        return None
    alive = checked_digests(sides_of(s))
    mine = checked(s.template)
    checks = {s.status.probes.get(digest, mine) for digest in alive or {str(s.target)}}
    return checks.pop() if len(checks) == 1 else Probe(tcp_socket=TcpSocket(), period_seconds=1.0)


def waits_for(s: ServiceSnapshot) -> str:
    """Only before the first start: what runs is not stopped because something it once waited for went away."""
    for dependency in s.spec.depends_on:
        brief = s.dependency(dependency)
        good = "available" if dependency.kind is Kind.SERVICE else "succeeded"
        if brief is None:
            return f"waiting for {dependency.kind} {dependency.name}, which does not exist"
        if brief.state != good:
            return f"waiting for {dependency.kind} {dependency.name}, which is {brief.state}"
    return ""


def own_wants(s: ServiceSnapshot) -> list[tuple[str, str, str, Want]]:
    """(part of the key, kind, provider, want) of everything that a Service itself owns. What was dropped once and is
    wished for again has a new part: its old key may be closed."""
    epochs = s.status.epochs
    return [
        (f"{part}~{epochs[part]}" if part in epochs else part, kind, provider, want)
        for part, kind, provider, want in wishes(s)
    ]


def wishes(s: ServiceSnapshot) -> list[tuple[str, str, str, Want]]:
    out: list[tuple[str, str, str, Want]] = []
    if s.template is not None:
        out += [
            (f"dir/{directory.name}", "directory", s.provider, DirectoryWant(name=directory.name))
            for directory in s.template.data_directories
            if directory.scope is DirectoryScope.SERVICE
        ]
        out += [(f"dir/{name}", "directory", s.provider, DirectoryWant(name=name)) for name in directory_names(s)]
    route = s.spec.route
    if route is not None:
        probe = health_check(s)
        out.append(
            (
                "route",
                "route",
                PROXY,
                RouteWant(
                    cluster=s.cluster,
                    hosts=route.hosts,
                    path_prefix=route.path_prefix,
                    probe=None if probe is None or probe.exec is not None else probe,
                    timeout_seconds=route.timeout_seconds,
                    http2=route.http2,
                    service=f"{s.row.namespace}/{s.row.name}",
                    split=split_of(s),
                ),
            )
        )
    for endpoint in s.spec.external.endpoints if s.spec.external is not None and route is not None else ():
        want = EndpointWant(cluster=s.cluster, address=endpoint.address, port=endpoint.port)
        out.append((f"endpoint/{endpoint.address}-{endpoint.port}", "endpoint", PROXY, want))
    return out


def own_things(s: ServiceSnapshot) -> tuple[tuple[Resource, ...], tuple[Action, ...], tuple[str, ...]]:
    """(ledger rows to write, what to ask for, what is still missing)."""
    known = {resource.key: resource for resource in s.row.resources}
    rows: list[Resource] = []
    actions: list[Action] = []
    missing: list[str] = []
    for part, kind, provider, want in own_wants(s):
        key = s.key(part)
        stored = want if provider == PROXY else None
        row = known.pop(key, None)
        provider = row.provider if row is not None else provider
        if row is None or (stored is not None and row.stored_want != stored):
            rows.append(replace(row or resource_row(s, key, kind, provider), stored_want=stored))
            actions.append(Ensure(provider, key, want))
            missing.append(part)
        elif isinstance(s.observed(provider, key), Absent) or is_another(s.observed(provider, key), want):
            actions.append(Ensure(provider, key, want))
            missing.append(part)
        elif not isinstance(s.observed(provider, key), Present):
            missing.append(part)
    # What the wish no longer names: an external endpoint that was taken out. Directories stay until the Service goes,
    # also those whose making got lost before the wish changed: their rows are open.
    for row in known.values():
        if row.kind == "directory" and row.wanted and isinstance(s.observed(row.provider, row.key), Absent):
            actions.append(Ensure(row.provider, row.key, DirectoryWant(name=row.key.rsplit("/", 1)[1])))
    dropped = tuple(row for row in known.values() if row.kind in DROPPED)
    changed, removals, _ = unmake(dropped, s.observed, s.now, hard=False)
    return tuple(rows) + changed, tuple(actions) + removals, tuple(missing)


def is_another(observed: Observed, want: Want) -> bool:
    """A change of the wish can get lost on its way like everything else."""
    match observed:
        case Present(facts=RouteFacts(want=RouteWant() as known)):
            return known != want
        case _:
            return False


def external(s: ServiceSnapshot, state: ServiceState) -> Plan:
    """Endpoints of something we do not start: known to the data plane is all that we can make true."""
    assert s.spec.external is not None
    total = len(s.spec.external.endpoints)
    gone = delete_all(fleet_of(s.children), "what it stands for runs elsewhere now")
    status = msgspec.structs.replace(s.status, replicas=total, shown=None)
    if state is ServiceState.PENDING:
        return s.plan(ServiceState.PROGRESSING, "telling the data plane", "Preparing", status, wake_in=0.0)
    return s.plan(
        ServiceState.AVAILABLE, f"{total} external endpoints", "External", status, wake_in=None, children=gone
    )


def terminating(s: ServiceSnapshot) -> Plan:
    """Children first, then the route, then what they shared. Nothing is taken from under a running instance."""
    fleet = fleet_of(s.children)
    status = msgspec.structs.replace(s.status, replicas=fleet.total, ready=0, ending=fleet.ending, shown=None)
    if fleet.total:
        return s.plan(
            ServiceState.TERMINATING,
            f"waiting for {fleet.total} instances to go",
            "Removing",
            status,
            wake_in=5.0,
            children=delete_all(fleet, "its Service is deleted", force=s.row.force),
        )
    kept = retained_keys(s)
    keep = tuple(
        replace(row, retained=True, closed_at=s.now) for row in s.row.resources if row.key in kept and not row.closed_at
    )
    rest = tuple(row for row in s.row.resources if row.key not in kept)
    changed, actions, waiting = unmake(rest, s.observed, s.now, hard=s.row.force or s.status.stuck)
    if waiting:
        attempts = status.attempts + 1
        stuck = s.now - s.status.since > 60.0 + s.rules.cleaning_seconds
        events: tuple[EventDraft, ...] = ()
        if stuck and not status.stuck:
            events = (EventDraft("Warning", "Stuck", f"not gone: {waiting}"),)
        status = msgspec.structs.replace(status, attempts=attempts, stuck=stuck)
        return s.plan(
            ServiceState.TERMINATING,
            waiting,
            "Removing",
            status,
            wake_in=min(0.02 * 1.5 ** min(attempts, 14), 2.0),
            resources=changed + keep,
            actions=actions,
            events=events,
        )
    status = set_condition(status, "CleanupVerified", True, "Absent", "", s.now)
    plan = s.plan(
        ServiceState.TERMINATED,
        "nothing is left of it" + (f", {len(kept)} directories are retained" if kept else ""),
        "CleanupVerified",
        status,
        wake_in=None,
        resources=changed + keep,
    )
    return replace(plan, finished=True, keep_seconds=600.0)


def retained_keys(s: ServiceSnapshot) -> frozenset[str]:
    return frozenset(s.key(f"dir/{name}") for name in remembered(s).kept_directories)


def looks(s: ServiceSnapshot) -> tuple[Look, ...]:
    if ServiceState(s.row.state) is ServiceState.TERMINATED:
        return ()
    out: list[Look] = [LookChildren(s.row.uid)]
    keys = {s.key(part): provider for part, _, provider, _ in own_wants(s)}
    keys.update({resource.key: resource.provider for resource in s.row.resources})
    known = {resource.key for resource in s.row.resources}
    out += [LookResource(provider, key) for key, provider in keys.items() if key in known]
    if ServiceState(s.row.state) is ServiceState.PENDING:
        out += [LookObject(d.kind, s.row.namespace, d.name) for d in dict.fromkeys(s.spec.depends_on)]
    digests = [crew.digest for crew in new_crew(s)]
    return (*out, *gate_looks(s.row, s.target, s.spec.template_digest, Digest(s.status.good), *digests))


class ServiceDomain:
    """The kind Service for the engine."""

    kind = Kind.SERVICE
    machine: Machine = TRANSITIONS

    def __init__(self, rules: SpinRules) -> None:
        self._rules = rules

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return with_trials_returned(decide(self._snapshot(row, seen, now)), row, seen, now)

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> ServiceSnapshot:
        assert isinstance(row.spec, ServiceSpec)
        status = decode_service_status(row.status)
        if not status.since:
            status = msgspec.structs.replace(status, since=row.created_at)
        # A clock that went back must not make a deadline of minutes one of hours.
        since, progressed_at = min(status.since, now), min(status.progressed_at, now)
        if (since, progressed_at) != (status.since, status.progressed_at):
            status = msgspec.structs.replace(status, since=since, progressed_at=progressed_at)
        return ServiceSnapshot(row, row.spec, row.template, status, seen, self._rules, now)
