"""Rows of newer code are left alone: not claimed, not shown, not pruned; the sweep still knows their resources."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from spinyard.core.observed import Unknown
from spinyard.core.spec import Kind
from spinyard.store import SqlStore
from spinyard.testing.store_contract import NOW, add_service, claim_all, claim_one, ledger, must_commit, prune


def alter(store: SqlStore, statement: str) -> None:
    with store._sessions.write() as connection:
        connection.execute(sa.text(statement))


@pytest.mark.parametrize(
    "change",
    [
        "kind = 'Rollout'",
        'spec = \'{"replicas": "many"}\'',
        "template_digest = 'sha256:newer'",
    ],
)
def test_a_row_that_cannot_be_read_is_left_alone(store: SqlStore, change: str) -> None:
    add_service(store, "old")
    add_service(store, "new")
    alter(store, "INSERT INTO templates (digest, spec, created_at) VALUES ('sha256:newer', '{\"command\": 7}', 1)")
    alter(store, f"UPDATE objects SET {change} WHERE name = 'new'")
    assert [row.name for row in claim_all(store)] == ["old"]
    assert [row.name for row in claim_all(store, NOW + 20)] == ["old"]
    prune(store, NOW + 1e7, finished_keep_max=0)
    with store._sessions.read() as connection:
        assert connection.execute(sa.text("SELECT state FROM objects WHERE name = 'new'")).scalar_one() == "pending"


@pytest.mark.parametrize("change", ["kind = 'Teleport'", 'spec = \'{"replicas": "many"}\''])
def test_a_row_that_cannot_be_read_is_there_for_those_who_look_at_it(store: SqlStore, change: str) -> None:
    uid = add_service(store, "new").row.uid
    alter(store, f"UPDATE objects SET {change} WHERE name = 'new'")
    seen = store.peer(uid)
    assert isinstance(seen, Unknown)
    assert "another version" in seen.why


def test_a_row_with_a_resource_that_cannot_be_read_is_left_alone_and_the_sweep_still_knows_it(store: SqlStore) -> None:
    add_service(store)
    row = claim_one(store, "web")
    must_commit(store, row, resources=(ledger(row),), wake_at=NOW, release=True)
    alter(store, 'UPDATE resources SET stored_want = \'{"type": "teleport"}\'')
    assert claim_all(store) == []
    [resource] = store.resources([ledger(row).key]).values()
    assert resource == replace(ledger(row), created_at=NOW)


def test_a_state_that_is_not_known_is_not_claimed_nor_due() -> None:
    store = SqlStore(":memory:", new_id=lambda: "home-1", kinds={Kind.SERVICE: {"pending", "rolling"}})
    add_service(store, "a")
    add_service(store, "b", now=NOW - 5)
    alter(store, "UPDATE objects SET state = 'dreaming' WHERE name = 'b'")
    assert store.next_due(now=NOW) == NOW
    assert [row.name for row in claim_all(store)] == ["a"]
    store.close()
