"""A clock that goes back stops nothing, and what is not known changes nothing."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.ids import Uid, resource_key
from spinyard.core.observed import Absent, Present, ProbeAnswer, ProbeResult, ProcessFacts
from spinyard.core.plan import Resource
from spinyard.core.spec import Exec, HttpGet, Probe
from spinyard.core.unmake import closing
from spinyard.core.want import EndpointState
from spinyard.spin.status import SpinStatus, decode_status, in_time
from tests.spin.spins import (
    ENDPOINT,
    NOW,
    PROCESS,
    RUNNING,
    after,
    decide,
    endpoint,
    endpoint_row,
    ledger,
    spin,
    template,
)

HOUR = 3600.0
NOT_READY = ProbeResult(ProbeAnswer.FAILED, "refused")
PROGRAM = ledger("process", "process")


def test_draining_ends_though_the_clock_went_back_an_hour() -> None:
    row = spin("draining", template(), SpinStatus(since=NOW + HOUR), resources=(endpoint_row(EndpointState.DRAINING),))
    known = {PROCESS: RUNNING, ENDPOINT: endpoint(state="draining", active=0)}
    first = decide(row, NOW, known)
    plan = decide(replace(row, status=first.status), NOW + 1, known)
    assert plan.state == "terminating", plan.why


def test_readiness_is_looked_at_soon_though_the_clock_went_back_an_hour() -> None:
    made_of = template(readiness_probe=Probe(http_get=HttpGet(port="http")))
    row = spin("bootstrapping", made_of, SpinStatus(since=NOW + HOUR, started=True), resources=(PROGRAM,))
    plan = decide(row, NOW, {PROCESS: RUNNING, "probe": NOT_READY})
    assert plan.wake_at is not None and plan.wake_at <= NOW + 1
    late = decide(replace(row, status=plan.status), NOW + 62, {PROCESS: RUNNING, "probe": NOT_READY})
    assert late.state == "failed"


def test_a_retry_is_not_put_off_by_the_jump_of_the_clock() -> None:
    status = SpinStatus(since=NOW - 5, attempts=2, retry_at=NOW + HOUR)
    row = spin("terminating", template(), status, resources=(ledger("process", "process", wanted=False),))
    plan = decide(row, NOW, {PROCESS: RUNNING})
    assert decode_status(plan.status).retry_at <= NOW + 60


def test_what_began_to_fail_before_a_clock_went_back_fails_since_now() -> None:
    status = SpinStatus(since=NOW - 600, failing_since=NOW + HOUR)
    assert in_time(status, NOW).failing_since == NOW
    assert in_time(SpinStatus(since=NOW - 600, failing_since=NOW - 5), NOW).failing_since == NOW - 5


def test_two_looks_that_a_jump_lies_between_are_still_apart() -> None:
    uid = Uid("b" * 20)
    seen = Resource(resource_key(uid, "x"), uid, "cloud", "process", False, None, 10.0, absent_at=NOW + HOUR)
    again = closing(seen, Absent(), NOW)
    assert again.closed_at is None
    assert closing(again, Absent(seconds=11.0), NOW + 11).closed_at == NOW + 11


def test_a_jump_forward_does_not_shorten_the_time_between_two_looks() -> None:
    """The ledger says an hour; whoever looks has seen it absent for a second."""
    uid = Uid("b" * 20)
    seen = Resource(resource_key(uid, "x"), uid, "cloud", "process", False, None, 10.0, absent_at=NOW)
    assert closing(seen, Absent(seconds=1.0), NOW + HOUR).closed_at is None
    assert closing(seen, Absent(seconds=10.5), NOW + HOUR).closed_at == NOW + HOUR


def test_an_instance_out_of_traffic_stays_out_until_its_exec_probe_was_made_again() -> None:
    made_of = template(readiness_probe=Probe(exec=Exec(("check",))))
    held = (PROGRAM, endpoint_row(EndpointState.UNHEALTHY))
    row = spin("ready", made_of, SpinStatus(since=NOW - 5), resources=held)
    known = {PROCESS: RUNNING, ENDPOINT: endpoint(healthy=False, state="unhealthy")}
    plan = decide(row, NOW, known | {"readiness": ProbeResult(ProbeAnswer.UNKNOWN, "not probed yet")})
    assert plan.actions == ()
    plan = decide(row, NOW, known | {"readiness": ProbeResult(ProbeAnswer.OK)})
    assert [action.want.state for action in plan.actions] == [EndpointState.ACTIVE]  # type: ignore[union-attr]


def test_an_instance_out_of_traffic_is_looked_at_again_though_no_hint_comes() -> None:
    made_of = template(readiness_probe=Probe(http_get=HttpGet(port="http")))
    row = spin("ready", made_of, SpinStatus(since=NOW - 5), resources=(PROGRAM, endpoint_row()))
    plan = decide(row, NOW, {PROCESS: RUNNING, ENDPOINT: endpoint(healthy=False)})
    assert plan.state == "ready" and plan.wake_at == NOW + 30.0
    again = decide(row, NOW + 30.0, {PROCESS: RUNNING, ENDPOINT: endpoint(healthy=True)})
    assert again.state == "serving"
    in_traffic = decide(replace(row, state="serving"), NOW, {PROCESS: RUNNING, ENDPOINT: endpoint(healthy=True)})
    assert in_traffic.wake_at is None, "what serves costs nothing"


def test_two_control_planes_whose_probes_are_not_in_step_do_not_tell_the_data_plane_in_turns() -> None:
    made_of = template(readiness_probe=Probe(exec=Exec(("check",)), period_seconds=6.0))
    row = spin("ready", made_of, SpinStatus(since=NOW - 60), resources=(PROGRAM, endpoint_row()))
    known = {PROCESS: RUNNING, ENDPOINT: endpoint(healthy=False)}
    one = decide(row, NOW, known | {"readiness": NOT_READY})
    assert [action.want.state for action in one.actions] == [EndpointState.UNHEALTHY]  # type: ignore[union-attr]
    row = after(row, one)
    known = {PROCESS: RUNNING, ENDPOINT: endpoint(healthy=False, state="unhealthy")}
    other = decide(row, NOW + 1, known | {"readiness": ProbeResult(ProbeAnswer.OK)})
    assert other.actions == () and other.wake_at == NOW + 3
    later = decide(row, NOW + 3, known | {"readiness": ProbeResult(ProbeAnswer.OK)})
    assert [action.want.state for action in later.actions] == [EndpointState.ACTIVE]  # type: ignore[union-attr]
    back = decide(row, NOW - HOUR, known | {"readiness": ProbeResult(ProbeAnswer.OK)})
    assert back.wake_at is not None and back.wake_at <= NOW - HOUR + 3, "the clock went back"


def test_what_died_young_is_a_failed_start_also_when_it_is_found_late() -> None:
    row = spin("serving", template(), SpinStatus(since=NOW), resources=(PROGRAM, endpoint_row()), served_at=NOW)
    ended = ProcessFacts(running=False, exit_code=3, started_at=NOW - 1000.5, exited_at=NOW - 1000)
    plan = decide(row, NOW + 30, {PROCESS: Present(ended), ENDPOINT: endpoint()})
    assert (plan.state, plan.failed_at) == ("failed", NOW + 0.5), "its provider's clock is another"
    long = replace(ended, started_at=NOW - 2000)
    assert decide(row, NOW + 30, {PROCESS: Present(long), ENDPOINT: endpoint()}).failed_at == NOW + 30
    unknown = replace(ended, started_at=0.0)
    assert decide(row, NOW + 30, {PROCESS: Present(unknown), ENDPOINT: endpoint()}).failed_at == NOW + 30
    back = replace(ended, exited_at=NOW - 3000)
    assert decide(row, NOW + 30, {PROCESS: Present(back), ENDPOINT: endpoint()}).failed_at == NOW + 30
