"""What a Rollout does next: up step by step as the gates pass, and back with one write when one fails.

Invariants: the weight rises only when every gate passed, or a person said so; it goes to 0 in one write, whatever the
state; the new side's instances go only when no request reaches them; the old side is never touched before promotion.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from spinyard.core.figures import Gate, Reading, SideFigures
from spinyard.core.machine import Machine
from spinyard.core.observed import ClusterTraffic, Look, LookChildren, LookPeer, Seen, Unknown
from spinyard.core.plan import EndRollout, EventDraft, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind, RolloutSpec, ServiceSpec
from spinyard.core.verdict import Verdict
from spinyard.spin.rollout.measure import gates, measured
from spinyard.spin.rollout.snapshot import RolloutSnapshot
from spinyard.spin.rollout.status import TRANSITIONS, RolloutState, RolloutStatus, StepRecord, decode_rollout_status

LOOK_SECONDS = 0.5
SOON_SECONDS = 0.1
MISSING_SECONDS = 3.0
"""no instance of the new side in traffic, although it has a weight"""
FAILED_STARTS_MAX = 5
STILL_SECONDS = 0.05
"""between the two looks that prove that nothing reaches the new side any more"""
PROMOTING_SECONDS = 60.0
"""for the old instances to go; one that hangs, or a new version that fails now, must not keep it for ever"""
UNPROVEN_SECONDS = 30.0
"""the data plane has confirmed the weight 0 and cannot be asked for its counters: the spins' own drain must do"""


def decide(s: RolloutSnapshot) -> Plan:
    state = RolloutState(s.row.state)
    if s.unread and state not in (RolloutState.SUCCEEDED, RolloutState.ROLLED_BACK):
        # What cannot be seen is not gone: nothing rises, and nothing goes back.
        return s.plan(state, f"waiting for its Service: {s.unread}", "ServiceUnknown", s.status, wake_in=LOOK_SECONDS,
                      with_part=False)  # fmt: skip
    match state:
        case RolloutState.SUCCEEDED | RolloutState.ROLLED_BACK:
            return s.plan(state, "it has ended", str(state), s.status, wake_in=None, with_part=False)
        case RolloutState.PENDING:
            return pending(s)
        case RolloutState.PREPARING | RolloutState.SHIFTING | RolloutState.JUDGING:
            return climbing(s, state)
        case RolloutState.PROMOTING:
            return promoting(s)
        case RolloutState.RETREATING:
            return retreating(s)
        case RolloutState.REMOVING:
            return removing(s)
        case never:
            assert_never(never)


# -- before it begins --------------------------------------------------------------------------------------------------


def pending(s: RolloutSnapshot) -> Plan:
    stop = unwanted(s)
    if stop is not None:
        return stopped_before(s, *stop)
    service, peer = s.service, s.peer
    if service is None or peer is None:
        return stopped_before(s, "its Service is gone, or has another template", "ServiceGone")
    if service.rollout is not None and s.held_part is None:
        return s.plan(
            RolloutState.PENDING,
            f"waiting for rollout {service.rollout.rollout_name} of the same Service",
            "AnotherRollout",
            s.status,
            wake_in=1.0,
            with_part=False,
        )
    if s.is_paused or s.held is not None:
        why = s.held.words if s.held is not None else paused_words(s)
        status = msgspec.structs.replace(s.status, needs=why)
        return s.plan(RolloutState.PENDING, why, "Paused", status, wake_in=1.0, with_part=False)
    settled = s.is_settled or s.spec.promoted_fully
    if not settled:
        why = f"waiting for its Service, which is {peer.state}: there is nothing healthy to compare with"
        status = msgspec.structs.replace(s.status, needs=f"{why}; promote --full goes on without")
        return s.plan(RolloutState.PENDING, why, "ServiceNotAvailable", status, wake_in=1.0, with_part=False)
    status = msgspec.structs.replace(
        s.status, old_side=service.side, progressed_at=s.now, step=len(s.steps) - 1 if s.spec.promoted_fully else 0
    )
    return prepare(s, status, "it begins", "Started")


def unwanted(s: RolloutSnapshot) -> tuple[str, str] | None:
    """(why, reason) when a person does not want it any more."""
    if s.spec.abort:
        return f"aborted: {s.spec.abort}", "Aborted"
    if s.row.delete_at is not None:
        return "deleted", "Deleted"
    return None


def stopped_before(s: RolloutSnapshot, why: str, reason: str) -> Plan:
    status = msgspec.structs.replace(s.status, stopped=why, stopped_reason=reason)
    end = EndRollout(s.service_uid, s.row.uid, promote=False)
    return RolloutSnapshot(s.row, s.spec, status, s.seen, s.now).finish(
        RolloutState.ROLLED_BACK, why, reason, children=(end,)
    )


# -- up ----------------------------------------------------------------------------------------------------------------


def climbing(s: RolloutSnapshot, state: RolloutState) -> Plan:
    stop = unwanted(s)
    if stop is None and s.service is None:
        stop = "its Service is gone, or has another template", "ServiceGone"
    status = watched(s, measured(s))
    found = gates(s, status)
    status = msgspec.structs.replace(status, gates=found)
    if stop is not None:
        return retreat(s, status, *stop)
    stop = broken(s, status)
    if stop is not None:
        return guarded(s, status, *stop)
    s = RolloutSnapshot(s.row, s.spec, status, s.seen, s.now)
    match state:
        case RolloutState.PREPARING:
            return preparing(s)
        case RolloutState.SHIFTING:
            return shifting(s)
        case _:
            return judging(s)


def watched(s: RolloutSnapshot, status: RolloutStatus) -> RolloutStatus:
    """What is seen of the new side's instances, and since when there is none."""
    shown = s.shown
    if shown.ready > status.best_ready:
        status = msgspec.structs.replace(status, best_ready=shown.ready, progressed_at=s.now)
    # By the weight that was last confirmed: it is in force until another is.
    is_missing = shown.weight > 0 and shown.ready == 0
    missing_since = min(status.missing_since or s.now, s.now) if is_missing else 0.0
    failure = s.failures[0] if s.failures else None
    stable = s.service_status
    return msgspec.structs.replace(
        status,
        # A clock that went back must not make seconds of hours.
        progressed_at=min(status.progressed_at, s.now),
        step_begun_at=min(status.step_begun_at, s.now),
        missing_since=missing_since,
        shown_weight=shown.weight,
        old=msgspec.structs.replace(status.old, ready=stable.ready, alive=stable.replicas),
        new=msgspec.structs.replace(status.new, ready=shown.ready, alive=shown.alive),
        last_error=failure.message if failure is not None else status.last_error,
        last_error_class=failure.outcome if failure is not None else status.last_error_class,
    )


def broken(s: RolloutSnapshot, status: RolloutStatus) -> tuple[str, str] | None:
    """(why, reason) to go back: guards hold in every state with a weight, also while it is paused or held."""
    worst = next((gate for gate in status.gates if gate.verdict == Verdict.FAIL), None)
    if worst is not None:
        return f"{worst.name}: {worst.why}", "GateFailed"
    if status.missing_since and s.now - status.missing_since > MISSING_SECONDS:
        return f"no instance of the new version has been in traffic for {MISSING_SECONDS:g} s", "NewSideDown"
    if len(s.failures) >= max(FAILED_STARTS_MAX, status.replicas // 4):
        return f"{len(s.failures)} instances of the new version failed: {status.last_error}", "NewVersionFails"
    return None


def guarded(s: RolloutSnapshot, status: RolloutStatus, why: str, reason: str) -> Plan:
    """Back, if anybody is there who can take the requests: else it stays and says so. A person may abort it
    nevertheless."""
    has_requests = max(status.weight, s.shown.weight) > 0
    if s.service_status.ready or not has_requests or not s.replicas:
        return retreat(s, status, why, reason)
    needs = "an instance of the old version in traffic, to go back to"
    words = f"it would go back, but nobody of the old version is in traffic: {why}"
    is_new = s.status.needs != needs
    events = (EventDraft("Warning", "NoWayBack", f"stays at {percent(status.weight)}: {words}"),) if is_new else ()
    status = msgspec.structs.replace(status, needs=needs)
    state = RolloutState(s.row.state)
    return s.plan(state, words, "NoWayBack", status, wake_in=LOOK_SECONDS, events=events)


def prepare(
    s: RolloutSnapshot, status: RolloutStatus, why: str, reason: str, events: tuple[EventDraft, ...] = ()
) -> Plan:
    """To the step that the status names: its instances first."""
    step = s.steps[status.step]
    wanted = max(status.replicas, s.instances(step.weight))
    status = msgspec.structs.replace(s.asking(status, replicas=wanted), progressed_at=s.now)
    needs = f"{count(wanted, 'instance')} of the new version in traffic"
    status = msgspec.structs.replace(status, needs=needs, step_begun_at=0.0)
    return s.plan(RolloutState.PREPARING, why, reason, status, wake_in=LOOK_SECONDS, events=events)


def preparing(s: RolloutSnapshot) -> Plan:
    wanted, ready = s.instances(s.step.weight), s.shown.ready
    status = s.asking(s.status, replicas=wanted)
    if s.held_part == s.part(s.status) and s.status.replicas == wanted and ready >= wanted:
        if not may_rise(s):
            why = paused_words(s) if s.held is None or s.is_paused else s.held.words
            status = msgspec.structs.replace(status, progressed_at=s.now, needs=why)
            return s.plan(RolloutState.PREPARING, why, "Paused", status, wake_in=LOOK_SECONDS)
        status = s.asking(status, weight=s.step.weight)
        why = f"{count(ready, 'instance')} up: {percent(s.step.weight)} of the requests"
        # The figures are of the step: what the one before was seen to do proves nothing at this weight.
        old, new = (SideFigures(ready=side.ready, alive=side.alive) for side in (status.old, status.new))
        status = msgspec.structs.replace(
            status, step_reading=None, old=old, new=new, needs="the data plane's confirmation"
        )
        return s.plan(RolloutState.SHIFTING, why, "Shifting", status, wake_in=SOON_SECONDS)
    waited = s.now - status.progressed_at
    limit = s.spec.strategy.ready_deadline_seconds
    if waited > limit and not s.is_paused:
        reason = f": {status.last_error}" if status.last_error else ""
        return guarded(s, status, f"{ready} of {wanted} new instances got into traffic within {limit:g} s{reason}",
                       "NotReadyInTime")  # fmt: skip
    why = f"{ready} of {wanted} new instances are in traffic"
    status = msgspec.structs.replace(
        status, needs=f"{count(max(0, wanted - ready), 'more instance')} of the new version in traffic"
    )
    return s.plan(RolloutState.PREPARING, why, "Preparing", status, wake_in=LOOK_SECONDS)


def may_rise(s: RolloutSnapshot) -> bool:
    """What a person let pass before it was held goes on; what is paused does not."""
    promoted = s.spec.promoted_fully or s.spec.promoted >= max(1, s.status.step)
    return not s.is_paused and (s.held is None or promoted)


def shifting(s: RolloutSnapshot) -> Plan:
    if s.is_shown and s.held_part == s.part(s.status):
        status = msgspec.structs.replace(s.status, step_begun_at=s.now, needs=needed(s, s.status))
        why = f"{percent(s.status.weight)} of the requests go to the new version"
        return s.plan(RolloutState.JUDGING, why, "WeightConfirmed", status, wake_in=SOON_SECONDS)
    why = f"waiting for the data plane to confirm {percent(s.status.weight)}"
    if s.shown.why:
        why += f": {s.shown.why}"
    limit = s.spec.strategy.ready_deadline_seconds
    if s.now - s.status.since > limit:
        # What is in force meanwhile is the weight before, or the new one: it cannot be told, so it cannot be judged.
        return guarded(s, s.status, f"{why} for more than {limit:g} s", "NotConfirmed")
    return s.plan(RolloutState.SHIFTING, why, "Shifting", s.status, wake_in=SOON_SECONDS)


def judging(s: RolloutSnapshot) -> Plan:
    how = way_out(s)
    # The Service may be scaled meanwhile.
    status = s.asking(s.status, replicas=max(s.status.replicas, s.instances(s.step.weight)))
    if not how:
        status = msgspec.structs.replace(status, needs=needed(s, status))
        why = f"at {percent(status.weight)}: {status.needs}"
        return s.plan(RolloutState.JUDGING, why, "Judging", status, wake_in=LOOK_SECONDS)
    status = left(s, status, how)
    words = summary(status.gates) or "no gate is set"
    reason = "StepPassed" if how == "passed" else "StepPromoted"
    events = (EventDraft("Normal", reason, f"{percent(status.weight)} {how}: {words}"),)
    if s.is_last:
        end = EndRollout(s.service_uid, s.row.uid, promote=True)
        status = msgspec.structs.replace(status, needs="the old instances to go")
        return s.plan(
            RolloutState.PROMOTING,
            "the new version is the Service's now",
            "Promoted",
            status,
            wake_in=LOOK_SECONDS,
            children=(end,),
            events=events,
            with_part=False,
        )
    following = len(s.steps) - 1 if s.spec.promoted_fully else status.step + 1
    status = msgspec.structs.replace(status, step=following)
    return prepare(s, status, f"{how}; on to {percent(s.steps[following].weight)}", reason, events)


def way_out(s: RolloutSnapshot) -> str:
    """How the present step is left upwards, or empty."""
    status = s.status
    if s.is_paused or not s.is_shown:
        return ""
    if s.spec.promoted_fully and not s.is_last:
        return "promoted"
    if s.spec.promoted > status.step or (s.spec.promoted_fully and s.is_last):
        return "promoted"
    if s.held is not None:
        return ""
    return "" if waits(s, status) else "passed"


def waits(s: RolloutSnapshot, status: RolloutStatus) -> list[str]:
    """What keeps it at the present step, in words."""
    out = []
    strategy = s.spec.strategy
    if strategy.analysis.enabled and status.blind_since:
        unknown = s.traffic
        out.append(f"counters: {unknown.why if isinstance(unknown, Unknown) else 'they make no sense'}")
    for gate in status.gates:
        if gate.verdict != Verdict.PASS:
            more = f"about {gate.needs} more requests on the new side" if gate.needs else gate.why
            out.append(f"{gate.name}: {more}")
    missing = s.instances(status.weight) - s.shown.ready
    if missing > 0:
        out.append(f"{count(missing, 'more instance')} of the new version in traffic")
    hold = s.step.hold_seconds + (strategy.soak_seconds if s.is_last else 0.0)
    if status.step_begun_at + hold > s.now:
        out.append(f"{hold:g} s at this weight to pass")
    if s.step.wait:
        out.append("a person to promote it")
    return out


def needed(s: RolloutSnapshot, status: RolloutStatus) -> str:
    if s.is_paused:
        return paused_words(s)
    if s.held is not None:
        return s.held.words
    return "; ".join(waits(s, status)) or "nothing"


def paused_words(s: RolloutSnapshot) -> str:
    return "it is paused; resume lets it go on" if s.row.paused else "its Service is paused and starts nothing"


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def left(s: RolloutSnapshot, status: RolloutStatus, how: str) -> RolloutStatus:
    record = StepRecord(
        weight=status.weight,
        begun_at=status.step_begun_at,
        left_at=s.now,
        how=how,
        why=summary(status.gates),
        old=status.old,
        new=status.new,
    )
    return msgspec.structs.replace(status, steps=(*status.steps, record))


def summary(found: tuple[Gate, ...]) -> str:
    return "; ".join(f"{gate.name}: {gate.verdict} ({gate.why})" for gate in found)


def percent(weight: int) -> str:
    return f"{weight * 100 / WEIGHT_ALL:g} %"


# -- promoted ----------------------------------------------------------------------------------------------------------


def promoting(s: RolloutSnapshot) -> Plan:
    peer = s.peer
    if peer is None or peer.deleting or not isinstance(peer.spec, ServiceSpec):
        return s.finish(RolloutState.SUCCEEDED, "promoted; its Service is gone meanwhile", "Promoted")
    part = peer.spec.rollout
    if part is not None and part.rollout_uid == s.row.uid:
        again = EndRollout(s.service_uid, s.row.uid, promote=True)
        return s.plan(
            RolloutState.PROMOTING,
            "telling its Service again",
            "Promoted",
            s.status,
            wake_in=LOOK_SECONDS,
            children=(again,),
            with_part=False,
        )
    if peer.spec.template_digest != s.spec.template_digest:
        return s.finish(RolloutState.SUCCEEDED, "promoted; its Service has yet another template now", "Promoted")
    stop = unwanted(s)
    if stop is not None:
        return s.finish(RolloutState.SUCCEEDED, f"{stop[0]}, but it was promoted already", "Promoted")
    if s.now - s.status.since > PROMOTING_SECONDS:
        # Its work is done: what its Service makes of the new version from here on is told by the Service.
        return s.finish(RolloutState.SUCCEEDED, f"promoted; its Service is {peer.state}", "Promoted")
    if s.is_settled and s.service_status.ending == 0:
        return s.finish(
            RolloutState.SUCCEEDED, "every request goes to the new version, and the old one is gone", "Succeeded"
        )
    why = "waiting for the old instances to go"
    return s.plan(RolloutState.PROMOTING, why, "Promoting", s.status, wake_in=LOOK_SECONDS, with_part=False)


# -- back --------------------------------------------------------------------------------------------------------------


def retreat(s: RolloutSnapshot, status: RolloutStatus, why: str, reason: str) -> Plan:
    status = left(s, status, "failed" if reason not in ("Aborted", "Deleted") else "aborted")
    status = msgspec.structs.replace(
        s.asking(status, weight=0), stopped=why, stopped_reason=reason, still=None, needs="the weight 0 to be confirmed"
    )
    events = (EventDraft("Warning", reason, f"back to 0 %: {why}"),)
    return s.plan(RolloutState.RETREATING, why, reason, status, wake_in=0.0, events=events)


def retreating(s: RolloutSnapshot) -> Plan:
    if s.service is None:
        end = EndRollout(s.service_uid, s.row.uid, promote=False)
        return s.finish(RolloutState.ROLLED_BACK, s.status.stopped, s.status.stopped_reason, children=(end,))
    shown = s.shown
    status = msgspec.structs.replace(s.status, shown_weight=shown.weight)
    if not s.status.highest:
        return remove(s, status, "it never had a request")
    if not s.is_shown:
        why = f"waiting for the data plane to confirm 0 %{': ' + shown.why if shown.why else ''}"
        return s.plan(RolloutState.RETREATING, why, "Retreating", status, wake_in=SOON_SECONDS)
    if not status.zero_shown_at:
        status = msgspec.structs.replace(status, zero_shown_at=s.now)
    traffic = s.traffic
    if isinstance(traffic, Unknown):
        if s.now - min(status.zero_shown_at, s.now) > UNPROVEN_SECONDS:
            return remove(s, status, f"0 % is confirmed; its counters cannot be read ({traffic.why})")
        why = f"0 % is confirmed; looking whether it is so: {traffic.why}"
        return s.plan(RolloutState.RETREATING, why, "Retreating", status, wake_in=SOON_SECONDS)
    new = traffic.clusters.get(s.new_cluster, ClusterTraffic())
    now = Reading(traffic.epoch, traffic.at, status.weight_serial, ClusterTraffic(), new)
    before = status.still
    # Of a clock that went back nothing is told but anew.
    if before is not None and before.epoch == now.epoch and before.at <= now.at and is_still(before.new, new):
        if now.at - before.at >= STILL_SECONDS:
            return remove(s, status, "0 % is confirmed, and nothing more arrived at the new version")
        now = before
    status = msgspec.structs.replace(status, still=now, needs="no request to arrive at the new version")
    return s.plan(RolloutState.RETREATING, "0 % is confirmed; looking whether it is so", "Retreating", status,
                  wake_in=STILL_SECONDS)  # fmt: skip


def is_still(before: ClusterTraffic, after: ClusterTraffic) -> bool:
    """Nothing has begun in between: what was under way may have ended."""
    return before.requests + before.active == after.requests + after.active


def remove(s: RolloutSnapshot, status: RolloutStatus, why: str) -> Plan:
    status = msgspec.structs.replace(s.asking(status, replicas=0), needs="the new version's instances to go")
    return s.plan(RolloutState.REMOVING, why, "Removing", status, wake_in=SOON_SECONDS)


def removing(s: RolloutSnapshot) -> Plan:
    shown = s.shown
    part = s.held_part
    is_told = part is not None and part == s.part(s.status)
    # Seen by the Service after it was told: not confirmed by the data plane perhaps, which had 0 % confirmed before.
    has_looked = s.peer is not None and s.service_status.observed_generation == s.peer.generation
    nothing_left = is_told and has_looked and not shown.alive and not shown.ending
    if s.service is None or nothing_left:
        end = EndRollout(s.service_uid, s.row.uid, promote=False)
        return s.finish(RolloutState.ROLLED_BACK, s.status.stopped, s.status.stopped_reason, children=(end,))
    why = f"{shown.alive + shown.ending} instances of the new version are going"
    return s.plan(RolloutState.REMOVING, why, "Removing", s.status, wake_in=LOOK_SECONDS)


# -- for the engine ----------------------------------------------------------------------------------------------------


def looks(s: RolloutSnapshot) -> tuple[Look, ...]:
    state = RolloutState(s.row.state)
    if state in (RolloutState.SUCCEEDED, RolloutState.ROLLED_BACK):
        return ()
    out: list[Look] = [LookPeer(s.service_uid), s.hold_look, s.service_hold_look]
    if state not in (RolloutState.PENDING, RolloutState.PROMOTING):
        out += [LookChildren(s.service_uid), s.traffic_look]
    return tuple(out)


class RolloutDomain:
    """The kind Rollout for the engine."""

    kind = Kind.ROLLOUT
    machine: Machine = TRANSITIONS

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return decide(self._snapshot(row, seen, now))

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> RolloutSnapshot:
        assert isinstance(row.spec, RolloutSpec)
        status = decode_rollout_status(row.status)
        since = min(status.since or row.created_at, now)
        if since != status.since:
            status = msgspec.structs.replace(status, since=since)
        return RolloutSnapshot(row, row.spec, status, seen, now)
