"""Two replicas on one Postgres at the same time: the fences hold, and nobody is killed by a deadlock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from spinyard.core.plan import Reserve, SetRollout
from spinyard.core.spec import Kind, ServiceSpec
from spinyard.errors import StoreFailure
from spinyard.ports.store import Commit, Committed, Lease, Refused
from spinyard.store import SqlStore
from spinyard.testing.store_contract import (
    DIGEST,
    NOW,
    a_part,
    add_service,
    child,
    claim_all,
    find_uid,
    must_commit,
    plan_for,
    rolling_out,
)


@pytest.fixture
def pair(postgres: Callable[[], str]) -> Any:
    url = postgres()
    stores = [SqlStore(url, new_id=lambda: "home-1") for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


def together(*works: Callable[[], Any]) -> list[Any]:
    """What each returned, all begun at the same moment; an exception in one is the test's."""
    barrier = threading.Barrier(len(works))
    answers: list[Any] = [None] * len(works)
    errors: list[BaseException] = []

    def run(index: int, work: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            answers[index] = work()
        except BaseException as error:  # noqa: BLE001 -- told below
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return answers


def test_a_row_is_claimed_by_one_of_two(pair: list[SqlStore]) -> None:
    for index in range(120):
        add_service(pair[0], f"s{index}")

    def claim_by_tens(store: SqlStore, holder: str) -> list[str]:
        names = []
        while rows := store.claim(holder=holder, now=NOW, lease_seconds=15, limit=10):
            names += [row.name for row in rows]
        return names

    one, two = together(lambda: claim_by_tens(pair[0], "one"), lambda: claim_by_tens(pair[1], "two"))
    assert sorted(one + two) == sorted(f"s{index}" for index in range(120))


def test_a_weight_and_a_change_of_the_service_at_the_same_time_are_both_kept(pair: list[SqlStore]) -> None:
    service, rollout = rolling_out(pair[0])
    rounds = 40

    def raise_weight() -> None:
        row = rollout
        for serial in range(2, rounds + 2):
            change = SetRollout(service.uid, DIGEST, a_part(serial=serial, weight=serial))
            row = must_commit(pair[0], row, children=(change,))

    def scale() -> None:
        def one_more(tx: Any) -> None:
            spec = tx.find(Kind.SERVICE, "default", "web").row.spec
            tx.update(service.uid, actor="a", why="w", reason="r", spec=replace(spec, replicas=spec.replicas + 1))

        for _ in range(rounds):
            pair[1].transact(one_more, now=NOW)

    together(raise_weight, scale)
    found = find_uid(pair[0], service.uid).row
    assert isinstance(found.spec, ServiceSpec)
    assert found.spec.replicas == 1 + rounds
    assert found.spec.rollout == a_part(serial=rounds + 1, weight=rounds + 1)
    assert found.generation == 2 + 2 * rounds


def test_a_number_of_a_range_is_given_to_one_of_two(pair: list[SqlStore]) -> None:
    for index in range(60):
        add_service(pair[0], f"s{index}")
    rows = claim_all(pair[0])
    ask = (Reserve("ports", "http", low=1, high=50, limit=40),)

    def reserve(store: SqlStore, mine: Any) -> list[Any]:
        return [store.commit([Commit(row, plan_for(row, requires=ask), False)], now=NOW)[0] for row in mine]

    one, two = together(lambda: reserve(pair[0], rows[::2]), lambda: reserve(pair[1], rows[1::2]))
    given = [r.row.reservations[0].slot for r in one + two if isinstance(r, Committed)]
    assert len(given) == len(set(given)) == 40
    assert sum(isinstance(r, Refused) for r in one + two) == 20


def test_the_same_row_is_committed_by_one_of_two(pair: list[SqlStore]) -> None:
    for index in range(30):
        add_service(pair[0], f"s{index}")
    rows = claim_all(pair[0])
    works = [
        lambda store=store, state=state: [
            type(store.commit([Commit(row, plan_for(row, state=state), False)], now=NOW)[0]) for row in rows
        ]
        for store, state in zip(pair, ("left", "right"), strict=True)
    ]
    one, two = together(*works)
    assert all({a, b} != {Committed} and Committed in (a, b) for a, b in zip(one, two, strict=True))


def test_commits_wakes_releases_and_wishes_in_any_order_do_not_deadlock(pair: list[SqlStore]) -> None:
    add_service(pair[0], "parent")
    [parent] = claim_all(pair[0])
    must_commit(pair[0], parent, children=tuple(child(parent, slot) for slot in range(24)), release=True)
    rows = [row for row in claim_all(pair[0]) if row.owner_uid]
    uids = [row.uid for row in rows]

    def commit() -> int:
        held = rows
        for turn in range(20):
            order = held if turn % 2 else held[::-1]
            results = pair[0].commit([Commit(row, plan_for(row, state=f"s{turn}"), False) for row in order], now=NOW)
            held = [result.row for result in results if isinstance(result, Committed)]
        return len(held)

    def disturb() -> None:
        for turn in range(20):
            pair[1].wake(uids[:: -1 if turn % 2 else 1], now=NOW)
            pair[1].extend([Lease(row.uid, row.lease_token) for row in rows[:: -1 if turn % 2 else 1]], until=NOW + 50)
            pair[1].claim(holder="two", now=NOW, lease_seconds=15, limit=50)

    survivors, _ = together(commit, disturb)
    assert survivors == 24


def test_commit_seq_is_seen_in_order(pair: list[SqlStore]) -> None:
    """A watcher that has seen one event will not be shown an earlier one later."""
    done = threading.Event()

    def write(store: SqlStore, tag: str) -> None:
        for index in range(60):
            add_service(store, f"{tag}{index}")

    def watch() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        while True:
            last = done.is_set()
            more = pair[1].events(after=seen[-1] if seen else (0, 0), limit=1000)
            seen += [(event.commit_seq, event.index) for event in more]
            if last and not more:
                return seen

    def write_all() -> None:
        together(lambda: write(pair[0], "a"), lambda: write(pair[1], "b"))
        done.set()

    _, seen = together(write_all, watch)
    assert len(seen) == 120
    assert seen == sorted(seen)


def test_a_lost_connection_fails_what_runs_and_then_heals(pair: list[SqlStore]) -> None:
    store, other = pair
    add_service(store, "before")
    assert store.commit_seq() == 1
    with other._sessions.write() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).all()
    for attempt in (lambda: store.commit_seq(), lambda: claim_all(store)):
        with pytest.raises(StoreFailure) as caught:
            attempt()
        assert caught.value.retryable
    assert store.commit_seq() == 1
    assert [row.name for row in claim_all(store)] == ["before"]
