"""Decisions of a Job in corners."""

from __future__ import annotations

import msgspec

from spinyard.core.ids import Uid
from spinyard.core.observed import Answer, ChildFailure, Children, Look, LookChildren, Seen
from spinyard.core.plan import CreateChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import JobSpec, Kind, TemplateSpec, digest_of
from spinyard.spin.job.decide import JobDomain
from spinyard.spin.job.status import JobStatus

NOW = 1_000_000.0
UID = Uid("b" * 20)
MADE_OF = TemplateSpec(command=("count",))
DIGEST = digest_of(MADE_OF)


def job(status: JobStatus, state: str = "running", retries: int = 2) -> ObjectRow:
    spec = JobSpec(template_digest=DIGEST, retries=retries)
    return ObjectRow(
        UID, Kind.JOB, "default", "count", spec, msgspec.json.encode(status), state, NOW - 60, template_digest=DIGEST
    )


def decide(row: ObjectRow, children: Children) -> Plan:
    answers: dict[Look, Answer] = {LookChildren(UID): children}
    return JobDomain().decide(row, Seen(answers), NOW)


def test_a_job_whose_spin_could_not_be_made_makes_another_and_loses_no_attempt() -> None:
    first = decide(job(JobStatus(since=NOW), "pending"), Children())
    assert first.wake_at is not None, "nothing else would wake it"
    again = decide(job(JobStatus(since=NOW, attempt=1), retries=0), Children(highest_slot=0))
    [child] = again.children
    assert isinstance(child, CreateChild) and child.slot == "1"
    assert again.state == "running"


def test_a_job_fails_after_its_retries() -> None:
    failed = (ChildFailure(Uid("x"), DIGEST, NOW - 1, None, "ProcessExited", "it exited with code 1"),)
    children = Children(failures=failed, highest_slot=0, finished=1)
    plan = decide(job(JobStatus(since=NOW, attempt=1), retries=0), children)
    assert (plan.state, plan.outcome) == ("failed", "Failed")


def test_a_retry_does_not_wait_for_a_clock_that_went_back() -> None:
    failed = (ChildFailure(Uid("x"), DIGEST, NOW + 3600, None, "ProcessExited", "it exited with code 1"),)
    plan = decide(job(JobStatus(since=NOW, attempt=1)), Children(failures=failed, highest_slot=0, finished=1))
    assert len(plan.children) == 1
