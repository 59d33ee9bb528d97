"""Holds straight on the real store: what may be held, for how long, and how it ends."""

from __future__ import annotations

import msgspec
import pytest

from spinyard.core.observed import Held, Seen
from spinyard.core.plan import Plan
from spinyard.core.spec import HoldSpec, Kind
from spinyard.errors import Conflict, InvalidInput, NotFound
from spinyard.ports.store import Commit, StoredObject
from spinyard.spin.hold import HoldDomain
from spinyard.usecases.explain import Facts, Who, explain
from spinyard.usecases.holds import HoldRequest, hold, holds, release_hold
from spinyard.usecases.views import get_live, view
from tests.usecases.test_plan_and_apply import ME, WEB, Yard, service, yard

__all__ = ["yard"]


def put(yard: Yard, scope: str = "", why: str = "a freeze", seconds: float | None = None) -> StoredObject:
    request = HoldRequest(scope, "default", why, seconds)
    return yard.run(lambda tx: hold(tx, request, ME, uid=yard.new_uid()))[0]


def over(yard: Yard, kind: Kind = Kind.SERVICE, name: str = "web", namespace: str = "default") -> Held | None:
    return yard.store.held(namespace, kind, name, now=yard.now)


def drive_holds(yard: Yard) -> None:
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=100)
    batch = []
    for row in rows:
        plan = Plan(row.state, row.status, "as it was", "Test", None)
        if row.kind is Kind.HOLD:
            plan = HoldDomain().decide(row, Seen(), yard.now)
        batch.append(Commit(row, plan, release=True))
    yard.store.commit(batch, now=yard.now)


@pytest.mark.parametrize(
    ("scope", "stored"),
    [
        ("", "everything"),
        ("everything", "everything"),
        ("namespace/default", "namespace/default"),
        ("service/web", "service/web"),
        ("Service/web", "service/web"),
    ],
)
def test_a_scope_is_held_until_it_is_released(yard: Yard, scope: str, stored: str) -> None:
    yard.apply(service())
    made = put(yard, scope)
    assert isinstance(made.row.spec, HoldSpec) and made.row.spec.scope == stored
    found = over(yard)
    assert found is not None and found.words == f"held by {ME.actor}: a freeze"
    yard.run(lambda tx: release_hold(tx, scope, "default", ME))
    assert over(yard) is None
    drive_holds(yard)
    assert yard.run(lambda tx: holds(tx, None)) == []
    put(yard, scope, "again")
    assert over(yard) is not None


@pytest.mark.parametrize("scope", ["spin/x", "claim/x", "nonsense", "service/", "service/a/b", "/web", "template/t"])
def test_what_is_no_scope_is_refused(yard: Yard, scope: str) -> None:
    yard.apply(service())
    with pytest.raises(InvalidInput):
        put(yard, scope)
    with pytest.raises(InvalidInput):
        yard.run(lambda tx: release_hold(tx, scope, "default", ME))


@pytest.mark.parametrize("scope", ["service/other", "job/web", "pool/web", "rollout/web", "namespace/nowhere"])
def test_what_does_not_exist_is_not_held_in_silence(yard: Yard, scope: str) -> None:
    yard.apply(service())
    with pytest.raises(NotFound):
        put(yard, scope)


@pytest.mark.parametrize("why", ["", "   ", "\n", "x" * 501], ids=["none", "spaces", "a line end", "too long"])
def test_a_hold_needs_a_reason_that_can_be_read(yard: Yard, why: str) -> None:
    with pytest.raises(InvalidInput):
        put(yard, "", why)


@pytest.mark.parametrize("seconds", [0.0, -5.0, 1e12, float("nan")])
def test_a_time_that_is_none_is_refused(yard: Yard, seconds: float) -> None:
    with pytest.raises(InvalidInput):
        put(yard, "", seconds=seconds)


@pytest.mark.parametrize("scope", ["", "service/web", "namespace/default"])
def test_what_is_not_held_cannot_be_released(yard: Yard, scope: str) -> None:
    yard.apply(service())
    with pytest.raises(NotFound, match="not held"):
        yard.run(lambda tx: release_hold(tx, scope, "default", ME))


def test_the_newest_word_about_a_scope_counts(yard: Yard) -> None:
    first = put(yard, why="one", seconds=5)
    second = put(yard, why="two")
    assert first.row.uid == second.row.uid
    found = over(yard)
    assert found is not None and (found.why, found.until) == ("two", None)
    assert len(yard.run(lambda tx: holds(tx, None))) == 1


def test_one_whose_time_is_over_is_held_anew_at_once(yard: Yard) -> None:
    first = put(yard, why="one", seconds=5)
    yard.now += 6
    assert over(yard) is None
    request = HoldRequest("", "default", "two", None)
    second, is_new = yard.run(lambda tx: hold(tx, request, ME, uid=yard.new_uid()))
    assert (second.row.uid, is_new) == (first.row.uid, True)
    drive_holds(yard)
    found = over(yard)
    assert found is not None and (found.why, found.until) == ("two", None)
    yard.run(lambda tx: release_hold(tx, "", "default", ME))
    with pytest.raises(Conflict):
        put(yard, why="three")


def test_it_ends_by_itself_and_says_so(yard: Yard) -> None:
    made = put(yard, seconds=10)
    drive_holds(yard)
    yard.now += 20
    assert over(yard) is None
    assert yard.run(lambda tx: holds(tx, None)) == []
    with pytest.raises(NotFound):
        yard.run(lambda tx: release_hold(tx, "", "default", ME))
    drive_holds(yard)
    events = [(event.reason, event.message) for event in yard.store.events(uid=made.row.uid)]
    assert events[-1] == ("Expired", "its time is over")
    put(yard)


def test_parents_look_at_once_when_they_are_held_and_when_they_are_released(yard: Yard) -> None:
    yard.apply(service())
    drive_holds(yard)

    def due() -> list[str]:
        yard.now += 1
        rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=0.0, limit=10)
        return [row.name for row in rows if row.kind is Kind.SERVICE]

    assert due() == []
    put(yard, "service/web")
    assert due() == ["web"]
    drive_holds(yard)
    assert due() == []
    yard.run(lambda tx: release_hold(tx, "service/web", "default", ME))
    assert due() == ["web"]


def test_explain_tells_who_holds_it_and_how_it_goes_on(yard: Yard) -> None:
    yard.apply(service())
    yard.now += 1
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=10)
    status = msgspec.json.encode(
        {"conditions": [{"type": "Held", "status": "True", "reason": "Hold", "message": "held by alice: a freeze"}]}
    )
    plan = Plan("progressing", status, "1 of 2 in traffic; held by alice: a freeze", "Held", None)
    yard.store.commit([Commit(row, plan, release=True) for row in rows], now=yard.now)
    found = yard.run(lambda tx: view(tx, get_live(tx, WEB)))
    said = explain(Facts(found, now=yard.now))
    assert said.cause == "1 of 2 in traffic; held by alice: a freeze"
    assert said.who is Who.USER and "release-hold" in said.next_step
    assert "Held is True: Hold (held by alice: a freeze)" in [evidence.text for evidence in said.evidence]
