"""From made to good: bootstrap steps in order, then the program, its startup and readiness probes, one smoke test."""

from __future__ import annotations

import msgspec

from spinyard.core.actions import Ensure
from spinyard.core.observed import Absent, LookProbe, Present, ProbeAnswer, ProcessFacts, Unknown
from spinyard.core.plan import Plan
from spinyard.core.spec import Probe
from spinyard.core.want import ProcessWant
from spinyard.errors import ErrorClass
from spinyard.spin.ended import ended, error_class_of, how_it_ended
from spinyard.spin.register import came_up, introduce
from spinyard.spin.snapshot import LOOPBACK, Snapshot
from spinyard.spin.status import State, with_condition
from spinyard.spin.translate import main_want, readiness, step_want

STEP_MARGIN_SECONDS = 5.0


def bootstrapping(s: Snapshot) -> Plan:
    if s.deleting:
        return s.move(State.TERMINATING, "deleted while it was starting", "Deleted")
    if s.status.step < len(s.template.bootstrap):
        return bootstrap_step(s)
    match s.process:
        case Absent() if s.resource(s.process_key) is None or not s.status.started:
            return start_program(s)
        case Absent():
            return s.fail(ErrorClass.INSTANCE_LOST, "its process is gone and left no exit record")
        case Unknown(why=why):
            return wait_unknown(s, why, phase_limit(s))
        case Present(facts=ProcessFacts(running=False) as facts):
            return ended(s, facts)
        case Present():
            return running(s)


def bootstrap_step(s: Snapshot) -> Plan:
    step = s.template.bootstrap[s.status.step]
    key = s.key(f"step-{s.status.step}")
    observed = s.observed(s.template.provider, key)
    match observed:
        case Present(facts=ProcessFacts(running=False) as facts):
            if facts.exit_code == 0 and not facts.error_class:
                status = s.next_phase(step=s.status.step + 1, attempts=0, retry_at=0.0)
                return s.stay(f"bootstrap step {step.name} is done", "StepDone", wake_in=0.0, status=status)
            return step_failed(s, step.name, facts)
        case Present():
            # The provider ends it in its time; if it cannot, we do not wait for ever.
            if s.in_phase_seconds > step.timeout_seconds + STEP_MARGIN_SECONDS:
                return s.fail(ErrorClass.BOOTSTRAP_TIMEOUT, f"bootstrap step {step.name} took too long")
            return s.stay(f"bootstrap step {step.name} runs", "StepRunning", wake_in=0.5)
        case Unknown(why=why):
            return wait_unknown(s, why, step.timeout_seconds + STEP_MARGIN_SECONDS)
        case Absent():
            return start_process(s, f"step-{s.status.step}", step_want(s, s.status.step), f"bootstrap step {step.name}")


def step_failed(s: Snapshot, name: str, facts: ProcessFacts) -> Plan:
    if facts.error == "timeout":
        return s.fail(ErrorClass.BOOTSTRAP_TIMEOUT, f"bootstrap step {name} took too long", diagnostics=facts.log_tail)
    if facts.error_class:
        return s.fail(error_class_of(facts), f"bootstrap step {name}: {facts.error}", diagnostics=facts.log_tail)
    return s.fail(ErrorClass.BOOTSTRAP_EXIT, f"bootstrap step {name} {how_it_ended(facts)}", diagnostics=facts.log_tail)


def start_program(s: Snapshot) -> Plan:
    return start_process(s, "process", main_want(s), "the program")


def start_process(s: Snapshot, part: str, want: ProcessWant, what: str) -> Plan:
    """Its ledger row first, in the same commit; the call after. A failure comes back as an outcome of that key."""
    key = s.key(part)
    failure = s.failure(key)
    action = Ensure(s.template.provider, key, want)
    if failure is not None:
        if not failure.retryable:
            return s.fail(ErrorClass(failure.error_class), f"{what}: {failure.message}")
        if s.status.attempts >= 8:
            return s.fail(
                ErrorClass(failure.error_class), f"{what}, after {s.status.attempts} attempts: {failure.message}"
            )
        return s.retry(failure, f"{what} could not be started")
    if s.in_state_seconds > deadline_seconds(s):
        return s.fail(ErrorClass.BOOTSTRAP_TIMEOUT, f"{what} did not appear in {s.in_state_seconds:.0f} s")
    if s.now < s.status.retry_at:
        return s.stay(f"waiting for {what}", "Starting", wake_in=s.status.retry_at - s.now)
    wait = 0.1 * 2 ** min(s.status.attempts, 6)
    status = msgspec.structs.replace(s.status, attempts=s.status.attempts + 1, retry_at=s.now + wait)
    rows = () if s.resource(key) is not None else (s.ledger(key, "process", s.template.provider),)
    return s.stay(f"starting {what}", "Starting", wake_in=0.0, status=status, actions=(action,), resources=rows)


def running(s: Snapshot) -> Plan:
    if not s.status.started:
        if s.template.startup_probe is not None:
            return startup(s)
        status = s.next_phase(started=True, attempts=0)
        return s.stay("the program runs", "Started", wake_in=0.0, status=status)
    probe = readiness(s)
    if probe is not None and not s.status.probed:
        result = s.probe(probe_look(s, probe))
        if result.answer is not ProbeAnswer.OK:
            return not_ready(s, probe, "readiness probe", result.message, s.template.start_timeout_seconds)
    if s.template.smoke_test is not None and not s.status.smoke_passed:
        return smoke(s)
    status = with_condition(s.status, "Bootstrapped", True, "Ready", "", s.now)
    status = with_condition(status, "Ready", True, "ProbeOk", "", s.now)
    if s.spec.pool_uid and s.spec.claim is None:
        return came_up(s, s.move(State.WARM, "ready, waiting in its pool to be claimed", "Warm", status=status))
    if s.spec.claim is not None:
        # Made for a claim, without having been warm: what it brings is applied by the same rule.
        return came_up(s, s.move(State.WARM, "ready, made for its claim", "Warm", status=status))
    return introduce(s, status)


def startup(s: Snapshot) -> Plan:
    probe = s.template.startup_probe
    assert probe is not None
    result = s.probe(probe_look(s, probe))
    if result.answer is ProbeAnswer.OK:
        status = s.next_phase(started=True, attempts=0)
        return s.stay("its startup probe is ok", "Started", wake_in=0.0, status=status)
    return not_ready(s, probe, "startup probe", result.message, startup_seconds(probe))


def smoke(s: Snapshot) -> Plan:
    """Once, after readiness: so it is looked at only from the pass after the one that saw readiness."""
    test = s.template.smoke_test
    assert test is not None
    if not s.status.probed:
        status = s.next_phase(probed=True)
        return s.stay("ready, now its smoke test", "SmokeTest", wake_in=0.0, status=status)
    result = s.probe(probe_look(s, smoke_probe(s)))
    match result.answer:
        case ProbeAnswer.OK:
            status = msgspec.structs.replace(s.status, smoke_passed=True)
            return s.stay("its smoke test is ok", "SmokeTestOk", wake_in=0.0, status=status)
        case ProbeAnswer.FAILED:
            return s.fail(ErrorClass.SMOKE_TEST_FAILED, f"its smoke test failed: {result.message}")
        case ProbeAnswer.UNKNOWN:
            return wait_unknown(s, result.message, s.template.start_timeout_seconds + test.timeout_seconds)


def not_ready(s: Snapshot, probe: Probe, what: str, message: str, limit_seconds: float) -> Plan:
    """Looked at more often than the probe's period while it starts: an instance shall not wait for our next look."""
    if s.in_phase_seconds > max(limit_seconds, probe.initial_delay_seconds + probe.timeout_seconds):
        return s.fail(ErrorClass.PROBE_FAILED, f"its {what} was not ok within {limit_seconds:g} s: {message}")
    wait = min(probe.period_seconds, 1.0, max(0.01, 0.1 * s.in_phase_seconds))
    wait = max(wait, probe.initial_delay_seconds - s.in_phase_seconds)
    return s.stay(f"waiting for its {what}", "NotReady", wake_in=wait)


def wait_unknown(s: Snapshot, why: str, limit_seconds: float) -> Plan:
    if s.in_phase_seconds > limit_seconds + s.rules.provisioning_seconds:
        return s.fail(ErrorClass.BOOTSTRAP_TIMEOUT, f"nothing is known of it for {s.in_phase_seconds:.0f} s: {why}")
    return s.stay(f"not known: {why}", "Unknown", wake_in=0.2)


def deadline_seconds(s: Snapshot) -> float:
    return s.template.start_timeout_seconds + sum(step.timeout_seconds for step in s.template.bootstrap)


def startup_seconds(probe: Probe) -> float:
    return probe.initial_delay_seconds + probe.failure_threshold * probe.period_seconds


def phase_limit(s: Snapshot) -> float:
    """How long the present part may take, whatever it is."""
    startup = s.template.startup_probe
    return max(deadline_seconds(s), startup_seconds(startup) if startup is not None else 0.0)


def probe_look(s: Snapshot, probe: Probe) -> LookProbe:
    return LookProbe(s.process_key, LOOPBACK, s.ports, probe)


def smoke_probe(s: Snapshot) -> Probe:
    test = s.template.smoke_test
    assert test is not None
    return Probe(http_get=test.http_get, exec=test.exec, timeout_seconds=test.timeout_seconds)
