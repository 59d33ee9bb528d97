"""Holds, starts over all owners, reservations given back: on all stores; and none of it reads a whole table."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from spinyard.core.holds import hold_place
from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import Held, Starts, Trial
from spinyard.core.plan import Reservation, Reserve
from spinyard.core.row import ObjectRow
from spinyard.core.spec import ClaimPart, Errand, HoldSpec, Kind, SpinSpec
from spinyard.ports.store import NewObject, Refused, Stale
from spinyard.store import SqlStore, holds, starts
from spinyard.store.link import Sql
from spinyard.testing.store_contract import (
    DIGEST,
    NOW,
    add_service,
    child,
    claim_all,
    claim_one,
    commit_one,
    must_commit,
)

SCOPE = "breaker:d"


def put_hold(store: SqlStore, scope: str, *, namespace: str = "default", until: float | None = None) -> Uid:
    place, name = hold_place(scope, namespace)
    uid = Uid(f"hold-{place}-{name}")
    new = NewObject(uid, Kind.HOLD, place, name, HoldSpec(scope, f"why {scope}", "alice", until), "active", b"{}")
    store.transact(lambda tx: tx.insert(new, actor="alice", why="held"), now=NOW)
    return uid


def held(store: SqlStore, namespace: str = "shop", kind: Kind = Kind.SERVICE, *, now: float = NOW + 1) -> Held | None:
    return store.held(namespace, kind, "web", now=now)


def test_each_scope_holds_what_is_in_it_and_nothing_else(store: SqlStore) -> None:
    assert held(store) is None
    put_hold(store, "service/web", namespace="shop")
    found = held(store)
    assert found == Held("service/web", "why service/web", "alice", NOW, None)
    assert held(store, "other") is None and held(store, kind=Kind.WARM_POOL) is None
    put_hold(store, "namespace/other")
    assert held(store, "other") is not None and held(store, "third") is None
    put_hold(store, "everything", until=NOW + 10)
    third = held(store, "third", Kind.JOB)
    assert third is not None and third.scope == "everything"


def test_the_hold_that_lasts_longest_is_told_and_one_that_is_over_holds_nothing(store: SqlStore) -> None:
    put_hold(store, "everything", until=NOW + 10)
    put_hold(store, "namespace/shop", until=NOW + 20)
    first, second = held(store), held(store, now=NOW + 10)
    assert first is not None and second is not None
    assert (first.scope, second.scope) == ("namespace/shop", "namespace/shop")
    assert held(store, now=NOW + 20) is None


def test_a_deleted_hold_holds_nothing_at_once(store: SqlStore) -> None:
    uid = put_hold(store, "everything")
    store.transact(lambda tx: tx.update(uid, actor="a", why="w", reason="R", delete=True), now=NOW + 1)
    assert held(store) is None


def test_parents_are_woken_one_by_one_or_all_of_them_at_a_pace(store: SqlStore) -> None:
    for name, namespace in (("web", "shop"), ("api", "shop"), ("web2", "other")):
        add_service(store, name, namespace=namespace)
    for row in claim_all(store):
        must_commit(store, row, wake_at=NOW + 5000, release=True)
    store.transact(lambda tx: tx.wake_parents(namespace="shop", kind=Kind.SERVICE, name="web"), now=NOW + 1)
    assert [row.name for row in claim_all(store, NOW + 1)] == ["web"]
    store.transact(lambda tx: tx.wake_parents(), now=NOW + 2)
    assert sorted(row.name for row in claim_all(store, NOW + 3)) == ["api", "web2"]


# -- starts ------------------------------------------------------------------------------------------------------------


def spins(store: SqlStore, *outcomes: str) -> list[ObjectRow]:
    """Of two owners in turn: "failed", "up", "crashed" (up, and failed 9 s later), "died" (up, failed 10 s later)."""
    owners = []
    for name in ("one", "two"):
        add_service(store, name)
        owners.append(claim_one(store, name))
    for number in range(len(outcomes)):
        owner = owners[number % 2]
        owners[number % 2] = must_commit(store, owner, children=(child(owner, number),))
    rows = {row.slot: row for row in claim_all(store, NOW + 1) if row.kind is Kind.SPIN}
    out = []
    for number, outcome in enumerate(outcomes):
        row, at = rows[str(number)], NOW + 100 * (number + 1)
        if outcome != "failed":
            row = must_commit(store, row, state="ready", served_at=at)
        if outcome != "up":
            later = {"failed": 0.0, "crashed": 9.0, "died": 10.0}[outcome]
            row = must_commit(store, row, state="failed", outcome="OutOfMemory", why="broke", failed_at=at + later)
        out.append(row)
    return out


def seen(found: Starts) -> list[tuple[str, bool]]:
    return [(record.uid, record.failed) for record in found.recent]


def test_starts_of_all_owners_newest_first_and_who_crashed_soon_counts_as_failed(store: SqlStore) -> None:
    rows = spins(store, "failed", "up", "crashed", "died", "failed")
    found = store.starts(DIGEST, SCOPE, limit=10)
    wished = list(zip([row.uid for row in rows], [True, False, True, False, True], strict=True))
    assert seen(found) == wished[::-1]
    assert (found.recent[0].outcome, found.recent[0].message) == ("OutOfMemory", "broke")
    assert found.recent[2].at == NOW + 309
    assert seen(store.starts(DIGEST, SCOPE, limit=2)) == wished[:2:-1]
    assert store.starts(Digest("sha256:other"), SCOPE, limit=10) == Starts()


def test_a_jobs_command_that_fails_is_no_failed_start_of_its_member(store: SqlStore) -> None:
    """Else five bad commands would keep the pool from filling. What fails before the command has begun is one."""
    add_service(store)
    owner = claim_one(store, "web")
    tricky = (("a", '"errand":{"command":[]}'),)
    parts = [
        ClaimPart("c", "c", errand=Errand(("work",), 9.0)),
        ClaimPart("c", "c", errand=Errand(("work",), 9.0)),
        ClaimPart("c", "c", files=tricky, env=tricky),
    ]
    for number, part in enumerate(parts):
        spec = SpinSpec(template_digest=DIGEST, claim=part)
        owner = must_commit(store, owner, children=(child(owner, number, spec=spec),))
    rows = {row.slot: row for row in claim_all(store, NOW + 1) if row.kind is Kind.SPIN}
    for number, outcome in enumerate(("ProcessExited", "ClaimHookFailed", "ProcessExited")):
        row = must_commit(store, rows[str(number)], state="ready", served_at=NOW + 10.0 + number)
        must_commit(store, row, state="failed", outcome=outcome, why="broke", failed_at=NOW + 12.0 + number)
    failed = {record.uid for record in store.starts(DIGEST, SCOPE, limit=10).recent if record.failed}
    assert failed == {rows["1"].uid, rows["2"].uid}


def test_starts_that_a_clock_left_in_the_future_are_brought_back_and_stay_as_long_as_they_were(store: SqlStore) -> None:
    rows = spins(store, "failed", "up", "crashed", "died", "failed")
    store.catch_up(now=NOW + 50)
    found = store.starts(DIGEST, SCOPE, limit=10)
    assert {record.at for record in found.recent} <= {NOW + 50, NOW + 40}
    assert {record.uid: record.failed for record in found.recent} == dict(
        zip([row.uid for row in rows], [True, False, True, False, True], strict=True)
    )
    assert commit_one(store, rows[0], state="gone") == Stale(), "who holds the old times must read them anew"


def test_what_waited_for_room_in_vain_says_nothing_about_its_template(store: SqlStore) -> None:
    waited, broken = spins(store, "up", "failed")
    must_commit(store, waited, state="failed", outcome="QueueTimeout", why="no room", failed_at=NOW + 101)
    assert [(r.uid, r.failed) for r in store.starts(DIGEST, SCOPE, limit=10).recent if r.failed] == [(broken.uid, True)]


def test_nothing_is_told_of_starts_that_all_came_up(store: SqlStore) -> None:
    spins(store, "up", "up")
    assert store.starts(DIGEST, SCOPE, limit=10) == Starts()


def test_one_trial_of_all_parents_and_it_can_be_given_back(store: SqlStore) -> None:
    add_service(store, "one")
    add_service(store, "two")
    rows = {row.name: row for row in claim_all(store)}
    trial = child(rows["one"], 0, spec=SpinSpec(template_digest=DIGEST, trial=3))
    ask = Reserve(SCOPE, trial.uid, limit=1)
    one = must_commit(store, rows["one"], children=(trial,), requires=(ask,))
    assert store.starts(DIGEST, SCOPE, limit=10).trial == Trial(one.uid, trial.uid, False)
    other = Reserve(SCOPE, "another", limit=1)
    assert isinstance(commit_one(store, rows["two"], requires=(other,)), Refused)
    spin = claim_one(store, trial.name, NOW + 1)
    spin = must_commit(store, spin, state="ready", served_at=NOW + 2)
    assert store.starts(DIGEST, SCOPE, limit=10).trial == Trial(one.uid, trial.uid, False, NOW + 2)
    must_commit(store, spin, state="failed", failed_at=NOW + 3, outcome="ProcessExited")
    found = store.starts(DIGEST, SCOPE, limit=10)
    assert found.trial == Trial(one.uid, trial.uid, True)
    assert [record.trial for record in found.recent] == [3]
    kept = Reservation("ports", "http")
    one = must_commit(store, one, requires=(Reserve("ports", "http"),))
    one = must_commit(store, one, returns=(Reservation(SCOPE, trial.uid),))
    assert one.reservations == (kept,)
    assert store.starts(DIGEST, SCOPE, limit=10).trial is None
    must_commit(store, rows["two"], requires=(other,))


def plans(store: SqlStore, *statements: Sql) -> Sequence[str]:
    out = []
    with store._sessions.read() as connection:
        for statement in statements:
            text = statement.text
            names = dict.fromkeys(("digest", "scope", "namespace_a", "namespace_b", "namespace_c"), "x")
            names |= dict.fromkeys(("name_a", "name_b", "name_c"), "x")
            found = connection.execute(sa.text("EXPLAIN QUERY PLAN " + text), {**names, "limit": 10}).all()
            out += [str(row[3]) for row in found]
    return out


def test_none_of_it_reads_a_whole_table(tmp_path: object) -> None:
    store = SqlStore(f"{tmp_path}/store.db", new_id=lambda: "home-1")
    lines = plans(store, starts._FAILED, starts._CAME_UP, starts._TRIAL, holds._OVER)
    assert lines
    assert not [line for line in lines if line.startswith("SCAN") and "CONSTANT" not in line]
    assert any("ix_objects_broken" in line for line in lines) and any("ix_objects_came_up" in line for line in lines)
    store.close()
