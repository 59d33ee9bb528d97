"""A data plane without one: acknowledges after a delay, believes what it is told, and finds an endpoint healthy when the
pretended process behind it is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, EndpointFacts, Observed, Present, RouteFacts, Unknown
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Want
from spinyard.errors import ProviderFailure
from spinyard.ports.clock import Clock
from spinyard.ports.provider import Capabilities, Owned
from spinyard.providers.fake.faults import Fault, Faults, NoFaults


@dataclass(slots=True)
class Entry:
    want: RouteWant | EndpointWant
    acknowledged_at: float
    active_until: float = 0.0


class FakeProxy:
    """`healthy(key)`: whether what is behind that endpoint would pass its health check now."""

    def __init__(
        self,
        clock: Clock,
        healthy: Callable[[ResourceKey], bool],
        *,
        faults: Faults | None = None,
        acknowledge_seconds: float = 0.0,
        drain_seconds: float = 0.0,
        watch: Callable[[str, str], None] = lambda effect, key: None,
    ) -> None:
        self.name = "proxy"
        self.capabilities = Capabilities("host:fake", frozenset({"route", "endpoint"}))
        self.entries: dict[ResourceKey, Entry] = {}
        self.up = True
        self._clock = clock
        self._healthy = healthy
        self._faults: Faults = faults or NoFaults()
        self._acknowledge = acknowledge_seconds
        self._drain = drain_seconds
        self._watch = watch
        self._hints: asyncio.Queue[ResourceKey] = asyncio.Queue()

    def restore(self, wants: Iterable[tuple[ResourceKey, Want]]) -> None:
        """What a restarted control plane serves first: the ledger's wishes, replacing all it held."""
        self.entries = {}
        for key, want in wants:
            if isinstance(want, RouteWant | EndpointWant):
                self.entries[key] = Entry(want, self._clock.now() + self._acknowledge)

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        assert isinstance(want, RouteWant | EndpointWant)
        if self._faults.draw("proxy", key) is Fault.ERROR:
            raise ProviderFailure("the fake data plane was told to refuse")
        now = self._clock.now()
        entry = self.entries.get(key)
        if entry is not None and entry.want == want:
            return
        if isinstance(want, EndpointWant):
            self._watch(f"endpoint-{want.state}", key)
        draining = isinstance(want, EndpointWant) and want.state is EndpointState.DRAINING
        active = now + self._acknowledge + (self._drain if draining else 0.0)
        self.entries[key] = Entry(want, now + self._acknowledge, active)
        self._hints.put_nowait(key)

    async def observe(self, key: ResourceKey) -> Observed:
        if not self.up or self._faults.draw("proxy", key) is Fault.ERROR:
            return Unknown("the fake data plane does not answer")
        entry = self.entries.get(key)
        if entry is None:
            return Absent()
        now = self._clock.now()
        acknowledged = now >= entry.acknowledged_at
        if isinstance(entry.want, RouteWant):
            return Present(RouteFacts(acknowledged))
        healthy = acknowledged and entry.want.state is EndpointState.ACTIVE and self._healthy(key)
        active = 1 if now < entry.active_until and entry.want.state is EndpointState.DRAINING else 0
        return Present(EndpointFacts(acknowledged, healthy, active, state=entry.want.state))

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        if self.entries.pop(key, None) is not None:
            self._watch("endpoint-removed", key)
            self._hints.put_nowait(key)

    async def owned(self) -> Sequence[Owned]:
        return [Owned(key) for key in self.entries]

    async def changes(self) -> AsyncIterator[ResourceKey]:
        while True:
            yield await self._hints.get()
