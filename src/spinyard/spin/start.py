"""From wish to running: pending, planned, provisioning. Numbers are reserved before anything is made."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.actions import Action, Ensure
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, Present, Unknown
from spinyard.core.plan import Plan, Reserve, Resource
from spinyard.core.spec import DirectoryScope
from spinyard.core.want import DirectoryWant, Want
from spinyard.errors import ErrorClass
from spinyard.spin.snapshot import LOOPBACK, Snapshot
from spinyard.spin.status import State, with_condition
from spinyard.spin.translate import claim_directory, main_want

PORT_ATTEMPTS = 4
"""enough for what is just being closed"""


def pending(s: Snapshot) -> Plan:
    if s.deleting and s.spec.claim is not None and s.spec.claim.errand is not None:
        # Else its Job would count it as an attempt.
        return s.fail(ErrorClass.QUEUE_TIMEOUT, "given up before it had a place")
    if s.deleting:
        return s.move(State.TERMINATING, "deleted before anything was made", "Deleted")
    if s.template.provider not in s.rules.providers:
        return s.fail(ErrorClass.PROVIDER_ERROR, f"no provider is called {s.template.provider!r} here")
    if not s.seen.refused:
        # The numbers are had in the very commit that moves on, or nothing of it is written.
        missing = missing_reservations(s)
        return s.move(State.PLANNED, "everything it needs is reserved", "Reserved", requires=missing)
    if s.in_state_seconds > s.template.queue_timeout_seconds:
        return s.fail(ErrorClass.QUEUE_TIMEOUT, f"waited {s.in_state_seconds:.0f} s: {s.seen.refused}")
    status = with_condition(s.status, "QuotaReserved", False, "Refused", s.seen.refused, s.now)
    status = msgspec.structs.replace(status, last_error=s.seen.refused, last_error_class=ErrorClass.QUOTA_EXCEEDED)
    return s.stay(s.seen.refused, ErrorClass.QUOTA_EXCEEDED, wake_in=1.0, status=status)


def planned(s: Snapshot) -> Plan:
    """The ledger rows and the first actions go together: rows are durable before the calls leave."""
    if s.deleting:
        return s.move(State.TERMINATING, "deleted before anything was made", "Deleted")
    status = with_condition(s.status, "QuotaReserved", True, "Reserved", "", s.now)
    status = msgspec.structs.replace(status, address=LOOPBACK if s.ports else "", ports=dict(s.ports))
    rows, actions = first_resources(s)
    return s.move(
        State.PROVISIONING, "making what it needs", "Provisioning", status=status, resources=rows, actions=actions
    )


def provisioning(s: Snapshot) -> Plan:
    if s.deleting:
        return s.move(State.TERMINATING, "deleted while it was provisioned", "Deleted")
    rows, actions = first_resources(s)
    missing: list[Action] = []
    unknown = ""
    for row, action in zip(rows, actions, strict=True):
        match s.observed(row.provider, row.key):
            case Present():
                continue
            case Unknown(why=why):
                unknown = unknown or why
            case Absent():
                missing.append(action)
        failure = s.failure(row.key)
        if failure is not None and not failure.retryable:
            return s.fail(ErrorClass(failure.error_class), failure.message)
    if not missing and not unknown:
        status = with_condition(s.status, "Provisioned", True, "Present", "", s.now)
        runs = not s.template.bootstrap and s.template.startup_probe is None
        status = msgspec.structs.replace(status, started=runs)
        return s.move(State.BOOTSTRAPPING, "everything it needs is there", "Provisioned", status=status)
    is_queued = s.status.last_error_class == ErrorClass.RATE_LIMITED
    limit = s.rules.provisioning_seconds + (s.template.queue_timeout_seconds if is_queued else 0.0)
    if s.in_state_seconds > limit:
        detail = s.status.last_error or unknown or "it never appeared"
        why = ErrorClass.RATE_LIMITED if is_queued else ErrorClass.PROVISION_TIMEOUT
        return s.fail(why, f"not there after {s.in_state_seconds:.0f} s: {detail}")
    failed = next((failure for action in missing if (failure := s.failure(action.key)) is not None), None)
    if failed is not None and failed.error_class == ErrorClass.PORT_UNAVAILABLE and s.status.attempts >= PORT_ATTEMPTS:
        # A stranger has it. When we chose the number, the next spin gets another one.
        return s.fail(ErrorClass.PORT_UNAVAILABLE, failed.message)
    if failed is not None:
        return s.retry(failed, "provisioning failed, it is tried again")
    if missing and s.now < s.status.retry_at:
        return s.stay("not there yet", "Provisioning", wake_in=s.status.retry_at - s.now)
    if missing:
        wait = min(5.0, 0.02 * 2 ** min(s.status.attempts, 10))
        status = msgspec.structs.replace(s.status, attempts=s.status.attempts + 1, retry_at=s.now + wait)
        return s.stay("not there yet", "Provisioning", wake_in=wait, status=status, actions=tuple(missing))
    return s.stay(f"not known yet: {unknown}", "Unknown", wake_in=0.2)


def first_resources(s: Snapshot) -> tuple[tuple[Resource, ...], tuple[Action, ...]]:
    """Directories of its own, and the program itself unless bootstrap steps come first."""
    wants: list[tuple[ResourceKey, str, Want]] = [
        (s.key(f"dir/{directory.name}"), "directory", DirectoryWant(name=directory.name))
        for directory in s.template.data_directories
        if directory.scope is DirectoryScope.SPIN or not s.spec.service_uid
    ]
    if s.spec.pool_uid:
        wants.append((claim_directory(s), "directory", DirectoryWant(name="claim")))
    if not s.template.bootstrap:
        wants.append((s.process_key, "process", main_want(s)))
    rows = tuple(s.ledger(key, kind, s.template.provider) for key, kind, _ in wants)
    known = {resource.key: resource for resource in s.row.resources}
    return (
        tuple(known.get(row.key, row) for row in rows),
        tuple(Ensure(s.template.provider, key, want) for key, _, want in wants),
    )


def missing_reservations(s: Snapshot) -> tuple[Reserve, ...]:
    held = {reservation.name for reservation in s.row.reservations}
    facts = s.provider_facts
    low, high = facts.ports
    out = []
    for port in s.template.ports:
        want = Reserve(scope=f"ports/{facts.scope}", name=f"port/{port.name}", low=low, high=high)
        if port.number:
            want = replace(want, low=None, high=None, exactly=port.number)
        if want.name not in held:
            out.append(want)
    if s.spec.pool_uid and "member" not in held:
        out.append(Reserve(scope=f"pool/{s.spec.pool_uid}", name="member", limit=s.spec.pool_max))
    return tuple(out)
