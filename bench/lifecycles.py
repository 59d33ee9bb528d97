"""Whole lives of spins through the production engine and store on the fake provider, in this process.

Services are inserted, get their spins (each made in its parent's commit, started, probed, registered, served), are
deleted once all of them serve, and count when every spin was verified gone. So each life has all its states.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from spinyard.clock import SystemClock
from spinyard.core.ids import Uid
from spinyard.core.spec import HttpGet, Kind, Port, Probe, Route, ServiceSpec, TemplateSpec, digest_of
from spinyard.engine.context import Context, EngineSettings
from spinyard.engine.loop import Engine
from spinyard.ports.store import NewObject, Transaction
from spinyard.providers.fake.prober import FakeProber
from spinyard.providers.fake.provider import FakeProvider
from spinyard.providers.fake.proxy import FakeProxy
from spinyard.providers.fake.world import World
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.store.store import SqlStore
from spinyard.wiring.collector import calm_collector
from spinyard.wiring.domains import domains
from spinyard.wiring.threads import Threads, make_threads

REPLICAS = 64
SERVICES_AT_ONCE = 8
LOOK_SECONDS = 0.02
TEMPLATE = TemplateSpec(
    command=("serve",), ports=(Port("http"),), provider="fake", readiness_probe=Probe(http_get=HttpGet())
)


@dataclass(slots=True)
class Yard:
    """One engine on one store, as wiring puts them together, with the fake provider and data plane."""

    path: Path
    clock: SystemClock
    store: SqlStore
    threads: Threads
    world: World
    proxy: FakeProxy
    engine: Engine
    context: Context
    digest: str = field(default=digest_of(TEMPLATE))

    async def transact(self, work: object) -> None:
        await self.threads.write(lambda: self.store.transact(work, now=self.clock.now()))  # type: ignore[arg-type]
        self.engine.hint()

    def close(self) -> None:
        self.store.close()
        self.threads.writer.shutdown()
        self.threads.readers.shutdown()


@contextmanager
def yard(engine_settings: EngineSettings | None = None) -> Iterator[Yard]:
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir=os.environ.get("SPINYARD_BENCH_DIR")) as folder:
        path = Path(folder) / "spinyard.db"
        clock = SystemClock()
        store = SqlStore(str(path), new_id=clock.new_uid)
        threads = make_threads()
        world = World(store.installation)
        proxy = FakeProxy(clock, lambda key: world.ready(key.replace("/endpoint", "/process"), clock.now()))
        # The real drain waits at least 50 ms, for the counters of a real Envoy to catch up.
        rules = SpinRules({"fake": ProviderFacts("host:fake", (1, 10_000_000))}, drain_min_seconds=0.0)
        context = Context(
            store,
            {"fake": FakeProvider(world, clock), "proxy": proxy},
            domains(rules),
            FakeProber(world, clock),
            clock,
            threads.write,
            threads.read,
            engine_settings or EngineSettings("bench"),
        )
        made = Yard(path, clock, store, threads, world, proxy, Engine(context), context)
        try:
            yield made
        finally:
            made.close()


def insert_service(made: Yard, tx: Transaction, replicas: int) -> Uid:
    uid = made.clock.new_uid()
    tx.put_template(made.digest, TEMPLATE)  # type: ignore[arg-type]
    spec = ServiceSpec(replicas=replicas, template_digest=made.digest, route=Route(hosts=(f"{uid}.bench",)))  # type: ignore[arg-type]
    tx.insert(
        NewObject(uid, Kind.SERVICE, "default", f"s-{uid}", spec, "pending", b"", made.digest),  # type: ignore[arg-type]
        actor="bench",
        why="applied",
    )
    return uid


@dataclass(frozen=True, slots=True)
class Lives:
    spins: int
    seconds: float
    cpu_seconds: float
    passes: int
    commits: int
    windows: tuple[float, ...]
    """lives per second in each tenth of the run, to see whether the rate falls"""


async def live(made: Yard, spins: int, limit_seconds: float) -> Lives:
    """`spins` lives, from the insert of their Service to verified terminated. Raises TimeoutError."""
    calm_collector()  # as the server does
    services = max(1, spins // REPLICAS)
    outside = sqlite3.connect(f"file:{made.path}?mode=ro", uri=True, isolation_level=None)
    running = asyncio.create_task(made.engine.run())
    began, cpu = time.perf_counter(), _cpu()
    open_uids: set[str] = set()
    deleted: set[str] = set()
    started = done = 0
    marks: list[tuple[float, int]] = [(0.0, 0)]
    try:
        while done < services:
            room = min(SERVICES_AT_ONCE - len(open_uids), services - started)
            if room > 0:
                await made.transact(
                    lambda tx, n=room, uids=open_uids: uids.update(insert_service(made, tx, REPLICAS) for _ in range(n))
                )
                started += room
            seen = dict(outside.execute("SELECT uid, state FROM objects WHERE kind = 'Service' AND finished = 0"))
            ready = [u for u in open_uids if seen.get(u) == "available" and u not in deleted]
            if ready:
                await made.transact(
                    lambda tx, uids=ready: [
                        tx.update(Uid(u), actor="bench", why="deleted", reason="DeletionRequested", delete=True)
                        for u in uids
                    ]
                )
                deleted |= set(ready)
            gone = {u for u in deleted & open_uids if u not in seen}
            open_uids -= gone
            done += len(gone)
            if gone:
                marks.append((time.perf_counter() - began, done * REPLICAS))
            if running.done():
                running.result()
            if time.perf_counter() - began > limit_seconds:
                raise TimeoutError(f"{done * REPLICAS} of {spins} lives in {limit_seconds:g} s")
            await asyncio.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - began
        left = outside.execute("SELECT count(*) FROM resources WHERE closed_at IS NULL").fetchone()[0]
        alive = outside.execute("SELECT count(*) FROM objects WHERE finished = 0").fetchone()[0]
        assert (left, alive, len(made.world.things), len(made.proxy.entries)) == (0, 0, 0, 0), "something is left"
        figures = made.context.figures
        return Lives(done * REPLICAS, seconds, _cpu() - cpu, figures.passes, figures.commits, _windows(marks))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        outside.close()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _windows(marks: list[tuple[float, int]]) -> tuple[float, ...]:
    if len(marks) < 11:
        return ()
    step = (len(marks) - 1) // 10
    cuts = [marks[i * step] for i in range(10)] + [marks[-1]]
    return tuple((b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(cuts))
