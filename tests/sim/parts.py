"""The concrete parts of a simulation: the production store on SQLite in memory, the fake provider that ships."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import structlog

from spinyard.core.ids import ResourceKey
from spinyard.ports.clock import Clock
from spinyard.providers.fake.faults import Fault
from spinyard.providers.fake.prober import FakeProber
from spinyard.providers.fake.provider import FakeProvider
from spinyard.providers.fake.proxy import FakeProxy
from spinyard.providers.fake.world import World
from spinyard.store import SqlStore
from spinyard.store.schema import metadata
from spinyard.testing.simulation.parts import Draw, LedgerFacts, MemberFacts, ObjectFacts, RolloutFacts
from spinyard.testing.simulation.scenario import Scenario, make
from spinyard.testing.simulation.spinouts import SpinoutSimulation, make_spinouts
from spinyard.testing.simulation.world import Result, Simulation

_FACTS = (
    "uid, kind, name, state, resource_version, lease_token, lease_holder, delete_at IS NOT NULL, force, finished, "
    "status, spec, outcome, reason, why, COALESCE(owner_uid, ''), template_digest, created_at, wake_at"
)


@cache
def quiet() -> None:
    """The engine's log would be most of a run's cost. A run leaves little behind that only the collector can find."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), logger_factory=structlog.ReturnLoggerFactory()
    )


def simulate(scenario: Scenario | int) -> Result:
    quiet()
    return Simulation(make(scenario) if isinstance(scenario, int) else scenario, PARTS).run()


def simulate_spinouts(scenario: Scenario | int) -> Result:
    """Runs of another sort, with seeds of their own."""
    quiet()
    return SpinoutSimulation(make_spinouts(scenario) if isinstance(scenario, int) else scenario, PARTS).run()


class TestFaults:
    """From the simulation's words to the fake provider's."""

    __test__ = False

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def draw(self, operation: str, key: str) -> Fault | None:
        name = self._draw.draw(operation, key)
        return None if name is None else Fault(name)

    def seconds(self, limit: float) -> float:
        return self._draw.seconds(limit)


class SqlPeek:
    def __init__(self, store: SqlStore) -> None:
        raw = store._sessions._open_writer().connection.driver_connection
        assert raw is not None
        self._execute: Callable[..., Any] = raw.execute

    def object(self, uid: str) -> ObjectFacts | None:
        found = self._execute(f"SELECT {_FACTS} FROM objects WHERE uid = ?", (uid,)).fetchone()
        return None if found is None else ObjectFacts(*found)

    def objects(self, *, owner: str | None = None, finished: bool = False) -> Sequence[ObjectFacts]:
        where = "finished = ?" if owner is None else "owner_uid = ? AND finished = ?"
        values = (finished,) if owner is None else (owner, finished)
        return [ObjectFacts(*found) for found in self._execute(f"SELECT {_FACTS} FROM objects WHERE {where}", values)]

    def resource(self, key: str) -> LedgerFacts | None:
        found = self._execute(
            "SELECT key, provider, wanted, closed_at IS NOT NULL, retained FROM resources WHERE key = ?", (key,)
        ).fetchone()
        return None if found is None else LedgerFacts(*found)

    def ledger(self) -> Sequence[LedgerFacts]:
        found = self._execute("SELECT key, provider, wanted, 0, retained FROM resources WHERE closed_at IS NULL")
        return [LedgerFacts(*row) for row in found]

    def reservations(self, uid: str) -> int:
        return int(self._execute("SELECT count(*) FROM reservations WHERE owner_uid = ?", (uid,)).fetchone()[0])

    def members(self) -> Sequence[MemberFacts]:
        found = self._execute(
            "SELECT uid, owner_uid, json_extract(spec, '$.pool_uid') AS pool, "
            "COALESCE(json_extract(spec, '$.claim.claim_uid'), ''), state, deleting, failed_at IS NOT NULL, "
            "template_digest FROM objects WHERE finished = 0 AND kind = 'Spin' AND pool <> ''"
        )
        return [MemberFacts(*row) for row in found]

    def rollouts(self) -> Sequence[RolloutFacts]:
        found = self._execute(
            "SELECT uid, json_extract(spec, '$.service_uid'), state FROM objects "
            "WHERE finished = 0 AND kind = 'Rollout'"
        )
        return [RolloutFacts(*row) for row in found]

    def template(self, digest: str) -> str:
        return str(self._execute("SELECT spec FROM templates WHERE digest = ?", (digest,)).fetchone()[0])

    def held(self, scope: str) -> int:
        found = self._execute("SELECT COALESCE(SUM(amount), 0) FROM reservations WHERE scope = ?", (scope,))
        return int(found.fetchone()[0])


class FakeParts:
    """One store for all runs of this process, emptied in between: to make the tables and to compile the statements anew
    would be half of a run's cost."""

    def __init__(self) -> None:
        self._store: SqlStore | None = None

    def store(self, clock: Clock) -> SqlStore:
        if self._store is None:
            self._store = SqlStore(":memory:", new_id=lambda: "home-1")
        connection = self._store._sessions._open_writer()
        raw: Any = connection.connection.driver_connection
        if raw.in_transaction:
            raw.rollback()
        for table in metadata.sorted_tables:
            if table.name not in ("meta", "sequence"):
                raw.execute(f"DELETE FROM {table.name}")
        raw.execute("UPDATE sequence SET commit_seq = 0, pruned_seq = 0, pruned_index = 0")
        return self._store

    def forget_store(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def peek(self, store: Any) -> SqlPeek:
        return SqlPeek(store)

    def world(self, *, ready_seconds: float, stop_seconds: float) -> World:
        return World(ready_seconds=ready_seconds, stop_seconds=stop_seconds)

    def provider(
        self, world: Any, clock: Clock, faults: Draw, *, late_arrival_seconds: float, list_lag_seconds: float
    ) -> FakeProvider:
        return FakeProvider(
            world,
            clock,
            faults=TestFaults(faults),
            late_arrival_seconds=late_arrival_seconds,
            list_lag_seconds=list_lag_seconds,
        )

    def proxy(
        self,
        clock: Clock,
        healthy: Callable[[ResourceKey], bool],
        faults: Draw,
        *,
        acknowledge_seconds: float,
        drain_seconds: float,
    ) -> FakeProxy:
        return FakeProxy(
            clock,
            healthy,
            faults=TestFaults(faults),
            acknowledge_seconds=acknowledge_seconds,
            drain_seconds=drain_seconds,
        )

    def prober(self, world: Any, clock: Clock, faults: Draw) -> FakeProber:
        return FakeProber(world, clock, faults=TestFaults(faults))


PARTS = FakeParts()
