"""One frozen view of a Rollout, its Service, and what the data plane has counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import msgspec

from spinyard.core.ids import Uid
from spinyard.core.observed import (
    FLAP_SECONDS,
    ChildFailure,
    Children,
    Held,
    LookChildren,
    LookHold,
    LookPeer,
    LookTraffic,
    Peer,
    Seen,
    Traffic,
    Unknown,
)
from spinyard.core.plan import ChildChange, EventDraft, Plan, SetRollout
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind, RolloutPart, RolloutSpec, RolloutStep, ServiceSpec
from spinyard.spin.rollout.status import RolloutState, RolloutStatus
from spinyard.spin.service.status import ServiceState, ServiceStatus, Shown, decode_service_status
from spinyard.spin.sides import cluster_name, side_of


@dataclass(frozen=True, slots=True)
class RolloutSnapshot:
    row: ObjectRow
    spec: RolloutSpec
    status: RolloutStatus
    seen: Seen
    now: float

    # -- the Service -------------------------------------------------------------------------------------------------

    @property
    def service_uid(self) -> Uid:
        return Uid(self.spec.service_uid)

    @property
    def peer(self) -> Peer | None:
        answer = self.seen.answers.get(LookPeer(self.service_uid))
        return answer if isinstance(answer, Peer) else None

    @property
    def unread(self) -> str:
        """Why nothing is known of its Service, or empty."""
        answer = self.seen.answers.get(LookPeer(self.service_uid))
        return answer.why if isinstance(answer, Unknown) else ""

    @property
    def service(self) -> ServiceSpec | None:
        """Its wish, as long as it is one that can be rolled out: there, not going, and of the template we know."""
        peer = self.peer
        if peer is None or peer.deleting or not isinstance(peer.spec, ServiceSpec):
            return None
        return peer.spec if peer.spec.template_digest == self.spec.old_digest else None

    @property
    def service_status(self) -> ServiceStatus:
        return decode_service_status(self.peer.status) if self.peer is not None else ServiceStatus()

    @property
    def is_settled(self) -> bool:
        """Its Service has what it wishes for, and has looked at its present wish."""
        peer = self.peer
        if peer is None or peer.state != ServiceState.AVAILABLE:
            return False
        return self.service_status.observed_generation == peer.generation

    @property
    def replicas(self) -> int:
        return self.service.replicas if self.service is not None else 0

    @property
    def held_part(self) -> RolloutPart | None:
        """Our part as the Service has it."""
        service = self.service
        part = service.rollout if service is not None else None
        return part if part is not None and part.rollout_uid == self.row.uid else None

    @property
    def shown(self) -> Shown:
        """What the Service says of our part; an empty one when it says nothing."""
        shown = self.service_status.shown
        return shown if shown is not None and shown.rollout_uid == self.row.uid else Shown()

    @property
    def is_shown(self) -> bool:
        """The data plane has confirmed the weight that is asked for."""
        return self.shown.serial >= self.status.weight_serial

    @property
    def failures(self) -> list[ChildFailure]:
        """Starts of the new version that failed since this began; what had served for a while is no failed start."""
        answer = self.seen.answers.get(LookChildren(self.service_uid))
        known = answer.failures if isinstance(answer, Children) else ()
        begun = self.row.created_at
        return [
            f
            for f in known
            if f.template_digest == self.spec.template_digest
            and f.failed_at >= begun
            and (f.served_at is None or f.failed_at - f.served_at < FLAP_SECONDS)
        ]

    @property
    def is_paused(self) -> bool:
        """By its own pause, or because its Service starts nothing."""
        return self.row.paused or (self.peer is not None and self.peer.paused)

    # -- the data plane ----------------------------------------------------------------------------------------------

    @property
    def old_cluster(self) -> str:
        return cluster_name(self.row.namespace, self.spec.service, self.service_uid, self.status.old_side)

    @property
    def new_cluster(self) -> str:
        return cluster_name(self.row.namespace, self.spec.service, self.service_uid, side_of(self.row.uid))

    @property
    def traffic_look(self) -> LookTraffic:
        return LookTraffic((self.old_cluster, self.new_cluster))

    @property
    def traffic(self) -> Traffic | Unknown:
        answer = self.seen.answers.get(self.traffic_look)
        return answer if isinstance(answer, Traffic | Unknown) else Unknown("nobody looked")

    @property
    def hold_look(self) -> LookHold:
        return LookHold(self.row.namespace, Kind.ROLLOUT, self.row.name)

    @property
    def held(self) -> Held | None:
        """By a hold of its own or of its Service's."""
        for look in (self.hold_look, self.service_hold_look):
            answer = self.seen.answers.get(look)
            if isinstance(answer, Held):
                return answer
        return None

    @property
    def service_hold_look(self) -> LookHold:
        return LookHold(self.row.namespace, Kind.SERVICE, self.spec.service)

    # -- the steps ---------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[RolloutStep, ...]:
        return self.spec.strategy.steps or (RolloutStep(WEIGHT_ALL),)

    @property
    def step(self) -> RolloutStep:
        return self.steps[min(self.status.step, len(self.steps) - 1)]

    @property
    def is_last(self) -> bool:
        return self.status.step >= len(self.steps) - 1

    def instances(self, weight: int) -> int:
        """How many the new side needs for that share of the requests; never none."""
        whole = max(1, self.replicas)
        return whole if self.spec.strategy.blue_green else max(1, math.ceil(whole * weight / WEIGHT_ALL))

    def part(self, status: RolloutStatus) -> RolloutPart:
        return RolloutPart(
            rollout_uid=self.row.uid,
            rollout_name=self.row.name,
            template_digest=self.spec.template_digest,
            side=side_of(self.row.uid),
            serial=status.serial,
            replicas=status.replicas,
            weight=status.weight,
            sticky=self.spec.strategy.sticky,
            probe=self.spec.probe,
            directories=self.spec.directories,
        )

    def asking(self, status: RolloutStatus, *, weight: int | None = None, replicas: int | None = None) -> RolloutStatus:
        """The status with another wish; the serial rises only when it is another."""
        weight = status.weight if weight is None else weight
        replicas = status.replicas if replicas is None else replicas
        if (weight, replicas) == (status.weight, status.replicas):
            return status
        serial = status.serial + 1
        return msgspec.structs.replace(
            status,
            weight=weight,
            replicas=replicas,
            serial=serial,
            weight_serial=serial if weight != status.weight else status.weight_serial,
            highest=max(status.highest, weight),
        )

    # -- answers -----------------------------------------------------------------------------------------------------

    def plan(
        self,
        state: RolloutState,
        why: str,
        reason: str,
        status: RolloutStatus,
        *,
        wake_in: float | None,
        children: tuple[ChildChange, ...] = (),
        events: tuple[EventDraft, ...] = (),
        with_part: bool = True,
    ) -> Plan:
        """`with_part`: the Service is given our wish, if it has another."""
        if state != self.row.state:
            status = msgspec.structs.replace(status, since=self.now)
        status = msgspec.structs.replace(status, observed_generation=self.row.generation)
        wanted = self.part(status)
        if with_part and self.service is not None and self.held_part != wanted:
            children = (*children, SetRollout(self.service_uid, self.spec.old_digest, wanted))
        return Plan(
            state=str(state),
            status=msgspec.json.encode(status),
            why=why,
            reason=reason,
            wake_at=None if wake_in is None else self.now + wake_in,
            children=children,
            events=events,
        )

    def finish(self, state: RolloutState, why: str, reason: str, children: tuple[ChildChange, ...] = ()) -> Plan:
        plan = self.plan(state, why, reason, self.status, wake_in=None, children=children, with_part=False)
        succeeded = state is RolloutState.SUCCEEDED
        return replace(
            plan, finished=True, keep_seconds=KEEP_SECONDS, outcome="Succeeded" if succeeded else ROLLED_BACK
        )


KEEP_SECONDS = 7 * 86400.0
ROLLED_BACK = "RolledBack"
