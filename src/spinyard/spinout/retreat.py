"""The way back: one write with a 0 in it, believed when the data plane has confirmed it and the unit's counter stands
still. It is accepted in every phase, and never given up: what takes too long is told once, and goes on."""

from __future__ import annotations

import msgspec

from spinyard.core.chain import RecordDraft
from spinyard.core.figures import NOTHING, Reading
from spinyard.core.observed import ClusterTraffic, Unknown
from spinyard.core.plan import EventDraft, Plan
from spinyard.core.verdict import Verdict
from spinyard.spinout.phases import (
    REST_SECONDS,
    SOON_SECONDS,
    begin_attempt,
    floor_of,
    not_scaffolded,
    taken_away,
    with_passed,
)
from spinyard.spinout.records import confirmed, paged, percent, verdict
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.status import SpinoutState, SpinoutStatus

STILL_SECONDS = 0.05
"""between the two looks that prove that nothing reaches the unit any more"""
MISSING_SECONDS = 3.0
"""no instance of the unit in traffic, although it has a weight"""
ENDS = frozenset({"Deleted", "NoGo"})
"""reasons after which there is no other attempt"""

S = SpinoutState


def must_go_back(s: SpinoutSnapshot) -> tuple[str, str] | None:
    """(why, reason). Guards hold in every state with a weight or copies, also while it is held."""
    spec = s.spec
    if s.row.delete_at is not None:
        return "deleted", "Deleted"
    if spec.abort:
        return f"aborted: {spec.abort}", "Aborted"
    decision = s.approval(S.DECIDED)
    if decision is not None and decision.decision == "no-go" and s.row.state in (S.PROPOSED, S.ANALYSED):
        return f"no-go, said {decision.actor}: {decision.evidence[:500]}", "NoGo"
    for uid, name, reason in ((spec.parent_uid, spec.parent, "ParentGone"), (spec.unit_uid, spec.unit, "UnitGone")):
        if uid and s.service(uid) is None and not s.unread(uid):
            return f"Service {name} is gone, or going", reason
    return None if nobody_to_go_back_to(s) else broken(s)


def nobody_to_go_back_to(s: SpinoutSnapshot) -> str:
    """Why the parent cannot take back what the unit has: there going back helps no request. A person may say abort
    nevertheless."""
    if not max(s.status.weight, s.status.shown_weight):
        return ""
    is_shrunk = S.RETIRING in (s.row.state, s.status.held_from)
    parent, least = s.in_traffic(s.spec.parent_uid), floor_of(s) if is_shrunk else 1
    if parent is None or parent >= least:
        return ""
    return f"{parent} of {floor_of(s)} instances of {s.spec.parent} are in traffic"


def broken(s: SpinoutSnapshot) -> tuple[str, str] | None:
    """What a guard says."""
    status = s.status
    if not status.weight and not status.mirror:
        return None
    worst = next((gate for gate in status.gates if gate.verdict == Verdict.FAIL), None)
    if worst is not None:
        return f"{worst.name}: {worst.why}", "GateFailed"
    if s.rejected:
        return f"the data plane refuses {percent(status.weight)}: {s.rejected}", "Rejected"
    if status.missing_since and s.now - status.missing_since > MISSING_SECONDS:
        return f"no instance of {s.spec.unit} has been in traffic for {MISSING_SECONDS:g} s", "UnitDown"
    return None


def retreat(s: SpinoutSnapshot, why: str, reason: str) -> Plan:
    how = "failed" if reason == "GateFailed" else reason.lower()
    status = with_passed(s, s.status, s.status.held_from or s.row.state, how, why)
    records: tuple[RecordDraft, ...] = ()
    if status.gates:
        records = (verdict(status, how, why),)
    status = msgspec.structs.replace(
        s.asking(status, weight=0, mirror=0),
        attempt=max(s.status.attempt, s.spec.started),
        stopped=why,
        stopped_reason=reason,
        still=None,
        zero_shown_at=0.0,
        paged=False,
        held_from="",
        held_why="",
        held_reason="",
        needs="0 % to be confirmed",
    )
    if not status.is_bounded and s.row.resources:
        # The boundary was being taken away: it comes back, at 0 %.
        status = msgspec.structs.replace(status, is_bounded=True, serial=status.serial + 1)
    events = (EventDraft("Warning", reason, f"back to 0 %: {why}"),)
    return s.plan(S.ROLLING_BACK, why, reason, status, wake_in=0.0, events=events, records=records)


# -- on the way --------------------------------------------------------------------------------------------------------


def rolling_back(s: SpinoutSnapshot) -> Plan:
    if not s.status.is_bounded or not (s.status.highest or s.status.was_copied):
        return at_zero(s, "no request ever went to it", proves=False)
    if s.row.force and s.row.delete_at is not None:
        return abandon(s, S.ROLLING_BACK, "what cannot be confirmed is not waited for (force)")
    if not s.is_confirmed:
        return still_going(s, f"waiting for the data plane to confirm 0 %{s.plane_words}", SOON_SECONDS)
    status = msgspec.structs.replace(
        s.status,
        shown_serial=s.status.serial,
        shown_weight=0,
        zero_shown_at=min(s.status.zero_shown_at, s.now) or s.now,
    )
    s = s.having(status)
    if not status.highest:
        return at_zero(s, "0 % is confirmed; there was never more")
    traffic = s.traffic
    if isinstance(traffic, Unknown):
        return still_going(s, f"0 % is confirmed; looking whether it is so: {traffic.why}", SOON_SECONDS)
    new = traffic.clusters.get(s.new_cluster, NOTHING)
    now = Reading(traffic.epoch, traffic.at, status.weight_serial, NOTHING, new)
    if traffic.at < status.zero_shown_at:
        return still_going(s, "0 % is confirmed; looking whether it is so", STILL_SECONDS)
    before = status.still
    # Of a clock that went back nothing is told but anew.
    if before is not None and before.epoch == now.epoch and before.at <= now.at and is_still(before.new, new):
        if now.at - before.at >= STILL_SECONDS:
            return at_zero(s, "0 % is confirmed, and nothing more arrived at the unit")
        now = before
    s = s.having(msgspec.structs.replace(status, still=now))
    return still_going(s, "0 % is confirmed; looking whether it is so", STILL_SECONDS)


def is_still(before: ClusterTraffic, after: ClusterTraffic) -> bool:
    """Nothing has begun in between: what was under way may have ended."""
    return before.requests + before.active == after.requests + after.active


def still_going(s: SpinoutSnapshot, why: str, wake_in: float) -> Plan:
    status = msgspec.structs.replace(s.status, needs=why)
    limit = s.spec.abort_deadline_seconds
    if s.now - status.since <= limit or status.paged:
        return s.plan(S.ROLLING_BACK, why, "RollingBack", status, wake_in=wake_in)
    status = msgspec.structs.replace(status, paged=True)
    words = to_call(s, f"it is not at 0 % after {limit:g} s: {why}; it goes on trying")
    events = (EventDraft("Warning", "AbortOverdue", words),)
    return s.plan(S.ROLLING_BACK, why, "RollingBack", status, wake_in=wake_in, events=events,
                  records=(paged(status, words),))  # fmt: skip


def to_call(s: SpinoutSnapshot, words: str) -> str:
    return f"{words}. To call: {s.spec.escalation}" if s.spec.escalation else words


def at_zero(s: SpinoutSnapshot, proof: str, *, proves: bool = True) -> Plan:
    status = s.status
    if s.row.delete_at is not None or status.stopped_reason in ENDS:
        return abandon(s, S.ROLLING_BACK, proof)
    status = msgspec.structs.replace(status, needs=f"a person to start it again: spinyard spinout start {s.row.name}")
    why = f"{proof}; every request is the parent's: {status.stopped}"
    records = (confirmed(status, proof),) if proves else ()
    return s.plan(S.ROLLED_BACK, why, "RolledBack", status, wake_in=REST_SECONDS, records=records)


def abandon(s: SpinoutSnapshot, state: SpinoutState, proof: str) -> Plan:
    """The boundary goes, seen gone, before it ends."""
    status = taken_away(s.status) if s.status.is_bounded else s.status
    waiting = s.own_things(status)[2]
    if waiting:
        status = msgspec.structs.replace(status, needs=f"the boundary to go: {waiting}")
        return s.plan(state, f"{proof}; {status.needs}", "Abandoning", status, wake_in=SOON_SECONDS)
    status = msgspec.structs.replace(status, needs="")
    why = status.stopped if state is S.ROLLING_BACK else "deleted"
    return s.finish(S.ABANDONED, f"{why}; nothing of it is left", "Abandoned", status)


# -- back --------------------------------------------------------------------------------------------------------------


def rolled_back(s: SpinoutSnapshot) -> Plan:
    status, spec = s.status, s.spec
    if s.row.delete_at is not None:
        return abandon(s, S.ROLLED_BACK, "deleted")
    needs = f"a person to start it again: spinyard spinout start {s.row.name}"
    wake_in = REST_SECONDS
    if spec.started > status.attempt and not spec.abort:
        held = s.hold
        needs = "" if not s.row.paused and held is None else held.words if held else "it is paused"
        needs = needs or not_scaffolded(s)
        if not needs:
            going = begin_attempt(s)
            return s.plan(going.to, f"attempt {going.status.attempt}: {going.why}", going.reason,
                          going_on(s, going.status), wake_in=SOON_SECONDS)  # fmt: skip
        wake_in = 1.0
    status = msgspec.structs.replace(status, needs=needs)
    return s.plan(S.ROLLED_BACK, f"every request is the parent's; {needs}", "RolledBack", status, wake_in=wake_in)


def going_on(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    return msgspec.structs.replace(status, progressed_at=s.now)
