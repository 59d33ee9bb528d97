"""A Job whose command runs on a member of a pool: which it takes, what counts as an attempt, and when it gives up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import (
    ChildBrief,
    ChildFailure,
    ChildGroup,
    Children,
    LookChildren,
    LookHold,
    LookPool,
    PoolView,
    Seen,
)
from spinyard.core.plan import BindMember, CreateChild, DeleteChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Dependency, Errand, JobSpec, Kind, SpinSpec, WarmPoolSpec
from spinyard.spin.errand import NOT_BEGUN
from spinyard.spin.job.decide import JobDomain
from spinyard.spin.job.status import JobStatus, decode_job_status
from tests.spin.worlds import NEW, NOW, UID, jobs, met

POOL = Uid("pool")
DOMAIN = JobDomain()


def job(state: str = "pending", **spec: Any) -> ObjectRow:
    wanted = JobSpec(pool="box", pool_uid=POOL, command=("work",), args=("hard",), env=(("A", "b"),))
    return ObjectRow(
        uid=UID,
        kind=Kind.JOB,
        namespace="default",
        name="load",
        spec=replace(wanted, timeout_seconds=30.0, **spec),
        status=msgspec.json.encode(JobStatus(since=NOW - 1.0)),
        state=state,
        created_at=NOW - 60.0,
    )


def failure(outcome: str, ago: float = 100.0, message: str = "so it ended") -> ChildFailure:
    return ChildFailure(Uid("m"), NEW, NOW - ago, NOW - ago, outcome, message)


def member(state: str = "ready") -> ChildGroup:
    return ChildGroup(state, NEW, False, 1, (ChildBrief(Uid("m"), "0", state, NEW, False, NOW - 9),))


def decide(row: ObjectRow, found: Children | None = None, *, is_gone: bool = False, **pool: Any) -> Plan:
    view = replace(PoolView(POOL, WarmPoolSpec(template_digest=NEW, min=1, max=2), False, 0, 0, 0), **pool)
    answers: dict[Any, Any] = {LookChildren(UID): found or Children(), LookPool(POOL, "warm"): view}
    answers |= {look: None for look in DOMAIN.looks(row, NOW) if isinstance(look, LookHold)}
    if is_gone:
        answers[LookPool(POOL, "warm")] = None
    return DOMAIN.decide(row, Seen(answers), NOW)


def test_a_warm_member_is_taken_with_the_command() -> None:
    [bind] = decide(job(), warm=1, held=1).children
    assert isinstance(bind, BindMember)
    assert (bind.pool, bind.template_digest, bind.part.claim_uid) == (POOL, NEW, UID)
    assert bind.part.errand == Errand(("work", "hard"), 30.0)
    assert (bind.part.env, bind.part.host) == ((("A", "b"),), "")


def test_without_a_warm_member_one_is_made() -> None:
    [made] = decide(job(), held=1).children
    assert isinstance(made, CreateChild) and isinstance(made.spec, SpinSpec)
    assert (made.spec.pool_uid, made.spec.pool_max, made.template_digest) == (POOL, 2, NEW)
    assert made.spec.claim is not None and made.spec.claim.errand is not None


def test_at_the_maximum_it_waits_and_says_so() -> None:
    plan = decide(job(), held=2)
    assert (plan.state, plan.children) == ("pending", ())
    assert "maximum of 2" in plan.why and plan.wake_at is not None


def test_it_waits_for_what_it_depends_on_before_it_takes_a_member() -> None:
    plan = decide(job(depends_on=(Dependency(Kind.SERVICE, "db"),)), warm=1)
    assert (plan.state, plan.children, plan.reason) == ("pending", (), "DependencyNotReady")


@pytest.mark.parametrize("state", ["pending", "running"])
@pytest.mark.parametrize("gone", [{"is_gone": True}, {"deleting": True}])
def test_without_its_pool_it_fails(state: str, gone: dict[str, Any]) -> None:
    plan = decide(job(state), **gone)
    assert (plan.state, plan.outcome, plan.children) == ("failed", "Failed", ())
    assert decode_job_status(plan.status).last_error_class == "DependencyFailed"
    assert "the pool box is gone" in plan.why


def test_a_member_of_a_pool_that_is_deleted_goes_and_then_the_job_fails() -> None:
    running = Children(groups=(member(),))
    assert decide(job("running"), running, held=1).children == ()
    [gone] = decide(job("running"), running, deleting=True).children
    assert isinstance(gone, DeleteChild)
    assert "box is gone" in decide(job("running", retries=5), Children(finished=1), deleting=True).why


def test_a_job_with_a_member_runs_and_looks_again_by_itself() -> None:
    plan = decide(job(), Children(groups=(member(),)), held=1)
    assert (plan.state, plan.children) == ("running", ())
    plan = decide(job("running"), Children(groups=(member(),)), held=1)
    assert plan.wake_at is not None and plan.wake_at > NOW


def test_a_warm_member_is_taken_instead_of_one_that_waits_for_its_place() -> None:
    """The pool was faster to fill the place that both had waited for."""
    queued = Children(groups=(member("pending"),))
    assert decide(job("running"), queued, held=2).children == ()
    (dropped,) = decide(job("running"), queued, held=2, warm=1).children
    assert isinstance(dropped, DeleteChild), "it may have begun since it was seen: it tells at its end"
    gave_up = Children(finished=1, failures=(failure("QueueTimeout"),))
    (bind,) = decide(job("running", retries=0), gave_up, held=1, warm=1).children
    assert isinstance(bind, BindMember)
    begun = Children(finished=1, failures=(failure("ProcessExited"),))
    assert decide(job("running", retries=0), begun, held=1, warm=1).children == ()
    assert decide(job("running"), Children(groups=(member("planned"),)), held=2, warm=1).children == ()


def test_members_that_never_had_a_place_are_not_held_against_the_job() -> None:
    waited = Children(finished=3, failures=(failure("QueueTimeout"),) * 3)
    plan = decide(job("running", retries=0), waited, held=2)
    assert plan.state == "running" and decode_job_status(plan.status).attempt == 0


def test_its_end_is_the_end_of_the_command() -> None:
    assert decide(job("running"), Children(finished=1, succeeded=1)).outcome == "Succeeded"
    once = Children(finished=1, failures=(failure("ProcessExited"),))
    plan = decide(job("running"), once, warm=1)
    assert (plan.state, plan.outcome) == ("failed", "Failed")
    assert "after 1 attempt: so it ended" in plan.why


def test_it_tries_again_on_another_member_after_a_pause() -> None:
    at_once = Children(finished=1, failures=(failure("ProcessExited", ago=0.01),), highest_slot=4)
    plan = decide(job("running", retries=1), at_once, warm=1)
    assert (plan.reason, plan.children) == ("BackOff", ())
    later = replace(at_once, failures=(failure("ProcessExited"),))
    [bind] = decide(job("running", retries=1), later, warm=1).children
    assert isinstance(bind, BindMember)
    [made] = decide(job("running", retries=1), later).children
    assert isinstance(made, CreateChild) and made.slot == "5"


def test_members_that_were_no_good_are_no_attempts_but_there_is_an_end() -> None:
    for count, expected in ((1, "running"), (2, "running"), (3, "failed")):
        no_good = Children(finished=count, failures=(failure("ClaimHookFailed"),) * count)
        plan = decide(job("running", retries=0), no_good, warm=1)
        assert plan.state == expected, count
    assert "3 members were not good" in plan.why


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_command_without_retries_left_is_never_begun_again(data: st.DataObject) -> None:
    row = replace(data.draw(jobs()), state=data.draw(st.sampled_from(("pending", "running"))))
    assert isinstance(row.spec, JobSpec)
    row = replace(row, spec=replace(row.spec, template_digest=Digest(""), pool="box", pool_uid="pool", command=("w",)))
    seen = data.draw(met(row, DOMAIN.looks(row, NOW)))
    plan = DOMAIN.decide(row, seen, NOW)
    children = seen.answers[LookChildren(row.uid)]
    assert isinstance(children, Children)
    takes = [one for one in plan.children if isinstance(one, BindMember | CreateChild)]
    assert len(takes) <= 1, "one member at a time"
    if takes:
        begun = children.finished - sum(1 for one in children.failures if one.outcome in NOT_BEGUN)
        assert not children.groups and not children.succeeded
        assert isinstance(row.spec, JobSpec) and max(0, begun) <= row.spec.retries
