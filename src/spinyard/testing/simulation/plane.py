"""One control plane: the production engine, behind a gate through which each of its effects must pass. Freezing it is
SIGSTOP, killing it is kill -9: nothing of it has an effect after that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from spinyard.core.ids import ResourceKey, Uid, owner_of
from spinyard.core.observed import LookWatch, Observed, ProbeAnswer, ProbeResult, Seen, Traffic, Unknown
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.want import Want
from spinyard.engine.context import Context, EngineSettings
from spinyard.engine.loop import Engine
from spinyard.errors import StoreFailure
from spinyard.ports.domain import Domain
from spinyard.ports.provider import Owned, Provider
from spinyard.ports.store import Commit, CommitResult, Lease, Store
from spinyard.testing.simulation.pool_checks import HookProber
from spinyard.testing.simulation.stage import Stage

T = TypeVar("T")

PERIOD_SECONDS = 1.0
FAILURE_SECONDS = 3.0
"""of a watched probe, until it counts as failed"""
NOT_PROBED = ProbeResult(ProbeAnswer.UNKNOWN, "not probed yet")


class Crash(BaseException):
    """The control plane ended here."""


class ControlPlane:
    def __init__(self, sim: Stage, holder: str) -> None:
        self.sim = sim
        self.holder = holder
        self.dead = False
        self.context = Context(
            store=cast(Store, SeenStore(self, sim.store)),
            providers={name: GuardedProvider(self, provider) for name, provider in sim.providers.items()},
            domains={domain.kind: SeenDomain(self, domain) for domain in sim.domains},
            prober=HookProber(sim),
            clock=sim.clock,
            write=self._write,
            read=self._read,
            settings=EngineSettings(holder, poll_seconds=2.0, sweep_seconds=10.0, sweep_grace_seconds=20.0),
            watch=SickWatch(self),
            failpoint=self._failpoint,
            traffic=GuardedTraffic(self),
        )
        self.engine = Engine(self.context)
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._task = asyncio.ensure_future(self.engine.run())
        self._task.add_done_callback(self._ended)
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    def die(self, why: str) -> None:
        if self.dead:
            return
        self.sim.log(f"{self.holder} ends: {why}")
        self.dead = True
        self._thawed.set()
        self._task.cancel()

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """A call that leaves this control plane. A frozen one sends it when it thaws, even if its caller has given
        up by then: that is what a stopped process does."""
        if self.dead:
            raise Crash
        if not self.frozen:
            return await work()

        async def later() -> T:
            await self._thawed.wait()
            if self.dead:
                raise Crash
            self.sim.reached("zombie-call")
            return await work()

        task = asyncio.ensure_future(later())
        self._late.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()

    async def _write(self, work: Callable[[], T]) -> T:
        if self.dead or self.frozen:
            await self._pass_gate()
        fault = self.sim.disk_fault()
        if fault == "before":
            raise StoreFailure("the disk is full", code="disk_full", retryable=True)
        result = work()
        if fault == "after":
            raise StoreFailure("the answer of the database was lost", retryable=True)
        return result

    async def _read(self, work: Callable[[], T]) -> T:
        if self.dead or self.frozen:
            await self._pass_gate()
        return work()

    async def _pass_gate(self) -> None:
        if self.frozen:
            await self._thawed.wait()
        if self.dead:
            raise Crash

    def _failpoint(self, name: str) -> None:
        if self.dead:
            raise Crash
        if self.sim.crashes_at(name):
            self.sim.reached("crash")
            self.die(f"failpoint {name}")
            self.sim.restart_later()
            raise Crash

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self.dead:
            if not task.cancelled():
                task.exception()
            return
        error = None if task.cancelled() else task.exception()
        self.sim.broken("the engine ended by itself", repr(_leaf(error)))


def _leaf(error: BaseException | None) -> BaseException | None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class GuardedProvider:
    """A provider as one control plane has it: the checks see each call before it leaves."""

    def __init__(self, plane: ControlPlane, inner: Provider) -> None:
        self._plane = plane
        self._inner = inner
        self.name = inner.name
        self.capabilities = inner.capabilities

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        self._plane.sim.checks.ensure_asked(self._plane, self.name, key, want)
        await self._bounded(key, lambda: self._ensure(key, want))

    async def _ensure(self, key: ResourceKey, want: Want) -> None:
        checks = self._plane.sim.checks
        foreign = not checks.holds(self._plane, owner_of(key))
        checks.rollouts.takes_effect(self._plane, key, want, foreign=foreign)
        await self._inner.ensure(key, want)

    async def observe(self, key: ResourceKey) -> Observed:
        observed = await self._plane.call(lambda: self._inner.observe(key))
        if self.name == "proxy":
            self._plane.sim.checks.pools.observed(key, observed)
            self._plane.sim.traffic.look()
        return observed

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        self._plane.sim.checks.remove_asked(self._plane, self.name, key, now)
        await self._bounded(key, lambda: self._inner.remove(key, now=now))

    async def _bounded(self, key: ResourceKey, work: Callable[[], Awaitable[None]]) -> None:
        """No action may take longer than its limit: a lease may not be outlived by what was begun under it."""
        plane = self._plane
        begun = plane.sim.loop_time
        try:
            await plane.call(work)
        finally:
            took = plane.sim.loop_time - begun
            if took > plane.context.settings.action_seconds + 0.1 and not plane.dead:
                plane.sim.broken("an action outlived its limit", f"{key}: {took:.1f} s")

    async def owned(self) -> Sequence[Owned]:
        listed = await self._plane.call(self._inner.owned)
        self._plane.sim.checks.listed(self._plane, self.name, listed)
        return listed

    async def changes(self) -> AsyncIterator[ResourceKey]:
        async for key in self._inner.changes():
            yield key


class GuardedTraffic:
    """The data plane's counters as one control plane has them."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        return await self._plane.call(lambda: self._plane.sim.traffic.read(clusters))


class SeenStore:
    """The store as one control plane has it: the checks see each claim and each commit as it takes effect."""

    def __init__(self, plane: ControlPlane, inner: Store) -> None:
        self._plane = plane
        self._inner = inner
        self.next_due, self.reload, self.children = inner.next_due, inner.reload, inner.children

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def claim(self, *, holder: str, now: float, lease_seconds: float, limit: int) -> Sequence[ObjectRow]:
        rows = self._inner.claim(holder=holder, now=now, lease_seconds=lease_seconds, limit=limit)
        self._plane.sim.checks.claimed(self._plane, rows)
        return rows

    def release(self, leases: Sequence[tuple[Lease, int, float | None]], *, now: float) -> None:
        self._inner.release(leases, now=now)
        self._plane.sim.checks.released([lease for lease, _, _ in leases])

    def commit(self, batch: Sequence[Commit], *, now: float) -> Sequence[CommitResult]:
        checks = self._plane.sim.checks
        before = checks.before_commit(batch)
        results = self._inner.commit(batch, now=now)
        checks.committed(self._plane, batch, results, before)
        return results


class SeenDomain:
    """A domain whose decisions are counted and looked at; one that raises is a bug, whatever the engine makes of it."""

    def __init__(self, plane: ControlPlane, inner: Domain) -> None:
        self._plane = plane
        self._inner = inner
        self.kind = inner.kind
        self.machine = inner.machine

    def looks(self, row: ObjectRow, now: float) -> tuple[Any, ...]:
        self._plane.sim.checks.rollouts.holds.looking(self._plane, row)
        return self._inner.looks(row, now)

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        try:
            plan = self._inner.decide(row, seen, now)
        except Exception as error:
            self._plane.sim.broken("a decision raised", f"{row.kind} {row.name} in {row.state}: {error!r}")
            raise
        self._plane.sim.checks.decided(self._plane, row, seen, plan, now)
        return plan


class SickWatch:
    """Periodic probes: nothing is known before the first of them, and a verdict stands until enough of them say
    otherwise. Nothing is probed in between: what is asked for is worked out from when it was looked at."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._kept: dict[str, frozenset[LookWatch]] = {}
        self._since: dict[LookWatch, float] = {}
        self._verdicts: dict[LookWatch, ProbeResult] = {}
        self._failing_since: dict[LookWatch, float] = {}

    def answer(self, uid: str, look: LookWatch) -> ProbeResult:
        sim = self._plane.sim
        now = sim.loop_time
        if not sim.world.ready(look.process, sim.steady.now()):
            since = self._failing_since.setdefault(look, now)
            if since == now:
                self._look_again(uid, FAILURE_SECONDS)
            if now - since >= FAILURE_SECONDS:
                self._verdicts[look] = ProbeResult(ProbeAnswer.FAILED, "it answers no probe")
        else:
            self._failing_since.pop(look, None)
            if now - self._since[look] >= PERIOD_SECONDS:
                self._verdicts[look] = ProbeResult(ProbeAnswer.OK)
            elif now == self._since[look]:
                self._look_again(uid, PERIOD_SECONDS)
        return self._verdicts.get(look, NOT_PROBED)

    def _look_again(self, uid: str, seconds: float) -> None:
        """As its verdict changes."""
        self._plane.sim.after(seconds + 0.01, lambda: self._plane.engine.hint(Uid(uid)))

    def keep(self, uid: str, looks: frozenset[LookWatch]) -> None:
        before = self._kept.get(uid, frozenset())
        if before == looks:
            return
        for look in before - looks:
            for known in (self._since, self._verdicts, self._failing_since):
                known.pop(look, None)
        for look in looks - before:
            self._since[look] = self._plane.sim.loop_time
        if looks:
            self._kept[uid] = looks
        else:
            del self._kept[uid]
