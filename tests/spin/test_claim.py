"""What a Claim decides: which member it takes, when it has one made, when it gives up, and that it ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from spinyard.core.ids import Uid
from spinyard.core.observed import ChildBrief, ChildGroup, Children, LookChildren, LookPool, PoolView, Seen
from spinyard.core.plan import BindMember, CreateChild, DeleteChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import ClaimSpec, Kind, PoolWindow, SpinSpec, WarmPoolSpec
from spinyard.spin.claim.decide import ClaimDomain
from spinyard.spin.claim.status import ClaimStatus
from tests.spin.worlds import NEW, NOW, UID

POOL = Uid("pool")


def claim(state: str = "pending", *, status: ClaimStatus | None = None, age: float = 1.0, **spec: Any) -> ObjectRow:
    return ObjectRow(
        uid=UID,
        kind=Kind.CLAIM,
        namespace="default",
        name="mine",
        spec=replace(ClaimSpec("box", pool_uid=POOL, host="mine.box.test"), **spec),
        status=msgspec.json.encode(status or ClaimStatus(since=NOW - 1)),
        state=state,
        created_at=NOW - age,
    )


def member(state: str, *, deleting: bool = False) -> ChildGroup:
    return ChildGroup(state, NEW, deleting, 1, (ChildBrief(Uid(f"m-{state}"), "0", state, NEW, deleting, NOW - 9),))


def decide(row: ObjectRow, *groups: ChildGroup, **pool: Any) -> Plan:
    spec = replace(WarmPoolSpec(template_digest=NEW, min=1, max=2), **pool.pop("spec", {}))
    view = replace(PoolView(POOL, spec, False, 0, 0, 0), **pool)
    answers: dict[Any, Any] = {
        LookChildren(UID): Children(groups, (), -1, 0, 0),
        LookPool(POOL, "warm"): None if pool.get("warm") == -1 else view,
    }
    return ClaimDomain().decide(row, Seen(answers), NOW)


def changes(plan: Plan) -> list[str]:
    return [type(change).__name__ for change in plan.children]


@pytest.mark.parametrize(
    ("held", "warm", "spec", "state", "expected"),
    [
        pytest.param(1, 1, {}, "pending", ["BindMember"], id="a warm one is taken"),
        pytest.param(1, 0, {}, "pending", ["CreateChild"], id="there is room: one is made"),
        pytest.param(2, 0, {}, "failed", [], id="at the maximum"),
        pytest.param(2, 0, {"wait_seconds": 9.0}, "pending", [], id="at the maximum, and it may wait"),
        pytest.param(2, 0, {"wait_seconds": 0.5}, "failed", [], id="it has waited long enough"),
        pytest.param(0, -1, {}, "failed", [], id="the pool is gone"),
    ],
)
def test_a_claim_without_a_member(held: int, warm: int, spec: dict[str, Any], state: str, expected: list[str]) -> None:
    plan = decide(claim(**spec), held=held, warm=warm)
    assert (plan.state, changes(plan)) == (state, expected)
    assert plan.why and (plan.state != "failed" or plan.outcome)


def test_its_own_that_still_waits_for_a_place_is_given_up_for_a_warm_one() -> None:
    plan = decide(claim(), member("pending"), warm=1, held=2)
    assert changes(plan) == ["DeleteChild", "BindMember"]
    assert [c.uid for c in plan.children if isinstance(c, DeleteChild)] == ["m-pending"]


def test_the_maximum_is_that_of_the_window_in_force() -> None:
    always = PoolWindow("* * * * *", 90.0, 0, 1)
    assert decide(claim(), held=1, spec={"windows": (always,)}).state == "failed"
    wider = replace(always, max=5)
    plan = decide(claim(), held=2, spec={"windows": (wider,)})
    [made] = plan.children
    assert isinstance(made, CreateChild) and isinstance(made.spec, SpinSpec)
    assert made.spec.pool_max == 5


@pytest.mark.parametrize(
    ("state", "host", "expected"),
    [
        ("warm", "a.test", "bound"),
        ("registering", "a.test", "bound"),
        ("ready", "a.test", "bound"),
        ("serving", "a.test", "ready"),
        ("ready", "", "ready"),
        ("failed", "a.test", "pending"),
    ],
)
def test_it_is_ready_only_with_a_member_that_is_up_and_in_traffic(state: str, host: str, expected: str) -> None:
    assert decide(claim("bound", host=host), member(state)).state == expected


def test_members_that_are_not_good_are_not_tried_for_ever() -> None:
    assert decide(claim(status=ClaimStatus(tries=2)), warm=1).state == "pending"
    plan = decide(claim(status=ClaimStatus(tries=3)), warm=1)
    assert (plan.state, plan.outcome) == ("failed", "ProbeFailed")


@pytest.mark.parametrize("state", ["pending", "bound", "ready", "failed"])
def test_it_ends_when_its_time_is_over_or_it_is_released(state: str) -> None:
    assert decide(claim(state, expires_at=NOW)).state == "terminating"
    assert decide(replace(claim(state), delete_at=NOW - 1)).state == "terminating"


def test_it_looks_again_when_its_time_is_over() -> None:
    assert decide(claim("ready", expires_at=NOW + 7.0), member("serving")).wake_at == NOW + 7.0


def test_what_it_had_goes_with_it_and_is_never_given_back() -> None:
    plan = decide(claim("terminating"), member("serving"))
    assert (plan.state, changes(plan)) == ("terminating", ["DeleteChild"])
    assert decide(claim("terminating"), member("cleaning", deleting=True)).finished is False
    assert decide(claim("terminating")).finished is True


def test_a_claim_whose_instance_is_lost_says_so_and_takes_no_other() -> None:
    plan = decide(claim("ready"), member("terminating"), warm=1)
    assert (plan.state, plan.outcome) == ("failed", "InstanceLost")
    assert not any(isinstance(change, BindMember) for change in plan.children)
