"""One rule for each phase: what must be so that the next one is reached. Nothing here goes back; see retreat.

A rule gets the status as this look leaves it, and answers with the next phase (Go), another status in the same one, or
what it waits for (Stay).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from spinyard.core.chain import RecordDraft
from spinyard.core.figures import Gate, SideFigures, buckets_between, since
from spinyard.core.observed import Unknown
from spinyard.core.plan import EventDraft
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import ServiceSpec
from spinyard.core.spinout import SpinoutStep
from spinyard.core.standing import AVAILABLE
from spinyard.spinout.boundary import has_moving, is_shadowed, not_covered
from spinyard.spinout.gates import SHADOW, WAIVED, holds_up
from spinyard.spinout.measure import is_shown
from spinyard.spinout.records import confirmed, percent, verdict
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.status import Passed, SpinoutState, SpinoutStatus
from spinyard.spinout.versions import rolling

LOOK_SECONDS = 0.5
SOON_SECONDS = 0.1
REST_SECONDS = 30.0
"""between looks at what only people or other objects can change; they wake it as well"""
PASSED_MAX = 200

S = SpinoutState


@dataclass(frozen=True, slots=True)
class Go:
    to: SpinoutState
    status: SpinoutStatus
    why: str
    reason: str
    how: str = "passed"
    events: tuple[EventDraft, ...] = ()
    records: tuple[RecordDraft, ...] = ()


@dataclass(frozen=True, slots=True)
class Stay:
    """`needs`: what is waited for, in words. `moved`: it got on within the phase; the deadline counts anew."""

    status: SpinoutStatus
    needs: str
    wake_in: float = LOOK_SECONDS
    reason: str = "Waiting"
    why: str = ""
    """what happened, where it got on"""
    moved: bool = False
    events: tuple[EventDraft, ...] = ()
    records: tuple[RecordDraft, ...] = ()


Outcome = Go | Stay
Rule = Callable[[SpinoutSnapshot], Outcome]


# -- decided by people -------------------------------------------------------------------------------------------------


def proposed(s: SpinoutSnapshot) -> Outcome:
    return by_approval(s, S.ANALYSED)


def analysed(s: SpinoutSnapshot) -> Outcome:
    if s.approval(S.DECIDED) is not None and not_decided(s):
        return Stay(s.status, not_decided(s), REST_SECONDS, "Postponed")
    return by_approval(s, S.DECIDED)


def decided(s: SpinoutSnapshot) -> Outcome:
    status = msgspec.structs.replace(s.status, is_contracted=True)
    if s.spec.contract_digest:
        return Go(S.CONTRACTED, status, f"the contract is {s.spec.contract_digest}", "Contracted", "contract")
    outcome = by_approval(s, S.CONTRACTED)
    return replace(outcome, status=status) if isinstance(outcome, Go) else outcome


def by_approval(s: SpinoutSnapshot, phase: SpinoutState) -> Outcome:
    approval = s.approval(phase)
    if approval is not None:
        why = f"approved by {approval.actor}: {approval.evidence[:500]}"
        return Go(phase, s.status, why, "Approved", "approved")
    return Stay(s.status, to_approve(s, phase), REST_SECONDS, "NotApproved")


def to_approve(s: SpinoutSnapshot, phase: SpinoutState) -> str:
    return f"an approval: spinyard spinout approve {s.row.name} {phase} --evidence TEXT"


def not_decided(s: SpinoutSnapshot) -> str:
    """What people have not said yet; empty: they said go."""
    missing = next((phase for phase in (S.ANALYSED, S.DECIDED) if s.approval(phase) is None), None)
    if missing is not None:
        return to_approve(s, missing)
    said = s.approval(S.DECIDED)
    if said is not None and said.decision not in ("", "go"):
        return f"{said.decision}, said {said.actor}: {said.evidence[:500]}"
    return ""


# -- before anything moves ---------------------------------------------------------------------------------------------


def contracted(s: SpinoutSnapshot) -> Outcome:
    waiting = not_scaffolded(s)
    return Stay(s.status, waiting) if waiting else begin_attempt(s)


def begin_attempt(s: SpinoutSnapshot) -> Go:
    """Nothing of an attempt before counts in this one."""
    known = s.status
    status = SpinoutStatus(
        attempt=s.spec.started,
        attempt_at=s.now,
        serial=known.serial + 1,
        weight_serial=known.serial + 1,
        weight_asked_at=s.now,
        is_contracted=True,
        is_bounded=True,
        epoch=known.epoch,
        promoted_before=s.spec.promoted,
        fully_before=s.spec.promoted_fully,
        passed=known.passed,
        endpoints=known.endpoints,
        old=SideFigures(ready=known.old.ready, alive=known.old.alive),
        new=SideFigures(ready=known.new.ready, alive=known.new.alive),
        config_digest=known.config_digest,
    )
    why = f"{s.spec.unit} is available; its boundary becomes known to the data plane, at 0 %"
    return Go(S.SCAFFOLDED, status, why, "Scaffolded")


def not_scaffolded(s: SpinoutSnapshot) -> str:
    """What an attempt waits for before it touches the data plane; empty: nothing."""
    if not s.spec.started:
        return f"a person to start it: spinyard spinout start {s.row.name}"
    # After it went back, and from before it was decided, too.
    if not_decided(s):
        return not_decided(s)
    if not (s.spec.contract_digest or s.status.is_contracted or s.approval(S.CONTRACTED)):
        return f"a contract, or an approval: spinyard spinout approve {s.row.name} contracted --evidence TEXT"
    if s.parent is None:
        return f"the parent: there is no Service {s.spec.parent}"
    unit, peer = s.unit, s.peer(s.spec.unit_uid)
    if unit is None or peer is None:
        return f"the unit: there is no Service {s.spec.unit}"
    for name, service in ((s.spec.parent, s.parent), (s.spec.unit, unit)):
        if service.route is None:
            return f"a route of Service {name}: the gateway does not know its requests"
    if not has_moving(s.spec):
        return "a route that may move: all of them write, and the unit does not forward writes to the owner"
    if peer.state != AVAILABLE or not is_settled(s, unit):
        return f"Service {s.spec.unit} to be available, it is {peer.state}"
    return ""


def is_settled(s: SpinoutSnapshot, unit: ServiceSpec) -> bool:
    """It has looked at its present wish."""
    peer = s.peer(s.spec.unit_uid)
    known = s.standing(s.spec.unit_uid).observed_generation
    return unit.external is not None or (peer is not None and known == peer.generation)


def scaffolded(s: SpinoutSnapshot) -> Outcome:
    unconfirmed = not_confirmed(s)
    if unconfirmed:
        return Stay(s.status, unconfirmed, SOON_SECONDS, "NotConfirmed")
    if s.status.reading is None or s.status.blind_since:
        return Stay(s.status, f"counters of both sides{counter_words(s)}", LOOK_SECONDS, "NoCounters")
    why = "the boundary is confirmed at 0 %, and both sides can be counted"
    return Go(S.INSTRUMENTED, s.status, why, "Instrumented", records=(confirmed(s.status, why),))


def instrumented(s: SpinoutSnapshot) -> Outcome:
    status, spec = s.status, s.spec
    missing = not_confirmed(s) or blindness(s)
    begun, reading = status.step_reading, status.reading
    if missing or begun is None or reading is None:
        return Stay(status, missing or "counters of the parent", LOOK_SECONDS, "NoCounters")
    seconds, requests = reading.at - begun.at, status.old.requests
    lacks = [f"{rolling(s)} to have its present version alone"] if status.is_rolling else []
    if requests < spec.baseline_requests:
        lacks.append(f"{spec.baseline_requests - requests} more requests on the parent's side")
    if seconds < spec.baseline_seconds:
        lacks.append(f"{spec.baseline_seconds:g} s of the parent alone")
    if lacks:
        return Stay(status, "; ".join(lacks), LOOK_SECONDS, "Baseline")
    status = msgspec.structs.replace(
        status,
        baseline=status.old,
        baseline_counts=since(begun.old, reading.old),
        baseline_latency=tuple(buckets_between(begun.old, reading.old)),
    )
    why = f"the parent answered {requests} requests in {seconds:.1f} s, {status.old.failures} of them failed"
    return Go(S.BASELINED, status, why, "Baselined")


def baseline_again(s: SpinoutSnapshot) -> Stay | None:
    """Where parent or routes changed since: what was measured is of others. None: nothing to do."""
    if s.status.baseline is not None:
        return None
    outcome = instrumented(s)
    if isinstance(outcome, Stay):
        return outcome
    return Stay(outcome.status, "the next look", SOON_SECONDS, "Baselined", outcome.why, True)


def baselined(s: SpinoutSnapshot) -> Outcome:
    again = baseline_again(s)
    if again is not None:
        return again
    unready = may_not_rise(s) or not_confirmed(s) or blindness(s)
    if unready:
        return Stay(s.status, unready)
    if not s.spec.shadow.enabled:
        return begin_ramp(s, "shadowing is skipped: it is switched off", "skipped")
    if not is_shadowed(s.spec):
        return begin_ramp(s, "shadowing is skipped: no route is safe to copy", "skipped")
    status = s.asking(s.status, mirror=min(s.spec.shadow.share, WEIGHT_ALL))
    why = f"{percent(status.mirror)} of the safe requests are copied to {s.spec.unit}"
    return Go(S.SHADOWING, status, why, "Shadowing")


def shadowing(s: SpinoutSnapshot) -> Outcome:
    unconfirmed = not_confirmed(s)
    if unconfirmed:
        return Stay(s.status, unconfirmed, SOON_SECONDS, "NotConfirmed")
    lacks = [f"{gate.name}: {needed(gate)}" for gate in s.status.gates if holds_up(gate)]
    found = next((gate for gate in s.status.gates if gate.name == SHADOW), None)
    if lacks or found is None:
        return Stay(s.status, "; ".join(lacks) or "answers to compare", LOOK_SECONDS, "Shadowing")
    unready = may_not_rise(s)
    if unready:
        return Stay(s.status, unready)
    again = baseline_again(s)
    if again is not None:
        return again
    how = "waived" if found.verdict == WAIVED else "passed"
    return begin_ramp(s, f"{found.name}: {found.why}", how)


def begin_ramp(s: SpinoutSnapshot, why: str, how: str) -> Go:
    """The weight of the first step is asked for in the same write."""
    record = verdict(s.status, how, why)
    status = rise(s, msgspec.structs.replace(s.status, step=first_step(s)))
    words = f"{why}; {percent(status.weight)} of the requests are asked for"
    return Go(S.RAMPING, status, words, "Ramping", how, records=(record,))


# -- the ramp ----------------------------------------------------------------------------------------------------------


def ramping(s: SpinoutSnapshot) -> Outcome:
    status = s.status
    if status.weight != s.step.weight:
        # It was left before, when the unit had no instance: what is true since then is asked anew.
        unready = may_not_rise(s) or not_confirmed(s) or blindness(s)
        if unready:
            return Stay(status, unready, LOOK_SECONDS, "NotReady")
        return Stay(rise(s, status), to_confirm(s), SOON_SECONDS, "Rising", asks_for(s), moved=True)
    unconfirmed = not_confirmed(s)
    if unconfirmed:
        return Stay(status, unconfirmed, SOON_SECONDS, "NotConfirmed")
    lacks = waits(s, s.step)
    how = "promoted" if s.is_promoted and not blindness(s) else "" if lacks else passed_how(status)
    jumps = s.is_promoted_fully and not s.is_last
    if not how:
        return Stay(status, "; ".join(lacks), LOOK_SECONDS, "Judging")
    words = summary(status.gates) or "no gate is set"
    record = verdict(status, how, words)
    left = with_passed(s, status, S.RAMPING, how, words)
    if s.is_last:
        why = f"{percent(status.weight)} {how}: {words}"
        return Go(S.SWITCHED, left, why, "Switched", how, records=(record,))
    event = EventDraft("Normal", "StepPromoted" if how == "promoted" else "StepPassed",
                       f"{percent(status.weight)} {how}: {words}")  # fmt: skip
    status = msgspec.structs.replace(left, step=len(s.steps) - 1 if jumps else status.step + 1)
    here = s.having(status)
    unready = may_not_rise(here)
    status = status if unready else rise(here, status)
    why = f"{event.message}; {unready or asks_for(here)}"
    return Stay(status, unready or to_confirm(here), SOON_SECONDS, "Rising", why, True, (event,), (record,))


def asks_for(s: SpinoutSnapshot) -> str:
    return f"{percent(s.step.weight)} of the requests are asked for"


def to_confirm(s: SpinoutSnapshot) -> str:
    return f"the data plane to confirm {percent(s.step.weight)}"


def first_step(s: SpinoutSnapshot) -> int:
    return len(s.steps) - 1 if s.is_promoted_fully else 0


def rise(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    """To the weight of the step that the status names. The figures are of the step: what the one before was seen to do
    proves nothing at this weight."""
    weight = s.having(status).step.weight
    old, new = (SideFigures(ready=side.ready, alive=side.alive) for side in (status.old, status.new))
    if weight >= WEIGHT_ALL and not status.baseline_latency:
        # The parent changed on the way: what it was last seen to need is the measure from now on.
        status = msgspec.structs.replace(status, baseline_latency=last_latency(status))
    return msgspec.structs.replace(s.asking(status, weight=weight, mirror=0), old=old, new=new, gates=())


def last_latency(status: SpinoutStatus) -> tuple[tuple[float, int], ...]:
    """Of the parent in the present step, as ClusterTraffic.latency."""
    found = status.latency
    if found is None or not found.old:
        return ()
    side = found.side(found.old)
    return tuple((ms / 1000.0, count) for ms, count in zip(side.bounds_ms, side.cumulative(), strict=False))


def waits(s: SpinoutSnapshot, step: SpinoutStep) -> list[str]:
    """What keeps it at the present step, in words."""
    status = s.status
    out = [blindness(s)] if blindness(s) else []
    out += [f"{gate.name}: {needed(gate)}" for gate in status.gates if holds_up(gate)]
    unready = may_not_rise(s)
    if unready:
        out.append(unready)
    if status.step_begun_at + step.hold_seconds > s.now:
        out.append(f"{step.hold_seconds:g} s at this weight to pass")
    if step.wait and not s.is_promoted:
        out.append(f"a person to promote it: spinyard spinout promote {s.row.name}")
    return out


def may_not_rise(s: SpinoutSnapshot) -> str:
    """What both sides lack for another request to move; empty: nothing."""
    if s.status.is_rolling and rolling(s):
        return f"{rolling(s)} to have its present version alone"
    unit = s.in_traffic(s.spec.unit_uid)
    if not unit:
        return f"an instance of {s.spec.unit} in traffic" + (" (not known)" if unit is None else "")
    parent, floor = s.in_traffic(s.spec.parent_uid), floor_of(s)
    if parent is None or parent < floor:
        known = "it is not known" if parent is None else f"there are {parent}"
        return f"at least {floor} instances of {s.spec.parent} in traffic, {known}"
    return ""


def floor_of(s: SpinoutSnapshot) -> int:
    return max(1, s.spec.capacity_floor)


# -- at full weight ----------------------------------------------------------------------------------------------------


def switched(s: SpinoutSnapshot) -> Outcome:
    why = f"it soaks for {s.spec.soak_seconds:g} s"
    return Go(S.SOAKING, msgspec.structs.replace(s.status, progressed_at=s.now), why, "Soaking")


def soaking(s: SpinoutSnapshot) -> Outcome:
    lacks = waits(s, SpinoutStep(WEIGHT_ALL))
    unconfirmed = not_confirmed(s)
    if unconfirmed:
        lacks.insert(0, unconfirmed)
    left = s.status.progressed_at + s.spec.soak_seconds - s.now
    if left > 0:
        lacks.append(f"{s.spec.soak_seconds:g} s of soaking to pass")
    if lacks:
        return Stay(s.status, "; ".join(lacks), LOOK_SECONDS, "Soaking")
    words = summary(s.status.gates)
    why = f"it soaked for {s.spec.soak_seconds:g} s: {words}"
    return Go(S.RETIRING, s.status, why, "Retiring", records=(verdict(s.status, "passed", words),))


def retiring(s: SpinoutSnapshot) -> Outcome:
    """The boundary goes last: the unit's own route has its requests from then on."""
    if not s.status.is_bounded:
        return let_go(s)
    approval = s.approval(S.COMPLETED)
    lacks = []
    uncovered = not_covered(s.spec, s.parent.route if s.parent else None, s.unit.route if s.unit else None)
    if uncovered:
        lacks.append(uncovered)
    if approval is None:
        lacks.append(f"an approval: spinyard spinout approve {s.row.name} completed --evidence TEXT")
    unconfirmed = not_confirmed(s)
    if unconfirmed:
        lacks.append(unconfirmed)
    if lacks or approval is None:
        return Stay(s.status, "; ".join(lacks), LOOK_SECONDS, "NotApproved")
    why = f"approved by {approval.actor}: {approval.evidence[:500]}; {s.spec.unit} has a route of its own"
    record = verdict(s.status, "approved", why, by=approval.actor)
    return Stay(taken_away(s.status), "the boundary to go", SOON_SECONDS, "Completing", why, True, (), (record,))


def let_go(s: SpinoutSnapshot) -> Outcome:
    waiting = s.own_things(s.status)[2]
    if waiting:
        return Stay(s.status, f"the boundary to go: {waiting}", SOON_SECONDS, "Completing")
    why = f"the requests are {s.spec.unit}'s by its own route, and nothing of the boundary is left"
    return Go(S.COMPLETED, s.status, why, "Completed", "approved")


def taken_away(status: SpinoutStatus) -> SpinoutStatus:
    return msgspec.structs.replace(status, is_bounded=False, epoch=status.epoch + 1, shown_serial=0)


# -- words -------------------------------------------------------------------------------------------------------------


def not_confirmed(s: SpinoutSnapshot) -> str:
    """What the data plane owes us; empty: it has confirmed what is asked for."""
    if s.is_confirmed and not s.missing and is_shown(s.status):
        return ""
    what = f"{percent(s.status.mirror)} of copies" if s.status.mirror else percent(s.status.weight)
    return f"the data plane to confirm {what}{s.plane_words}"


def blindness(s: SpinoutSnapshot) -> str:
    return f"counters of both sides{counter_words(s)}" if s.status.blind_since else ""


def counter_words(s: SpinoutSnapshot) -> str:
    traffic = s.traffic
    return f": {traffic.why}" if isinstance(traffic, Unknown) else ""


def needed(gate: Gate) -> str:
    return f"about {gate.needs} more requests on the unit's side" if gate.needs else gate.why


def passed_how(status: SpinoutStatus) -> str:
    return "waived" if any(gate.verdict == WAIVED for gate in status.gates) else "passed"


def summary(found: tuple[Gate, ...]) -> str:
    return "; ".join(f"{gate.name}: {gate.verdict} ({gate.why})" for gate in found)


def with_passed(s: SpinoutSnapshot, status: SpinoutStatus, phase: str, how: str, why: str) -> SpinoutStatus:
    begun = status.step_begun_at if phase == S.RAMPING else status.since
    one = Passed(phase, begun, s.now, how, why[:1000], status.weight, status.old, status.new)
    return msgspec.structs.replace(status, passed=(*status.passed, one)[-PASSED_MAX:])


RULES: dict[SpinoutState, Rule] = {
    S.PROPOSED: proposed,
    S.ANALYSED: analysed,
    S.DECIDED: decided,
    S.CONTRACTED: contracted,
    S.SCAFFOLDED: scaffolded,
    S.INSTRUMENTED: instrumented,
    S.BASELINED: baselined,
    S.SHADOWING: shadowing,
    S.RAMPING: ramping,
    S.SWITCHED: switched,
    S.SOAKING: soaking,
    S.RETIRING: retiring,
}
