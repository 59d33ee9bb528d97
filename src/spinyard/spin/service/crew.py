"""So many instances of one template in one cluster: what is started for it, and what is above its number."""

from __future__ import annotations

from dataclasses import dataclass

from spinyard.core.ids import Digest, child_name, child_uid
from spinyard.core.observed import ChildFailure
from spinyard.core.plan import ChildChange, CreateChild, DeleteChild
from spinyard.core.spec import Kind, SpinSpec
from spinyard.spin.crash_loop import ROUND_MAX, Loop, loop_of
from spinyard.spin.service.snapshot import ALIVE, Fleet, ServiceSnapshot
from spinyard.spin.status import STARTING, State

CREATE_MAX = 64
"""children created in one pass; more follow in the next"""


@dataclass(frozen=True, slots=True)
class Crew:
    digest: Digest
    cluster: str
    replicas: int


def up_states(s: ServiceSnapshot) -> frozenset[State]:
    return frozenset({State.SERVING}) if s.spec.route is not None else frozenset({State.READY, State.SERVING})


def crash_loop(s: ServiceSnapshot, digest: str, replicas: int, *, since: float = 0.0) -> Loop:
    return loop_of(s.children.failures, digest, replicas, s.row.uid, s.now, since=since)


def next_slot(s: ServiceSnapshot) -> int:
    return max(s.status.spawned, s.children.highest_slot + 1)


def to_start(s: ServiceSnapshot, crew: Crew, fleet: Fleet, loop: Loop, room: int) -> int:
    """How many are started in this pass; never more than `room`."""
    wanted = min(crew.replicas - fleet.count(ALIVE, digest=crew.digest), room, CREATE_MAX)
    if crew.replicas > ROUND_MAX and loop.until and not served_since(s, crew.digest, loop.last):
        # Half open: one tries for all, as long as none has come up.
        wanted = min(wanted, 1 - fleet.count(STARTING, digest=crew.digest))
    return 0 if s.now < loop.until or s.row.paused else max(0, wanted)


def served_since(s: ServiceSnapshot, wanted: Digest, failure: ChildFailure | None) -> bool:
    at = 0.0 if failure is None else failure.failed_at
    return any(digest == wanted and served_at > at for digest, served_at in s.children.last_served_at)


def create(s: ServiceSnapshot, crew: Crew, slot: int) -> CreateChild:
    uid = child_uid(s.row.uid, str(slot), 1)
    spec = SpinSpec(
        template_digest=crew.digest,
        cluster=crew.cluster,
        route_port=s.spec.route.port if s.spec.route is not None else "",
        service_uid=s.row.uid,
        service_name=s.row.name,
    )
    labels = (*s.row.labels, ("spinyard.dev/service", s.row.name))
    return CreateChild(uid, Kind.SPIN, child_name(s.row.name, uid), str(slot), spec, crew.digest, labels)


def scaled_in(s: ServiceSnapshot, crew: Crew, fleet: Fleet) -> tuple[ChildChange, ...]:
    """What is above the number: what does not serve first, the newest first."""
    extra = fleet.count(ALIVE, digest=crew.digest) - crew.replicas
    if extra <= 0:
        return ()
    up = up_states(s)
    idle = fleet.members(STARTING, digest=crew.digest)
    busy = fleet.members(frozenset({State.READY, State.SERVING}), digest=crew.digest)
    newest = sorted(idle, key=lambda c: -c.created_at)
    newest += sorted(busy, key=lambda c: (c.state in up, -c.created_at))
    return tuple(DeleteChild(child.uid, "scaled in") for child in newest[:extra])
