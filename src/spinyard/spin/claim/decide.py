"""What a Claim does next: take a warm member, else have one made, else wait its turn; then keep it until it is
released.

A member that turns out not to be good is given up and the next one taken. A claimed member never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

import msgspec

from spinyard.core.ids import Uid, child_name, child_uid
from spinyard.core.machine import Machine
from spinyard.core.observed import Children, Look, LookChildren, LookPool, PoolView, Seen
from spinyard.core.plan import BindMember, ChildChange, CreateChild, DeleteChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import ClaimPart, ClaimSpec, Kind, SpinSpec
from spinyard.errors import ErrorClass
from spinyard.spin.claim.status import TRANSITIONS, ClaimState, ClaimStatus, decode_claim_status
from spinyard.spin.pool.schedule import bounds
from spinyard.spin.service.roll import delete_all
from spinyard.spin.service.snapshot import Fleet
from spinyard.spin.status import STARTING, UP, State

TRIES_MAX = 3
ALIVE = STARTING | UP | frozenset({State.WARM})


@dataclass(frozen=True, slots=True)
class ClaimSnapshot:
    row: ObjectRow
    spec: ClaimSpec
    status: ClaimStatus
    seen: Seen
    now: float

    @property
    def fleet(self) -> Fleet:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        assert isinstance(answer, Children)
        return Fleet(answer.groups)

    @property
    def failure(self) -> str:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        failures = answer.failures if isinstance(answer, Children) else ()
        return failures[0].message if failures else "its instance went away"

    @property
    def failed(self) -> int:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        return len(answer.failures) if isinstance(answer, Children) else 0

    @property
    def slots(self) -> int:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        return answer.highest_slot if isinstance(answer, Children) else -1

    @property
    def pool(self) -> PoolView | None:
        answer = self.seen.answers.get(LookPool(Uid(self.spec.pool_uid), State.WARM))
        return answer if isinstance(answer, PoolView) else None

    @property
    def expired(self) -> bool:
        return self.spec.expires_at is not None and self.now >= self.spec.expires_at

    @property
    def part(self) -> ClaimPart:
        pool = self.pool
        return ClaimPart(
            claim_uid=self.row.uid,
            claim_name=self.row.name,
            host=self.spec.host,
            env=self.spec.env,
            files=self.spec.files,
            on_claim=pool.spec.on_claim if pool is not None else None,
        )

    def plan(
        self,
        state: ClaimState,
        why: str,
        reason: str,
        *,
        wake_in: float | None,
        status: ClaimStatus | None = None,
        children: tuple[ChildChange, ...] = (),
    ) -> Plan:
        status = status or self.status
        if state != self.row.state:
            status = msgspec.structs.replace(status, since=self.now)
        status = msgspec.structs.replace(status, observed_generation=self.row.generation)
        wake_at = None if wake_in is None else self.now + max(0.0, wake_in)
        if self.spec.expires_at is not None and state not in (ClaimState.TERMINATING, ClaimState.TERMINATED):
            wake_at = min(self.spec.expires_at, wake_at if wake_at is not None else float("inf"))
        return Plan(
            state=str(state),
            status=msgspec.json.encode(status),
            why=why,
            reason=reason,
            wake_at=wake_at,
            children=children,
        )

    def fail(self, error_class: ErrorClass, why: str) -> Plan:
        status = msgspec.structs.replace(self.status, last_error=why, last_error_class=str(error_class))
        plan = self.plan(ClaimState.FAILED, why, str(error_class), wake_in=0.0, status=status)
        return replace(plan, outcome=str(error_class), failed_at=self.now)


def decide(s: ClaimSnapshot) -> Plan:
    state = ClaimState(s.row.state)
    match state:
        case ClaimState.TERMINATED:
            return s.plan(state, "nothing is left of it", "CleanupVerified", wake_in=None)
        case ClaimState.TERMINATING:
            return terminating(s)
        case ClaimState.PENDING | ClaimState.BOUND | ClaimState.READY | ClaimState.FAILED if (
            s.row.delete_at is not None or s.expired
        ):
            why = "released" if s.row.delete_at is not None else "its TTL has passed"
            return s.plan(ClaimState.TERMINATING, why, "Released", wake_in=0.0)
        case ClaimState.PENDING:
            return pending(s)
        case ClaimState.BOUND:
            return bound(s)
        case ClaimState.READY:
            return ready(s)
        case ClaimState.FAILED:
            return failed(s)
        case never:
            assert_never(never)


def pending(s: ClaimSnapshot) -> Plan:
    """An instance of its own that still waits for its place is not worth having when a warm one can be had."""
    queued = s.fleet.members(frozenset({State.PENDING}))
    if s.fleet.count(ALIVE) > len(queued):
        status = msgspec.structs.replace(s.status, tries=s.status.tries + 1, bound_at=s.now)
        return s.plan(ClaimState.BOUND, "it has a member", "Bound", wake_in=0.0, status=status)
    pool = s.pool
    if pool is None or pool.deleting:
        return s.fail(ErrorClass.DEPENDENCY_FAILED, f"the pool {s.spec.pool} is gone")
    # One may fail so fast that it was never seen alive.
    tries = max(s.status.tries, s.failed)
    if tries >= TRIES_MAX:
        return s.fail(ErrorClass.PROBE_FAILED, f"{tries} members were not good: {s.failure}")
    if pool.warm:
        bind = BindMember(pool.uid, State.WARM, pool.spec.template_digest, s.part)
        dropped = tuple(DeleteChild(child.uid, "a warm member can be had") for child in queued)
        status = msgspec.structs.replace(s.status, cold=False)
        return s.plan(
            ClaimState.PENDING,
            "taking a warm member",
            "Binding",
            wake_in=0.02,
            status=status,
            children=(*dropped, bind),
        )
    maximum = bounds(pool.spec, s.now)[1]
    if pool.held < maximum and not queued:
        status = msgspec.structs.replace(s.status, cold=True)
        why = "no member is warm, one is made"
        return s.plan(ClaimState.PENDING, why, "Cold", wake_in=0.02, status=status, children=(make(s, pool, maximum),))
    waited = s.now - s.row.created_at
    if pool.held >= maximum and waited >= s.spec.wait_seconds:
        why = f"the pool {s.spec.pool} is at its maximum of {maximum}"
        return s.fail(ErrorClass.CAPACITY_UNAVAILABLE, f"{why}, after {waited:.0f} s" if s.spec.wait_seconds else why)
    return s.plan(ClaimState.PENDING, "waiting for room in its pool", "Waiting", wake_in=0.5)


def make(s: ClaimSnapshot, pool: PoolView, maximum: int) -> CreateChild:
    return cold_member(s.row, s.spec.pool, pool, s.part, maximum, s.slots + 1)


def cold_member(row: ObjectRow, name: str, pool: PoolView, part: ClaimPart, maximum: int, slot: int) -> CreateChild:
    """An instance of its own, of the pool called `name`. It counts against the pool's maximum as any member does."""
    uid = child_uid(row.uid, str(slot), 1)
    cluster = f"{row.namespace}/{name}/{pool.uid[:8]}" if pool.spec.host_suffix else ""
    spec = SpinSpec(
        template_digest=pool.spec.template_digest,
        cluster=cluster,
        route_port=pool.spec.route_port,
        pool_uid=pool.uid,
        pool_max=maximum,
        service_name=name,
        claim=part,
    )
    labels = (*row.labels, ("spinyard.dev/pool", name))
    return CreateChild(uid, Kind.SPIN, child_name(name, uid), str(slot), spec, pool.spec.template_digest, labels)


def bound(s: ClaimSnapshot) -> Plan:
    up = s.fleet.members(UP)
    if up and (not s.spec.host or up[0].state == State.SERVING):
        status = msgspec.structs.replace(s.status, ready_at=s.now, member=up[0].uid)
        return s.plan(ClaimState.READY, "ready to be used", "Ready", wake_in=None, status=status)
    if s.fleet.count(ALIVE):
        return s.plan(ClaimState.BOUND, "its member is being prepared", "Bound", wake_in=None)
    why = f"its member was not good, the next one is taken: {s.failure}"
    return s.plan(ClaimState.PENDING, why, "Rebinding", wake_in=0.0)


def ready(s: ClaimSnapshot) -> Plan:
    if s.fleet.count(ALIVE):
        return s.plan(ClaimState.READY, "ready to be used", "Ready", wake_in=None)
    return s.fail(ErrorClass.INSTANCE_LOST, s.failure)


def failed(s: ClaimSnapshot) -> Plan:
    """Kept until it is released, so that who claimed can read why. Its instance is not."""
    alive = tuple(DeleteChild(child.uid, "its Claim failed") for child in s.fleet.members(ALIVE))
    why = s.status.last_error or "failed"
    return s.plan(ClaimState.FAILED, why, s.status.last_error_class or "Failed", wake_in=None, children=alive)


def terminating(s: ClaimSnapshot) -> Plan:
    fleet = s.fleet
    if fleet.total:
        gone = delete_all(fleet, "its Claim is released", force=s.row.force)
        why = "waiting for its instance to go"
        return s.plan(ClaimState.TERMINATING, why, "Removing", wake_in=5.0, children=gone)
    plan = s.plan(ClaimState.TERMINATED, "nothing is left of it", "CleanupVerified", wake_in=None)
    return replace(plan, finished=True, keep_seconds=3600.0)


def looks(s: ClaimSnapshot) -> tuple[Look, ...]:
    if s.row.state == ClaimState.TERMINATED:
        return ()
    if s.row.state == ClaimState.PENDING:
        return (LookChildren(s.row.uid), LookPool(Uid(s.spec.pool_uid), State.WARM))
    return (LookChildren(s.row.uid),)


class ClaimDomain:
    """The kind Claim for the engine."""

    kind = Kind.CLAIM
    machine: Machine = TRANSITIONS

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return decide(self._snapshot(row, seen, now))

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> ClaimSnapshot:
        assert isinstance(row.spec, ClaimSpec)
        status = decode_claim_status(row.status)
        if not status.since:
            status = msgspec.structs.replace(status, since=row.created_at)
        return ClaimSnapshot(row, row.spec, status, seen, now)
