"""The rolling rule: towards `replicas` instances of the target, within surge and unavailability, and back when the new
version does not get ready.

Invariants: alive <= replicas + max_surge; instances in traffic are taken out only while at least
replicas - max_unavailable stay in traffic; what never served may go at any time.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.observed import FLAP_SECONDS, ChildBrief
from spinyard.core.plan import ChildChange, DeleteChild, EventDraft, Plan
from spinyard.spin.crash_loop import Loop
from spinyard.spin.gate import as_trials
from spinyard.spin.service.crew import Crew, crash_loop, create, next_slot, scaled_in, to_start, up_states
from spinyard.spin.service.gates import allowed, gated
from spinyard.spin.service.new_side import keep_new_side, new_crew
from spinyard.spin.service.sides import in_own_cluster, sides_of
from spinyard.spin.service.snapshot import ALIVE, Fleet, ServiceSnapshot, set_condition
from spinyard.spin.service.status import ServiceState, ServiceStatus
from spinyard.spin.status import STARTING, State

GIVE_UP_FAILURES = 5
IDLE_SECONDS = 10.0
"""children wake their Service; that something is missing is looked at now and then all the same"""


def roll(s: ServiceSnapshot, state: ServiceState) -> Plan:
    sides = sides_of(s)
    fleet = sides.stable
    status, given_up = progress(s, fleet)
    s = replace(s, status=status)
    loop = crash_loop(s, s.target, s.spec.replicas)
    deletions = surplus(s, fleet)
    creations, status = missing(s, fleet, loop, status)
    status, events = describe(s, fleet, loop, status)
    new = keep_new_side(replace(s, status=status), sides)
    after, why, reason = verdict(s, fleet, loop)
    changed = bool(creations or deletions or new.children)
    waits = [wait for wait in (next_look(s, fleet, loop, changed=changed), new.wake_in) if wait is not None]
    crews = ((Crew(s.target, s.cluster, s.spec.replicas), fleet), *((crew, sides.new) for crew in new_crew(s)))
    gates = gated(s, crews, new.status, creations + new.children)
    waits += gates.waits
    after, why, reason = gates.verdict(after, why + new.words, reason)
    plan = s.plan(
        after,
        why,
        reason,
        gates.status,
        wake_in=min(waits) if waits else None,
        children=creations + deletions + new.children,
        events=given_up + events + new.events + gates.events,
    )
    return as_trials(plan, *gates.gates)


def progress(s: ServiceSnapshot, fleet: Fleet) -> tuple[ServiceStatus, tuple[EventDraft, ...]]:
    """Follows the roll: a new wish begins anew, one more instance up is progress, none for too long is given up."""
    status = s.status
    wanted = s.spec.template_digest
    if status.given_up and status.given_up != wanted:
        status = msgspec.structs.replace(status, given_up="")
    if status.target != wanted:
        status = msgspec.structs.replace(status, target=wanted, given_up="", progressed_at=s.now, best_updated_ready=0)
    if status.observed_generation != s.row.generation:
        # Asked for anew, such as scaled up from 0: the time in which nothing was asked for does not count.
        status = msgspec.structs.replace(status, progressed_at=s.now)
    up = fleet.count(up_states(s), digest=wanted)
    if up > status.best_updated_ready:
        status = msgspec.structs.replace(status, best_updated_ready=up, progressed_at=s.now)
    if up >= s.spec.replicas and s.spec.replicas > 0 and proves_in(s, status) == 0.0:
        status = msgspec.structs.replace(status, good=wanted)
    rolling = up < s.spec.replicas and status.good and status.good != wanted and not status.given_up
    if not rolling or (s.part is not None and s.part.template_digest == status.good):
        return status, ()
    if s.row.paused or status.rolls_paused:
        return msgspec.structs.replace(status, progressed_at=s.now, rolls_paused=s.row.paused), ()
    was_up = status.best_updated_ready >= s.spec.replicas
    late = not was_up and s.now - status.progressed_at > s.spec.update.progress_deadline_seconds
    failures = crash_loop(s, wanted, s.spec.replicas, since=status.progressed_at).failures
    if not late and failures < GIVE_UP_FAILURES:
        return status, ()
    cause = "made no progress in its deadline" if late else f"failed {failures} times in a row"
    status = msgspec.structs.replace(status, given_up=wanted)
    message = f"{wanted} {cause}; going back to {status.good}"
    return status, (EventDraft("Warning", "RolledBack", message),)


def proves_in(s: ServiceSnapshot, status: ServiceStatus) -> float | None:
    """In how many seconds the wished template is good, if nothing of it fails until then; None: it is already. Where
    there is something to go back to, its instances must outlive the time in which a failure is one of the start."""
    wanted = s.spec.template_digest
    if status.good == wanted:
        return None
    served_at = max((at for digest, at in s.children.last_served_at if digest == wanted and at <= s.now), default=None)
    if not status.good or served_at is None:
        return 0.0
    return max(0.0, served_at + FLAP_SECONDS - s.now)


def missing(
    s: ServiceSnapshot, fleet: Fleet, loop: Loop, status: ServiceStatus
) -> tuple[tuple[ChildChange, ...], ServiceStatus]:
    # Without surge a place opens only when an old one is on its way out.
    room = s.spec.replicas + s.spec.update.max_surge - fleet.count(ALIVE)
    crew = Crew(s.target, s.cluster, s.spec.replicas)
    first, wanted = next_slot(s), allowed(s, crew, fleet, to_start(s, crew, fleet, loop, room))
    if not wanted:
        return (), status
    children = tuple(create(s, crew, first + index) for index in range(wanted))
    return children, msgspec.structs.replace(status, spawned=first + wanted)


def surplus(s: ServiceSnapshot, fleet: Fleet) -> tuple[ChildChange, ...]:
    """Old ones that do not serve at once, old ones that do as the new ones come up, and what is above the number."""
    if s.row.paused:
        return ()
    target = s.target
    up = up_states(s)
    out: list[ChildChange] = [
        DeleteChild(child.uid, "replaced by a newer template, and it does not serve")
        for child in fleet.members((STARTING | {State.READY}) - up, other_than=target)
    ]
    own = in_own_cluster(fleet)
    may_go = own.count(up) - (s.spec.replicas - s.spec.update.max_unavailable)
    old_up = own.members(up, other_than=target)
    taken = old_up[: max(0, may_go)] + elsewhere(s, fleet, own)
    out += [DeleteChild(child.uid, "replaced by a newer template") for child in taken]
    return (*out, *scaled_in(s, Crew(target, s.cluster, s.spec.replicas), fleet))


def elsewhere(s: ServiceSnapshot, fleet: Fleet, own: Fleet) -> list[ChildBrief]:
    """Instances in traffic of the side that a promotion left: as many as those of its own side are enough without."""
    up = up_states(s)
    there = [child for group in fleet.groups if group not in own.groups for child in group.oldest
             if group.state in up and not group.deleting]  # fmt: skip
    return there[: max(0, fleet.count(up) - (s.spec.replicas - s.spec.update.max_unavailable))]


def counted(s: ServiceSnapshot, fleet: Fleet) -> ServiceStatus:
    return msgspec.structs.replace(
        s.status,
        replicas=fleet.count(ALIVE),
        ready=in_own_cluster(fleet).count(up_states(s)),
        updated=fleet.count(up_states(s), digest=s.spec.template_digest),
        starting=fleet.count(STARTING),
        ending=fleet.ending,
    )


def describe(
    s: ServiceSnapshot, fleet: Fleet, loop: Loop, status: ServiceStatus
) -> tuple[ServiceStatus, tuple[EventDraft, ...]]:
    looping = s.now < loop.until
    status = msgspec.structs.replace(
        counted(replace(s, status=status), fleet),
        last_error=loop.last.message if loop.last is not None else "",
        last_error_class=loop.last.outcome if loop.last is not None else "",
    )
    enough = status.ready >= max(0, s.spec.replicas - s.spec.update.max_unavailable)
    status = set_condition(status, "Available", enough, "EnoughInTraffic" if enough else "TooFewInTraffic", "", s.now)
    reason = "RolledBack" if status.given_up else "CrashLoopBackOff" if looping else "Rolling"
    settled = reason == "Rolling"
    status = set_condition(status, "Progressing", settled, reason if not settled else "Ok", "", s.now)
    if s.spec.replicas == 0:
        status = set_condition(status, "ScaledToZero", True, "Replicas", "", s.now)
    else:
        status = msgspec.structs.replace(
            status, conditions=tuple(c for c in status.conditions if c.type != "ScaledToZero")
        )
    before = next((c for c in s.status.conditions if c.type == "Progressing"), None)
    events: tuple[EventDraft, ...] = ()
    if looping and loop.last is not None and (before is None or before.reason == "Ok"):
        message = f"{loop.failures} starts failed in a row, waiting {loop.until - s.now:.1f} s: {loop.last.message}"
        events = (EventDraft("Warning", "CrashLoopBackOff", message),)
    return status, events


def verdict(s: ServiceSnapshot, fleet: Fleet, loop: Loop) -> tuple[ServiceState, str, str]:
    ready = fleet.count(up_states(s), digest=s.target)
    everything = in_own_cluster(fleet).count(up_states(s))
    want = s.spec.replicas
    old = fleet.count(ALIVE, other_than=s.target)
    if ready >= want and old == 0 and not s.status.given_up:
        return ServiceState.AVAILABLE, f"{ready} of {want} in traffic", "Available"
    if loop.last is not None and (s.now < loop.until or s.status.given_up):
        reason = "RolledBack" if s.status.given_up else "CrashLoopBackOff"
        return ServiceState.DEGRADED, loop.last.message, reason
    if s.status.given_up and ready >= want:
        return ServiceState.DEGRADED, "the new version did not get ready; the old one serves", "RolledBack"
    if old and fleet.count(ALIVE, digest=s.target):
        return ServiceState.PROGRESSING, f"rolling: {ready} of {want} replaced", "Rolling"
    return ServiceState.PROGRESSING, f"{everything} of {want} in traffic", "Progressing"


def next_look(s: ServiceSnapshot, fleet: Fleet, loop: Loop, *, changed: bool) -> float | None:
    """Children wake their Service; what is left are deadlines of its own."""
    if changed:
        return 0.05
    waits = []
    if s.now < loop.until:
        waits.append(loop.until - s.now)
    if fleet.count(up_states(s), digest=s.target) >= s.spec.replicas:
        proves = None if s.status.given_up else proves_in(s, s.status)
        waits += [proves + 0.01] if proves else []
    else:
        left = s.status.progressed_at + s.spec.update.progress_deadline_seconds - s.now
        waits.append(left + 0.01 if left > 0 else IDLE_SECONDS)
    return min(waits) if waits else None


def delete_all(fleet: Fleet, why: str, *, force: bool = False) -> tuple[ChildChange, ...]:
    """`force` reaches also those that are on their way out already, and do not get there."""
    members: list[ChildBrief] = [
        child
        for group in fleet.groups
        if (force or not group.deleting) and group.state != State.LEAKED
        for child in group.oldest
    ]
    return tuple(DeleteChild(child.uid, why, force=force) for child in members)
