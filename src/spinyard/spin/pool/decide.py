"""What a WarmPool does next: keep the minimum warm at the present template, never more than the maximum alive.

Invariants: a member counts against the maximum until nothing is left of it (its reservation says so, in the same
transaction); only unclaimed members are ever taken away; stale ones are never claimable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import msgspec

from spinyard.core.actions import Action, Ensure
from spinyard.core.ids import child_name, child_uid, resource_key
from spinyard.core.machine import Machine
from spinyard.core.observed import (
    Absent,
    Children,
    Look,
    LookChildren,
    LookPool,
    LookResource,
    Observed,
    PoolView,
    Present,
    Seen,
    Unknown,
)
from spinyard.core.plan import ChildChange, CreateChild, DeleteChild, EventDraft, Plan, Resource, WakeChild
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, SpinSpec, WarmPoolSpec
from spinyard.core.unmake import unmake
from spinyard.core.want import RouteWant
from spinyard.spin.crash_loop import Loop, loop_of
from spinyard.spin.gate import Gate, as_trials, gate_looks, gate_of, noted, with_trials_returned
from spinyard.spin.pool.schedule import bounds
from spinyard.spin.pool.status import TRANSITIONS, PoolState, PoolStatus, decode_pool_status
from spinyard.spin.service.roll import delete_all
from spinyard.spin.service.snapshot import Fleet
from spinyard.spin.snapshot import PROXY, SpinRules
from spinyard.spin.status import STARTING, State

CREATE_MAX = 64
"""members made in one pass; more follow in the next"""
WARM = frozenset({State.WARM})
UNCLAIMED = STARTING | WARM


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    row: ObjectRow
    spec: WarmPoolSpec
    status: PoolStatus
    seen: Seen
    rules: SpinRules
    now: float

    @property
    def children(self) -> Children:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        assert isinstance(answer, Children)
        return answer

    @property
    def view(self) -> PoolView | None:
        answer = self.seen.answers.get(LookPool(self.row.uid, State.WARM))
        return answer if isinstance(answer, PoolView) else None

    @property
    def members(self) -> Fleet:
        """Spins only: claims are children of the pool too, and have no template."""
        return Fleet(tuple(group for group in self.children.groups if group.template_digest))

    @property
    def claims(self) -> Fleet:
        return Fleet(tuple(group for group in self.children.groups if not group.template_digest))

    @property
    def gate(self) -> Gate:
        return gate_of(self.row, self.seen, self.spec.template_digest, self.now)

    @property
    def wish(self) -> str:
        return f"{self.spec.template_digest} {self.spec.min} {self.spec.max}"

    def observed(self, provider: str, key: str) -> Observed:
        answer = self.seen.answers.get(LookResource(provider, resource_key(self.row.uid, key.split("/", 1)[1])))
        return answer if isinstance(answer, Present | Absent | Unknown) else Unknown("it was not looked at")

    def plan(
        self,
        state: PoolState,
        why: str,
        reason: str,
        status: PoolStatus,
        *,
        wake_in: float | None,
        actions: tuple[Action, ...] = (),
        resources: tuple[Resource, ...] = (),
        children: tuple[ChildChange, ...] = (),
        events: tuple[EventDraft, ...] = (),
    ) -> Plan:
        if state != self.row.state:
            status = msgspec.structs.replace(status, since=self.now)
        status = msgspec.structs.replace(status, observed_generation=self.row.generation)
        return Plan(
            state=str(state),
            status=msgspec.json.encode(status),
            why=why,
            reason=reason,
            wake_at=None if wake_in is None else self.now + max(0.0, wake_in),
            actions=actions,
            resources=resources,
            children=children,
            events=events,
        )


def decide(s: PoolSnapshot) -> Plan:
    state = PoolState(s.row.state)
    match state:
        case PoolState.TERMINATED:
            return s.plan(state, "nothing is left of it", "CleanupVerified", s.status, wake_in=None)
        case PoolState.TERMINATING:
            return terminating(s)
        case PoolState.PENDING | PoolState.FILLING | PoolState.READY | PoolState.DEGRADED:
            if s.row.delete_at is not None:
                return s.plan(PoolState.TERMINATING, "deleted", "Deleted", s.status, wake_in=0.0)
            return living(s)
        case never:
            assert_never(never)


def living(s: PoolSnapshot) -> Plan:
    minimum, maximum, bounds_change = bounds_in_force(s)
    digest = s.spec.template_digest
    fleet = s.members
    loop = loop_of(s.children.failures, digest, minimum, s.row.uid, s.now)
    rows, actions = route(s)
    held = s.view.held if s.view is not None else 0
    # Never too many: what has not reserved yet counts as if it had.
    claimed = max(0, held - fleet.total)
    leaving, due = leavers(s, fleet, min(minimum, max(0, maximum - claimed)))
    joining, status, is_blocked = joiners(s, fleet, loop, minimum, maximum)
    woken = wake_waiting(s, maximum)
    warm, starting = fleet.count(WARM, digest=digest), fleet.count(STARTING, digest=digest)
    status = msgspec.structs.replace(
        status,
        min=minimum,
        max=maximum,
        warm=warm,
        starting=starting,
        stale=fleet.count(UNCLAIMED, other_than=digest),
        held=held,
        waiting=s.claims.count(frozenset({State.PENDING})),
        last_error=loop.last.message if loop.last is not None else "",
        last_error_class=loop.last.outcome if loop.last is not None else "",
    )
    waits = [] if bounds_change is None else [bounds_change]
    waits += [loop.until - s.now] if s.now < loop.until else []
    waits += [due] if due is not None else []
    waits += [0.05] if joining or leaving or actions else []
    waits += [s.gate.wake_in] if s.gate.wake_in is not None and (is_blocked or s.gate.held is not None) else []
    conditions, events = noted(status.conditions, s.gate, is_blocked=is_blocked)
    status = msgspec.structs.replace(status, conditions=conditions)
    state, why, reason = verdict(status, loop, claimed, s.now)
    if is_blocked and state is not PoolState.READY:
        state = PoolState.DEGRADED if s.gate.breaker.is_open else state
        why, reason = f"{status.warm} of {status.min} warm; {s.gate.words}", s.gate.reason
    if s.row.paused and state is PoolState.FILLING:
        why, reason = f"{why}; it is paused", "Paused"
    plan = s.plan(
        state,
        why,
        reason,
        status,
        wake_in=min(waits) if waits else None,
        actions=actions,
        resources=rows,
        children=leaving + joining + woken,
        events=events,
    )
    return as_trials(plan, s.gate)


def bounds_in_force(s: PoolSnapshot) -> tuple[int, int, float | None]:
    """Under a hold the schedule moves nothing; what a person wished since then is in force."""
    if s.gate.held is not None and s.status.wish == s.wish:
        return s.status.min, s.status.max, None
    return bounds(s.spec, s.now)


def verdict(status: PoolStatus, loop: Loop, claimed: int, now: float) -> tuple[PoolState, str, str]:
    """Claimed instances take room for as long as they live; a member that is just going gives its room back."""
    if loop.last is not None and now < loop.until:
        return PoolState.DEGRADED, loop.last.message, "CrashLoopBackOff"
    if status.warm >= status.min:
        return PoolState.READY, f"{status.warm} warm", "Ready"
    if status.warm >= status.max - claimed:
        return PoolState.READY, f"{status.warm} warm, {claimed} claimed, at the maximum of {status.max}", "AtMaximum"
    return PoolState.FILLING, f"{status.warm} of {status.min} warm", "Filling"


def joiners(
    s: PoolSnapshot, fleet: Fleet, loop: Loop, minimum: int, maximum: int
) -> tuple[tuple[ChildChange, ...], PoolStatus, bool]:
    """(members to make, the status after that, whether more were made if it were not for the gate)."""
    have = fleet.count(UNCLAIMED, digest=s.spec.template_digest)
    held = s.view.held if s.view is not None else maximum
    # What has been made and has not reserved yet is not in `held`; it is in the fleet as pending.
    unreserved = fleet.count(frozenset({State.PENDING}))
    lacking = max(0, minimum - have)
    asked = lacking if s.status.wish != s.wish else min(s.status.asked, lacking)
    wanted = min(lacking, maximum - held - unreserved, CREATE_MAX)
    allowed = s.gate.most(wanted, asked)
    is_blocked = allowed < wanted
    if s.now < loop.until or s.row.paused:
        allowed = 0
    first = max(s.status.spawned, s.children.highest_slot + 1)
    made = tuple(member(s, first + index, maximum) for index in range(allowed))
    status = msgspec.structs.replace(
        s.status, spawned=first + allowed if made else s.status.spawned, wish=s.wish, asked=max(0, asked - allowed)
    )
    return made, status, is_blocked


def member(s: PoolSnapshot, slot: int, maximum: int) -> CreateChild:
    uid = child_uid(s.row.uid, str(slot), 1)
    spec = SpinSpec(
        template_digest=s.spec.template_digest,
        cluster=cluster_of(s.row, s.spec),
        route_port=s.spec.route_port,
        pool_uid=s.row.uid,
        pool_max=maximum,
        service_name=s.row.name,
    )
    labels = (*s.row.labels, ("spinyard.dev/pool", s.row.name))
    return CreateChild(uid, Kind.SPIN, child_name(s.row.name, uid), str(slot), spec, s.spec.template_digest, labels)


def cluster_of(row: ObjectRow, spec: WarmPoolSpec) -> str:
    return f"{row.namespace}/{row.name}/{row.uid[:8]}" if spec.host_suffix else ""


def leavers(s: PoolSnapshot, fleet: Fleet, least: int) -> tuple[tuple[ChildChange, ...], float | None]:
    """(members to take away, seconds until the next one is due). `least`: how many are to stay, of the minimum those
    that there is room for. The store does it only while they are unclaimed."""
    digest = s.spec.template_digest
    out: list[ChildChange] = []
    dues: list[float] = []
    if s.spec.replace_stale:
        out += [
            DeleteChild(c.uid, "its template is not the pool's any more")
            for c in fleet.members(UNCLAIMED, other_than=digest)
        ]
    warm = fleet.members(WARM, digest=digest)
    if s.spec.freshness_seconds is not None and s.gate.held is None:
        for child in warm:
            left = child.created_at + s.spec.freshness_seconds - s.now
            if left <= 0:
                out.append(DeleteChild(child.uid, f"older than {s.spec.freshness_seconds:g} s"))
            else:
                dues.append(left)
    taken = {change.uid for change in out if isinstance(change, DeleteChild)}
    spare = fleet.count(UNCLAIMED, digest=digest) - len(taken) - least
    idle = s.spec.max_idle_seconds if s.spec.max_idle_seconds is not None else 0.0
    for child in sorted((c for c in warm if c.uid not in taken), key=lambda c: c.created_at)[: max(0, spare)]:
        left = child.created_at + idle - s.now
        if left <= 0:
            out.append(DeleteChild(child.uid, "more than the minimum, and nobody claims it"))
        else:
            dues.append(left)
    return tuple(out), min(dues) if dues else None


def wake_waiting(s: PoolSnapshot, maximum: int) -> tuple[ChildChange, ...]:
    """The oldest claims first, as many as there are members, or room to make one."""
    view = s.view
    if view is None or not view.waiting:
        return ()
    free = view.warm + max(0, maximum - view.held)
    oldest = sorted(s.claims.members(frozenset({State.PENDING})), key=lambda c: c.created_at)
    return tuple(WakeChild(claim.uid) for claim in oldest[:free])


def route(s: PoolSnapshot) -> tuple[tuple[Resource, ...], tuple[Action, ...]]:
    if not s.spec.host_suffix:
        return (), ()
    key = resource_key(s.row.uid, "route")
    template = s.row.template
    probe = template.readiness_probe if template is not None else None
    want = RouteWant(
        cluster=cluster_of(s.row, s.spec),
        hosts=(f"*.{s.spec.host_suffix}",),
        probe=None if probe is None or probe.exec is not None else probe,
        service=f"{s.row.namespace}/{s.row.name}",
        by_host=True,
    )
    row = next((resource for resource in s.row.resources if resource.key == key), None)
    if row is not None and row.stored_want == want and not isinstance(s.observed(PROXY, key), Absent):
        return (), ()
    fresh = row or Resource(
        key, s.row.uid, PROXY, "route", True, None, s.rules.proxy_gone_after_seconds, created_at=s.now
    )
    return (replace(fresh, stored_want=want),), (Ensure(PROXY, key, want),)


def terminating(s: PoolSnapshot) -> Plan:
    """Claims too: who deletes a pool with claims was asked whether they mean it."""
    everything = Fleet(s.children.groups)
    if everything.total:
        gone = delete_all(everything, "its WarmPool is deleted", force=s.row.force)
        why = f"waiting for {everything.total} members and claims to go"
        return s.plan(PoolState.TERMINATING, why, "Removing", s.status, wake_in=1.0, children=gone)
    view = s.view
    if view is not None and view.held:
        why = f"waiting for {view.held} claimed instances to go"
        return s.plan(PoolState.TERMINATING, why, "Removing", s.status, wake_in=0.5)
    changed, actions, waiting = unmake(s.row.resources, s.observed, s.now, hard=s.row.force)
    if waiting:
        status = msgspec.structs.replace(s.status, attempts=s.status.attempts + 1)
        wait = min(0.02 * 1.5 ** min(status.attempts, 14), 2.0)
        return s.plan(
            PoolState.TERMINATING, waiting, "Removing", status, wake_in=wait, actions=actions, resources=changed
        )
    plan = s.plan(
        PoolState.TERMINATED, "nothing is left of it", "CleanupVerified", s.status, wake_in=None, resources=changed
    )
    return replace(plan, finished=True, keep_seconds=600.0)


def looks(s: PoolSnapshot) -> tuple[Look, ...]:
    if s.row.state == PoolState.TERMINATED:
        return ()
    resources = (LookResource(resource.provider, resource.key) for resource in s.row.resources)
    gates = gate_looks(s.row, s.spec.template_digest)
    return (LookChildren(s.row.uid), LookPool(s.row.uid, State.WARM), *gates, *resources)


class PoolDomain:
    """The kind WarmPool for the engine."""

    kind = Kind.WARM_POOL
    machine: Machine = TRANSITIONS

    def __init__(self, rules: SpinRules) -> None:
        self._rules = rules

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return with_trials_returned(decide(self._snapshot(row, seen, now)), row, seen, now)

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> PoolSnapshot:
        assert isinstance(row.spec, WarmPoolSpec)
        status = decode_pool_status(row.status)
        if not status.since:
            status = msgspec.structs.replace(status, since=row.created_at)
        return PoolSnapshot(row, row.spec, status, seen, self._rules, now)
