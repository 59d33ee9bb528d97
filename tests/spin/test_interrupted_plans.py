"""A whole life, interrupted once at each place where it can be: before and after every commit, call and claim.

The engine ends there as a killed process does; another one goes on with the same store and the same world. However far
the plan had got, the end is the same: available, then deleted with nothing left, and each thing made once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from spinyard.core.ids import Uid
from spinyard.core.spec import (
    BootstrapStep,
    DataDirectory,
    DirectoryScope,
    HttpGet,
    Kind,
    Port,
    Probe,
    Route,
    ServiceSpec,
    TemplateSpec,
    digest_of,
)
from spinyard.engine.context import Context, EngineSettings
from spinyard.engine.loop import Engine
from spinyard.ports.store import NewObject
from spinyard.providers.fake.prober import FakeProber
from spinyard.providers.fake.provider import FakeProvider
from spinyard.providers.fake.proxy import FakeProxy
from spinyard.providers.fake.world import World
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.store.store import SqlStore
from spinyard.testing.virtual import VirtualClock, VirtualLoop, run_virtual
from spinyard.wiring.assemble import ledger_wants
from spinyard.wiring.domains import domains

T = TypeVar("T")
TEMPLATE = TemplateSpec(
    command=("serve",),
    ports=(Port("http"),),
    provider="fake",
    readiness_probe=Probe(http_get=HttpGet()),
    bootstrap=(BootstrapStep("migrate", ("exit", "0")),),
    data_directories=(DataDirectory("shared", DirectoryScope.SERVICE), DataDirectory("own")),
)
SPEC = ServiceSpec(replicas=1, template_digest=digest_of(TEMPLATE), route=Route(("web",)))
RULES = SpinRules({"fake": ProviderFacts("host:fake", (1, 1000))})


class Killed(BaseException):
    """The process is gone."""


class Life:
    """`at`: the failpoint at whose passing the first engine dies; 0: it lives on."""

    def __init__(self, at: int) -> None:
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(_unless_killed)
        self.clock = VirtualClock(self.loop)
        self.store = SqlStore(":memory:", new_id=self.clock.new_uid)
        self.made: Counter[str] = Counter()
        self.world = World(ready_seconds=0.2, stop_seconds=0.1, watch=self._watch)
        self.proxy = FakeProxy(self.clock, self._healthy, acknowledge_seconds=0.01)
        self.at, self.passed = at, 0
        self.killed = asyncio.Event()

    def _watch(self, effect: str, key: str) -> None:
        if effect == "created":
            self.made[key] += 1

    def _healthy(self, key: str) -> bool:
        return self.world.ready(key.replace("/endpoint", "/process"), self.clock.now())

    def _failpoint(self, name: str) -> None:
        self.passed += 1
        if self.passed == self.at:
            self.killed.set()
        if self.at and self.passed >= self.at and not self.reborn:
            raise Killed(name)

    reborn = False

    def engine(self) -> Engine:
        async def inline(work: Callable[[], T]) -> T:
            return work()

        provider = FakeProvider(self.world, self.clock)
        context = Context(
            store=self.store,
            providers={"fake": provider, "proxy": self.proxy},
            domains=domains(RULES),
            prober=FakeProber(self.world, self.clock),
            clock=self.clock,
            write=inline,
            read=inline,
            settings=EngineSettings("test"),
            failpoint=self._failpoint,
        )
        return Engine(context)

    async def run(self) -> None:
        uid = self._insert()
        engine = self.engine()
        running = asyncio.ensure_future(engine.run())
        watcher = asyncio.ensure_future(self._rebirth(running))
        await self._until(lambda: self._state(uid) == "available", "it is available")
        self.store.transact(
            lambda tx: tx.update(uid, actor="test", why="enough", reason="Deleted", delete=True), now=self.clock.now()
        )
        await self._until(lambda: self._state(uid) == "", "it is gone")
        watcher.cancel()

    async def _rebirth(self, running: asyncio.Future[None]) -> None:
        await self.killed.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        self.reborn = True
        self.proxy.restore(ledger_wants(self.store, "proxy"))
        self.store.catch_up(now=self.clock.now())
        await self.engine().run()

    def _insert(self) -> Uid:
        uid = self.clock.new_uid()
        new = NewObject(uid, Kind.SERVICE, "default", "web", SPEC, "pending", b"", digest_of(TEMPLATE))
        self.store.transact(lambda tx: tx.put_template(digest_of(TEMPLATE), TEMPLATE), now=self.clock.now())
        self.store.transact(lambda tx: tx.insert(new, actor="test", why="wished"), now=self.clock.now())
        return uid

    def _state(self, uid: Uid) -> str:
        found = self.store.read(lambda tx: tx.find_uid(uid), now=self.clock.now())
        assert found is not None
        return "" if found.finished_at is not None else found.row.state

    async def _until(self, check: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(120):
            while not check():
                await self.clock.sleep(0.1)
        assert check(), what


def _unless_killed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """The tasks of the killed engine have nobody who asks how they ended."""
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


def lived(at: int) -> Life:
    life = Life(at)
    try:
        run_virtual(life.loop, life.run())
    finally:
        left = [resource.key for resource in life.store.open_resources()]
        reserved = life.store.counts()
        life.store.close()
    assert (left, dict(reserved)) == ([], {}), f"left after the kill at passing {at}"
    assert (life.world.things, life.proxy.entries) == ({}, {}), f"left in the world after the kill at passing {at}"
    doubled = {key: count for key, count in life.made.items() if count > 1}
    assert not doubled, f"made twice after the kill at passing {at}"
    return life


def test_a_life_interrupted_anywhere_ends_as_one_that_was_not() -> None:
    whole = lived(0)
    assert whole.passed > 60, "the life passes the places that are to be tried"
    for at in range(1, whole.passed + 1):
        life = lived(at)
        assert life.reborn, f"passing {at} was never reached"
