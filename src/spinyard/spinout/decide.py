"""What a Spinout does next: phase by phase as each is seen to hold, and back with one write when something breaks.

Invariants: the weight rises only when every gate passed, was waived or promoted by a person, and never on missing data;
it goes to 0 in one write, whatever the phase; guards are looked at in every phase with a weight, also while it is held.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from spinyard.core.ids import Uid
from spinyard.core.machine import Machine
from spinyard.core.observed import Look, LookGauge, LookPeer, LookResource, Seen
from spinyard.core.plan import EventDraft, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind
from spinyard.core.spinout import Inconclusive, SpinoutSpec
from spinyard.spinout import gates
from spinyard.spinout.config import config_digest
from spinyard.spinout.measure import observed
from spinyard.spinout.phases import LOOK_SECONDS, REST_SECONDS, RULES, Go, Stay, floor_of, with_passed
from spinyard.spinout.records import paged, percent
from spinyard.spinout.retreat import (
    broken,
    must_go_back,
    nobody_to_go_back_to,
    retreat,
    rolled_back,
    rolling_back,
    to_call,
)
from spinyard.spinout.snapshot import PROXY, SpinoutSnapshot
from spinyard.spinout.status import TRANSITIONS, SpinoutState, SpinoutStatus, decode_spinout_status
from spinyard.spinout.versions import renewed

S = SpinoutState
UNTOUCHED = (S.PROPOSED, S.ANALYSED, S.DECIDED, S.CONTRACTED)
"""phases in which the data plane knows nothing of it"""
NO_WAY_BACK = "NoWayBack"
"""a guard says that it must go back, and the parent cannot take it"""


def decide(s: SpinoutSnapshot) -> Plan:
    state = SpinoutState(s.row.state)
    match state:
        case S.COMPLETED | S.ABANDONED:
            return s.plan(state, "it has ended", str(state), s.status, wake_in=None)
        case S.ROLLED_BACK:
            return rolled_back(s)
        case S.ROLLING_BACK:
            return rolling_back(s)
        case S.HELD:
            return held(s)
        case (
            S.PROPOSED
            | S.ANALYSED
            | S.DECIDED
            | S.CONTRACTED
            | S.SCAFFOLDED
            | S.INSTRUMENTED
            | S.BASELINED
            | S.SHADOWING
            | S.RAMPING
            | S.SWITCHED
            | S.SOAKING
            | S.RETIRING
        ):
            return forward(s, state)
        case never:
            assert_never(never)


def forward(s: SpinoutSnapshot, state: SpinoutState) -> Plan:
    s = with_gates(s)
    stop = must_go_back(s)
    if stop is not None:
        return retreat(s, *stop)
    holding = hold_reason(s, state)
    if holding is not None:
        return hold(s, state, *holding)
    outcome = RULES[state](s)
    if isinstance(outcome, Go):
        return go(s, state, outcome)
    return stay(s, state, outcome)


def with_gates(s: SpinoutSnapshot) -> SpinoutSnapshot:
    """With what this look tells, and what the gates say of it. A `start` in the middle of an attempt begins no other
    one."""
    s = s.having(renewed(s))
    status = gates.judged(s, observed(s))
    if status.is_bounded:
        status = msgspec.structs.replace(status, attempt=max(status.attempt, s.spec.started))
    return s.having(status)


def go(s: SpinoutSnapshot, state: SpinoutState, outcome: Go) -> Plan:
    status = msgspec.structs.replace(outcome.status, needs="", progressed_at=s.now)
    if state not in (S.RAMPING, S.SWITCHED):
        status = with_passed(s, status, state, outcome.how, outcome.why)
    if outcome.to is S.COMPLETED:
        return s.finish(outcome.to, outcome.why, outcome.reason, status)
    return s.plan(outcome.to, outcome.why, outcome.reason, status, wake_in=0.0,
                  events=outcome.events, records=outcome.records)  # fmt: skip


def stay(s: SpinoutSnapshot, state: SpinoutState, outcome: Stay) -> Plan:
    status = msgspec.structs.replace(outcome.status, needs=outcome.needs)
    if outcome.moved or not status.progressed_at:
        status = msgspec.structs.replace(status, progressed_at=s.now)
    elif s.now - status.progressed_at > s.spec.deadline_seconds and state not in (S.SOAKING, S.RETIRING):
        return overdue(s.having(status), state, outcome.needs)
    what = f"{percent(status.weight)}: " if status.weight else ""
    why = outcome.why or f"{what}waiting for {outcome.needs}"
    return s.plan(state, why, outcome.reason, status, wake_in=outcome.wake_in,
                  events=outcome.events, records=outcome.records)  # fmt: skip


# -- held --------------------------------------------------------------------------------------------------------------


def hold_reason(s: SpinoutSnapshot, state: SpinoutState) -> tuple[str, str] | None:
    """(why, reason) as long as something other than the gates keeps it from rising."""
    stop, nobody = broken(s), nobody_to_go_back_to(s)
    if stop is not None and nobody:
        return f"it would go back, but {nobody}: {stop[0]}", NO_WAY_BACK
    if s.row.paused:
        return "it is held; resume lets it go on", "Paused"
    found = s.hold
    if found is not None:
        return found.words, "Held"
    if not s.status.weight or state is S.RETIRING:
        return None
    parent, floor = s.in_traffic(s.spec.parent_uid), floor_of(s)
    if parent is not None and parent < floor:
        why = f"the old side is below its floor: {parent} of {floor} instances of {s.spec.parent} in traffic"
        return why, "BelowFloor"
    return None


def hold(s: SpinoutSnapshot, state: SpinoutState, why: str, reason: str) -> Plan:
    status = msgspec.structs.replace(
        s.status,
        held_from=str(state),
        held_why=why,
        held_reason=reason,
        held_wish=wish_of(s),
        needs=why,
    )
    return told(s, status, why, reason)


def wish_of(s: SpinoutSnapshot) -> str:
    """What people declared and approved; a token for testers is no wish."""
    return f"{s.status.config_digest} {len(s.spec.approvals)}"


def told(s: SpinoutSnapshot, status: SpinoutStatus, why: str, reason: str) -> Plan:
    """That it is held, to everybody; and where only people can help, to whoever is to be called."""
    words = f"held at {percent(status.weight)}: {why}"
    is_page = reason == NO_WAY_BACK
    words = to_call(s, words) if is_page else words
    return s.plan(S.HELD, f"{why}; it stays at {percent(status.weight)}", reason, status, wake_in=rest(s),
                  events=(EventDraft("Warning", reason, words),),
                  records=(paged(status, words),) if is_page else ())  # fmt: skip


def overdue(s: SpinoutSnapshot, state: SpinoutState, needs: str) -> Plan:
    """A phase or step that was not decided by its deadline."""
    why = f"not decided within {s.spec.deadline_seconds:g} s; it still needs {needs}"
    if s.spec.inconclusive is Inconclusive.ABORT:
        return retreat(s, why, "Inconclusive")
    return hold(s, state, why, "Inconclusive")


def held(s: SpinoutSnapshot) -> Plan:
    s = with_gates(s)
    stop = must_go_back(s)
    if stop is not None:
        return retreat(s, *stop)
    before = SpinoutState(s.status.held_from or S.PROPOSED)
    holding = hold_reason(s, before)
    if holding is not None:
        why, reason = holding
        status = msgspec.structs.replace(s.status, held_why=why, held_reason=reason, needs=why)
        if reason == NO_WAY_BACK != s.status.held_reason:
            return told(s, status, why, reason)
        return s.plan(S.HELD, f"{why}; it stays at {percent(status.weight)}", reason, status, wake_in=rest(s))
    if s.status.held_reason == "Inconclusive" and wish_of(s) == s.status.held_wish:
        outcome = RULES[before](s)
        if isinstance(outcome, Stay) and not outcome.moved:
            why = f"{s.status.held_why.split(';')[0]}; it still needs {outcome.needs}"
            status = msgspec.structs.replace(s.status, needs=outcome.needs)
            return s.plan(S.HELD, why, "Inconclusive", status, wake_in=rest(s))
    status = msgspec.structs.replace(s.status, held_from="", held_why="", held_reason="", progressed_at=s.now, needs="")
    return s.plan(before, "it goes on", "Resumed", status, wake_in=0.0)


def rest(s: SpinoutSnapshot) -> float:
    """Guards look as often as in any phase."""
    return LOOK_SECONDS if s.status.weight or s.status.mirror else REST_SECONDS / 6


# -- for the engine ----------------------------------------------------------------------------------------------------


def looks(s: SpinoutSnapshot) -> tuple[Look, ...]:
    if s.row.state in (S.COMPLETED, S.ABANDONED):
        return ()
    out: list[Look] = [LookPeer(Uid(uid)) for uid in (s.spec.parent_uid, s.spec.unit_uid) if uid]
    out += s.hold_looks
    out += [LookResource(row.provider, row.key) for row in s.row.resources]
    status = s.status
    if status.is_bounded:
        out += [LookResource(PROXY, key) for key in status.endpoints]
        out.append(s.traffic_look)
    if status.mirror and status.step_begun_at:
        out.append(gates.shadow_look(s, status))
    if status.weight:
        if s.spec.gates.trace_join_min is not None and status.step_begun_at:
            out.append(gates.join_look(s, status))
        out += [LookGauge(gate.url, gate.query) for gate in s.spec.gates.thresholds]
    return tuple(dict.fromkeys(out))


class SpinoutDomain:
    """The kind Spinout for the engine."""

    kind = Kind.SPINOUT
    machine: Machine = TRANSITIONS

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return decide(self._snapshot(row, seen, now))

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> SpinoutSnapshot:
        assert isinstance(row.spec, SpinoutSpec)
        stored = decode_spinout_status(row.status)
        status = msgspec.structs.replace(stored, since=min(stored.since or row.created_at, now))
        if not status.config_digest or status.observed_generation != row.generation:
            status = msgspec.structs.replace(status, config_digest=config_digest(row.spec))
        return SpinoutSnapshot(row, row.spec, stored, status, seen, now)
