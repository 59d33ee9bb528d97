"""The new side of a Rollout: as many instances as its part says, beside the stable ones and without touching them; and
what is told to the Rollout: what the data plane has confirmed, and what is alive.

Invariant: never more than `part.replicas` alive. Surge and unavailability of the Service do not apply here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from spinyard.core.ids import Uid
from spinyard.core.observed import Present, RouteFacts, Unknown
from spinyard.core.plan import ChildChange, DeleteChild, EventDraft, Plan, Resource, WakeChild
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import DirectoryScope, RolloutPart
from spinyard.core.want import RouteWant, Split
from spinyard.spin.crash_loop import Loop
from spinyard.spin.service.crew import Crew, crash_loop, create, next_slot, scaled_in, to_start, up_states
from spinyard.spin.service.gates import allowed
from spinyard.spin.service.sides import Sides
from spinyard.spin.service.snapshot import ALIVE, Fleet, ServiceSnapshot
from spinyard.spin.service.status import ServiceStatus, Shown, decode_service_status
from spinyard.spin.snapshot import PROXY
from spinyard.spin.status import State

SOON_SECONDS = 0.1
AGAIN_SECONDS = 1.0
"""the data plane wakes the Service when it has confirmed; that it has not is looked at all the same"""


@dataclass(frozen=True, slots=True)
class NewSide:
    status: ServiceStatus
    children: tuple[ChildChange, ...] = ()
    events: tuple[EventDraft, ...] = ()
    wake_in: float | None = None
    words: str = ""


def keep_new_side(s: ServiceSnapshot, sides: Sides) -> NewSide:
    """Also while the Service is paused the new side gives up what it has too much of: going back is never stopped."""
    gone: tuple[ChildChange, ...] = tuple(
        DeleteChild(child.uid, "its rollout was given up") for child in sides.abandoned.members(ALIVE)
    )
    status = msgspec.structs.replace(s.status, ending=s.status.ending + sides.abandoned.total)
    wanted = s.spec.rollout
    if wanted is None:
        return NewSide(msgspec.structs.replace(status, shown=None), gone)
    made: tuple[ChildChange, ...] = ()
    events: tuple[EventDraft, ...] = ()
    waits: list[float] = []
    shown = shown_of(s, wanted, sides.new)
    if s.part is not None:
        [crew] = new_crew(s)
        loop = crash_loop(s, crew.digest, crew.replicas)
        shown = msgspec.structs.replace(shown, failing=failing(s, s.part, loop))
        events = crash_event(s, s.part, loop)
        waits += [loop.until - s.now] if s.now < loop.until else []
        first = next_slot(s)
        number = to_start(s, crew, sides.new, loop, crew.replicas) if not lacks(s, s.part) else 0
        number = allowed(s, crew, sides.new, number)
        made = tuple(create(s, crew, first + index) for index in range(number))
        gone += scaled_in(s, crew, sides.new)
        status = msgspec.structs.replace(status, spawned=first + number) if made else status
    if shown.why and s.spec.route is not None:
        waits.append(SOON_SECONDS if is_behind(s) else AGAIN_SECONDS)
    status = msgspec.structs.replace(status, shown=shown)
    words = f"; {wanted.rollout_name} at {wanted.weight * 100 / WEIGHT_ALL:g} %"
    return NewSide(status, made + gone, events, min(waits) if waits else None, words)


def new_crew(s: ServiceSnapshot) -> tuple[Crew, ...]:
    """One, or none without a part."""
    part = s.part
    return () if part is None else (Crew(part.template_digest, s.cluster_of(part.side), part.replicas),)


# -- what it needs -----------------------------------------------------------------------------------------------------


def split_of(s: ServiceSnapshot) -> Split | None:
    """As soon as there is a part: its cluster is there before its first instance."""
    part = s.part
    if part is None:
        return None
    probe = part.probe if part.probe is not None and part.probe.exec is None else None
    return Split(cluster=s.cluster_of(part.side), weight=part.weight, probe=probe, sticky=part.sticky)


def directory_names(s: ServiceSnapshot) -> list[str]:
    """Shared directories that only the new template asks for."""
    if s.part is None or s.template is None:
        return []
    shared = {d.name for d in s.template.data_directories if d.scope is DirectoryScope.SERVICE}
    names = dict.fromkeys(d.name for d in s.part.directories if d.scope is DirectoryScope.SERVICE)
    return [name for name in names if name not in shared]


def lacks(s: ServiceSnapshot, part: RolloutPart) -> str:
    """The first of its directories that is not there, or was not when last seen."""
    rows = {row.key: row for row in s.row.resources}
    for directory in part.directories:
        if directory.scope is not DirectoryScope.SERVICE:
            continue
        row = rows.get(s.key(f"dir/{directory.name}"))
        if row is None or not isinstance(s.observed(row.provider, row.key), Present):
            failure = s.seen.outcomes.get(s.key(f"dir/{directory.name}"))
            return f"directory {directory.name} is not there" + (f": {failure.message}" if failure else "")
    return ""


def failing(s: ServiceSnapshot, part: RolloutPart, loop: Loop) -> str:
    if s.now < loop.until and loop.last is not None:
        return loop.last.message
    return lacks(s, part)


def crash_event(s: ServiceSnapshot, part: RolloutPart, loop: Loop) -> tuple[EventDraft, ...]:
    before = s.status.shown
    if loop.last is None or s.now >= loop.until or (before is not None and before.failing):
        return ()
    message = f"{part.rollout_name}: {loop.failures} starts failed in a row, waiting {loop.until - s.now:.1f} s: "
    return (EventDraft("Warning", "CrashLoopBackOff", message + loop.last.message),)


# -- what is told of it ------------------------------------------------------------------------------------------------


def shown_of(s: ServiceSnapshot, part: RolloutPart, fleet: Fleet) -> Shown:
    """A weight counts as shown when the durable wish and what the data plane has confirmed both say it."""
    before = s.status.shown or Shown(rollout_uid=part.rollout_uid)
    why = unconfirmed(s, part)
    ending = sum(
        group.count
        for group in fleet.groups
        if (group.deleting or group.state not in ALIVE) and group.state != State.LEAKED
    )
    return Shown(
        rollout_uid=part.rollout_uid,
        serial=before.serial if why else part.serial,
        weight=before.weight if why else part.weight,
        ready=fleet.count(up_states(s), digest=part.template_digest),
        alive=fleet.count(ALIVE, digest=part.template_digest),
        ending=ending,
        why=why,
        template_digest=part.template_digest if s.part is not None else "",
        side=part.side if s.part is not None else "",
    )


def unconfirmed(s: ServiceSnapshot, part: RolloutPart) -> str:
    """Why the part's weight does not count as in force yet, or empty."""
    if s.part is None and part.weight:
        return "the Service is of this template already, or went back to it by itself"
    if s.spec.route is None:
        return "the Service has no route" if part.weight else ""
    row = route_row(s)
    if row is None or is_behind(s):
        return "the data plane has not been told yet"
    match s.observed(PROXY, row.key):
        case Present(facts=RouteFacts() as facts):
            known = facts.want is not None and share(facts.want) == share_wanted(s)
            # The way back must not wait for a host that another has, or for a port.
            if known and facts.is_shared and not part.weight:
                return ""
            if facts.rejected:
                return facts.rejected
            return "" if facts.acknowledged and known else "the data plane has not confirmed it yet"
        case Unknown(why=why):
            return f"not known: {why}"
        case _:
            return "the data plane does not have the route"


def is_behind(s: ServiceSnapshot) -> bool:
    """The ledger has another weight than the part."""
    row = route_row(s)
    stored = row.stored_want if row is not None else None
    return not isinstance(stored, RouteWant) or share(stored) != share_wanted(s)


def route_row(s: ServiceSnapshot) -> Resource | None:
    return next((row for row in s.row.resources if row.kind == "route" and row.wanted), None)


def share(want: RouteWant) -> tuple[str, str, int]:
    return (want.cluster, want.split.cluster, want.split.weight) if want.split is not None else (want.cluster, "", 0)


def share_wanted(s: ServiceSnapshot) -> tuple[str, str, int]:
    split = split_of(s)
    return (s.cluster, split.cluster, split.weight) if split is not None else (s.cluster, "", 0)


def told(s: ServiceSnapshot, plan: Plan) -> Plan:
    """The Rollout is woken when there is something new for it."""
    before, part = s.status.shown, s.spec.rollout
    if before is None and part is None:
        return plan
    now = decode_service_status(plan.status).shown
    leaves = plan.state != s.row.state and s.deleting
    if now == before and not leaves:
        return plan
    uids = {shown.rollout_uid for shown in (before, now) if shown is not None}
    uids |= {part.rollout_uid} if part is not None and leaves else set()
    return replace(plan, children=(*plan.children, *(WakeChild(Uid(uid)) for uid in sorted(uids))))
