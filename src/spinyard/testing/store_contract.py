"""What every store must do, as checks that take an empty store. Run them over your own:

    @pytest.mark.parametrize("check", STORE_CONTRACT, ids=lambda check: check.__name__)
    def test_contract(check, store): check(store)

Time is a number here; nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spinyard.core.chain import RECORD_BYTES_MAX, RecordDraft, first_break
from spinyard.core.ids import Digest, Uid, child_uid, resource_key
from spinyard.core.observed import Peer
from spinyard.core.plan import (
    CreateChild,
    DeleteChild,
    EndRollout,
    EventDraft,
    Plan,
    Reserve,
    Resource,
    SetRollout,
)
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    Kind,
    NamedTemplateSpec,
    RolloutPart,
    RolloutSpec,
    ServiceSpec,
    SpinSpec,
    TemplateSpec,
    digest_of,
)
from spinyard.core.want import EndpointWant
from spinyard.errors import Conflict, Expired, InvalidInput, KeyReused, NotFound, SystemFailure
from spinyard.ports.store import (
    Commit,
    CommitResult,
    Committed,
    KeyRecord,
    Lease,
    NewObject,
    Refused,
    Stale,
    Store,
    StoredObject,
)

NOW = 1_000.0
TEMPLATE = TemplateSpec(command=("serve", "--port", "${PORT}"))
DIGEST = digest_of(TEMPLATE)
Check = Callable[[Store], None]


# -- making things -----------------------------------------------------------------------------------------------------


def add_service(store: Store, name: str = "web", *, now: float = NOW, **more: Any) -> StoredObject:
    new = NewObject(
        uid=Uid(f"uid-{name}"),
        kind=Kind.SERVICE,
        namespace=more.pop("namespace", "default"),
        name=name,
        spec=ServiceSpec(owner="team", template_digest=DIGEST),
        state="pending",
        status=b"{}",
        template_digest=DIGEST,
        **more,
    )

    def work(tx: Any) -> StoredObject:
        tx.put_template(DIGEST, TEMPLATE)
        stored: StoredObject = tx.insert(new, actor="alice", why="asked for")
        return stored

    return store.transact(work, now=now)


def claim_all(
    store: Store, now: float = NOW, *, holder: str = "one", lease_seconds: float = 15.0
) -> Sequence[ObjectRow]:
    return store.claim(holder=holder, now=now, lease_seconds=lease_seconds, limit=1000)


def claim_one(store: Store, name: str, now: float = NOW) -> ObjectRow:
    return next(row for row in claim_all(store, now) if row.name == name)


def plan_for(row: ObjectRow, **changes: Any) -> Plan:
    base = Plan(state=row.state, status=row.status, why="because", reason="Because", wake_at=None)
    return replace(base, **changes)


def commit_one(
    store: Store, row: ObjectRow, *, now: float = NOW, release: bool = False, **changes: Any
) -> CommitResult:
    return store.commit([Commit(row, plan_for(row, **changes), release=release)], now=now)[0]


def must_commit(store: Store, row: ObjectRow, *, now: float = NOW, release: bool = False, **changes: Any) -> ObjectRow:
    result = commit_one(store, row, now=now, release=release, **changes)
    assert isinstance(result, Committed), result
    return result.row


def child(owner: ObjectRow, slot: int, **changes: Any) -> CreateChild:
    uid = child_uid(owner.uid, str(slot), 1)
    base = CreateChild(
        uid=uid,
        kind=Kind.SPIN,
        name=f"{owner.name}-{slot}",
        slot=str(slot),
        spec=SpinSpec(template_digest=DIGEST),
        template_digest=DIGEST,
    )
    return replace(base, **changes)


def ledger(row: ObjectRow, part: str = "process", **changes: Any) -> Resource:
    base = Resource(key=resource_key(row.uid, part), owner=row.uid, provider="fake", kind="process", wanted=True)
    return replace(base, **changes)


def find_uid(store: Store, uid: Uid) -> StoredObject:
    found = store.read(lambda tx: tx.find_uid(uid), now=NOW)
    assert found is not None, uid
    return found


# -- claims and leases -------------------------------------------------------------------------------------------------


def a_new_object_is_claimed_once_with_all_that_belongs_to_it(store: Store) -> None:
    add_service(store, labels={"tier": "front"})
    row = claim_one(store, "web")
    assert (row.lease_token, row.lease_until, row.template) == (1, NOW + 15.0, TEMPLATE)
    assert row.spec == ServiceSpec(owner="team", template_digest=DIGEST)
    assert row.labels == (("tier", "front"),)
    assert claim_all(store) == []
    assert claim_all(store, NOW + 14.9) == []


def claims_take_the_oldest_wake_first_and_no_more_than_asked(store: Store) -> None:
    for index, name in enumerate(("c", "a", "b")):
        add_service(store, name, now=NOW + index)
    rows = store.claim(holder="one", now=NOW + 10, lease_seconds=15, limit=2)
    assert [row.name for row in rows] == ["c", "a"]
    assert store.next_due(now=NOW + 10) == NOW + 2


def a_lapsed_lease_is_claimed_by_the_next_and_its_old_holder_writes_nothing(store: Store) -> None:
    add_service(store)
    old = claim_one(store, "web")
    new = claim_one(store, "web", NOW + 15.0)
    assert new.lease_token == old.lease_token + 1
    assert commit_one(store, old, state="rolling") == Stale()
    assert store.reload(Lease(old.uid, old.lease_token)) is None
    assert store.extend([Lease(old.uid, old.lease_token)], until=NOW + 60) == []
    must_commit(store, new, state="rolling")
    assert find_uid(store, old.uid).row.state == "rolling"


def a_holder_that_dies_after_a_commit_is_followed_by_another(store: Store) -> None:
    """Even if its plan meant to wait for nobody: what it had begun is looked at again."""
    add_service(store)
    must_commit(store, claim_one(store, "web"), state="rolling", wake_at=None, release=False)
    assert claim_all(store, NOW + 14) == []
    assert [row.state for row in claim_all(store, NOW + 16)] == ["rolling"]


def a_stale_resource_version_writes_nothing(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, state="rolling")
    before = store.commit_seq(), store.events()
    assert commit_one(store, row, state="available", events=(EventDraft("Normal", "X", "x"),)) == Stale()
    assert store.events() == before[1]
    assert find_uid(store, row.uid).row.state == "rolling"


def a_changed_wish_makes_the_running_pass_stale(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    store.transact(
        lambda tx: tx.update(
            row.uid, actor="bob", why="scale", reason="Scaled", spec=ServiceSpec(owner="team", replicas=3)
        ),
        now=NOW + 1,
    )
    assert commit_one(store, row, state="rolling") == Stale()
    again = store.reload(Lease(row.uid, row.lease_token))
    assert again is not None
    assert (again.generation, again.resource_version, again.wake_seq) == (2, row.resource_version + 1, row.wake_seq + 1)
    assert isinstance(again.spec, ServiceSpec)
    assert again.spec.replicas == 3


def a_row_that_nobody_touched_is_not_read_again(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    lease = Lease(row.uid, row.lease_token)
    assert store.reload(lease, row) is row
    store.wake([row.uid], now=NOW + 1)
    woken = store.reload(lease, row)
    assert woken is not None
    assert woken.wake_seq == row.wake_seq + 1
    assert store.reload(lease, woken) is woken
    store.transact(lambda tx: tx.update(row.uid, actor="bob", why="pause", reason="Paused", paused=True), now=NOW + 2)
    paused = store.reload(lease, woken)
    assert paused is not None
    assert paused.paused
    store.release([(lease, paused.wake_seq, None)], now=NOW)
    assert store.reload(lease, paused) is None


def a_lease_is_extended_and_given_back(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    lease = Lease(row.uid, row.lease_token)
    assert store.extend([lease, Lease(Uid("nobody"), 1)], until=NOW + 100) == [lease]
    assert claim_all(store, NOW + 50) == []
    store.release([(lease, row.wake_seq, NOW + 70)], now=NOW)
    assert store.reload(lease) is None
    assert commit_one(store, row, state="rolling") == Stale()
    assert store.next_due(now=NOW + 50) == NOW + 70
    assert claim_all(store, NOW + 69) == []
    assert len(claim_all(store, NOW + 70)) == 1


def a_row_released_without_a_time_waits_until_it_is_woken(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    store.release([(Lease(row.uid, row.lease_token), row.wake_seq, None)], now=NOW)
    assert store.next_due(now=NOW) is None
    store.wake([row.uid, Uid("nobody")], now=NOW + 5)
    assert store.next_due(now=NOW + 5) == NOW + 5
    assert [r.wake_seq for r in claim_all(store, NOW + 5)] == [row.wake_seq + 1]


def a_parent_that_is_given_back_is_due_soon_though_the_clock_went_back(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    after = must_commit(store, row, now=NOW + 3600, children=(child(row, 0),))
    store.wake([row.uid], now=NOW)
    store.release([(Lease(after.uid, after.lease_token), after.wake_seq, None)], now=NOW)
    rows = [(row.name, row.uid) for row in claim_all(store, NOW + 1)]
    assert ("web", after.uid) in rows


def a_wake_between_observing_and_committing_is_not_lost(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    store.wake([row.uid], now=NOW)
    must_commit(store, row, state="rolling", wake_at=NOW + 3600, release=True)
    assert store.next_due(now=NOW) == NOW
    assert len(claim_all(store, NOW)) == 1


def a_wake_between_committing_and_releasing_is_not_lost(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    store.wake([row.uid], now=NOW)
    after = must_commit(store, row, state="rolling", wake_at=NOW + 3600, release=False)
    store.release([(Lease(after.uid, after.lease_token), after.wake_seq, NOW + 3600)], now=NOW)
    due = store.next_due(now=NOW)
    assert due is not None
    assert due <= NOW


def after_a_restart_every_live_row_is_looked_at_once(store: Store) -> None:
    for name in ("waiting", "gone"):
        add_service(store, name)
    rows = {row.name: row for row in claim_all(store)}
    must_commit(store, rows["waiting"], state="rolling", wake_at=NOW + 3600, release=True)
    must_commit(store, rows["gone"], state="gone", finished=True)
    store.catch_up(now=NOW + 1)
    assert claim_all(store, NOW + 1) == [], "what was at rest is looked at a little later"
    [row] = claim_all(store, NOW + 2)
    assert (row.name, row.wake_seq) == ("waiting", rows["waiting"].wake_seq + 1)


def after_a_restart_what_was_in_hand_is_had_again(store: Store) -> None:
    add_service(store)
    claim_one(store, "web")
    store.catch_up(now=NOW + 1)
    assert [row.name for row in claim_all(store, NOW + 3600)] == ["web"]


def an_undisturbed_release_waits_as_planned(store: Store) -> None:
    add_service(store)
    must_commit(store, claim_one(store, "web"), state="rolling", wake_at=NOW + 3600, release=True)
    assert store.next_due(now=NOW) == NOW + 3600
    assert claim_all(store, NOW + 3599) == []


def kinds_that_nobody_drives_are_never_due(store: Store) -> None:
    new = NewObject(
        uid=Uid("t"),
        kind=Kind.TEMPLATE,
        namespace="default",
        name="base",
        spec=NamedTemplateSpec(template_digest=DIGEST),
        state="active",
        status=b"",
        wake=False,
    )
    store.transact(lambda tx: tx.insert(new, actor="alice", why="asked for"), now=NOW)
    assert store.next_due(now=NOW) is None
    store.transact(lambda tx: tx.update(new.uid, actor="a", why="w", reason="R", labels={"a": "b"}), now=NOW)
    assert claim_all(store, NOW + 100) == []


# -- group commit ------------------------------------------------------------------------------------------------------


def a_group_commit_takes_one_commit_seq_and_keeps_the_order_of_its_events(store: Store) -> None:
    for name in ("a", "b", "c"):
        add_service(store, name)
    rows = sorted(claim_all(store), key=lambda row: row.name, reverse=True)
    before = store.commit_seq()
    draft = EventDraft("Warning", "Slow", "slow start")
    results = store.commit(
        [Commit(row, plan_for(row, state="rolling", events=(draft,)), True) for row in rows], now=NOW
    )
    assert [type(result) for result in results] == [Committed] * 3
    assert {r.commit_seq for r in results if isinstance(r, Committed)} == {before + 1} == {store.commit_seq()}
    told = [event for event in store.events() if event.commit_seq == before + 1]
    assert [event.index for event in told] == list(range(6))
    assert [(event.name, event.reason) for event in told] == [
        (name, reason) for name in ("c", "b", "a") for reason in ("Because", "Slow")
    ]
    assert {event.state for event in told} == {"rolling"}


def the_row_in_the_answer_is_the_row_in_the_store(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    after = must_commit(
        store,
        row,
        state="rolling",
        status=b'{"n":1}',
        outcome="ProbeFailed",
        failed_at=NOW + 0.25,
        served_at=NOW + 0.125,
        resources=(ledger(row), ledger(row, "route", closed_at=NOW)),
        requires=(Reserve("ports", "http", low=10, high=20),),
    )
    assert after == store.reload(Lease(row.uid, row.lease_token))
    assert [resource.key for resource in after.resources] == [resource_key(row.uid, "process")]
    quiet = must_commit(store, after, state="rolling")
    assert (quiet.outcome, quiet.failed_at, quiet.served_at) == ("ProbeFailed", NOW + 0.25, NOW + 0.125)
    assert quiet == store.reload(Lease(row.uid, row.lease_token))


def an_event_is_written_only_when_the_state_changes(store: Store) -> None:
    add_service(store)
    row = must_commit(store, claim_one(store, "web"), state="rolling")
    must_commit(store, row, state="rolling", status=b'{"x":1}')
    assert [event.reason for event in store.events()] == ["Created", "Because"]


def one_row_twice_in_a_batch_is_written_once(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    batch = [Commit(row, plan_for(row, state=state), False) for state in ("rolling", "available")]
    results = store.commit(batch, now=NOW)
    assert [type(result) for result in results] == [Committed, Stale]
    assert find_uid(store, row.uid).row.state == "rolling"


def a_poisoned_row_harms_only_itself(store: Store) -> None:
    for index in range(9):
        add_service(store, f"s{index}")
    rows = claim_all(store)
    batch = [Commit(row, plan_for(row, state="rolling", children=(child(row, 0),)), True) for row in rows]
    batch[4] = Commit(rows[4], plan_for(rows[4], state="rolling", why="another half \udfff"), True)
    batch[6] = Commit(rows[6], plan_for(rows[6], state="rolling", why="half a \ud800 pair"), True)
    before = store.commit_seq()
    results = store.commit(batch, now=NOW)
    assert [type(result) for result in results] == [Refused if index in (4, 6) else Committed for index in range(9)]
    assert {r.commit_seq for r in results if isinstance(r, Committed)} == {store.commit_seq()}
    assert store.commit_seq() > before
    for index, row in enumerate(rows):
        assert find_uid(store, row.uid).row.state == ("pending" if index in (4, 6) else "rolling")
        assert store.children(row.uid).highest_slot == (-1 if index in (4, 6) else 0)
    told = [event for event in store.events(limit=1000) if event.commit_seq == store.commit_seq()]
    assert [event.index for event in told] == list(range(14))


# -- children ----------------------------------------------------------------------------------------------------------


def children_are_made_in_the_parents_commit_and_only_once(store: Store) -> None:
    add_service(store, namespace="shop")
    row = claim_one(store, "web")
    made = child(row, 0, labels=(("tier", "x"),))
    row = must_commit(store, row, children=(made,))
    row = must_commit(store, row, children=(made, child(row, 7)))
    seen = store.children(row.uid)
    assert [(group.state, group.count) for group in seen.groups] == [("pending", 2)]
    assert seen.highest_slot == 7
    assert [event.name for event in store.events(owner_uid=row.uid)] == ["web-0", "web-7"]
    kin = find_uid(store, made.uid).row
    assert (kin.namespace, kin.owner_uid, kin.slot, kin.labels) == ("shop", row.uid, "0", (("tier", "x"),))
    labelled = store.read(lambda tx: tx.select(Kind.SPIN, labels={"tier": "x"}), now=NOW)
    assert [stored.row.uid for stored in labelled] == [made.uid]
    assert {claimed.name for claimed in claim_all(store)} == {"web-0", "web-7"}


def a_stale_parent_makes_no_children(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row)
    assert commit_one(store, row, children=(child(row, 0),)) == Stale()
    assert store.children(row.uid).groups == ()


def a_child_asked_to_go_is_told_once_and_due_at_once(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    row = must_commit(store, row, children=(child(row, 0),))
    kin = claim_one(store, "web-0")
    must_commit(store, kin, wake_at=NOW + 3600, release=True)
    row = must_commit(store, row, children=(DeleteChild(kin.uid, "scaled in"),), now=NOW + 1)
    row = must_commit(store, row, children=(DeleteChild(kin.uid, "scaled in"),), now=NOW + 2)
    assert find_uid(store, kin.uid).row.delete_at == NOW + 1
    assert store.next_due(now=NOW + 1) == NOW + 1
    told = [(event.reason, event.message) for event in store.events(uid=kin.uid)]
    assert told == [("Created", "wanted by Service web"), ("DeletionRequested", "scaled in")]
    [group] = store.children(row.uid).groups
    assert (group.deleting, group.count) == (True, 1)


def force_reaches_a_child_that_is_asked_to_go_already(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    row = must_commit(store, row, children=(child(row, 0),))
    kin = claim_one(store, "web-0")
    must_commit(store, kin, wake_at=NOW + 3600, release=True)
    row = must_commit(store, row, children=(DeleteChild(kin.uid, "deleted"),), now=NOW + 1)
    assert not find_uid(store, kin.uid).row.force
    for moment in (2, 3):
        row = must_commit(store, row, children=(DeleteChild(kin.uid, "by force", force=True),), now=NOW + moment)
    found = find_uid(store, kin.uid).row
    assert (found.force, found.delete_at) == (True, NOW + 1)
    told = [event.message for event in store.events(uid=kin.uid)]
    assert told == ["wanted by Service web", "deleted", "by force"]


def a_child_whose_name_is_taken_is_not_made_and_harms_nothing_else(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    twin = replace(child(row, 1), name=child(row, 0).name)
    row = must_commit(store, row, children=(child(row, 0), twin, child(row, 2)))
    children = store.children(row.uid)
    assert sum(group.count for group in children.groups) == 2
    assert children.highest_slot == 2


def another_parents_child_is_not_deleted(store: Store) -> None:
    add_service(store, "a")
    add_service(store, "b")
    rows = {row.name: row for row in claim_all(store)}
    must_commit(store, rows["a"], children=(child(rows["a"], 0),))
    kin = child(rows["a"], 0).uid
    must_commit(store, rows["b"], children=(DeleteChild(kin, "not yours"),))
    assert find_uid(store, kin).row.delete_at is None


def a_child_that_changes_wakes_its_owner_after_a_pause(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, children=(child(row, 0), child(row, 1)), wake_at=NOW + 3600, release=True)
    kin = claim_all(store, NOW + 0.01)
    for one in kin:
        must_commit(store, one, state="planned", now=NOW + 0.02)
    due = store.next_due(now=NOW + 0.02)
    assert due is not None
    assert abs(due - (NOW + 0.05)) < 1e-6
    assert claim_all(store, NOW + 0.04) == []
    [parent] = claim_all(store, NOW + 0.06)
    assert (parent.name, parent.wake_seq) == ("web", row.wake_seq + 2)


def an_idle_owner_is_woken_at_once(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, children=(child(row, 0),), wake_at=None, release=True)
    must_commit(store, claim_one(store, "web-0"), state="planned", now=NOW + 10)
    assert store.next_due(now=NOW + 10) == NOW + 10


def a_child_that_only_writes_its_status_does_not_wake_its_owner(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, children=(child(row, 0),), wake_at=NOW + 3600, release=True)
    must_commit(store, claim_one(store, "web-0"), status=b'{"x":1}', wake_at=NOW + 7200, release=True)
    assert store.next_due(now=NOW) == NOW + 3600


def a_parent_woken_in_its_pass_is_due_again_but_not_before_its_pause(store: Store) -> None:
    add_service(store)
    row = must_commit(store, claim_one(store, "web"), children=(child_of("web", 0),), wake_at=NOW + 3600, release=True)
    kin = claim_one(store, "web-0")
    store.wake([row.uid], now=NOW + 1)
    [parent] = claim_all(store, NOW + 1)
    must_commit(store, kin, state="planned", now=NOW + 1.01)
    must_commit(store, parent, status=b'{"x":1}', wake_at=NOW + 3600, release=True, now=NOW + 1.02)
    assert claim_all(store, NOW + 1.03) == []
    assert [r.name for r in claim_all(store, NOW + 1.06)] == ["web"]


def child_of(owner: str, slot: int) -> CreateChild:
    return CreateChild(
        uid=child_uid(Uid(f"uid-{owner}"), str(slot), 1),
        kind=Kind.SPIN,
        name=f"{owner}-{slot}",
        slot=str(slot),
        spec=SpinSpec(template_digest=DIGEST),
        template_digest=DIGEST,
    )


def a_parent_sees_counts_the_oldest_and_what_failed(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    row = must_commit(store, row, children=tuple(child(row, slot) for slot in range(40)))
    kin = sorted((r for r in claim_all(store)), key=lambda r: int(r.slot))
    served = must_commit(store, kin[0], state="serving", served_at=NOW + 5)
    failing = kin[1:36]
    batch = [
        Commit(r, plan_for(r, state="failed", why=f"broke {i}", outcome="ProbeFailed", failed_at=NOW + i), False)
        for i, r in enumerate(failing)
    ]
    failed = [result.row for result in store.commit(batch, now=NOW) if isinstance(result, Committed)]
    must_commit(store, failed[0], state="terminated", why="cleaned", finished=True)
    must_commit(store, kin[36], state="terminated", outcome="Succeeded", finished=True)
    seen = store.children(row.uid)
    assert {group.state: group.count for group in seen.groups} == {"serving": 1, "failed": 34, "pending": 3}
    oldest = {group.state: group.oldest for group in seen.groups}
    assert [len(oldest[state]) for state in ("serving", "failed", "pending")] == [1, 16, 3]
    assert oldest["serving"][0].uid == served.uid
    assert len(seen.failures) == 32
    assert [failure.failed_at for failure in seen.failures] == [NOW + i for i in range(34, 2, -1)]
    assert seen.failures[0].message == "broke 34"
    assert seen.last_served_at == ((DIGEST, NOW + 5),)
    assert (seen.highest_slot, seen.finished, seen.succeeded) == (39, 2, 1)


def a_brief_prefers_the_live_object_to_the_finished_one(store: Store) -> None:
    assert store.brief(Kind.SERVICE, "default", "web") is None
    first = add_service(store)
    must_commit(store, claim_one(store, "web"), state="gone", finished=True)
    brief = store.brief(Kind.SERVICE, "default", "web")
    assert brief is not None
    assert (brief.uid, brief.state) == (first.row.uid, "gone")
    again = NewObject(Uid("second"), Kind.SERVICE, "default", "web", ServiceSpec(), "pending", b"{}")
    store.transact(lambda tx: tx.insert(again, actor="a", why="again"), now=NOW - 10)
    brief = store.brief(Kind.SERVICE, "default", "web")
    assert brief is not None
    assert brief.uid == "second"


# -- reservations ------------------------------------------------------------------------------------------------------


def a_reservation_over_the_limit_is_refused_with_its_whole_row(store: Store) -> None:
    for index in range(3):
        add_service(store, f"s{index}")
    rows = claim_all(store)
    ask = (Reserve("team/cpu", "cpu", amount=2, limit=4),)
    batch = [
        Commit(r, plan_for(r, state="rolling", requires=ask, resources=(ledger(r),), children=(child(r, 0),)), False)
        for r in rows
    ]
    results = store.commit(batch, now=NOW)
    assert [type(result) for result in results] == [Committed, Committed, Refused]
    refused = results[2]
    assert isinstance(refused, Refused)
    assert all(word in refused.why for word in ("team/cpu", "4", "2"))
    untouched = find_uid(store, rows[2].uid).row
    assert (untouched.state, untouched.resource_version, untouched.resources) == ("pending", 1, ())
    assert store.children(rows[2].uid).groups == ()
    done = results[0]
    assert isinstance(done, Committed)
    must_commit(store, done.row, state="gone", finished=True)
    must_commit(store, rows[2], state="rolling", requires=ask)


def a_reservation_asked_twice_is_one(store: Store) -> None:
    add_service(store)
    ask = (Reserve("ports", "http", low=100, high=200, limit=1),)
    first = must_commit(store, claim_one(store, "web"), requires=ask)
    second = must_commit(store, first, requires=ask)
    assert first.reservations == second.reservations
    assert len(second.reservations) == 1
    slot = second.reservations[0].slot
    assert slot is not None
    assert 100 <= slot <= 200


def a_stale_row_reserves_nothing(store: Store) -> None:
    add_service(store, "a")
    add_service(store, "b")
    rows = {row.name: row for row in claim_all(store)}
    must_commit(store, rows["a"])
    ask = (Reserve("one", "x", limit=1),)
    assert commit_one(store, rows["a"], requires=ask) == Stale()
    must_commit(store, rows["b"], requires=ask)


def numbers_of_a_range_are_given_once_until_none_is_left(store: Store) -> None:
    for index in range(7):
        add_service(store, f"s{index}")
    ask = (Reserve("ports", "http", low=5, high=9), Reserve("quiet", "q"))
    results = store.commit([Commit(r, plan_for(r, requires=ask), False) for r in claim_all(store)], now=NOW)
    given = [reservation.slot for r in results if isinstance(r, Committed) for reservation in r.row.reservations]
    assert sorted(slot for slot in given if slot is not None) == [5, 6, 7, 8, 9]
    refused = [result for result in results if isinstance(result, Refused)]
    assert len(refused) == 2
    assert all("5" in result.why and "9" in result.why for result in refused)


def an_exact_number_is_given_or_refused(store: Store) -> None:
    add_service(store, "a")
    add_service(store, "b")
    rows = {row.name: row for row in claim_all(store)}
    ask = (Reserve("ports", "http", low=1, high=9, exactly=8080),)
    after = must_commit(store, rows["a"], requires=ask)
    assert [reservation.slot for reservation in after.reservations] == [8080]
    refused = commit_one(store, rows["b"], requires=ask)
    assert isinstance(refused, Refused)
    assert "8080" in refused.why


def half_a_refused_wish_reserves_nothing(store: Store) -> None:
    for name in ("a", "b"):
        add_service(store, name)
    rows = {row.name: row for row in claim_all(store)}
    ask = (Reserve("ports", "http", exactly=80), Reserve("full", "x", amount=5, limit=4))
    assert isinstance(commit_one(store, rows["a"], requires=ask), Refused)
    must_commit(store, rows["b"], requires=ask[:1])


def a_finished_row_returns_what_it_reserved_and_is_never_due_again(store: Store) -> None:
    add_service(store)
    ask = (Reserve("ports", "http", exactly=80),)
    row = must_commit(store, claim_one(store, "web"), requires=ask)
    row = must_commit(store, row, state="gone", finished=True, keep_seconds=60, wake_at=NOW + 1)
    assert row.reservations == ()
    assert store.next_due(now=NOW + 100) is None
    store.wake([row.uid], now=NOW + 100)
    assert claim_all(store, NOW + 100) == []
    assert find_uid(store, row.uid).finished_at == NOW
    assert commit_one(store, row, state="back") == Stale()
    add_other = add_service(store, "other", now=NOW + 200)
    must_commit(store, claim_one(store, add_other.row.name, NOW + 200), requires=ask)


# -- the ledger --------------------------------------------------------------------------------------------------------


def the_ledger_is_read_back_by_key_and_provider(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    want = EndpointWant(cluster="web", address="127.0.0.1", port=1)
    endpoint = ledger(row, "endpoint", provider="envoy", kind="endpoint", stored_want=want, gone_after_seconds=1.5)
    row = must_commit(store, row, resources=(ledger(row), endpoint))
    [seen] = store.open_resources(provider="envoy")
    assert seen == replace(endpoint, created_at=NOW)
    assert [r.key for r in store.open_resources()] == sorted(r.key for r in row.resources)
    assert [r.key for r in store.open_resources(after=endpoint.key)] == [ledger(row).key]
    row = must_commit(store, row, resources=(replace(endpoint, wanted=False, absent_at=NOW + 1, closed_at=NOW + 2),))
    known = store.resources([endpoint.key, resource_key(row.uid, "never")])
    assert [(r.key, r.closed_at, r.created_at) for r in known.values()] == [(endpoint.key, NOW + 2, NOW)]
    assert [r.key for r in row.resources] == [ledger(row).key]


def a_closed_resource_is_never_opened_again(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    row = must_commit(store, row, resources=(ledger(row, closed_at=NOW, wanted=False),))
    must_commit(store, row, resources=(ledger(row),))
    [kept] = store.resources([ledger(row).key]).values()
    assert (kept.closed_at, kept.wanted) == (NOW, False)
    assert store.open_resources() == []


def a_retained_directory_outlives_its_object_until_a_person_removes_it(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    row = must_commit(store, row, resources=(ledger(row, "dir", kind="directory", retained=True), ledger(row)))
    row = must_commit(store, row, resources=(ledger(row, closed_at=NOW),))
    must_commit(store, row, state="gone", finished=True, keep_seconds=1)
    prune(store, NOW + 10 * 86400)
    assert store.read(lambda tx: tx.find_uid(row.uid), now=NOW) is None
    [kept] = store.open_resources()
    assert (kept.kind, kept.retained) == ("directory", True)
    store.transact(lambda tx: tx.close_resource(kept.key, actor="alice", why="removed by hand"), now=NOW)
    assert store.open_resources() == []


def what_was_closed_as_retained_stays_in_the_ledger_until_a_person_removes_it(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    kept = ledger(row, "dir", kind="directory", retained=True, wanted=False, closed_at=NOW)
    must_commit(store, row, resources=(kept, ledger(row, closed_at=NOW)), state="gone", finished=True, keep_seconds=1)
    prune(store, NOW + 10 * 86400)
    assert [r.retained for r in store.resources([kept.key, ledger(row).key]).values()] == [True]
    store.transact(lambda tx: tx.close_resource(kept.key, actor="alice", why="removed by hand"), now=NOW + 5)
    [closed] = store.resources([kept.key]).values()
    assert (closed.retained, closed.closed_at) == (False, NOW)
    prune(store, NOW + 20 * 86400)
    assert store.resources([kept.key]) == {}


def a_finished_record_with_something_left_is_kept(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, resources=(ledger(row),), state="leaked", finished=True, keep_seconds=1)
    prune(store, NOW + 10 * 86400, finished_keep_max=0)
    assert find_uid(store, row.uid).row.state == "leaked"


# -- use cases ---------------------------------------------------------------------------------------------------------


def a_name_is_taken_while_its_object_lives(store: Store) -> None:
    add_service(store)
    with raises(Conflict) as caught:
        add_service(store)
    assert caught.error.code == "already_exists"
    assert [event.reason for event in store.events()] == ["Created"]
    must_commit(store, claim_one(store, "web"), state="gone", finished=True)
    second = NewObject(Uid("second"), Kind.SERVICE, "default", "web", ServiceSpec(), "pending", b"{}")
    store.transact(lambda tx: tx.insert(second, actor="a", why="again"), now=NOW)


def an_exception_rolls_everything_back(store: Store) -> None:
    add_service(store)
    before = store.commit_seq(), store.events()

    def work(tx: Any) -> None:
        tx.update(Uid("uid-web"), actor="bob", why="w", reason="R", paused=True)
        tx.put_key(KeyRecord("k", "f", Uid("uid-web"), b"{}", NOW))
        raise NotFound("no such thing")

    with raises(NotFound):
        store.transact(work, now=NOW)
    assert (store.commit_seq(), store.events()) == before
    assert find_uid(store, Uid("uid-web")).row.paused is False
    assert store.read(lambda tx: tx.find_key("k"), now=NOW) is None


def reads_in_a_transaction_see_its_writes_and_share_one_commit_seq(store: Store) -> None:
    def work(tx: Any) -> tuple[int, int]:
        new = NewObject(Uid("u"), Kind.SERVICE, "default", "web", ServiceSpec(), "pending", b"{}")
        first = tx.insert(new, actor="a", why="w")
        assert tx.find(Kind.SERVICE, "default", "web") == first
        second = tx.update(Uid("u"), actor="a", why="w", reason="Labelled", labels={"x": "y"})
        assert tx.select(Kind.SERVICE, labels={"x": "y"}) == [second]
        return first.commit_seq, second.commit_seq

    first, second = store.transact(work, now=NOW)
    assert first == second == store.commit_seq() == 1
    assert [(event.commit_seq, event.index, event.reason) for event in store.events()] == [
        (1, 0, "Created"),
        (1, 1, "Labelled"),
    ]


def a_read_may_not_write(store: Store) -> None:
    add_service(store)
    with raises(SystemFailure):
        store.read(lambda tx: tx.update(Uid("uid-web"), actor="a", why="w", reason="R", paused=True), now=NOW)


def an_update_raises_what_it_must_and_nothing_else(store: Store) -> None:
    stored = add_service(store)
    before = stored.row
    must_commit(store, claim_one(store, "web"), wake_at=NOW + 3600, release=True)

    def update(**changes: Any) -> StoredObject:
        return store.transact(lambda tx: tx.update(before.uid, actor="b", why="w", reason="R", **changes), now=NOW + 1)

    labelled = update(labels={"a": "b"})
    assert (labelled.row.generation, labelled.row.resource_version) == (1, 3)
    assert labelled.wake_at == NOW + 1
    scaled = update(spec=ServiceSpec(owner="team", replicas=9))
    assert (scaled.row.generation, scaled.row.resource_version) == (2, 4)
    assert scaled.row.wake_seq == labelled.row.wake_seq + 1
    count = len(store.events())
    assert update(labels={"a": "b"}, paused=False) == scaled
    assert len(store.events()) == count
    deleted = update(delete=True, force=True)
    assert (deleted.row.delete_at, deleted.row.force) == (NOW + 1, True)
    assert update(delete=True).row.delete_at == NOW + 1
    with raises(NotFound):
        store.transact(lambda tx: tx.update(Uid("nobody"), actor="b", why="w", reason="R", paused=True), now=NOW)


def an_object_that_nobody_drives_can_be_finished_at_once(store: Store) -> None:
    new = NewObject(Uid("t"), Kind.TEMPLATE, "default", "base", NamedTemplateSpec(), "active", b"", wake=False)
    store.transact(lambda tx: tx.insert(new, actor="a", why="w"), now=NOW)
    store.transact(
        lambda tx: tx.update(Uid("t"), actor="a", why="w", reason="Deleted", delete=True, finish=True), now=NOW
    )
    assert store.read(lambda tx: tx.find(Kind.TEMPLATE, "default", "base"), now=NOW) is None
    assert find_uid(store, Uid("t")).finished_at == NOW


def labels_select_and_pages_follow_on(store: Store) -> None:
    for index in range(7):
        labels = {"parity": str(index % 2), "all": "yes"}
        add_service(store, f"s{index}", namespace=f"n{index % 3}", labels=labels)

    def select(**filters: Any) -> list[str]:
        return [
            f"{stored.row.namespace}/{stored.row.name}/{stored.row.uid}"
            for stored in store.read(lambda tx: tx.select(Kind.SERVICE, **filters), now=NOW)
        ]

    everything = select()
    assert everything == sorted(everything)
    assert len(everything) == 7
    pages: list[str] = []
    while page := select(after=pages[-1] if pages else "", limit=3):
        pages += page
    assert pages == everything
    assert len(select(labels={"parity": "1", "all": "yes"})) == 3
    assert select(labels={"parity": "1", "all": "no"}) == []
    assert [name.split("/")[0] for name in select(namespace="n2")] == ["n2", "n2"]


def finished_objects_are_listed_when_asked_for(store: Store) -> None:
    add_service(store, "a")
    add_service(store, "b")
    row = next(row for row in claim_all(store) if row.name == "a")
    must_commit(store, row, state="gone", finished=True)
    names: Mapping[bool | None, list[str]] = {
        finished: [s.row.name for s in _select(store, finished)] for finished in (False, True, None)
    }
    assert names == {False: ["b"], True: ["a"], None: ["a", "b"]}
    assert store.counts() == {("Service", "pending"): 1}


def _select(store: Store, finished: bool | None) -> Sequence[StoredObject]:
    return store.read(lambda tx: tx.select(None, finished=finished), now=NOW)


def a_watch_gets_every_changed_object_in_order(store: Store) -> None:
    add_service(store, "a")
    add_service(store, "b")
    start = (store.commit_seq(), "\uffff")
    rows = {row.name: row for row in claim_all(store)}
    assert store.read(lambda tx: tx.changed(Kind.SERVICE, after=start), now=NOW) == []
    must_commit(store, rows["b"], state="rolling")
    must_commit(store, rows["a"], state="gone", finished=True)
    changed = store.read(lambda tx: tx.changed(Kind.SERVICE, after=start), now=NOW)
    assert [(stored.row.name, stored.row.state) for stored in changed] == [("b", "rolling"), ("a", "gone")]
    last = (changed[0].commit_seq, str(changed[0].row.uid))
    rest = store.read(lambda tx: tx.changed(Kind.SERVICE, after=last, limit=1), now=NOW)
    assert [stored.row.name for stored in rest] == ["a"]


def a_key_is_bound_to_its_request(store: Store) -> None:
    record = KeyRecord("k1", "print", Uid("u"), b'{"ok":true}\x00\xff', NOW)
    store.transact(lambda tx: tx.put_key(record), now=NOW)
    assert store.read(lambda tx: tx.find_key("k1"), now=NOW) == record
    assert store.read(lambda tx: tx.find_key("k2"), now=NOW) is None
    with raises(KeyReused):
        store.transact(lambda tx: tx.put_key(replace(record, fingerprint="other")), now=NOW)
    prune(store, NOW + 24 * 3600)
    assert store.read(lambda tx: tx.find_key("k1"), now=NOW) == record
    prune(store, NOW + 72 * 3600)
    assert store.read(lambda tx: tx.find_key("k1"), now=NOW) is None


def templates_never_change(store: Store) -> None:
    store.transact(lambda tx: tx.put_template(DIGEST, TEMPLATE), now=NOW)
    store.transact(lambda tx: tx.put_template(DIGEST, TEMPLATE), now=NOW)
    assert store.read(lambda tx: tx.template(DIGEST), now=NOW) == TEMPLATE
    assert store.read(lambda tx: tx.template(Digest("sha256:none")), now=NOW) is None


# -- events, resume, prune ---------------------------------------------------------------------------------------------


def prune(store: Store, now: float, **limits: Any) -> int:
    bounds: dict[str, Any] = {"finished_keep_max": 1000, "events_keep_max": 1000, "events_keep_seconds": 7 * 86400.0}
    total = 0
    for _ in range(100):
        gone = store.prune(now=now, **(bounds | limits))
        total += gone
        if gone == 0:
            return total
    raise AssertionError("prune does not come to an end")


def events_resume_after_any_of_them(store: Store) -> None:
    for index in range(5):
        add_service(store, f"s{index}", namespace=f"n{index % 2}")
    everything = store.events()
    places = [(event.commit_seq, event.index) for event in everything]
    assert places == sorted(set(places))
    for cut, place in enumerate(places):
        assert store.events(after=place) == everything[cut + 1 :]
    assert store.events(newest_first=True, limit=2) == [everything[4], everything[3]]
    assert store.events(limit=3) == everything[:3]
    assert [event.name for event in store.events(namespace="n1")] == ["s1", "s3"]
    assert store.events(uid=everything[2].uid) == [everything[2]]


def a_watch_that_missed_pruned_events_is_told_so(store: Store) -> None:
    for index in range(6):
        add_service(store, f"s{index}", now=NOW + index)
    everything = store.events()
    places = [(event.commit_seq, event.index) for event in everything]
    assert prune(store, NOW + 103.5, events_keep_seconds=100.0) == 4
    assert store.events() == everything[4:]
    for place in places[:3]:
        with raises(Expired):
            store.events(after=place)
    for cut, place in enumerate(places[3:], start=4):
        assert store.events(after=place) == everything[cut:]


def the_newest_commit_is_never_pruned_so_a_watch_can_stand_there(store: Store) -> None:
    for index in range(3):
        add_service(store, f"s{index}")
    prune(store, NOW + 1e9, events_keep_seconds=1.0, events_keep_max=0)
    assert [event.name for event in store.events()] == ["s2"]
    assert store.events(after=(store.commit_seq(), 0)) == []


def events_beyond_the_count_go_oldest_first(store: Store) -> None:
    for index in range(10):
        add_service(store, f"s{index}")
    prune(store, NOW, events_keep_max=4)
    assert [event.name for event in store.events()] == ["s6", "s7", "s8", "s9"]


def finished_records_go_by_age_and_by_count(store: Store) -> None:
    for index in range(6):
        add_service(store, f"s{index}", labels={"a": "b"})
    for index, row in enumerate(sorted(claim_all(store), key=lambda r: r.name)):
        if index < 5:
            gone = ledger(row, closed_at=NOW)
            keep = 10.0 if index == 0 else 1000.0
            must_commit(store, row, now=NOW + index, state="gone", finished=True, keep_seconds=keep, resources=(gone,))

    def names() -> list[str]:
        return [s.row.name for s in store.read(lambda tx: tx.select(None, finished=None), now=NOW)]

    prune(store, NOW + 9)
    assert len(names()) == 6
    prune(store, NOW + 11)
    assert names() == ["s1", "s2", "s3", "s4", "s5"]
    prune(store, NOW + 11, finished_keep_max=2)
    assert names() == ["s3", "s4", "s5"]
    assert len(store.resources([resource_key(Uid(f"uid-s{i}"), "process") for i in range(6)])) == 2
    assert len(store.read(lambda tx: tx.select(None, finished=None, labels={"a": "b"}), now=NOW)) == 3


def templates_go_when_nothing_may_go_back_to_them(store: Store) -> None:
    old, before = replace(TEMPLATE, args=("old",)), replace(TEMPLATE, args=("before",))
    store.transact(lambda tx: tx.put_template(digest_of(old), old), now=NOW)
    store.transact(lambda tx: tx.put_template(digest_of(before), before), now=NOW)
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, status=b'{"last_good":"' + digest_of(before).encode() + b'"}')
    assert prune(store, NOW + 3600) == 0
    prune(store, NOW + 2 * 86400)
    seen = store.transact(lambda tx: _kept_templates(tx, (old, before, TEMPLATE)), now=NOW)
    assert seen == [False, True, True]


def _kept_templates(tx: Any, templates: Sequence[TemplateSpec]) -> list[bool]:
    """Whether a template is stored, past any memory of it: an object that names it is loaded with it or without."""
    out = []
    for index, template in enumerate(templates):
        digest = digest_of(template)
        new = NewObject(
            Uid(f"probe-{index}"), Kind.SERVICE, "probe", f"p{index}", ServiceSpec(), "pending", b"{}", digest
        )
        out.append(tx.insert(new, actor="a", why="w").row.template is not None)
    return out


def prune_does_bounded_work_per_call(store: Store) -> None:
    def many(tx: Any) -> None:
        for index in range(1500):
            tx.put_key(KeyRecord(f"k{index}", "f", Uid("u"), b"", NOW))

    store.transact(many, now=NOW)
    bounds: dict[str, Any] = {"finished_keep_max": 1000, "events_keep_max": 1000, "events_keep_seconds": 7 * 86400.0}
    assert [store.prune(now=NOW + 1e6, **bounds) for _ in range(3)] == [1000, 500, 0]


# -- rollouts ----------------------------------------------------------------------------------------------------------

NEW_TEMPLATE = replace(TEMPLATE, args=("new",))
NEW_DIGEST = digest_of(NEW_TEMPLATE)


def add_rollout(store: Store, name: str = "web-1", *, old: Digest = DIGEST, new: TemplateSpec = NEW_TEMPLATE) -> Uid:
    digest = digest_of(new)
    spec = RolloutSpec("web", "uid-web", template_digest=digest, template_ref="new", old_digest=old)
    made = NewObject(Uid(f"uid-{name}"), Kind.ROLLOUT, "default", name, spec, "pending", b"{}", digest)

    def work(tx: Any) -> Uid:
        tx.put_template(digest, new)
        tx.insert(made, actor="alice", why="applied")
        return made.uid

    return store.transact(work, now=NOW)


def a_part(rollout: Uid = Uid("uid-web-1"), **changes: Any) -> RolloutPart:
    base = RolloutPart(rollout, "web-1", NEW_DIGEST, side="web-side", serial=1, replicas=2, weight=1000)
    return replace(base, **changes)


def rolling_out(store: Store) -> tuple[ObjectRow, ObjectRow]:
    """(the Service's row, the Rollout's row), both leased, the part set."""
    add_service(store)
    add_rollout(store)
    rows = {row.kind: row for row in claim_all(store)}
    service = must_commit(store, rows[Kind.SERVICE], state="available")
    rollout = must_commit(store, rows[Kind.ROLLOUT], children=(SetRollout(service.uid, DIGEST, a_part()),))
    return service, rollout


def told_of(store: Store, uid: Uid) -> list[str]:
    return [event.reason for event in store.events(uid=uid)]


def a_rollout_writes_its_part_into_its_service(store: Store) -> None:
    service, rollout = rolling_out(store)
    found = find_uid(store, service.uid)
    assert isinstance(service.spec, ServiceSpec)
    assert found.row.spec == replace(service.spec, rollout=a_part())
    assert (found.row.generation, found.row.resource_version) == (2, service.resource_version + 1)
    assert (found.row.wake_seq, found.wake_at, found.row.template_digest) == (service.wake_seq + 1, NOW, DIGEST)
    assert found.commit_seq == find_uid(store, rollout.uid).commit_seq
    events = store.events(uid=service.uid)
    assert events[-1].reason == "RolloutStarted"
    assert (events[-1].kind, events[-1].name, events[-1].state) == (Kind.SERVICE, "web", "available")
    assert "10 %" in events[-1].message


def a_service_decided_without_the_part_is_stale(store: Store) -> None:
    service, _ = rolling_out(store)
    assert isinstance(commit_one(store, service), Stale)
    fresh = store.reload(Lease(service.uid, service.lease_token))
    assert fresh is not None
    must_commit(store, fresh, release=True)


def a_service_in_the_same_commit_as_its_rollout_loses_nothing(store: Store) -> None:
    add_service(store)
    add_rollout(store)
    rows = {row.kind: row for row in claim_all(store)}
    service, rollout = rows[Kind.SERVICE], rows[Kind.ROLLOUT]
    change = SetRollout(service.uid, DIGEST, a_part())
    batch = [
        Commit(rollout, plan_for(rollout, children=(change,)), release=False),
        Commit(service, plan_for(service, wake_at=NOW + 60), release=True),
    ]
    assert all(isinstance(result, Committed) for result in store.commit(batch, now=NOW))
    found = find_uid(store, service.uid)
    assert isinstance(found.row.spec, ServiceSpec)
    assert found.row.spec.rollout == a_part()
    assert found.wake_at == NOW
    assert claim_one(store, "web").uid == service.uid


def a_weight_is_written_once_however_often_it_is_asked_for(store: Store) -> None:
    service, rollout = rolling_out(store)
    half = SetRollout(service.uid, DIGEST, a_part(serial=2, weight=5000))
    rollout = must_commit(store, rollout, children=(half,))
    version = find_uid(store, service.uid).row.resource_version
    rollout = must_commit(store, rollout, children=(half,))
    assert find_uid(store, service.uid).row.resource_version == version
    must_commit(store, rollout, children=(SetRollout(service.uid, DIGEST, a_part(serial=3, weight=5000, replicas=5)),))
    assert told_of(store, service.uid)[-3:] == ["RolloutStarted", "WeightSet", "RolloutScaled"]


def a_part_that_may_not_be_set_is_not(store: Store) -> None:
    service, rollout = rolling_out(store)
    before = find_uid(store, service.uid)
    for change in (
        SetRollout(service.uid, NEW_DIGEST, a_part(serial=9)),
        SetRollout(service.uid, DIGEST, a_part(Uid("uid-other"), serial=9)),
        SetRollout(rollout.uid, DIGEST, a_part(serial=9)),
        SetRollout(Uid("nobody"), DIGEST, a_part(serial=9)),
        EndRollout(service.uid, Uid("uid-other"), promote=True),
        EndRollout(Uid("nobody"), rollout.uid, promote=True),
    ):
        rollout = must_commit(store, rollout, children=(change,))
        assert find_uid(store, service.uid) == before
    store.transact(lambda tx: tx.update(service.uid, actor="a", why="w", reason="r", delete=True), now=NOW)
    before = find_uid(store, service.uid)
    must_commit(store, rollout, children=(SetRollout(service.uid, DIGEST, a_part(serial=9)),))
    assert find_uid(store, service.uid) == before


def a_refused_rollout_changes_no_service(store: Store) -> None:
    service, rollout = rolling_out(store)
    before = find_uid(store, service.uid)
    end = (EndRollout(service.uid, rollout.uid, promote=True),)
    assert isinstance(commit_one(store, replace(rollout, lease_token=99), children=end), Stale)
    asked = (Reserve(scope="s", name="n", limit=0),)
    assert isinstance(commit_one(store, rollout, children=end, requires=asked), Refused)
    assert find_uid(store, service.uid) == before


def a_promoted_part_becomes_template_and_side_in_one_update(store: Store) -> None:
    service, rollout = rolling_out(store)
    rollout = must_commit(store, rollout, children=(EndRollout(service.uid, rollout.uid, promote=True),))
    found = find_uid(store, service.uid)
    wanted = ServiceSpec(owner="team", template_digest=NEW_DIGEST, template_ref="new", side="web-side")
    assert found.row.spec == wanted
    assert (found.row.template_digest, found.row.template) == (NEW_DIGEST, NEW_TEMPLATE)
    assert (found.row.generation, found.row.resource_version) == (3, service.resource_version + 2)
    must_commit(store, rollout, children=(EndRollout(service.uid, rollout.uid, promote=True),))
    assert find_uid(store, service.uid) == found
    assert told_of(store, service.uid)[-2:] == ["RolloutStarted", "Promoted"]


def a_part_is_taken_out_even_of_a_service_that_goes(store: Store) -> None:
    service, rollout = rolling_out(store)
    store.transact(lambda tx: tx.update(service.uid, actor="a", why="w", reason="r", delete=True), now=NOW)
    must_commit(store, rollout, children=(EndRollout(service.uid, rollout.uid, promote=False),))
    found = find_uid(store, service.uid)
    assert (found.row.spec, found.row.template_digest) == (service.spec, DIGEST)
    assert told_of(store, service.uid)[-1] == "RolledBack"


def a_peer_is_seen_until_it_is_finished(store: Store) -> None:
    service, rollout = rolling_out(store)
    store.transact(lambda tx: tx.update(service.uid, actor="a", why="w", reason="r", paused=True), now=NOW)
    seen = store.peer(service.uid)
    assert isinstance(seen, Peer)
    assert isinstance(seen.spec, ServiceSpec)
    assert (seen.uid, seen.name, seen.state, seen.status) == (service.uid, "web", "available", b"{}")
    assert (seen.spec.rollout, seen.generation, seen.deleting, seen.paused) == (a_part(), 2, False, True)
    store.transact(lambda tx: tx.update(service.uid, actor="a", why="w", reason="r", delete=True), now=NOW)
    going = store.peer(service.uid)
    assert isinstance(going, Peer)
    assert going.deleting
    must_commit(store, rollout, state="succeeded", finished=True)
    assert store.peer(rollout.uid) is None
    assert store.peer(Uid("nobody")) is None


def put_template(store: Store, template: TemplateSpec) -> None:
    store.transact(lambda tx: tx.put_template(digest_of(template), template), now=NOW)


def a_template_that_a_kept_rollout_came_from_is_kept(store: Store) -> None:
    old, gone = replace(TEMPLATE, args=("old",)), replace(TEMPLATE, args=("gone",))
    for template in (old, gone):
        put_template(store, template)
    add_service(store)
    uid = add_rollout(store, old=digest_of(old))
    row = claim_one(store, "web-1")
    must_commit(store, row, state="succeeded", finished=True, keep_seconds=10 * 86400)
    prune(store, NOW + 2 * 86400, finished_keep_max=0)
    assert find_uid(store, uid).row.state == "succeeded"
    seen = store.transact(lambda tx: _kept_templates(tx, (old, gone, NEW_TEMPLATE)), now=NOW)
    assert seen == [True, False, True]
    prune(store, NOW + 11 * 86400)
    assert store.read(lambda tx: tx.find_uid(uid), now=NOW) is None


def kept_rollouts_have_a_count_of_their_own(store: Store) -> None:
    def many(tx: Any) -> None:
        for index in range(1003):
            spec = RolloutSpec("web", Uid("uid-web"), template_digest=NEW_DIGEST, old_digest=DIGEST)
            new = NewObject(Uid(f"r{index:04}"), Kind.ROLLOUT, "default", f"r{index:04}", spec, "succeeded", b"{}")
            tx.insert(new, actor="a", why="w")

    store.transact(many, now=NOW)
    for index, row in enumerate(sorted(store.claim(holder="one", now=NOW, lease_seconds=15.0, limit=2000),
                                       key=lambda row: row.name)):  # fmt: skip
        commit = Commit(row, plan_for(row, finished=True, keep_seconds=1e6), release=True)
        assert isinstance(store.commit([commit], now=NOW + index)[0], Committed)
    for index in range(3):
        add_service(store, f"s{index}", now=NOW + index)
    for row in sorted(claim_all(store, NOW + 3), key=lambda row: row.name):
        must_commit(store, row, state="gone", finished=True, keep_seconds=1e6)
    prune(store, NOW + 2000, finished_keep_max=3)

    def kept(tx: Any) -> list[str]:
        return [s.row.name for kind in (Kind.SERVICE, Kind.ROLLOUT)
                for s in tx.select(kind, finished=True, newest_first=True, limit=4)]  # fmt: skip

    assert store.read(kept, now=NOW) == ["s2", "s1", "s0", "r0003", "r0004", "r0005", "r0006"]


# -- histories that are chained ---------------------------------------------------------------------------------------


def draft(text: str = "{}", kind: str = "transition") -> RecordDraft:
    return RecordDraft(kind, text.encode())


def record_by(store: Store, uid: Uid, made: RecordDraft, *, actor: str = "alice", now: float = NOW) -> None:
    store.transact(lambda tx: tx.record(uid, made, actor), now=now)


def a_history_is_one_chain_whoever_writes_it(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    assert (store.records(row.uid), store.last_record(row.uid)) == ([], (0, ""))
    row = must_commit(store, row, records=(draft('{"a": "\\u0000é"}'), draft("[]", "verdict")))
    record_by(store, row.uid, draft('"go"', "approval"), now=NOW + 0.1)
    must_commit(store, row, now=NOW + 1 / 3, records=(draft(),))
    found = store.records(row.uid)
    assert [(r.seq, r.kind, r.actor, r.at) for r in found] == [
        (1, "transition", "engine", NOW),
        (2, "verdict", "engine", NOW),
        (3, "approval", "alice", NOW + 0.1),
        (4, "transition", "engine", NOW + 1 / 3),
    ]
    assert [r.body for r in found] == [b'{"a": "\\u0000\xc3\xa9"}', b"[]", b'"go"', b"{}"]
    assert first_break(found) is None
    assert store.last_record(row.uid) == (4, found[-1].hash)
    assert list(store.records(row.uid, after=2, limit=1)) == [found[2]]


def a_record_of_a_plan_that_was_not_written_is_none(store: Store) -> None:
    add_service(store)
    row = claim_one(store, "web")
    assert isinstance(commit_one(store, replace(row, lease_token=99), records=(draft(),)), Stale)
    refused = commit_one(store, row, records=(draft(),), requires=(Reserve(scope="s", name="n", limit=0),))
    assert isinstance(refused, Refused)
    assert (store.records(row.uid), store.last_record(row.uid)) == ([], (0, ""))
    must_commit(store, row, records=(draft(),))
    assert [r.seq for r in store.records(row.uid)] == [1]


def a_record_that_cannot_be_written_harms_its_own_row_alone(store: Store) -> None:
    for name in ("bad", "good", "long"):
        add_service(store, name)
    rows = {row.name: row for row in claim_all(store)}
    bodies = {"bad": b"\xff", "good": b"{}", "long": b"x" * (RECORD_BYTES_MAX + 1)}
    batch = [Commit(rows[name], plan_for(rows[name], records=(RecordDraft("k", body),)), release=False)
             for name, body in bodies.items()]  # fmt: skip
    results = store.commit(batch, now=NOW)
    assert [type(result) for result in results] == [Refused, Committed, Refused]
    assert [len(store.records(rows[name].uid)) for name in bodies] == [0, 1, 0]


def a_person_s_record_is_whole_or_refused(store: Store) -> None:
    add_service(store)
    uid = Uid("uid-web")
    with raises(NotFound):
        record_by(store, Uid("nobody"), draft())
    with raises(InvalidInput):
        record_by(store, uid, RecordDraft("approval", b"x" * (RECORD_BYTES_MAX + 1)))

    def fails(tx: Any) -> None:
        tx.record(uid, draft(), "alice")
        raise KeyReused("after all not", next_step="none")

    with raises(KeyReused):
        store.transact(fails, now=NOW)
    assert (store.records(uid), store.last_record(uid)) == ([], (0, ""))


def a_history_stays_as_long_as_its_object(store: Store) -> None:
    for name in ("web", "other"):
        add_service(store, name)
        record_by(store, Uid(f"uid-{name}"), draft())
    row = claim_one(store, "web")
    must_commit(store, row, finished=True, keep_seconds=1e6, records=(draft(),))
    prune(store, NOW + 1e5)
    assert [r.seq for r in store.records(row.uid)] == [1, 2]
    prune(store, NOW + 2e6)
    assert (store.records(row.uid), store.last_record(row.uid)) == ([], (0, ""))
    assert [r.seq for r in store.records(Uid("uid-other"))] == [1]


# -- inside ------------------------------------------------------------------------------------------------------------


class raises:
    """`with raises(Kind) as caught`: as in test frameworks, without needing one."""

    error: Any

    def __init__(self, kind: type[Exception]) -> None:
        self._kind = kind

    def __enter__(self) -> raises:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert kind is not None, f"{self._kind.__name__} was not raised"
        self.error = error
        return issubclass(kind, self._kind)


_NO_CHECKS = {"add_service", "claim_all", "claim_one", "plan_for", "commit_one", "must_commit", "child", "ledger",
              "find_uid", "child_of", "prune", "add_rollout", "a_part", "rolling_out", "told_of",
              "put_template", "draft", "record_by"}  # fmt: skip

STORE_CONTRACT: tuple[Check, ...] = tuple(
    value
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and not isinstance(value, type)
    and not name.startswith("_")
    and name not in _NO_CHECKS
)
