"""What a WarmPool decides: how many it makes, which it takes away, and which bounds are in force."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import (
    ChildBrief,
    ChildGroup,
    Children,
    LookChildren,
    LookPool,
    LookResource,
    PoolView,
    Present,
    RouteFacts,
    Seen,
)
from spinyard.core.plan import CreateChild, DeleteChild, Plan, WakeChild
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, PoolWindow, TemplateSpec, WarmPoolSpec, digest_of
from spinyard.spin.pool.decide import PoolDomain
from spinyard.spin.pool.schedule import bounds
from tests.spin.worlds import NOW, RULES, UID

TEMPLATE = TemplateSpec(command=("serve",), provider="fake")
DIGEST = digest_of(TEMPLATE)
OLD = Digest("sha256:old")
OPENS = datetime(2026, 11, 21, 8, tzinfo=UTC).timestamp()
DAILY = WarmPoolSpec(min=1, max=2, windows=(PoolWindow("0 8 * * *", 3600.0, 5, 9),))


def pool(state: str = "ready", **spec: Any) -> ObjectRow:
    wish = replace(WarmPoolSpec(template_digest=DIGEST, min=2, max=4), **spec)
    return ObjectRow(
        uid=UID,
        kind=Kind.WARM_POOL,
        namespace="default",
        name="box",
        spec=wish,
        status=b"{}",
        state=state,
        created_at=NOW - 1000,
        template=TEMPLATE,
        template_digest=DIGEST,
    )


def members(state: str, count: int, *, digest: str = DIGEST, age: float = 5.0, deleting: bool = False) -> ChildGroup:
    oldest = tuple(
        ChildBrief(Uid(f"{state}-{digest}-{n}"), str(n), state, Digest(digest), deleting, NOW - age - count + n)
        for n in range(count)
    )
    return ChildGroup(state, Digest(digest), deleting, count, oldest)


def decide(row: ObjectRow, *groups: ChildGroup, claimed: int = 0, waiting: int = 0) -> Plan:
    assert isinstance(row.spec, WarmPoolSpec)
    own = [group for group in groups if group.template_digest]
    held = claimed + sum(group.count for group in own if group.state != "pending")
    warm = sum(g.count for g in own if g.state == "warm" and g.template_digest == row.template_digest)
    view = PoolView(UID, row.spec, False, warm, held, waiting)
    answers: dict[Any, Any] = {
        LookChildren(UID): Children(groups, (), 9, 0, 0),
        LookPool(UID, "warm"): view,
    }
    domain = PoolDomain(RULES)
    for look in domain.looks(row, NOW):
        if isinstance(look, LookResource):
            answers[look] = Present(RouteFacts(True))
    return domain.decide(row, Seen(answers), NOW)


def made(plan: Plan) -> int:
    return sum(isinstance(change, CreateChild) for change in plan.children)


def taken(plan: Plan) -> list[str]:
    return [change.uid for change in plan.children if isinstance(change, DeleteChild)]


@pytest.mark.parametrize(
    ("groups", "claimed", "expected"),
    [
        pytest.param((), 0, 2, id="nothing there"),
        pytest.param((members("warm", 2),), 0, 0, id="the minimum is there"),
        pytest.param((members("warm", 1), members("bootstrapping", 1)), 0, 0, id="one is on its way"),
        pytest.param((members("warm", 1), members("pending", 1)), 2, 0, id="one waits for the last place"),
        pytest.param((), 4, 0, id="the maximum is claimed"),
        pytest.param((), 3, 1, id="room for one"),
        pytest.param((members("terminating", 2, deleting=True),), 1, 1, id="those that go count until they are gone"),
        pytest.param((members("warm", 2, digest=OLD),), 0, 2, id="stale ones do not count as warm"),
        pytest.param((members("warm", 3, digest=OLD),), 0, 1, id="stale ones count against the maximum"),
    ],
)
def test_it_makes_what_is_missing_and_never_more_than_the_maximum(
    groups: tuple[ChildGroup, ...], claimed: int, expected: int
) -> None:
    assert made(decide(pool(), *groups, claimed=claimed)) == expected


def test_a_pool_that_is_paused_makes_nothing_and_says_so() -> None:
    plan = decide(replace(pool(), paused=True), members("warm", 1))
    assert made(plan) == 0
    assert (plan.state, plan.reason) == ("filling", "Paused")


def test_a_new_pool_with_nothing_to_keep_warm_is_ready() -> None:
    assert decide(pool("pending", min=0)).state == "ready"


def test_stale_members_are_replaced_unless_they_are_to_be_left() -> None:
    stale = members("warm", 2, digest=OLD)
    assert len(taken(decide(pool(), stale))) == 2
    assert taken(decide(pool(replace_stale=False), stale)) == []


def test_the_oldest_go_when_there_are_more_than_the_minimum_for_long_enough() -> None:
    young, old = members("warm", 3, age=5.0), members("warm", 3, age=60.0)
    assert taken(decide(pool(max_idle_seconds=30.0), old)) == [old.oldest[0].uid]
    waits = decide(pool(max_idle_seconds=30.0), young)
    assert taken(waits) == []
    assert waits.wake_at is not None and NOW < waits.wake_at <= NOW + 30.0


def test_what_a_lowered_maximum_has_no_room_for_is_taken_away() -> None:
    assert len(taken(decide(pool(min=3, max=3), members("warm", 3), claimed=2))) == 2
    assert taken(decide(pool(min=3, max=5), members("warm", 3), claimed=2)) == []


def test_members_that_are_too_old_are_replaced() -> None:
    assert len(taken(decide(pool(freshness_seconds=30.0), members("warm", 2, age=31.0)))) == 2


def test_waiting_claims_are_woken_as_many_as_there_is_room_for() -> None:
    waiting = ChildGroup(
        "pending",
        Digest(""),
        False,
        3,
        tuple(ChildBrief(Uid(f"claim-{n}"), "", "pending", Digest(""), False, NOW - 9 + n) for n in range(3)),
    )
    plan = decide(pool(), waiting, members("warm", 1), claimed=2, waiting=3)
    woken = [change.uid for change in plan.children if isinstance(change, WakeChild)]
    assert woken == ["claim-0", "claim-1"], "the oldest first: one is warm, and there is room for one more"


def test_a_forced_deletion_reaches_what_is_on_its_way_out() -> None:
    row = replace(pool("terminating"), delete_at=NOW - 5, force=True)
    gone = [c for c in decide(row, members("terminating", 1, deleting=True)).children if isinstance(c, DeleteChild)]
    assert [change.force for change in gone] == [True]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(-60.0, (1, 2, 60.0), id="a minute before"),
        pytest.param(0.0, (5, 9, 3600.0), id="as it opens"),
        pytest.param(1800.0, (5, 9, 1800.0), id="in the middle"),
        pytest.param(3600.0, (1, 2, 82800.0), id="as it closes"),
    ],
)
def test_a_window_holds_from_its_opening_to_its_end(after: float, expected: tuple[int, int, float]) -> None:
    assert bounds(DAILY, OPENS + after) == expected


def test_the_window_that_opened_last_is_in_force() -> None:
    night = PoolWindow("30 8 * * *", 600.0, 0, 1)
    both = replace(DAILY, windows=(*DAILY.windows, night))
    assert bounds(both, OPENS + 1860.0)[:2] == (0, 1)
    assert bounds(both, OPENS + 2460.0)[:2] == (5, 9)


def test_bounds_without_windows_never_change() -> None:
    assert bounds(WarmPoolSpec(min=3, max=7), NOW) == (3, 7, None)
