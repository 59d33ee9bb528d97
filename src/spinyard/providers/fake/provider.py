"""The fake provider: the contract of ports.provider over a pretended world, with injected faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, DirectoryFacts, Observed, Present, ProcessFacts, Unknown
from spinyard.core.want import DirectoryWant, FileWant, Want
from spinyard.errors import ErrorClass, ProviderFailure
from spinyard.ports.clock import Clock
from spinyard.ports.provider import Capabilities, Owned
from spinyard.providers.fake.faults import Fault, Faults, NoFaults, RateLimit
from spinyard.providers.fake.world import Thing, World

SILENCE_SECONDS = 3600.0


class FakeProvider:
    def __init__(
        self,
        world: World,
        clock: Clock,
        *,
        name: str = "fake",
        scope: str = "host:fake",
        faults: Faults | None = None,
        late_arrival_seconds: float = 0.0,
        list_lag_seconds: float = 0.0,
        slow_seconds: float = 2.0,
        rate_limit: RateLimit | None = None,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            scope, frozenset({"process", "directory"}), late_arrival_seconds, list_lag_seconds, at_once=faults is None
        )
        self._world = world
        self._clock = clock
        self._faults: Faults = faults or NoFaults()
        self._slow = slow_seconds
        self._rate_limit = rate_limit
        self._listeners: list[asyncio.Queue[ResourceKey]] = []
        self._late: set[asyncio.Task[None]] = set()
        self.underway: Counter[str] = Counter()
        """keys with a request to make something that may still take effect after its caller gave up"""
        self.refuses = False
        """True: every change is refused at once"""
        self.answers = True
        """False: nothing answers at all, as while it restarts (only with `faults`)"""

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        self._world.watch("asked", key)
        fault = await self._before("ensure", key)
        if fault is Fault.LATE_ARRIVAL:
            self.underway[key] += 1
            await self._give_up_then(lambda: self._arrive(key, want))
        if isinstance(want, FileWant):
            self._world.write(want)
            self._hint(key)
            return
        self._world.create(key, want, self._clock.now(), broken=fault is Fault.PARTIAL)
        if fault is Fault.PARTIAL:
            raise ProviderFailure("the fake provider was told to stop half way")
        if fault is Fault.DUPLICATE:
            self._world.create(key, want, self._clock.now())
        self._made(key)
        if fault is Fault.LOST_REPLY:
            await self._clock.sleep(SILENCE_SECONDS)

    async def observe(self, key: ResourceKey) -> Observed:
        fault = self._faults.draw("observe", key)
        if not self.answers:
            await self._clock.sleep(SILENCE_SECONDS)
        if fault is Fault.ERROR:
            return Unknown("the fake provider was told to fail")
        if fault is Fault.SLOW:
            await self._clock.sleep(self._faults.seconds(self._slow))
        now = self._clock.now()
        if fault is Fault.STALE_READ and self.capabilities.list_lag_seconds:
            at = now - self._faults.seconds(self.capabilities.list_lag_seconds)
            return _observed(self._world.as_of(at, now).get(key), at)
        return _observed(self._world.find(key, now), now)

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        fault = await self._before("remove", key)
        if fault is Fault.LATE_ARRIVAL:
            await self._give_up_then(lambda: self._world.remove(key, self._clock.now(), hard=now))
        self._world.remove(key, self._clock.now(), hard=now)
        self._hint(key)
        if fault is Fault.LOST_REPLY:
            await self._clock.sleep(SILENCE_SECONDS)

    async def owned(self) -> Sequence[Owned]:
        fault = self._faults.draw("owned", "")
        if fault is Fault.ERROR or not self.answers:
            raise ProviderFailure("the fake provider was told to fail its listing")
        now = self._clock.now()
        at = now
        if fault is Fault.STALE_READ and self.capabilities.list_lag_seconds:
            at = now - self._faults.seconds(self.capabilities.list_lag_seconds)
        things = self._world.as_of(at, now)
        return [Owned(ResourceKey(key), type(thing.want).__name__, thing.running(at)) for key, thing in things.items()]

    async def changes(self) -> AsyncIterator[ResourceKey]:
        hints: asyncio.Queue[ResourceKey] = asyncio.Queue()
        self._listeners.append(hints)
        try:
            while True:
                yield await hints.get()
        finally:
            self._listeners.remove(hints)

    def hint(self, key: ResourceKey) -> None:
        """Tells listeners of an outside change, unless the hint is lost."""
        self._hint(key)

    async def _before(self, operation: str, key: ResourceKey) -> Fault | None:
        limit = self._rate_limit
        if limit is not None and not limit.take(operation, self._clock.monotonic()):
            raise ProviderFailure(
                "too many requests",
                error_class=ErrorClass.RATE_LIMITED,
                retry_after_seconds=limit.retry_after_seconds,
            )
        fault = self._faults.draw(operation, key)
        if not self.answers:
            fault = Fault.LOST_REQUEST
        if self.refuses:
            fault = Fault.ERROR
        match fault:
            case Fault.LOST_REQUEST:
                await self._clock.sleep(SILENCE_SECONDS)
            case Fault.SLOW:
                await self._clock.sleep(self._faults.seconds(self._slow))
            case Fault.THROTTLED:
                raise ProviderFailure("too many requests", error_class=ErrorClass.RATE_LIMITED, retry_after_seconds=1.0)
            case Fault.ERROR:
                raise ProviderFailure("the fake provider was told to fail")
            case _:
                pass
        return fault

    async def _give_up_then(self, effect: Callable[[], None]) -> None:
        """Silence; and once the caller has given up, the effect, within late_arrival_seconds."""

        try:
            await self._clock.sleep(SILENCE_SECONDS)
        finally:
            self._later(self._faults.seconds(self.capabilities.late_arrival_seconds), effect)

    def _later(self, seconds: float, effect: Callable[[], None]) -> None:
        async def come() -> None:
            await self._clock.sleep(seconds)
            effect()

        task = asyncio.ensure_future(come())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _arrive(self, key: ResourceKey, want: Want) -> None:
        self.underway[key] -= 1
        self._world.create(key, want, self._clock.now())
        self._made(key)

    def _made(self, key: ResourceKey) -> None:
        """Told now, and again when it ends by itself."""
        self._hint(key)
        thing = self._world.things.get(key)
        if thing is not None and thing.exited_at is not None:
            self._later(thing.exited_at - self._clock.now(), lambda: self._hint(key))

    def _hint(self, key: ResourceKey) -> None:
        for hints in self._listeners:
            if self._faults.draw("hint", key) is not Fault.HINT_LOST:
                hints.put_nowait(key)


def _observed(thing: Thing | None, at: float) -> Observed:
    if thing is None:
        return Absent()
    if isinstance(thing.want, DirectoryWant):
        return Present(DirectoryFacts(path=f"/fake/{thing.key}", files=tuple(sorted(thing.files.items()))))
    if thing.running(at):
        return Present(ProcessFacts(running=True, pid=thing.pid, started_at=thing.created_at))
    return Present(
        ProcessFacts(
            running=False,
            pid=thing.pid,
            started_at=thing.created_at,
            exited_at=thing.exited_at,
            exit_code=thing.exit_code,
            exit_signal=thing.exit_signal,
        )
    )
