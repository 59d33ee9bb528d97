"""One frozen view of a Spinout: its two Services, what the data plane confirmed, and what it has counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from spinyard.core.actions import Action, Ensure
from spinyard.core.chain import RecordDraft
from spinyard.core.ids import ResourceKey, Uid, resource_key
from spinyard.core.observed import (
    Absent,
    BoundaryFacts,
    EndpointFacts,
    Held,
    LookHold,
    LookPeer,
    LookResource,
    LookTraffic,
    Observed,
    Peer,
    Present,
    Seen,
    Traffic,
    Unknown,
)
from spinyard.core.plan import EventDraft, Plan, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import External, Kind, ServiceSpec
from spinyard.core.spinout import Approval, SpinoutSpec, SpinoutStep
from spinyard.core.standing import Standing, decode_standing, own_part
from spinyard.core.unmake import unmake
from spinyard.core.want import BoundaryWant, boundary_cluster
from spinyard.spinout.boundary import boundary_want
from spinyard.spinout.records import evidence_anew, renewal, transition, weight_change
from spinyard.spinout.status import SpinoutState, SpinoutStatus, spinout_cluster

PROXY = "proxy"
STALE_SECONDS = 15.0
"""counters that are older tell nothing of now"""
KEEP_SECONDS = 365 * 86400.0


@dataclass(frozen=True, slots=True)
class SpinoutSnapshot:
    row: ObjectRow
    spec: SpinoutSpec
    stored: SpinoutStatus
    """as it was read: what is asked of the data plane so far"""
    status: SpinoutStatus
    seen: Seen
    now: float

    def having(self, status: SpinoutStatus) -> SpinoutSnapshot:
        return replace(self, status=status)

    # -- parent and unit ---------------------------------------------------------------------------------------------

    def peer(self, uid: str) -> Peer | None:
        answer = self.seen.answers.get(LookPeer(Uid(uid))) if uid else None
        return answer if isinstance(answer, Peer) else None

    def service(self, uid: str) -> ServiceSpec | None:
        """None: it is gone, or going."""
        peer = self.peer(uid)
        if peer is None or peer.deleting or not isinstance(peer.spec, ServiceSpec):
            return None
        return peer.spec

    def unread(self, uid: str) -> str:
        """Why it is not known what that Service is; empty: it is known. What cannot be seen is not gone."""
        answer = self.seen.answers.get(LookPeer(Uid(uid)), Unknown("nobody looked")) if uid else None
        return answer.why if isinstance(answer, Unknown) else ""

    @property
    def parent(self) -> ServiceSpec | None:
        return self.service(self.spec.parent_uid)

    @property
    def unit(self) -> ServiceSpec | None:
        return self.service(self.spec.unit_uid)

    def standing(self, uid: str) -> Standing:
        peer = self.peer(uid)
        return decode_standing(peer.status) if peer is not None else Standing()

    def in_traffic(self, uid: str) -> int | None:
        """How many instances of that Service can answer; None: not known."""
        service = self.service(uid)
        if service is None:
            return None
        if service.external is None:
            return self.standing(uid).ready
        keys = endpoint_keys(Uid(uid), service.external, self.standing(uid))
        found = [self.observed(PROXY, key) for key in keys]
        healthy = sum(isinstance(o, Present) and isinstance(o.facts, EndpointFacts) and o.facts.healthy for o in found)
        is_known = all(isinstance(o, Present | Absent) for o in found)
        return healthy if is_known or healthy else None

    def with_endpoints(self, status: SpinoutStatus) -> SpinoutStatus:
        """The status that knows what to look at next time."""
        keys: list[ResourceKey] = []
        for uid in (self.spec.parent_uid, self.spec.unit_uid):
            service = self.service(uid)
            if service is not None and service.external is not None:
                keys += endpoint_keys(Uid(uid), service.external, self.standing(uid))
        return msgspec.structs.replace(status, endpoints=tuple(keys))

    # -- holds and approvals -----------------------------------------------------------------------------------------

    @property
    def hold_looks(self) -> tuple[LookHold, ...]:
        namespace = self.row.namespace
        return (
            LookHold(namespace, Kind.SPINOUT, self.row.name),
            LookHold(namespace, Kind.SERVICE, self.spec.unit),
            LookHold(namespace, Kind.SERVICE, self.spec.parent),
        )

    @property
    def hold(self) -> Held | None:
        answers = (self.seen.answers.get(look) for look in self.hold_looks)
        return next((answer for answer in answers if isinstance(answer, Held)), None)

    def approval(self, phase: str) -> Approval | None:
        """The newest word on that phase. What concerns traffic counts for its own attempt only."""
        found = [a for a in self.spec.approvals if a.phase == phase and not a.waives and self._is_of_now(a)]
        return max(found, key=lambda a: a.at, default=None)

    def waiver(self, gate: str) -> Approval | None:
        for found in self.spec.approvals:
            is_over = found.expires_at is not None and found.expires_at <= self.now
            if found.waives == gate and not is_over and self._is_of_now(found):
                return found
        return None

    def _is_of_now(self, approval: Approval) -> bool:
        if approval.phase in BEFORE_TRAFFIC and not approval.waives:
            return True
        if not approval.attempt:
            return approval.at >= self.status.attempt_at
        return approval.attempt == self.status.attempt

    @property
    def is_promoted(self) -> bool:
        """A person lets the present step pass."""
        promoted = self.spec.promoted if self.spec.promoted != self.status.promoted_before else 0
        return promoted > self.status.step or self.is_promoted_fully

    @property
    def is_promoted_fully(self) -> bool:
        return self.spec.promoted_fully and not self.status.fully_before

    # -- the steps ---------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[SpinoutStep, ...]:
        steps = self.spec.steps
        return steps if steps and steps[-1].weight >= WEIGHT_ALL else (*steps, SpinoutStep(WEIGHT_ALL))

    @property
    def step(self) -> SpinoutStep:
        return self.steps[min(self.status.step, len(self.steps) - 1)]

    @property
    def is_last(self) -> bool:
        return self.status.step >= len(self.steps) - 1

    # -- the data plane ----------------------------------------------------------------------------------------------

    @property
    def base_cluster(self) -> str:
        return spinout_cluster(self.row.namespace, self.row.name, self.row.uid)

    @property
    def old_cluster(self) -> str:
        return boundary_cluster(self.base_cluster, "old")

    @property
    def new_cluster(self) -> str:
        return boundary_cluster(self.base_cluster, "new")

    @property
    def traffic_look(self) -> LookTraffic:
        return LookTraffic((self.old_cluster, self.new_cluster))

    @property
    def traffic(self) -> Traffic | Unknown:
        answer = self.seen.answers.get(self.traffic_look)
        if isinstance(answer, Traffic) and self.now - answer.at > STALE_SECONDS:
            return Unknown(f"the last counters are older than {STALE_SECONDS:g} s")
        return answer if isinstance(answer, Traffic | Unknown) else Unknown("nobody looked")

    @property
    def key(self) -> ResourceKey:
        epoch = self.status.epoch
        return resource_key(self.row.uid, f"boundary~{epoch}" if epoch else "boundary")

    def want(self, status: SpinoutStatus) -> BoundaryWant:
        row = self.row
        # Whoever has a token chooses no side of what goes back: every request is the parent's.
        spec = replace(self.spec, jwks="") if status.stopped else self.spec
        return boundary_want(spec, row.namespace, row.name, row.uid, weight=status.weight, mirror=status.mirror)

    def observed(self, provider: str, key: ResourceKey) -> Observed:
        answer = self.seen.answers.get(LookResource(provider, key))
        return answer if isinstance(answer, Present | Absent | Unknown) else Unknown("nobody looked")

    @property
    def boundary(self) -> Observed:
        return self.observed(PROXY, self.key)

    @property
    def is_confirmed(self) -> bool:
        """By the data plane, now, exactly as it is asked for."""
        match self.boundary:
            case Present(facts=BoundaryFacts(acknowledged=True, want=known)):
                return known == self.want(self.status)
            case _:
                return False

    @property
    def is_other(self) -> bool:
        """The data plane has something else than what is asked for, or nothing."""
        match self.boundary:
            case Present(facts=BoundaryFacts(want=BoundaryWant() as known)):
                return known != self.want(self.status)
            case Absent():
                return True
            case _:
                return False

    @property
    def missing(self) -> tuple[str, ...]:
        match self.boundary:
            case Present(facts=BoundaryFacts(missing=missing)):
                return missing
            case _:
                return ()

    @property
    def rejected(self) -> str:
        """Its words, when it refuses what is asked for now, and will refuse it again."""
        failure = self.seen.outcomes.get(self.key)
        if failure is not None and not failure.retryable:
            return failure.message
        match self.boundary:
            case Present(facts=BoundaryFacts(rejected=rejected, want=known)) if known == self.want(self.status):
                return rejected
            case _:
                return ""

    @property
    def plane_words(self) -> str:
        """What the data plane says of a wish that it has not confirmed; with a colon before it."""
        if self.missing:
            return f": it knows no route of {', '.join(self.missing)}"
        if self.rejected:
            return f": it refuses: {self.rejected}"
        failure = self.seen.outcomes.get(self.key)
        if failure is not None:
            return f": {failure.message}"
        return f": {self.boundary.why}" if isinstance(self.boundary, Unknown) and self.row.resources else ""

    def asking(self, status: SpinoutStatus, *, weight: int | None = None, mirror: int | None = None) -> SpinoutStatus:
        """The status with another wish; what was counted before says nothing of it."""
        weight = status.weight if weight is None else weight
        mirror = status.mirror if mirror is None else mirror
        if (weight, mirror) == (status.weight, status.mirror):
            return status
        serial = status.serial + 1
        return msgspec.structs.replace(
            status,
            weight=weight,
            mirror=mirror,
            serial=serial,
            weight_serial=serial if weight != status.weight else status.weight_serial,
            highest=max(status.highest, weight),
            was_copied=status.was_copied or mirror > 0,
            step_begun_at=0.0,
            step_reading=None,
            weight_asked_at=self.now,
        )

    # -- what it owns ------------------------------------------------------------------------------------------------

    def own_things(self, status: SpinoutStatus) -> tuple[tuple[Resource, ...], tuple[Action, ...], str]:
        """(ledger rows to write, what to ask for, what is still to go). One boundary at a time: what was let go is seen
        gone before there is another."""
        key = self.having(status).key
        kept = tuple(row for row in self.row.resources if row.key == key and status.is_bounded)
        rest = tuple(row for row in self.row.resources if row not in kept)
        changed, removals, waiting = unmake(rest, self.observed, self.now, hard=self.row.force)
        if waiting or not status.is_bounded:
            return changed, removals, waiting
        want = self.want(status)
        row = kept[0] if kept else None
        if row is None or row.stored_want != want or not row.wanted:
            row = row or Resource(key, self.row.uid, PROXY, "boundary", wanted=True, created_at=self.now)
            return (*changed, replace(row, stored_want=want, wanted=True)), (Ensure(PROXY, key, want),), ""
        lost = self.having(status).is_other
        return changed, (Ensure(PROXY, key, want),) if lost else (), ""

    # -- answers -----------------------------------------------------------------------------------------------------

    def plan(
        self,
        state: SpinoutState,
        why: str,
        reason: str,
        status: SpinoutStatus,
        *,
        wake_in: float | None,
        events: tuple[EventDraft, ...] = (),
        records: tuple[RecordDraft, ...] = (),
    ) -> Plan:
        before = self.row
        status = msgspec.structs.replace(status, observed_generation=before.generation)
        if state != before.state:
            status = msgspec.structs.replace(status, since=self.now)
            records = (*records, transition(before.state, state, why, reason, status))
        if (status.weight, status.mirror) != (self.stored.weight, self.stored.mirror):
            records = (*records, weight_change(self.stored, status, why))
        anew = renewal(self.stored, status, self.spec.parent, self.spec.unit)
        if anew:
            events = (*events, EventDraft("Normal", "EvidenceAnew", anew))
            records = (*records, evidence_anew(status, anew))
        resources, actions, _ = self.own_things(status)
        failure = next((f for action in actions if (f := self.seen.outcomes.get(action.key)) is not None), None)
        if failure is not None:
            status = msgspec.structs.replace(status, last_error=failure.message, last_error_class=failure.error_class)
            wake_in = max(wake_in or 0.0, failure.retry_after_seconds or RETRY_SECONDS)
        elif actions and wake_in is None:
            wake_in = RETRY_SECONDS
        return Plan(
            state=str(state),
            status=msgspec.json.encode(status),
            why=why,
            reason=reason,
            wake_at=None if wake_in is None else self.now + wake_in,
            actions=actions,
            resources=resources,
            events=events,
            records=records,
        )

    def finish(self, state: SpinoutState, why: str, reason: str, status: SpinoutStatus) -> Plan:
        plan = self.plan(state, why, reason, status, wake_in=None)
        outcome = "Succeeded" if state is SpinoutState.COMPLETED else "RolledBack"
        return replace(plan, finished=True, keep_seconds=KEEP_SECONDS, outcome=outcome)


RETRY_SECONDS = 1.0
BEFORE_TRAFFIC = frozenset({"analysed", "decided", "contracted"})


def endpoint_keys(service: Uid, external: External, standing: Standing) -> tuple[ResourceKey, ...]:
    """Of a Service that is not started by us the data plane alone knows who answers."""
    parts = (f"endpoint/{endpoint.address}-{endpoint.port}" for endpoint in external.endpoints)
    return tuple(resource_key(service, own_part(standing, part)) for part in parts)
