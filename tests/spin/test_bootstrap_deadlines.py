"""Every part of the start has its own time: what came before it does not use it up, and none lasts for ever."""

from __future__ import annotations

from spinyard.core.ids import resource_key
from spinyard.core.observed import Present, ProbeAnswer, ProbeResult, ProcessFacts, Unknown
from spinyard.core.spec import BootstrapStep, HttpGet, Probe
from spinyard.spin.status import SpinStatus
from tests.spin.spins import NOW, PROCESS, RUNNING, UID, after, decide, ledger, spin, status_of, template

NOT_YET = ProbeResult(ProbeAnswer.FAILED, "connection refused")
READY = Probe(http_get=HttpGet(port="http"), period_seconds=1.0)
DONE = Present(ProcessFacts(running=False, exit_code=0))


def test_long_bootstrap_steps_leave_the_program_its_whole_time_to_get_ready() -> None:
    made_of = template(
        readiness_probe=READY, bootstrap=(BootstrapStep("migrate", ("migrate",), timeout_seconds=300.0),)
    )
    row = spin(
        "bootstrapping",
        made_of,
        SpinStatus(since=NOW),
        resources=(ledger("step-0", "process"), ledger("process", "process")),
    )
    row = after(row, decide(row, NOW + 200, {resource_key(UID, "step-0"): DONE}))
    row = after(row, decide(row, NOW + 201, {PROCESS: RUNNING}))
    plan = decide(row, NOW + 202, {PROCESS: RUNNING, "probe": NOT_YET})
    assert plan.state == "bootstrapping", plan.why
    plan = decide(row, NOW + 300, {PROCESS: RUNNING, "probe": NOT_YET})
    assert (plan.state, plan.reason) == ("failed", "ProbeFailed")


def test_a_slow_start_that_its_startup_probe_allows_does_not_count_against_readiness() -> None:
    slow = Probe(http_get=HttpGet(port="http"), period_seconds=10.0, failure_threshold=30)
    made_of = template(readiness_probe=READY, startup_probe=slow)
    row = spin("bootstrapping", made_of, SpinStatus(since=NOW), resources=(ledger("process", "process"),))
    row = after(row, decide(row, NOW + 200, {PROCESS: RUNNING, "probe": ProbeResult(ProbeAnswer.OK)}))
    assert status_of(decide(row, NOW + 201, {PROCESS: RUNNING, "probe": NOT_YET})).started
    assert decide(row, NOW + 201, {PROCESS: RUNNING, "probe": NOT_YET}).state == "bootstrapping"


def test_a_moment_of_not_knowing_does_not_fail_a_step_because_earlier_ones_took_long() -> None:
    steps = (BootstrapStep("load", ("load",), timeout_seconds=900.0), BootstrapStep("index", ("index",)))
    row = spin(
        "bootstrapping", template(bootstrap=steps), SpinStatus(since=NOW), resources=(ledger("step-0", "process"),)
    )
    row = after(row, decide(row, NOW + 600, {resource_key(UID, "step-0"): DONE}))
    plan = decide(row, NOW + 601, {resource_key(UID, "step-1"): Unknown("keeper restarts")})
    assert plan.state == "bootstrapping", plan.why


def test_a_step_that_the_provider_cannot_end_has_a_deadline() -> None:
    steps = (BootstrapStep("hang", ("hang",), timeout_seconds=10.0),)
    row = spin(
        "bootstrapping", template(bootstrap=steps), SpinStatus(since=NOW), resources=(ledger("step-0", "process"),)
    )
    assert decide(row, NOW + 12, {resource_key(UID, "step-0"): RUNNING}).state == "bootstrapping"
    plan = decide(row, NOW + 60, {resource_key(UID, "step-0"): RUNNING})
    assert (plan.state, plan.reason) == ("failed", "BootstrapTimeout")
