"""What it means that the program of a spin has ended."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.observed import ProcessFacts
from spinyard.core.plan import Plan
from spinyard.errors import ErrorClass
from spinyard.spin.register import came_up
from spinyard.spin.snapshot import Snapshot, exit_record
from spinyard.spin.status import State

SUCCEEDED = "Succeeded"


def ended(s: Snapshot, facts: ProcessFacts) -> Plan:
    if s.spec.run_to_exit and facts.exit_code == 0 and not facts.error_class:
        return succeeded(s)
    return program_failed(s, facts)


def succeeded(s: Snapshot) -> Plan:
    status = msgspec.structs.replace(s.status, exit=exit_record(s.process))
    plan = s.move(State.TERMINATING, "it ran to its end", SUCCEEDED, status=status)
    return came_up(s, replace(plan, outcome=SUCCEEDED))


def program_failed(s: Snapshot, facts: ProcessFacts) -> Plan:
    return replace(failure(s, facts), failed_at=failed_at(s, facts))


def failed_at(s: Snapshot, facts: ProcessFacts) -> float:
    """By how long it ran, where that is known: what dies young is a failed start, also when it is found late. Not by
    the moment of its end, for the provider's clock may be another."""
    if s.row.served_at is None or facts.exited_at is None or not facts.started_at:
        return s.now
    ran = facts.exited_at - facts.started_at
    return min(s.now, s.row.served_at + ran) if ran >= 0 else s.now


def failure(s: Snapshot, facts: ProcessFacts) -> Plan:
    if facts.error == "timeout":
        return s.fail(ErrorClass.TIMEOUT, "it ran longer than its timeout", diagnostics=facts.log_tail)
    if facts.error_class:
        return s.fail(error_class_of(facts), f"the program: {facts.error}", diagnostics=facts.log_tail)
    return s.fail(ErrorClass.PROCESS_EXITED, f"the program {how_it_ended(facts)}", diagnostics=facts.log_tail)


def error_class_of(facts: ProcessFacts) -> ErrorClass:
    try:
        return ErrorClass(facts.error_class)
    except ValueError:
        return ErrorClass.PROVIDER_ERROR


def how_it_ended(facts: ProcessFacts) -> str:
    if facts.exit_signal:
        return f"was killed by signal {facts.exit_signal}"
    return f"exited with code {facts.exit_code}"
