"""The breaker of a template, by the records of its starts; and what a hold lets through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest

from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import (
    ChildFailure,
    Children,
    Held,
    LookChildren,
    LookPool,
    PoolView,
    Seen,
    StartRecord,
    Starts,
    Trial,
)
from spinyard.core.plan import CreateChild, Plan, Reservation
from spinyard.core.row import ObjectRow
from spinyard.core.spec import JobSpec, Kind, SpinSpec, WarmPoolSpec
from spinyard.spin.breaker import COOL_SECONDS, Breaker, breaker_of, scope_of, starts_look
from spinyard.spin.gate import hold_look
from spinyard.spin.job.decide import JobDomain
from spinyard.spin.job.status import JobStatus
from spinyard.spin.pool.decide import PoolDomain
from spinyard.spin.pool.status import PoolStatus, decode_pool_status
from spinyard.spin.snapshot import ProviderFacts, SpinRules

D, NOW = Digest("sha256:bad"), 10_000.0
UID = Uid("pool1")
F, S = True, False
RULES = SpinRules(providers={"process": ProviderFacts("host:here", (20000, 30000))})


def records(*newest_first: bool, age: float = 11.0, apart: float = 1.0, **fields: object) -> tuple[StartRecord, ...]:
    return tuple(
        StartRecord(
            Uid(f"u{i}"),
            NOW - age - i * apart - 0.5,
            NOW - age - i * apart,
            failed,
            "ProcessExited",
            "exit 3",
            **fields,
        )  # type: ignore[arg-type]
        for i, failed in enumerate(newest_first)
    )


def at(starts: Sequence[StartRecord], *, now: float = NOW, since: float = 0.0) -> Breaker:
    return breaker_of(Starts(tuple(starts)), D, UID, now, since=since)


@pytest.mark.parametrize(
    ("newest_first", "is_open"),
    [
        ((F, F, F, F), False),
        ((F, F, F, F, F), True),
        ((S, F, F, F, F, F), True),
        ((F, S, F, S, F, S, F, S, F, S), True),
        ((S, S, S, S, S, S, F, F, F, F), False),
        ((), False),
    ],
    ids=["four failed", "five failed", "the last came up", "every other", "four of ten", "no record"],
)
def test_it_opens_when_five_of_the_last_ten_starts_failed(newest_first: tuple[bool, ...], is_open: bool) -> None:
    assert at(records(*newest_first)).is_open is is_open


def test_it_says_what_failed_most_and_how_often() -> None:
    known = [*records(F, F, F, F), *(replace(r, outcome="OutOfMemory") for r in records(F, F, S, age=9.0))]
    breaker = at(known)
    assert (breaker.failures, breaker.of, breaker.cause, breaker.cause_count) == (6, 7, "ProcessExited", 4)
    assert breaker.words == (
        "6 of the last 7 starts of its template failed before they were up for 10 s, "
        "most often ProcessExited (4): exit 3"
    )


def test_failed_trials_make_it_wait_longer_up_to_five_minutes() -> None:
    waits = []
    for trials in (0, 1, 2, 3, 4, 9):
        newest = replace(records(F)[0], trial=trials)
        breaker = at((newest, *records(F, F, F, F, age=100.0)))
        waits.append(breaker.until - newest.at)
        assert breaker.trials == trials
    wished = [COOL_SECONDS, 60.0, 120.0, 240.0, 300.0, 300.0]
    for wait, base in zip(waits, wished, strict=True):
        assert 0.75 * base <= wait <= 1.25 * base


def test_who_came_up_counts_when_it_has_been_up_for_ten_seconds() -> None:
    failed, young, old = records(F, F, F, F, F, age=60.0), records(S, trial=1, age=9.0), records(S, trial=1, age=10.0)
    assert at((*young, *failed)).is_open
    assert not at((*old, *failed)).is_open


def test_a_failed_trial_keeps_it_open_when_older_records_are_gone() -> None:
    assert at(records(F, trial=3)).is_open
    assert not at(records(F)).is_open


def test_a_trial_that_came_up_closes_it_and_what_was_before_does_not_count_any_more() -> None:
    came_up = replace(records(S)[0], trial=2)
    old = records(F, F, F, F, F, F, age=60.0)
    assert not at((came_up, *old)).is_open
    newer = [replace(r, uid=Uid(f"n{i}"), at=NOW - 0.1 * i) for i, r in enumerate(records(F, F, F, F))]
    assert not at((*newer, came_up, *old)).is_open
    assert at((*records(F, F, F, F, F, age=0.0), replace(came_up, at=NOW - 90.0), *old)).is_open


def test_what_was_started_before_a_person_asked_anew_does_not_count() -> None:
    known = records(F, F, F, F, F, F, age=50.0)
    assert at(known).is_open
    assert not at(known, since=NOW - 40.0).is_open


def test_a_clock_that_went_back_does_not_keep_it_open() -> None:
    assert not at(records(F, F, F, F, F, age=-3600.0)).is_open


# -- pools: every start that happens by itself -------------------------------------------------------------------------


def pool_row(status: PoolStatus | None = None, **fields: object) -> ObjectRow:
    row = ObjectRow(
        uid=UID,
        kind=Kind.WARM_POOL,
        namespace="default",
        name="box",
        spec=WarmPoolSpec(template_digest=D, min=3, max=10),
        status=msgspec.json.encode(status or PoolStatus()),
        state="filling",
        created_at=0.0,
        template_digest=D,
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def pool_plan(row: ObjectRow, starts: Starts = Starts(), held: Held | None = None, refused: str = "") -> Plan:  # noqa: B008
    assert isinstance(row.spec, WarmPoolSpec)
    answers = {
        LookChildren(UID): Children(),
        LookPool(UID, "warm"): PoolView(UID, row.spec, False, 0, 0, 0),
        starts_look(D): starts,
        hold_look(row): held,
    }
    domain = PoolDomain(RULES)
    assert set(domain.looks(row, NOW)) <= set(answers)
    return domain.decide(row, Seen(answers, refused=refused), NOW)  # type: ignore[arg-type]


def made(plan: Plan) -> list[CreateChild]:
    return [child for child in plan.children if isinstance(child, CreateChild)]


OPEN = records(F, F, F, F, F, F, S)
COOLED = records(F, F, F, F, F, F, S, age=60.0)


def test_an_open_breaker_stops_the_refill_and_tells_it_once() -> None:
    plan = pool_plan(pool_row(), Starts(OPEN))
    assert made(plan) == []
    assert (plan.state, plan.reason) == ("degraded", "BreakerOpen")
    assert "6 of the last 7 starts" in plan.why
    [event] = plan.events
    assert (event.type, event.reason) == ("Warning", "BreakerOpen")
    assert plan.wake_at is not None and NOW + 15 < plan.wake_at < NOW + 40
    again = pool_plan(pool_row(decode_pool_status(plan.status), state=plan.state), Starts(OPEN))
    assert again.events == () and made(again) == []


def test_after_the_pause_one_start_is_tried_with_the_one_reservation() -> None:
    plan = pool_plan(pool_row(), Starts(COOLED))
    [trial] = made(plan)
    assert isinstance(trial.spec, SpinSpec) and trial.spec.trial == 1
    [needed] = plan.requires
    assert (needed.scope, needed.name, needed.limit) == (scope_of(D), trial.uid, 1)


@pytest.mark.parametrize("running", [True, False])
def test_nobody_tries_beside_the_trial_of_another(running: bool) -> None:
    plan = pool_plan(pool_row(), Starts(COOLED, Trial(Uid("other"), Uid("child"), not running)))
    assert made(plan) == [] and plan.requires == () and plan.returns == ()
    assert plan.wake_at is not None and plan.wake_at <= NOW + 7


def test_who_was_refused_the_reservation_waits() -> None:
    plan = pool_plan(
        pool_row(), Starts(COOLED), refused=f"{scope_of(D)}: 1 more would pass the limit of 1; 1 are in use"
    )
    assert made(plan) == [] and plan.requires == ()


def test_a_trial_that_is_over_is_given_back_and_one_that_runs_is_not() -> None:
    mine = Reservation(scope_of(D), "child")
    row = pool_row(reservations=(mine,))
    assert pool_plan(row, Starts(OPEN, Trial(UID, Uid("child"), False))).returns == ()
    assert pool_plan(row, Starts(OPEN, Trial(UID, Uid("child"), True))).returns == (mine,)
    assert pool_plan(row, Starts(OPEN, Trial(UID, Uid("child"), False, NOW - 9.0))).returns == ()
    assert pool_plan(row, Starts(OPEN, Trial(UID, Uid("child"), False, NOW - 10.0))).returns == (mine,)
    assert pool_plan(row, Starts()).returns == (mine,)
    deleted = pool_plan(replace(row, delete_at=NOW))
    assert deleted.returns == (mine,)


def test_a_closed_breaker_says_so_once() -> None:
    opened = pool_plan(pool_row(), Starts(OPEN))
    closed = pool_plan(pool_row(decode_pool_status(opened.status), state=opened.state), Starts())
    assert [event.reason for event in closed.events] == ["BreakerClosed"]
    assert len(made(closed)) == 3
    assert decode_pool_status(closed.status).conditions == ()


# -- holds -------------------------------------------------------------------------------------------------------------

HELD = Held("warmpool/box", "the market is open", "alice", NOW - 5, NOW + 60)


def test_a_hold_stops_the_refill_says_why_and_ends_by_itself() -> None:
    filled = PoolStatus(min=3, max=10, wish=f"{D} 3 10", asked=0)
    plan = pool_plan(pool_row(filled), held=HELD)
    assert made(plan) == []
    assert plan.why == "0 of 3 warm; held by alice: the market is open" and plan.reason == "Held"
    assert plan.wake_at == NOW + 60
    assert [event.reason for event in plan.events] == ["Held"]
    after = pool_plan(pool_row(decode_pool_status(plan.status)))
    assert len(made(after)) == 3 and [event.reason for event in after.events] == ["HoldReleased"]


def test_what_a_person_asks_for_goes_on_under_a_hold_and_only_that() -> None:
    before = PoolStatus(min=1, max=10, wish=f"{D} 1 10", asked=0)
    plan = pool_plan(pool_row(before), held=HELD)
    assert len(made(plan)) == 3, "apply raised the minimum from 1 to 3"
    status = decode_pool_status(plan.status)
    assert status.asked == 0
    failed = pool_plan(pool_row(status), held=HELD)
    assert made(failed) == [], "those that failed since are not replaced"


def job_plan(starts: Starts = Starts(), held: Held | None = None, failures: int = 1) -> Plan:  # noqa: B008
    row = ObjectRow(
        uid=UID,
        kind=Kind.JOB,
        namespace="default",
        name="tidy",
        spec=JobSpec(template_digest=D, retries=9),
        status=msgspec.json.encode(JobStatus(attempt=failures)),
        state="running" if failures else "pending",
        created_at=0.0,
        template_digest=D,
    )
    failed = tuple(ChildFailure(Uid(f"f{i}"), D, NOW - 500.0, None, "ProcessExited", "exit 3") for i in range(failures))
    answers = {
        LookChildren(UID): Children(failures=failed, finished=failures, highest_slot=failures - 1),
        starts_look(D): starts,
        hold_look(row): held,
    }
    return JobDomain().decide(row, Seen(answers), NOW)  # type: ignore[arg-type]


def test_a_job_is_not_tried_again_while_it_is_held_or_the_breaker_is_open() -> None:
    assert len(made(job_plan())) == 1
    held = job_plan(held=HELD)
    assert made(held) == [] and held.why == HELD.words and held.wake_at == NOW + 60
    stopped = job_plan(Starts(OPEN))
    assert made(stopped) == [] and stopped.reason == "BreakerOpen"
    [trial] = made(job_plan(Starts(COOLED)))
    assert isinstance(trial.spec, SpinSpec) and trial.spec.trial == 1


def test_the_first_attempt_of_a_job_is_what_a_person_asked_for() -> None:
    [first] = made(job_plan(Starts(COOLED), held=HELD, failures=0))
    assert isinstance(first.spec, SpinSpec) and first.spec.trial == 0
