"""What a user asked to keep stays known to the ledger: or the sweep would take it for an orphan and remove it."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.ids import Uid, resource_key
from spinyard.core.plan import Plan, Resource
from spinyard.core.spec import Kind, ServiceSpec
from spinyard.ports.store import Commit, NewObject
from spinyard.store import SqlStore


def test_the_row_of_a_retained_directory_outlives_the_record_of_its_service(store: SqlStore) -> None:
    uid = Uid("service-1")
    key = resource_key(uid, "dir/data")
    new = NewObject(uid, Kind.SERVICE, "default", "web", ServiceSpec(), "pending", b"{}")
    store.transact(lambda tx: tx.insert(new, actor="test", why="created"), now=10.0)
    (row,) = store.claim(holder="test", now=10.0, lease_seconds=15.0, limit=1)
    kept = Resource(key, uid, "fake", "directory", True, closed_at=11.0, retained=True, created_at=10.0)
    gone = replace(kept, key=resource_key(uid, "route"), kind="route", retained=False)
    plan = Plan("terminated", b"{}", "gone", "Gone", None, resources=(kept, gone), finished=True, keep_seconds=1.0)
    store.commit([Commit(row, plan, release=True)], now=11.0)

    store.prune(now=11.0 + 9 * 86400.0, finished_keep_max=0, events_keep_max=10, events_keep_seconds=1.0)

    assert set(store.resources([key, gone.key])) == {key}
