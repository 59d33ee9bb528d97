"""What keeps a Service from starting more by itself, for each of its crews: a hold, and the breaker of the template.

Under a hold a Service makes what a person asked for (another number, another template, a restart) and does not replace
what fails after that. Nothing is ever kept from going.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from spinyard.core.plan import ChildChange, CreateChild, EventDraft
from spinyard.spin.gate import Gate, gate_of, noted
from spinyard.spin.service.crew import Crew
from spinyard.spin.service.snapshot import ALIVE, Fleet, ServiceSnapshot
from spinyard.spin.service.status import Owed, ServiceState, ServiceStatus


@dataclass(frozen=True, slots=True)
class Gated:
    """`blocking`: the gate of a crew that may not start all that it lacks."""

    status: ServiceStatus
    gates: tuple[Gate, ...]
    events: tuple[EventDraft, ...]
    blocking: Gate | None

    @property
    def waits(self) -> list[float]:
        return [gate.wake_in for gate in self.gates if gate.wake_in is not None]

    def verdict(self, state: ServiceState, why: str, reason: str) -> tuple[ServiceState, str, str]:
        gate = self.blocking
        if gate is None:
            return state, why, reason
        if gate.breaker.is_open and state is ServiceState.PROGRESSING:
            state = ServiceState.DEGRADED
        return state, f"{why}; {gate.words}", gate.reason


def gate(s: ServiceSnapshot, crew: Crew) -> Gate:
    return gate_of(s.row, s.seen, crew.digest, s.now, since=s.spec.restarted_at)


def asked(s: ServiceSnapshot, crew: Crew, fleet: Fleet) -> int:
    """How many starts a person still waits for: of what the crew lacked when the wish was new."""
    known = s.status.owed.get(crew.digest)
    lacking = max(0, crew.replicas - fleet.count(ALIVE, digest=crew.digest))
    return lacking if known is None or known.wish != wish(s, crew) else min(known.count, lacking)


def allowed(s: ServiceSnapshot, crew: Crew, fleet: Fleet, wanted: int) -> int:
    return gate(s, crew).most(wanted, asked(s, crew, fleet))


def wish(s: ServiceSnapshot, crew: Crew) -> str:
    return f"{crew.replicas} {crew.cluster} {s.status.first_slot}"


def gated(
    s: ServiceSnapshot, crews: tuple[tuple[Crew, Fleet], ...], status: ServiceStatus, started: tuple[ChildChange, ...]
) -> Gated:
    """The status and the events after this pass, which made `started`."""
    owed: dict[str, Owed] = {}
    gates: list[Gate] = []
    blocking: Gate | None = None
    for crew, fleet in crews:
        due, mine = asked(s, crew, fleet), gate(s, crew)
        made = sum(isinstance(c, CreateChild) and c.template_digest == crew.digest for c in started)
        owed[crew.digest] = Owed(wish(s, crew), max(0, due - made))
        lacking = crew.replicas - fleet.count(ALIVE, digest=crew.digest)
        gates.append(mine)
        if mine.most(lacking, due) < lacking:
            blocking = blocking or mine
    told = blocking or next((one for one in gates if one.breaker.is_open), gates[0])
    conditions, events = noted(status.conditions, told, is_blocked=blocking is not None)
    return Gated(msgspec.structs.replace(status, owed=owed, conditions=conditions), tuple(gates), events, blocking)
