"""From up to nothing: draining, failed, terminating, cleaning, leaked. Each removal counts only when it was seen."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.actions import Action, Ensure, Remove
from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import Uid
from spinyard.core.observed import Absent, EndpointFacts, Present, ProcessFacts, Unknown
from spinyard.core.plan import EventDraft, Plan, Resource, WakeChild
from spinyard.core.unmake import unmake
from spinyard.core.want import EndpointState
from spinyard.errors import ErrorClass
from spinyard.spin.snapshot import PROXY, Snapshot, exit_record
from spinyard.spin.status import ExitRecord, SpinStatus, State, with_condition
from spinyard.spin.translate import endpoint_want

UNROUTE_SECONDS = 2.0


def draining(s: Snapshot) -> Plan:
    """The instance is stopped only when the data plane said that it is out and that nothing is under way."""
    deadline = s.template.drain_timeout_seconds
    row = s.resource(s.process_key)
    match s.process:
        case Present(facts=ProcessFacts(running=False)):
            return drained(s, "its program has ended while it drained", ())
        case Absent() if row is None or row.gone_after_seconds <= 0:
            # Where observations lag, one Absent proves nothing, and requests may be under way.
            return drained(s, "its program has ended while it drained", ())
        case _:
            pass
    match s.endpoint:
        case Present(facts=EndpointFacts(acknowledged=True, state=state, active_requests=active)) if state in (
            "",
            EndpointState.DRAINING,
        ):
            if active == 0 and s.in_state_seconds >= s.rules.drain_min_seconds:
                return drained(s, "no request is under way", ())
            if s.in_state_seconds > deadline:
                return drained(s, "the drain deadline has passed", (overrun(active, deadline),))
            wait = 0.02 if active else max(0.02, s.rules.drain_min_seconds - s.in_state_seconds)
            return s.stay(f"{active} requests under way", "Draining", wake_in=wait)
        case Absent():
            return drained(s, "the data plane does not know it", ())
        case Present(facts=EndpointFacts(state=state)) if state and state != EndpointState.DRAINING:
            action = Ensure(PROXY, s.endpoint_key, endpoint_want(s, EndpointState.DRAINING))
            return drain_wait(s, "asking the data plane again", (action,))
        case Unknown(why=why):
            return drain_wait(s, f"the data plane does not answer: {why}", ())
        case _:
            return drain_wait(s, "waiting for its acknowledgement", ())


def drain_wait(s: Snapshot, why: str, actions: tuple[Action, ...]) -> Plan:
    if s.in_state_seconds > s.template.drain_timeout_seconds:
        return drained(s, "the drain deadline has passed", (overrun(None, s.template.drain_timeout_seconds),))
    return s.stay(why, "Draining", wake_in=0.02 if s.in_state_seconds < 1.0 else 0.2, actions=actions)


def overrun(active: int | None, deadline: float) -> EventDraft:
    what = "an unknown number of requests" if active is None else f"{active} requests"
    return EventDraft("Warning", "DrainDeadline", f"{what} were still under way after {deadline:g} s")


def drained(s: Snapshot, why: str, events: tuple[EventDraft, ...]) -> Plan:
    status = with_condition(s.status, "Drained", not events, "DrainDeadline" if events else "Drained", "", s.now)
    programs = tuple(resource for resource in s.row.resources if resource.kind == "process")
    rows, actions = asked_to_end(programs)
    return s.move(State.TERMINATING, why, "Drained", status=status, events=events, resources=rows, actions=actions)


def asked_to_end(resources: tuple[Resource, ...]) -> tuple[tuple[Resource, ...], tuple[Action, ...]]:
    """The first request for the end of each, in the commit that enters the state; later ones come from `unmake`."""
    wanted = tuple(resource for resource in resources if resource.wanted)
    return (
        tuple(replace(resource, wanted=False) for resource in wanted),
        tuple(Remove(resource.provider, resource.key) for resource in wanted),
    )


def failed(s: Snapshot) -> Plan:
    """What was found is in the status already; capacity is not kept for the dead."""
    return s.move(State.TERMINATING, s.status.last_error or "failed", s.status.last_error_class or "Failed")


def terminating(s: Snapshot) -> Plan:
    """Programs first: nothing under them is taken away while they run. What failed was not drained: its endpoint goes
    before its program, as long as the data plane answers in time."""
    routed = tuple(resource for resource in s.row.resources if resource.kind == "endpoint" and not resource.wanted)
    if routed and s.in_state_seconds < UNROUTE_SECONDS and not isinstance(exit_record(s.process), ExitRecord):
        changed, actions, waiting = unmake(routed, s.observed, s.now, hard=False)
        if waiting:
            return go_on(s, s.status, changed, actions, waiting, UNROUTE_SECONDS)
    mine = tuple(resource for resource in s.row.resources if resource.kind == "process")
    changed, actions, waiting = unmake(mine, s.observed, s.now, hard=hard(s))
    status = s.status
    record = exit_record(s.process)
    if record is not None and status.exit is None:
        status = msgspec.structs.replace(status, exit=record)
    if not waiting:
        rest = tuple(resource for resource in s.row.resources if resource.kind != "process")
        rows, actions = asked_to_end(rest)
        return s.move(
            State.CLEANING,
            "its program is gone",
            "Terminated",
            status=status,
            resources=changed + rows,
            actions=actions,
        )
    limit = s.template.termination_grace_seconds + s.rules.terminating_margin_seconds
    return go_on(s, status, changed, actions, waiting, limit)


def cleaning(s: Snapshot) -> Plan:
    changed, actions, waiting = unmake(s.row.resources, s.observed, s.now, hard=hard(s))
    if not waiting:
        return finished(s, changed)
    return go_on(s, s.status, changed, actions, waiting, s.rules.cleaning_seconds)


def finished(s: Snapshot, changed: tuple[Resource, ...]) -> Plan:
    """Only here, and only with every resource seen absent."""
    status = with_condition(s.status, "ResourcesDeleted", True, "Absent", "", s.now)
    status = with_condition(status, "CleanupVerified", True, "Absent", "", s.now)
    begun = next((at for state, at in s.status.timeline if state == State.PROVISIONING), s.now)
    status = msgspec.structs.replace(status, metered_seconds=max(0.0, s.now - begun))
    plan = s.move(State.TERMINATED, "nothing is left of it", "CleanupVerified", status=status, resources=changed)
    keep = s.template.failed_ttl_seconds if s.row.outcome not in ("", "Succeeded") else 600.0
    return replace(plan, finished=True, wake_at=None, keep_seconds=keep, children=told(s))


def told(s: Snapshot) -> tuple[WakeChild, ...]:
    """A claimed member is its claim's; the pool, which may have waited for its place, would not hear of its end."""
    return (WakeChild(Uid(s.spec.pool_uid)),) if s.spec.claim is not None else ()


def go_on(
    s: Snapshot,
    status: SpinStatus,
    changed: tuple[Resource, ...],
    actions: tuple[Action, ...],
    waiting: str,
    limit: float,
) -> Plan:
    late = s.in_state_seconds > limit
    if late and s.row.force and s.row.state != State.LEAKED:
        return s.move(
            State.LEAKED,
            f"let go by force: {waiting}",
            "Leaked",
            status=status,
            resources=changed,
            actions=actions,
            events=(EventDraft("Warning", "Leaked", f"still there, removal goes on: {waiting}"),),
        )
    failure = next((failure for action in actions if (failure := s.failure(action.key)) is not None), None)
    if s.now < status.retry_at and failure is None:
        return s.stay(waiting, "Removing", wake_in=status.retry_at - s.now, status=status, resources=changed)
    attempts = status.attempts + 1
    wait = min(0.02 * 1.5 ** min(attempts, 12), 1.0)
    if late:
        wait = backoff_seconds(min(attempts, 8), s.row.uid, first=1.0)
    if not actions:
        # All that is waited for is absent: the second look is due when it can tell, whoever makes it.
        wait = min(wait, 0.05 + max(resource.gone_after_seconds for resource in s.row.resources))
    if failure is not None:
        actions = ()
        wait = max(failure.retry_after_seconds or 0.0, backoff_seconds(min(attempts, 8), s.row.uid))
        if failure.error_class == ErrorClass.RATE_LIMITED and failure.retry_after_seconds is not None:
            attempts, wait = status.attempts, failure.retry_after_seconds
        status = msgspec.structs.replace(status, last_error=failure.message, last_error_class=failure.error_class)
    status = msgspec.structs.replace(status, attempts=attempts, retry_at=s.now + wait)
    events: tuple[EventDraft, ...] = ()
    if late and not status.stuck:
        status = msgspec.structs.replace(status, stuck=True)
        events = (EventDraft("Warning", "Stuck", f"not gone after {s.in_state_seconds:.0f} s: {waiting}"),)
    return s.stay(waiting, "Removing", wake_in=wait, status=status, actions=actions, resources=changed, events=events)


def hard(s: Snapshot) -> bool:
    """Without grace: asked for by a person, or the graceful way did not work in its time."""
    return s.row.force or s.status.stuck
