"""A store full of serving spins on the fake provider, made in seconds: one real life is copied row by row."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any

from bench.lifecycles import Yard, insert_service
from spinyard.core.ids import ResourceKey
from spinyard.providers.fake.proxy import Entry

TABLES = ("objects", "resources", "reservations", "labels")
BATCH = 5_000


async def settle_one(made: Yard) -> str:
    """A Service of one replica brought to traffic by the engine; the uid of its spin."""
    running = asyncio.create_task(made.engine.run())
    outside = sqlite3.connect(f"file:{made.path}?mode=ro", uri=True, isolation_level=None)
    try:
        await made.transact(lambda tx: insert_service(made, tx, 1))
        until = time.perf_counter() + 30
        while time.perf_counter() < until:
            found = outside.execute(
                "SELECT uid FROM objects WHERE kind = 'Spin' AND state = 'serving' AND lease_until = 0"
            )
            row = found.fetchone()
            if row is not None:
                return str(row[0])
            await asyncio.sleep(0.05)
        raise TimeoutError("the first spin did not get to serve")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        outside.close()


def copy_life(made: Yard, pattern: str, count: int) -> None:
    """`count` spins like `pattern`, in the ledger and in the pretended world; they belong to no Service."""
    with sqlite3.connect(made.path, isolation_level=None) as db:
        models = {table: _rows(db, table, pattern) for table in TABLES}
        things = [made.world.things[key] for key in list(made.world.things) if key.startswith(pattern)]
        entries = {key: entry for key, entry in made.proxy.entries.items() if key.startswith(pattern)}
        for start in range(0, count, BATCH):
            uids = [made.clock.new_uid() for _ in range(min(BATCH, count - start))]
            db.execute("BEGIN IMMEDIATE")
            for table, (columns, rows) in models.items():
                marks = ", ".join("?" * len(columns))
                copies = [
                    _copied(table, columns, row, pattern, uid, start + index)
                    for index, uid in enumerate(uids)
                    for row in rows
                ]
                db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", copies)  # noqa: S608
            db.execute("COMMIT")
            now = made.clock.now()
            for uid in uids:
                for thing in things:
                    made.world.create(thing.key.replace(pattern, uid), thing.want, now)
                for key, entry in entries.items():
                    made.proxy.entries[ResourceKey(key.replace(pattern, uid))] = Entry(entry.want, now)


def _rows(db: sqlite3.Connection, table: str, uid: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    owner = "uid" if table in ("objects", "labels") else "owner_uid"
    found = db.execute(f"SELECT * FROM {table} WHERE {owner} = ?", (uid,))  # noqa: S608
    return [column[0] for column in found.description], found.fetchall()


def _copied(
    table: str, columns: list[str], row: tuple[Any, ...], pattern: str, uid: str, number: int
) -> tuple[Any, ...]:
    out = dict(zip(columns, (v.replace(pattern, uid) if isinstance(v, str) else v for v in row), strict=True))
    if table == "objects":
        out |= {"name": f"spin-{uid}", "owner_uid": None, "slot": ""}
    if table == "reservations" and out["slot"] is not None:
        out["slot"] = 1_000_000 + number
    return tuple(out[column] for column in columns)
