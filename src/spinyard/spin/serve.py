"""Registered and up: registering, ready, serving. Readiness moves it between ready and serving, and nothing else
does."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.actions import Ensure
from spinyard.core.observed import Absent, EndpointFacts, LookWatch, Present, ProbeAnswer, ProcessFacts, Unknown
from spinyard.core.plan import Plan
from spinyard.core.want import EndpointState, EndpointWant
from spinyard.errors import ErrorClass
from spinyard.spin.ended import ended
from spinyard.spin.register import came_up
from spinyard.spin.snapshot import LOOPBACK, PROXY, Snapshot, endpoint_facts
from spinyard.spin.status import SpinStatus, State, with_condition
from spinyard.spin.translate import endpoint_want

LIVENESS = "liveness"
READINESS = "readiness"


def registering(s: Snapshot) -> Plan:
    if s.deleting:
        return start_draining(s)
    gone = lost(s)
    if gone is not None:
        return gone
    match s.endpoint:
        case Present(facts=EndpointFacts(acknowledged=True, healthy=True)):
            return at_rest(s, to_serving(s, "the data plane acknowledged it and finds it healthy"))
        case Present(facts=EndpointFacts(rejected=rejected)) if rejected:
            return s.fail(ErrorClass.REGISTER_TIMEOUT, f"the data plane refused it: {rejected}")
        case Unknown(why=why):
            if s.in_state_seconds > s.rules.registering_unknown_seconds:
                return s.fail(ErrorClass.REGISTER_TIMEOUT, f"the data plane does not answer: {why}")
            return s.stay(f"the data plane does not answer: {why}", "Unknown", wake_in=0.2)
        case Absent():
            want = endpoint_want(s, EndpointState.ACTIVE)
            action = Ensure(PROXY, s.endpoint_key, want)
            return register_wait(s, "it is not known there yet", (action,))
        case _:
            return register_wait(s, "waiting for its acknowledgement", ())


def at_rest(s: Snapshot, plan: Plan) -> Plan:
    """Not looked at again at once, when all that `up` looks at is seen and good already."""
    own_probe = own_readiness(s)
    if own_probe is not None and s.probe(own_probe).answer is ProbeAnswer.FAILED:
        return plan
    return replace(plan, wake_at=s.expires_at) if isinstance(s.process, Present) else plan


def register_wait(s: Snapshot, why: str, actions: tuple[Ensure, ...]) -> Plan:
    if s.in_state_seconds > s.rules.registering_seconds:
        facts = endpoint_facts(s.endpoint)
        seen = "never acknowledged" if facts is None or not facts.acknowledged else "acknowledged, never healthy"
        return s.fail(ErrorClass.REGISTER_TIMEOUT, f"{seen} within {s.rules.registering_seconds:g} s")
    return s.stay(why, "Registering", wake_in=0.05, actions=actions)


def up(s: Snapshot) -> Plan:
    """ready and serving."""
    if s.deleting:
        return start_draining(s) if s.resource(s.endpoint_key) is not None else take_down(s)
    gone = lost(s)
    if gone is not None:
        return gone
    unknown = isinstance(s.process, Unknown)
    status = s.status if unknown == s.status.unknown else msgspec.structs.replace(s.status, unknown=unknown)
    if not s.spec.cluster:
        return rest(s, "up", "Ready", status_unknown=unknown, status=status)
    serving = s.row.state == State.SERVING
    own_probe = own_readiness(s)
    if own_probe is not None:
        wanted = wanted_state(s, s.probe(own_probe).answer)
    else:
        wanted = EndpointState.ACTIVE
    if own_probe is not None and wanted is EndpointState.ACTIVE and is_told_unhealthy(s):
        # Whoever took it out has just seen it fail: two control planes whose probes are not in step would tell the
        # data plane in turns.
        left = own_probe.probe.period_seconds / 2 - s.in_phase_seconds
        if left > 0:
            return s.stay("not ready a moment ago", "NotReady", wake_in=left, status=status)
    match s.endpoint:
        case Unknown(why=why):
            return s.stay(f"the data plane does not answer: {why}", "Unknown", wake_in=1.0, status=status)
        case Absent():
            return assert_endpoint(s, wanted)
        case Present(facts=EndpointFacts() as facts):
            if facts.state and facts.state != wanted:
                return assert_endpoint(s, wanted)
            if serving and facts.acknowledged and not facts.healthy:
                status = with_condition(status, "Ready", False, "ProbeFailed", "", s.now)
                status = with_condition(status, "InTraffic", False, "Unhealthy", "", s.now)
                return s.move(State.READY, "its readiness probe fails, it gets no requests", "NotReady", status=status)
            if not serving and facts.acknowledged and facts.healthy:
                return to_serving(s, "ready again")
        case _:
            pass
    # Its state decides about its fleet: one that is well again must not wait for a hint that nobody heard.
    look_in = None if serving else s.rules.inventory_seconds
    why = "in traffic" if serving else "not ready"
    return rest(s, why, "Serving", status_unknown=unknown, status=status, look_in=look_in)


def wanted_state(s: Snapshot, answer: ProbeAnswer) -> EndpointState:
    """Not known leaves it as it is: what was out of traffic is not let in because we have just started."""
    match answer:
        case ProbeAnswer.OK:
            return EndpointState.ACTIVE
        case ProbeAnswer.FAILED:
            return EndpointState.UNHEALTHY
        case ProbeAnswer.UNKNOWN:
            return EndpointState.UNHEALTHY if is_told_unhealthy(s) else EndpointState.ACTIVE


def is_told_unhealthy(s: Snapshot) -> bool:
    row = s.resource(s.endpoint_key)
    want = None if row is None else row.stored_want
    return isinstance(want, EndpointWant) and want.state is EndpointState.UNHEALTHY


def lost(s: Snapshot) -> Plan | None:
    """A plan when the program has ended, is gone, or is not alive any more."""
    match s.process:
        case Present(facts=ProcessFacts(running=False) as facts):
            return ended(s, facts)
        case Absent():
            return s.fail(ErrorClass.INSTANCE_LOST, "its process is gone and left no exit record")
        case _:
            pass
    liveness = liveness_look(s)
    if liveness is not None:
        result = s.probe(liveness)
        if result.answer is ProbeAnswer.FAILED:
            return s.fail(ErrorClass.PROBE_FAILED, f"its liveness probe fails: {result.message}")
    return None


def to_serving(s: Snapshot, why: str) -> Plan:
    status = with_condition(s.status, "Registered", True, "Acknowledged", "", s.now)
    status = with_condition(status, "Ready", True, "ProbeOk", "", s.now)
    status = with_condition(status, "InTraffic", True, "Serving", "", s.now)
    return came_up(s, s.move(State.SERVING, why, "Serving", status=status))


def rest(
    s: Snapshot, why: str, reason: str, *, status_unknown: bool, status: SpinStatus, look_in: float | None = None
) -> Plan:
    """Nothing to do until something changes: exits and health come as hints, the inventory finds what they missed."""
    waits = [] if s.expires_at is None else [s.expires_at - s.now]
    if look_in is not None:
        waits.append(look_in)
    if status_unknown:
        waits.append(1.0)
    wake = max(0.0, min(waits)) if waits else None
    return s.stay(why, reason, wake_in=wake, status=status)


def assert_endpoint(s: Snapshot, state: EndpointState) -> Plan:
    """Its wish goes to the ledger, then to the data plane: what is served after a restart comes from the ledger."""
    want = endpoint_want(s, state)
    row = s.resource(s.endpoint_key) or s.ledger(s.endpoint_key, "endpoint", PROXY)
    is_news = state is EndpointState.UNHEALTHY and not is_told_unhealthy(s)
    return s.stay(
        "telling the data plane again",
        "Registering",
        wake_in=0.05,
        status=s.next_phase() if is_news else s.status,
        resources=(replace(row, stored_want=want),),
        actions=(Ensure(PROXY, s.endpoint_key, want),),
    )


def start_draining(s: Snapshot) -> Plan:
    row = s.resource(s.endpoint_key)
    if row is None:
        return take_down(s)
    want = endpoint_want(s, EndpointState.DRAINING)
    status = with_condition(s.status, "InTraffic", False, "Draining", "", s.now)
    return s.move(
        State.DRAINING,
        "its TTL has passed, draining" if s.expired and s.row.delete_at is None else "draining before it is stopped",
        "Draining",
        status=status,
        resources=(replace(row, stored_want=want),),
        actions=(Ensure(PROXY, s.endpoint_key, want),),
    )


def take_down(s: Snapshot) -> Plan:
    why = "its TTL has passed" if s.expired and s.row.delete_at is None else "deleted"
    return s.move(State.TERMINATING, why, "Deleted")


def liveness_look(s: Snapshot) -> LookWatch | None:
    probe = s.template.liveness_probe
    return None if probe is None else LookWatch(LIVENESS, s.process_key, LOOPBACK, s.ports, probe)


def watches_of(s: Snapshot) -> tuple[LookWatch, ...]:
    return tuple(look for look in (liveness_look(s), own_readiness(s)) if look is not None)


def own_readiness(s: Snapshot) -> LookWatch | None:
    """HTTP, TCP and gRPC readiness of what serves is the data plane's own health check; exec it cannot do. A claimed
    member is the only one under its host name: to check it there would only make a claim wait for the first check."""
    probe = s.template.readiness_probe
    if probe is None or not s.spec.cluster or (probe.exec is None and s.spec.claim is None):
        return None
    return LookWatch(READINESS, s.process_key, LOOPBACK, s.ports, probe)
