"""Claims straight on the real store: bound in the transaction that makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from spinyard.core.ids import Uid
from spinyard.core.observed import ChildFailure
from spinyard.core.plan import BindMember, CreateChild, Plan
from spinyard.core.spec import ClaimPart, ClaimSpec, Kind, SpinSpec, TemplateSpec, WarmPoolSpec, digest_of
from spinyard.errors import Conflict, InvalidInput, NotFound
from spinyard.ports.store import Commit, StoredObject, Transaction
from spinyard.usecases.change import renew
from spinyard.usecases.claims import NewClaim, claim
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.explain import Facts, explain
from spinyard.usecases.pool_stats import pool_stats
from spinyard.usecases.views import ObjectView, get_live, view
from tests.usecases.test_plan_and_apply import ME, TEMPLATE, Yard, template, yard

__all__ = ["yard"]

BOX = ObjectId(Kind.WARM_POOL, "default", "box")
DIGEST = digest_of(TEMPLATE)


def pool(name: str = "box", **fields: object) -> Declared:
    spec = replace(WarmPoolSpec(host_suffix="box.localhost"), **fields)  # type: ignore[arg-type]
    return Declared(Kind.WARM_POOL, "default", name, spec, TEMPLATE)


def declared_claim(name: str, **fields: object) -> Declared:
    return Declared(Kind.CLAIM, "default", name, replace(ClaimSpec(pool="box"), **fields))  # type: ignore[arg-type]


def make(yard: Yard, name: str = "", **fields: object) -> ObjectView:
    spec = replace(ClaimSpec(pool="box"), **fields)  # type: ignore[arg-type]
    new = NewClaim("default", name, spec)
    return yard.run(lambda tx: view(tx, claim(tx, new, uid=yard.new_uid(), actor="me")))


def warm_members(yard: Yard, count: int) -> None:
    """What the engine does: children of the pool, in state warm."""
    yard.now += 1
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=100)
    made = tuple(
        CreateChild(Uid(f"member{n:014}"), Kind.SPIN, f"box-{n}", str(n), SpinSpec(DIGEST, pool_uid="p"), DIGEST)
        for n in range(count)
    )
    owner = next(row for row in rows if row.kind is Kind.WARM_POOL)
    plan = Plan("ready", b"{}", "driven", "Driven", None, children=made)
    yard.store.commit([Commit(owner, plan, release=True)], now=yard.now)
    yard.now += 1
    spins = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=100)
    status = msgspec.json.encode({"ports": {"http": 4711}})
    plans = [Plan("warm", status, "driven", "Driven", None) for _ in spins]
    done = [Commit(row, plan, release=True) for row, plan in zip(spins, plans, strict=True)]
    yard.store.commit(done, now=yard.now)


def stored_spec(found: StoredObject) -> ClaimSpec:
    assert isinstance(found.row.spec, ClaimSpec)
    return found.row.spec


def test_a_claim_has_its_member_when_the_call_returns(yard: Yard) -> None:
    yard.apply(pool())
    warm_members(yard, 2)
    first, second, third = make(yard, "a", env=(("A", "b"),)), make(yard, "b"), make(yard)
    assert [c.member.row.name if c.member else None for c in (first, second, third)] == ["box-0", "box-1", None]
    assert (first.place_in_queue, third.place_in_queue) == (None, 1), "who has a member waits for none"
    held = first.member
    assert held is not None and isinstance(held.row.spec, SpinSpec) and held.row.spec.claim is not None
    assert held.row.spec.claim.host == "a.box.localhost"
    assert held.row.spec.claim.env == (("A", "b"),)
    assert third.id.name.startswith("box-")


def test_a_claim_with_a_member_is_bound_and_has_nothing_to_do_before_its_end(yard: Yard) -> None:
    yard.apply(pool())
    warm_members(yard, 2)
    for_ever, for_a_while, without = make(yard, "a"), make(yard, "b", ttl_seconds=9.0), make(yard, "c")
    assert [c.stored.row.state for c in (for_ever, for_a_while, without)] == ["bound", "bound", "pending"]
    assert for_ever.status["tries"] == 1 and for_ever.status["bound_at"] == for_ever.stored.row.created_at
    assert for_ever.stored.wake_at is None
    assert for_a_while.stored.wake_at == for_a_while.stored.row.created_at + 9.0
    assert without.stored.wake_at == without.stored.row.created_at


def test_a_member_of_an_older_template_is_not_handed_out(yard: Yard) -> None:
    yard.apply(pool())
    warm_members(yard, 1)
    other = replace(pool(), template=TemplateSpec(command=("sleep", "61")))
    yard.apply(other)
    made = make(yard, "a")
    assert made.member is None
    box, claimed = yard.run(lambda tx: get_live(tx, BOX)).row.uid, made.stored.row.uid
    late = BindMember(box, "warm", DIGEST, ClaimPart(claimed, "a"))
    assert yard.run(lambda tx: tx.bind_member(claimed, late)) is None, "nor to one who read the pool before"


def test_a_new_template_leaves_claims_alone(yard: Yard) -> None:
    yard.apply(pool())
    warm_members(yard, 1)
    before = make(yard, "a")
    yard.apply(replace(pool(), template=TemplateSpec(command=("sleep", "61"))))
    after = yard.run(lambda tx: view(tx, get_live(tx, before.id)))
    assert after.member is not None and before.member is not None
    assert after.member.row.uid == before.member.row.uid
    assert after.member.row.delete_at is None


def test_an_unknown_pool_is_told_with_the_nearest_name(yard: Yard) -> None:
    yard.apply(pool("boxes"))
    with pytest.raises(NotFound) as error:
        make(yard, "a")
    assert "boxes" in error.value.next_step


@pytest.mark.parametrize("ttl", [0.0, -1.0])
def test_a_claim_without_time_is_refused(yard: Yard, ttl: float) -> None:
    yard.apply(pool())
    with pytest.raises(InvalidInput):
        make(yard, "a", ttl_seconds=ttl)
    assert yard.run(lambda tx: tx.find(Kind.CLAIM, "default", "a")) is None


def test_a_renewal_moves_the_end_and_comes_too_late_after_it(yard: Yard) -> None:
    yard.apply(pool())
    id = make(yard, "a", ttl_seconds=60.0).id
    renewed = yard.run(lambda tx: renew(tx, id, 600.0, ME))
    assert stored_spec(renewed).expires_at == yard.now + 600.0
    yard.now += 601
    with pytest.raises(Conflict) as error:
        yard.run(lambda tx: renew(tx, id, 600.0, ME))
    assert error.value.code == "claim_over"


def test_a_failed_claim_is_not_renewed(yard: Yard) -> None:
    yard.apply(pool())
    id = make(yard, "a").id
    yard.drive("failed")
    with pytest.raises(Conflict):
        yard.run(lambda tx: renew(tx, id, 600.0, ME))


def test_a_pool_with_claims_goes_only_by_force(yard: Yard) -> None:
    yard.apply(pool())
    id = make(yard, "a").id
    with pytest.raises(Conflict) as error:
        yard.delete(BOX)
    assert (error.value.code, error.value.details["usedBy"]) == ("in_use", ["Claim/default/a"])
    assert yard.delete(BOX, force=True).row.delete_at is not None
    assert yard.delete(id).row.delete_at is not None


def test_a_pool_whose_claims_are_all_released_goes(yard: Yard) -> None:
    yard.apply(pool())
    yard.delete(make(yard, "a").id)
    assert yard.delete(BOX).row.delete_at is not None
    with pytest.raises(Conflict) as error:
        make(yard, "b")
    assert error.value.code == "being_deleted"


def test_pool_and_claim_may_come_in_one_request_in_any_order(yard: Yard) -> None:
    applied = yard.apply(declared_claim("a"), pool())
    assert [one.stored.row.kind for one in applied] == [Kind.CLAIM, Kind.WARM_POOL]
    assert applied[0].stored.row.owner_uid == applied[1].stored.row.uid
    assert stored_spec(applied[0].stored).host == "a.box.localhost"


def test_a_claim_of_a_pool_that_is_nowhere_is_refused_as_a_whole(yard: Yard) -> None:
    with pytest.raises(InvalidInput) as error:
        yard.apply(declared_claim("a"), pool("other"))
    assert error.value.details["errors"][0]["code"] == "pool_not_found"  # type: ignore[index]
    assert yard.run(lambda tx: tx.find(Kind.WARM_POOL, "default", "other")) is None


def test_a_claim_applied_again_changes_only_its_time(yard: Yard) -> None:
    yard.apply(pool(), declared_claim("a", ttl_seconds=60.0))
    assert [one.result for one in yard.apply(declared_claim("a", ttl_seconds=60.0))] == ["unchanged"]
    again = yard.apply(declared_claim("a", ttl_seconds=90.0))[0]
    assert stored_spec(again.stored).expires_at == yard.now + 90.0
    with pytest.raises(Conflict) as error:
        yard.apply(declared_claim("a", ttl_seconds=90.0, env=(("A", "b"),)))
    assert error.value.code == "claim_fixed"


def test_a_template_that_a_pool_refers_to_stays(yard: Yard) -> None:
    referring = Declared(Kind.WARM_POOL, "default", "box", WarmPoolSpec(template_ref="base"))
    yard.apply(template("base"), referring)
    with pytest.raises(Conflict):
        yard.delete(ObjectId(Kind.TEMPLATE, "default", "base"))


def test_the_hour_is_counted_by_what_became_of_each_claim(yard: Yard) -> None:
    yard.now = 600_000.0
    yard.apply(pool())
    warm_members(yard, 2)
    for name, state, status in (
        ("a", "bound", {"bound_at": 1.0}),
        ("b", "bound", {"bound_at": 1.0, "cold": True}),
        ("c", "failed", {}),
        ("d", "pending", {}),
    ):
        uid = make(yard, name).stored.row.uid
        yard.now += 1
        yard.store.wake([uid], now=yard.now)
        rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=100)
        row = next(row for row in rows if row.uid == uid)
        failed_at = yard.now if state == "failed" else None
        plan = Plan(state, msgspec.json.encode(status), "driven", "Driven", None, failed_at=failed_at)
        yard.store.commit([Commit(row, plan, release=True)], now=yard.now)
    found = yard.run(lambda tx: pool_stats(tx, BOX))
    assert len(found.steps) == 12
    last = found.steps[-1]
    assert (last.warm, last.cold, last.failed, last.waiting) == (1, 1, 1, 1)
    assert found.hit_rate == pytest.approx(1 / 3)
    assert found.members == ()


def test_a_claim_that_failed_keeps_no_pool_alive(yard: Yard) -> None:
    yard.apply(pool())
    uid = make(yard, "a").stored.row.uid
    yard.now += 1
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=100)
    row = next(row for row in rows if row.uid == uid)
    yard.store.commit([Commit(row, Plan("failed", b"{}", "no", "No", None), release=True)], now=yard.now)
    assert yard.delete(BOX).row.delete_at is not None


def test_changes_written_together_have_a_commit_each_and_fail_together(yard: Yard) -> None:
    yard.apply(pool())
    warm_members(yard, 3)

    def work(name: str) -> Callable[[Transaction], StoredObject]:
        new, uid = NewClaim("default", name, ClaimSpec(pool="box")), yard.new_uid()
        return lambda tx: claim(tx, new, uid=uid, actor="me")

    first, second = yard.store.transact_many([work("a"), work("b")], now=yard.now)
    assert first.commit_seq < second.commit_seq
    with pytest.raises(Conflict):
        yard.store.transact_many([work("c"), work("a")], now=yard.now)
    assert yard.run(lambda tx: tx.find(Kind.CLAIM, "default", "c")) is None
    assert make(yard, "d").member is not None, "what was rolled back holds no member"


def test_a_claim_that_lost_its_instance_is_explained_by_what_ended_it(yard: Yard) -> None:
    yard.apply(pool())
    uid = make(yard, "a").stored.row.uid
    yard.now += 1
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=100)
    row = next(row for row in rows if row.uid == uid)
    status = msgspec.json.encode({"last_error_class": "InstanceLost", "last_error": "exit 3"})
    yard.store.commit([Commit(row, Plan("failed", status, "exit 3", "InstanceLost", None), release=True)], now=yard.now)
    found = yard.run(lambda tx: view(tx, get_live(tx, ObjectId(Kind.CLAIM, "default", "a"))))
    failure = ChildFailure(Uid("x"), DIGEST, yard.now, None, "ProcessExited", "exit 3")
    told = explain(Facts(found, yard.now, failures=[failure]))
    assert told.cause == "ProcessExited: exit 3"
    assert told.who == "user"
    assert told.next_step.endswith("claim anew.")
