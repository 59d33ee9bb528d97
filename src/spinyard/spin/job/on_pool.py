"""A Job whose command runs on a claimed member of a pool: it takes one as a Claim does, by becoming its owner.

An attempt counts from the moment the command may have begun; members that were no good before that are replaced, a few
in a row. A member is used once. When the pool goes, so does what runs on its members.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

import msgspec

from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import Uid
from spinyard.core.observed import ChildBrief, ChildFailure, Look, LookPool, PoolView
from spinyard.core.plan import BindMember, ChildChange, DeleteChild, EventDraft, Plan
from spinyard.core.spec import ClaimPart, Errand
from spinyard.errors import ErrorClass
from spinyard.spin.claim.decide import TRIES_MAX, cold_member
from spinyard.spin.errand import NOT_BEGUN
from spinyard.spin.gate import noted
from spinyard.spin.job.snapshot import JobSnapshot
from spinyard.spin.job.status import JobState, JobStatus
from spinyard.spin.pool.schedule import bounds
from spinyard.spin.service.roll import delete_all
from spinyard.spin.service.snapshot import ALIVE, fleet_of
from spinyard.spin.status import State

TAKE_SECONDS = 0.02
QUEUE_SECONDS = 0.5
POOL_LOOK_SECONDS = 5.0
"""nobody tells a Job that its pool is being deleted"""


def pool_look(s: JobSnapshot) -> Look:
    return LookPool(Uid(s.spec.pool_uid), State.WARM)


def pool_of(s: JobSnapshot) -> PoolView | None:
    answer = s.seen.answers.get(pool_look(s))
    return answer if isinstance(answer, PoolView) and not answer.deleting else None


def begin(s: JobSnapshot) -> Plan:
    """Pending, and nothing it depends on is missing. It is `running` when it has a member."""
    if fleet_of(s.children).total or s.children.finished:
        return s.plan(JobState.RUNNING, "it has a member of its pool", "Running", counted(s), wake_in=0.0)
    return take(s, "")


def counted(s: JobSnapshot) -> JobStatus:
    return msgspec.structs.replace(s.status, attempt=attempts(s) + 1)


def attempts(s: JobSnapshot) -> int:
    """Members that are gone and whose command may have begun."""
    return max(0, s.children.finished - sum(1 for one in s.children.failures if unbegun(one)))


def unbegun(failure: ChildFailure) -> bool:
    return failure.outcome in NOT_BEGUN


def run(s: JobSnapshot) -> Plan:
    children = s.children
    fleet = fleet_of(children)
    if fleet.total:
        if pool_of(s) is None:
            gone = delete_all(fleet, "its WarmPool is deleted", force=s.row.force)
            why = f"the pool {s.spec.pool} is deleted, its member goes too"
            return s.plan(JobState.RUNNING, why, "PoolDeleted", s.status, wake_in=POOL_LOOK_SECONDS, children=gone)
        status = counted(s)
        queued = fleet.members(frozenset({State.PENDING}))
        if queued and fleet.count(ALIVE) == len(queued):
            return queueing(s, queued, status)
        why = f"attempt {status.attempt} runs"
        return s.plan(JobState.RUNNING, why, "Running", status, wake_in=POOL_LOOK_SECONDS)
    if children.succeeded:
        status = msgspec.structs.replace(s.status, outcome="Succeeded", finished_at=s.now)
        return s.plan(JobState.SUCCEEDED, "its command ran to exit 0", "Succeeded", status, wake_in=0.0)
    return another(s)


def queueing(s: JobSnapshot, queued: list[ChildBrief], status: JobStatus) -> Plan:
    """Its own member waits for a place that the pool itself may just have filled: a warm one is as good, and there. It
    is taken when the other is gone and has told that it never began: what was seen to wait may run by now."""
    pool = pool_of(s)
    if pool is None or not pool.warm:
        why = f"attempt {status.attempt} waits for room in the pool {s.spec.pool}"
        return s.plan(JobState.RUNNING, why, "Waiting", status, wake_in=QUEUE_SECONDS)
    dropped = tuple(DeleteChild(child.uid, "a warm member can be had") for child in queued)
    why = "a warm member can be had; its own gives up waiting"
    return s.plan(JobState.RUNNING, why, "Binding", status, wake_in=TAKE_SECONDS, children=dropped)


def another(s: JobSnapshot) -> Plan:
    last = s.children.failures[0] if s.children.failures else None
    done = attempts(s)
    no_good = takewhile(unbegun, s.children.failures)
    in_a_row = sum(1 for failure in no_good if failure.outcome != ErrorClass.QUEUE_TIMEOUT)
    message = last.message if last is not None else "its member went away without a result"
    if done or last is not None:
        status = msgspec.structs.replace(s.status, last_error=message, last_error_class=last.outcome if last else "")
        s = replace(s, status=status)
    if pool_of(s) is None:
        return failed(s, gone_words(s, message if last is not None else ""), ErrorClass.DEPENDENCY_FAILED)
    if done > s.spec.retries:
        why = f"failed after {done} attempt{'s' if done > 1 else ''}: {message}"
        return failed(s, why, s.status.last_error_class)
    if in_a_row >= TRIES_MAX:
        return failed(s, f"{in_a_row} members were not good: {message}", ErrorClass.PROBE_FAILED)
    if not done:
        return take(s, message if last is not None else "")
    # A clock that went back left it in the future: then at once.
    failed_at = last.failed_at if last is not None and last.failed_at <= s.now else 0.0
    due = failed_at + backoff_seconds(done, s.row.uid, first=1.0, limit=60.0)
    if s.now < due:
        return s.plan(JobState.RUNNING, f"trying again: {message}", "BackOff", s.status, wake_in=due - s.now)
    gate = s.gate
    is_blocked = gate.most(1, 0) == 0
    conditions, events = noted(s.status.conditions, gate, is_blocked=is_blocked)
    s = replace(s, status=msgspec.structs.replace(s.status, conditions=conditions))
    if is_blocked:
        return s.plan(JobState.RUNNING, gate.words, gate.reason, s.status, wake_in=gate.wake_in, events=events)
    return take(s, message, events)


def take(s: JobSnapshot, after: str, events: tuple[EventDraft, ...] = ()) -> Plan:
    """A warm member; without one, one that is made for it; at the maximum, its turn is waited for."""
    pool = pool_of(s)
    if pool is None:
        return failed(s, gone_words(s, after), ErrorClass.DEPENDENCY_FAILED)
    because = f", after: {after}" if after else ""
    if pool.warm:
        bind = BindMember(pool.uid, State.WARM, pool.spec.template_digest, part_of(s, pool))
        return looking(s, f"taking a warm member{because}", "Binding", TAKE_SECONDS, (bind,), events)
    maximum = bounds(pool.spec, s.now)[1]
    if pool.held < maximum:
        made = cold_member(s.row, s.spec.pool, pool, part_of(s, pool), maximum, s.children.highest_slot + 1)
        return looking(s, f"no member is warm, one is made{because}", "Cold", QUEUE_SECONDS, (made,), events)
    why = f"waiting for room in the pool {s.spec.pool}, which is at its maximum of {maximum}{because}"
    return looking(s, why, "Waiting", QUEUE_SECONDS, (), events)


def gone_words(s: JobSnapshot, after: str) -> str:
    return f"the pool {s.spec.pool} is gone" + (f", after: {after}" if after else "")


def looking(
    s: JobSnapshot,
    why: str,
    reason: str,
    wake_in: float,
    children: tuple[ChildChange, ...],
    events: tuple[EventDraft, ...],
) -> Plan:
    # Words alone are no change that would be written; and who reads the Job wants to know what it waits for.
    status = msgspec.structs.replace(s.status, looks_for=f"{reason} after {s.status.attempt}")
    return s.plan(JobState(s.row.state), why, reason, status, wake_in=wake_in, children=children, events=events)


def failed(s: JobSnapshot, why: str, error_class: str) -> Plan:
    status = msgspec.structs.replace(
        s.status, outcome="Failed", finished_at=s.now, last_error=why, last_error_class=str(error_class)
    )
    return s.plan(JobState.FAILED, why, "Failed", status, wake_in=0.0)


def part_of(s: JobSnapshot, pool: PoolView) -> ClaimPart:
    return ClaimPart(
        claim_uid=s.row.uid,
        claim_name=s.row.name,
        env=s.spec.env,
        files=s.spec.files,
        on_claim=pool.spec.on_claim,
        errand=Errand(s.spec.command + s.spec.args, s.spec.timeout_seconds),
    )
