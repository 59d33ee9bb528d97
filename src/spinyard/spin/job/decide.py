"""What a Job does next. Each attempt is a spin of its own; how many there were is counted from the spins themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

import msgspec

from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import child_name, child_uid
from spinyard.core.machine import Machine
from spinyard.core.observed import Look, LookChildren, LookObject, ObjectBrief, Seen
from spinyard.core.plan import CreateChild, EventDraft, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import JobSpec, Kind, SpinSpec
from spinyard.spin.gate import as_trials, gate_looks, noted, with_trials_returned
from spinyard.spin.job import on_pool
from spinyard.spin.job.snapshot import JobSnapshot
from spinyard.spin.job.status import TRANSITIONS, JobState, decode_job_status
from spinyard.spin.service.roll import delete_all
from spinyard.spin.service.snapshot import fleet_of

START_SECONDS = 2.0
"""after this it is looked whether there is a spin: its name may have been taken"""


def decide(s: JobSnapshot) -> Plan:
    state = JobState(s.row.state)
    match state:
        case JobState.TERMINATED:
            return s.plan(state, "nothing is left of it", "CleanupVerified", s.status, wake_in=None)
        case JobState.TERMINATING:
            return terminating(s)
        case JobState.PENDING | JobState.RUNNING | JobState.SUCCEEDED | JobState.FAILED if s.row.delete_at is not None:
            return s.plan(JobState.TERMINATING, "deleted", "Deleted", s.status, wake_in=0.0)
        case JobState.PENDING:
            return pending(s)
        case JobState.RUNNING:
            return on_pool.run(s) if s.spec.pool else running(s)
        case JobState.SUCCEEDED | JobState.FAILED:
            return resting(s, state)
        case never:
            assert_never(never)


def pending(s: JobSnapshot) -> Plan:
    for dependency in s.spec.depends_on:
        brief = s.seen.answers.get(LookObject(dependency.kind, s.row.namespace, dependency.name))
        good = "available" if dependency.kind is Kind.SERVICE else "succeeded"
        if not isinstance(brief, ObjectBrief) or brief.state != good:
            why = f"waiting for {dependency.kind} {dependency.name}"
            return s.plan(JobState.PENDING, why, "DependencyNotReady", s.status, wake_in=1.0)
    return on_pool.begin(s) if s.spec.pool else start(s, "starting its first spin")


def start(s: JobSnapshot, why: str, events: tuple[EventDraft, ...] = ()) -> Plan:
    slot = s.children.highest_slot + 1
    uid = child_uid(s.row.uid, str(slot), 1)
    spec = SpinSpec(
        template_digest=s.spec.template_digest,
        run_to_exit=True,
        job_timeout_seconds=s.spec.timeout_seconds,
        service_name=s.row.name,
    )
    labels = (*s.row.labels, ("spinyard.dev/job", s.row.name))
    name = child_name(s.row.name, uid)
    child = CreateChild(uid, Kind.SPIN, name, str(slot), spec, s.spec.template_digest, labels)
    status = msgspec.structs.replace(s.status, attempt=slot + 1)
    return s.plan(JobState.RUNNING, why, "Running", status, wake_in=START_SECONDS, children=(child,), events=events)


def running(s: JobSnapshot) -> Plan:
    """A spin that is on its way out is waited for: its place is free only when nothing is left of it."""
    children = s.children
    if fleet_of(children).total:
        return s.plan(JobState.RUNNING, f"attempt {s.status.attempt} runs", "Running", s.status, wake_in=None)
    if children.succeeded:
        status = msgspec.structs.replace(s.status, outcome="Succeeded", finished_at=s.now)
        return s.plan(JobState.SUCCEEDED, "it ran to exit 0", "Succeeded", status, wake_in=0.0)
    last = children.failures[0] if children.failures else None
    failures = children.finished
    if not failures:
        return start(s, "its first spin could not be made, another one")
    message = last.message if last is not None else "its spin went away without a result"
    status = msgspec.structs.replace(s.status, last_error=message, last_error_class=last.outcome if last else "")
    if failures > s.spec.retries:
        status = msgspec.structs.replace(status, outcome="Failed", finished_at=s.now)
        why = f"failed after {failures} attempt{'s' if failures > 1 else ''}: {message}"
        return s.plan(JobState.FAILED, why, "Failed", status, wake_in=0.0)
    # A clock that went back left it in the future: then at once.
    failed_at = last.failed_at if last is not None and last.failed_at <= s.now else 0.0
    due = failed_at + backoff_seconds(failures, s.row.uid, first=1.0, limit=60.0)
    if s.now < due:
        return s.plan(JobState.RUNNING, f"trying again: {message}", "BackOff", status, wake_in=due - s.now)
    return again(replace(s, status=status), f"attempt {failures + 1}: {message}")


def again(s: JobSnapshot, why: str) -> Plan:
    """The first attempt a person asked for; the others come by themselves, and can be held or stopped."""
    gate = s.gate
    is_blocked = gate.most(1, 0) == 0
    conditions, events = noted(s.status.conditions, gate, is_blocked=is_blocked)
    status = msgspec.structs.replace(s.status, conditions=conditions)
    if is_blocked:
        return s.plan(JobState.RUNNING, gate.words, gate.reason, status, wake_in=gate.wake_in, events=events)
    return as_trials(start(replace(s, status=status), why, events), gate)


def resting(s: JobSnapshot, state: JobState) -> Plan:
    if s.spec.ttl_seconds is None:
        return s.plan(state, s.status.last_error or "done", str(state), s.status, wake_in=None)
    due = s.status.finished_at + s.spec.ttl_seconds
    if s.now >= due:
        return s.plan(JobState.TERMINATING, "its TTL has passed", "Deleted", s.status, wake_in=0.0)
    return s.plan(state, s.status.last_error or "done", str(state), s.status, wake_in=due - s.now)


def terminating(s: JobSnapshot) -> Plan:
    fleet = fleet_of(s.children)
    if fleet.total:
        gone = delete_all(fleet, "its Job is deleted", force=s.row.force)
        return s.plan(
            JobState.TERMINATING, "waiting for its spin to go", "Removing", s.status, wake_in=5.0, children=gone
        )
    plan = s.plan(JobState.TERMINATED, "nothing is left of it", "CleanupVerified", s.status, wake_in=None)
    return replace(plan, finished=True, keep_seconds=600.0)


def looks(s: JobSnapshot) -> tuple[Look, ...]:
    if s.row.state == JobState.TERMINATED:
        return ()
    out: list[Look] = [LookChildren(s.row.uid)]
    if s.row.state == JobState.PENDING:
        out += [LookObject(d.kind, s.row.namespace, d.name) for d in dict.fromkeys(s.spec.depends_on)]
    if s.row.state == JobState.RUNNING:
        out += gate_looks(s.row, s.spec.template_digest)
    if s.spec.pool and s.row.state in (JobState.PENDING, JobState.RUNNING):
        out.append(on_pool.pool_look(s))
    return tuple(out)


class JobDomain:
    """The kind Job for the engine."""

    kind = Kind.JOB
    machine: Machine = TRANSITIONS

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return looks(self._snapshot(row, Seen(), now))

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return with_trials_returned(decide(self._snapshot(row, seen, now)), row, seen, now)

    def _snapshot(self, row: ObjectRow, seen: Seen, now: float) -> JobSnapshot:
        assert isinstance(row.spec, JobSpec)
        status = decode_job_status(row.status)
        if not status.since:
            status = msgspec.structs.replace(status, since=row.created_at)
        return JobSnapshot(row, row.spec, status, seen, now)
