"""A command run once beside the program of a claimed member: its key is its create token, so nobody runs it twice.

Its ledger row is written in the commit that makes the member `ready`, and how it ends is how the member ends. Whatever
goes wrong from then on counts as an attempt: it may have been run. What fails before has one of the classes of
NOT_BEGUN, and nothing else has.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.actions import Ensure
from spinyard.core.observed import Absent, Look, LookResource, Present, ProcessFacts, Unknown
from spinyard.core.plan import Plan
from spinyard.errors import ErrorClass
from spinyard.spin.bootstrap import start_process
from spinyard.spin.ended import SUCCEEDED, error_class_of, how_it_ended
from spinyard.spin.register import came_up, introduce
from spinyard.spin.serve import liveness_look, lost, take_down
from spinyard.spin.snapshot import Snapshot, exit_record
from spinyard.spin.status import State
from spinyard.spin.translate import ERRAND, errand_key, errand_want

NOT_BEGUN = frozenset(
    {
        ErrorClass.PROBE_FAILED,
        ErrorClass.CLAIM_HOOK_FAILED,
        ErrorClass.PROVISION_TIMEOUT,
        ErrorClass.QUEUE_TIMEOUT,
        ErrorClass.QUOTA_EXCEEDED,
        ErrorClass.PORT_UNAVAILABLE,
        ErrorClass.BOOTSTRAP_EXIT,
        ErrorClass.BOOTSTRAP_TIMEOUT,
        ErrorClass.SMOKE_TEST_FAILED,
    }
)
"""of members that were no good before their errand began"""
MARGIN_SECONDS = 10.0
LOOK_SECONDS = 10.0
LATE_SECONDS = 0.1
"""never less: a clock that is a little behind would be asked without end"""
TAIL_CHARS = 200


def has_errand(s: Snapshot) -> bool:
    return s.spec.claim is not None and s.spec.claim.errand is not None


def put_to_use(s: Snapshot) -> Plan:
    """Claimed, and all that the claim brought is in place."""
    if not has_errand(s):
        return introduce(s, s.status)
    row = s.ledger(errand_key(s), "process", s.template.provider)
    action = Ensure(s.template.provider, row.key, errand_want(s))
    plan = s.move(State.READY, "its Job's command is started", "Claimed", resources=(row,), actions=(action,))
    return came_up(s, plan)


def errand(s: Snapshot) -> Plan:
    """Ready, with its command."""
    if s.deleting:
        return take_down(s)
    plan = decided(s)
    if plan.state == State.FAILED and plan.outcome in NOT_BEGUN:
        return s.fail(ErrorClass.INSTANCE_LOST, plan.why)
    return plan


def decided(s: Snapshot) -> Plan:
    claim = s.spec.claim
    assert claim is not None and claim.errand is not None
    limit = claim.errand.timeout_seconds
    match s.observed(s.template.provider, errand_key(s)):
        case Present(facts=ProcessFacts(running=False) as facts):
            return errand_ended(s, facts, limit)
        case Present():
            gone = program_lost(s)
            if gone is not None:
                return gone
            # The provider ends it in its time; if it cannot, we do not wait for ever.
            left = limit + MARGIN_SECONDS - s.in_state_seconds
            if left <= 0:
                return s.fail(ErrorClass.TIMEOUT, f"its command ran longer than {limit:g} s")
            status = msgspec.structs.replace(s.status, errand_seen=True)
            wake = min(LOOK_SECONDS, max(left, LATE_SECONDS))
            return s.stay("its Job's command runs", "Running", wake_in=wake, status=status)
        case Absent() if s.status.errand_seen:
            return s.fail(ErrorClass.INSTANCE_LOST, "its command is gone and left no exit record")
        case Absent():
            return program_lost(s) or start_process(s, ERRAND, errand_want(s), "its command")
        case Unknown(why=why):
            gone = program_lost(s)
            if gone is not None:
                return gone
            if s.in_state_seconds > limit + s.rules.provisioning_seconds:
                return s.fail(ErrorClass.INSTANCE_LOST, f"nothing is known of its command: {why}")
            return s.stay(f"not known: {why}", "Unknown", wake_in=0.2)


def program_lost(s: Snapshot) -> Plan | None:
    plan = lost(s)
    return None if plan is None else s.fail(ErrorClass.INSTANCE_LOST, f"before its command had ended: {plan.why}")


def errand_ended(s: Snapshot, facts: ProcessFacts, limit: float) -> Plan:
    seen = replace(s, status=msgspec.structs.replace(s.status, exit=exit_record(Present(facts))))
    if facts.exit_code == 0 and not facts.error_class:
        plan = seen.move(State.TERMINATING, "its command ran to its end", SUCCEEDED)
        return replace(plan, outcome=SUCCEEDED)
    if facts.error == "timeout":
        error_class, why = ErrorClass.TIMEOUT, f"its command ran longer than {limit:g} s"
    elif facts.error_class:
        error_class, why = error_class_of(facts), f"its command: {facts.error}"
    else:
        error_class, why = ErrorClass.PROCESS_EXITED, f"its command {how_it_ended(facts)}"
    last = next((line.strip() for line in reversed(facts.log_tail.splitlines()) if line.strip()), "")
    return seen.fail(error_class, f"{why}: {last[-TAIL_CHARS:]}" if last else why, diagnostics=facts.log_tail)


def errand_looks(s: Snapshot) -> tuple[Look, ...]:
    provider = s.template.provider
    liveness = liveness_look(s)
    looks = (LookResource(provider, s.process_key), LookResource(provider, errand_key(s)))
    return looks if liveness is None else (*looks, liveness)
