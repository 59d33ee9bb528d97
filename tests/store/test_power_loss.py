"""PROMISES 10: an acknowledged write survives the loss of power.

Our own store code, on a disk that keeps only what it was made to keep (see power.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from spinyard.core.ids import Uid
from spinyard.errors import SpinyardError
from spinyard.ports.store import Commit, Committed, Lease
from spinyard.store import SqlStore
from spinyard.testing.store_contract import NOW, add_service, child, ledger, plan_for
from tests.store.power import Acknowledged, RecordingVFS, Step, as_module, files_after_cut

CUTS = 30


@dataclass(frozen=True, slots=True)
class Promise:
    """What the store said it holds."""

    commit_seq: int
    versions: dict[str, int]


def record(folder: Path, synchronous: str) -> list[Step]:
    """A busy half minute of a store: services, children, ledger rows, events; long enough for checkpoints."""
    log: list[Step] = []
    name = f"recording-{synchronous}"
    vfs = RecordingVFS(name, log)
    store = SqlStore(str(folder / "s.db"), new_id=lambda: "home-1", module=as_module(name, synchronous=synchronous))
    random = Random(7)
    versions: dict[str, int] = {}
    seq = 0

    def acknowledge() -> None:
        log.append(Acknowledged(Promise(seq, dict(versions))))

    for turn in range(60):
        stored = add_service(store, f"s{turn}", annotations={"note": "x" * random.randrange(3000)})
        seq = stored.commit_seq
        versions[stored.row.uid] = 1
        acknowledge()
        rows = store.claim(holder="one", now=NOW + turn, lease_seconds=15, limit=8)
        batch = [
            Commit(
                row,
                plan_for(
                    row,
                    state=f"state{turn}",
                    status=b'{"x":"' + b"y" * random.randrange(2000) + b'"}',
                    wake_at=NOW + turn + random.randrange(1, 9),
                    resources=(ledger(row, f"part{turn % 3}"),),
                    children=(child(row, 0),) if row.owner_uid is None else (),
                ),
                release=True,
            )
            for row in rows
        ]
        for result in store.commit(batch, now=NOW + turn):
            assert isinstance(result, Committed)
            versions[result.row.uid] = result.row.resource_version
            seq = result.commit_seq
        acknowledge()
    # The process dies with the power: the store is not closed in order, its end is not part of the log.
    length = len(log)
    store.close()
    del log[length:]
    vfs.unregister()
    return log


def lost(log: Sequence[Step], at: int, folder: Path, seed: int) -> str:
    """What of the acknowledged is missing after a cut there; empty: nothing."""
    folder.mkdir()
    for name, content in files_after_cut(log, at, Random(seed)).items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(content)
    promises = [step.what for step in log[:at] if isinstance(step, Acknowledged)]
    if not promises:
        return ""
    promise = promises[-1]
    try:
        store = SqlStore(str(folder / "s.db"), new_id=lambda: "another")
        try:
            gone = missing(store, promise)
        finally:
            store.close()
        return gone or damage(folder / "s.db")
    except SpinyardError as error:
        return f"the store does not open: {error}"


def damage(path: Path) -> str:
    with closing(sqlite3.connect(path)) as raw:
        [answer] = raw.execute("PRAGMA integrity_check").fetchone()
    return "" if answer == "ok" else str(answer)


def missing(store: SqlStore, promise: Promise) -> str:
    if store.installation != "home-1":
        return "the installation"
    if store.commit_seq() < promise.commit_seq:
        return f"commits {store.commit_seq() + 1} to {promise.commit_seq}"
    for uid, version in promise.versions.items():
        found = store.read(lambda tx, uid=uid: tx.find_uid(Uid(uid)), now=NOW)
        if found is None or found.row.resource_version < version:
            return f"version {version} of {uid}"
    told = {event.commit_seq for event in store.events(limit=100_000)}
    gaps = set(range(1, promise.commit_seq + 1)) - told
    if gaps:
        return f"events of {sorted(gaps)}"
    row = store.claim(holder="after", now=NOW + 1e6, lease_seconds=5, limit=1)[0]
    assert store.extend([Lease(row.uid, row.lease_token)], until=NOW + 2e6)
    return ""


def cuts(log: Sequence[Step], count: int) -> list[int]:
    """Half of them right after an acknowledgement, where most is to be lost."""
    random = Random(11)
    acknowledged = [index + 1 for index, step in enumerate(log) if isinstance(step, Acknowledged)]
    return [random.choice(acknowledged) if n % 2 else random.randrange(len(log)) for n in range(count)]


@pytest.mark.timeout(120)
def test_no_acknowledged_commit_is_lost_when_the_power_goes(tmp_path: Path) -> None:
    log = record(tmp_path, "FULL")
    checkpoints = sum(1 for step in log if getattr(step, "path", "").endswith("s.db"))
    assert checkpoints > 10, "the database file itself must have been written, or half of it is not tested"
    losses = {at: lost(log, at, tmp_path / f"cut{n}", n) for n, at in enumerate(cuts(log, CUTS))}
    assert {at: what for at, what in losses.items() if what} == {}


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_the_test_would_see_a_loss(tmp_path: Path, synchronous: str) -> None:
    """With less than FULL acknowledged commits do go: so the test above can fail."""
    log = record(tmp_path, synchronous)
    losses = [lost(log, at, tmp_path / f"cut{n}", n) for n, at in enumerate(cuts(log, 12))]
    assert sum(1 for what in losses if what) >= 3, losses
