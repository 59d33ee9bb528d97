"""The flags' server as Spinyard runs it, over a store with one Spinout at a quarter. Its port is in PORT, the store in
STORE."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import uvicorn
import uvloop

from spinyard.api.connection import BoundedConnection
from spinyard.api.notifier import CommitNotifier
from spinyard.api.ofrep import OfrepApp, OfrepDeps, OfrepLimits
from spinyard.clock import SystemClock
from spinyard.core.plan import Plan
from spinyard.core.shift import Sticky
from spinyard.core.spec import Kind
from spinyard.core.spinout import BoundaryRoute, SpinoutSpec
from spinyard.ports.store import Commit, NewObject
from spinyard.spinout.status import SpinoutStatus
from spinyard.store import SqlStore

T = TypeVar("T")
NAME, WEIGHT = "thumbnails", 2_500
SPEC = SpinoutSpec(
    parent="shop", unit="thumbs", routes=(BoundaryRoute("/thumb/*", "GET"),), key=Sticky(header="x-user")
)


def fill(store: SqlStore, clock: SystemClock) -> None:
    new = NewObject(clock.new_uid(), Kind.SPINOUT, "default", NAME, SPEC, "proposed", b"{}")
    store.transact(lambda tx: tx.insert(new, actor="bench", why="made"), now=clock.now())
    status = msgspec.json.encode(SpinoutStatus(weight=WEIGHT, shown_weight=WEIGHT))
    plan = Plan(state="ramping", status=status, why="bench", reason="Bench", wake_at=None)
    rows = store.claim(holder="bench", now=clock.now(), lease_seconds=5.0, limit=10)
    store.commit([Commit(row, plan, release=True) for row in rows], now=clock.now())


async def main() -> None:
    clock = SystemClock()
    store = SqlStore(os.environ["STORE"], new_id=clock.new_uid)
    fill(store, clock)
    readers = ThreadPoolExecutor(2)

    async def run_read(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(readers, work)

    # The limit is not what is measured.
    limits = OfrepLimits(requests_per_second=1e6, burst_max=1_000_000)
    app = OfrepApp(OfrepDeps(store, run_read, CommitNotifier(), clock, lambda: "127.0.0.1:9", limits))
    following = asyncio.create_task(app.board.follow())
    config = uvicorn.Config(
        app, port=int(os.environ["PORT"]), http=BoundedConnection, log_config=None, lifespan="off", access_log=False
    )
    try:
        await uvicorn.Server(config).serve()
    finally:
        following.cancel()


if __name__ == "__main__":
    uvloop.run(main())
