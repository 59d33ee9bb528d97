"""A data plane without one: acknowledges after a delay, believes what it is told, and finds an endpoint healthy when
the pretended process behind it is ready. A boundary is in force when the routes of both its Services are known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import (
    Absent,
    BoundaryFacts,
    EndpointFacts,
    Observed,
    Present,
    RouteFacts,
    Traffic,
    Unknown,
)
from spinyard.core.want import BoundaryWant, EndpointState, EndpointWant, RouteWant, Want
from spinyard.errors import ProviderFailure
from spinyard.ports.clock import Clock
from spinyard.ports.provider import Capabilities, Owned
from spinyard.providers.fake.faults import Fault, Faults, NoFaults

SILENCE_SECONDS = 3600.0
Told = RouteWant | EndpointWant | BoundaryWant


def no_traffic(clusters: tuple[str, ...]) -> Traffic | Unknown:
    return Unknown("nothing counts requests here")


def no_refusal(want: Told) -> str:
    return ""


@dataclass(slots=True)
class Entry:
    """`active_until`: until when pretended requests are under way on a draining endpoint."""

    want: Told
    acknowledged_at: float
    active_until: float = 0.0


class FakeProxy:
    """`healthy(key)`: whether what is behind that endpoint would pass its health check now. `watch` is told of every
    change of an endpoint before it takes effect. `traffic_of` says what was counted. `refusal_of`: why a boundary is
    rejected, or empty. Operations for faults: proxy-ensure, proxy-observe, proxy-remove, proxy-owned, proxy-hint,
    proxy-read."""

    def __init__(
        self,
        clock: Clock,
        healthy: Callable[[ResourceKey], bool],
        *,
        faults: Faults | None = None,
        acknowledge_seconds: float = 0.0,
        drain_seconds: float = 0.0,
        watch: Callable[[str, str], None] = lambda effect, key: None,
        traffic_of: Callable[[tuple[str, ...]], Traffic | Unknown] = no_traffic,
        refusal_of: Callable[[Told], str] = no_refusal,
    ) -> None:
        self.name = "proxy"
        self.capabilities = Capabilities(
            "host:fake", frozenset({"route", "endpoint", "boundary"}), at_once=faults is None
        )
        self.entries: dict[ResourceKey, Entry] = {}
        self.up = True
        self._clock = clock
        self._healthy = healthy
        self._faults: Faults = faults or NoFaults()
        self._acknowledge = acknowledge_seconds
        self._drain = drain_seconds
        self._watch = watch
        self.traffic_of = traffic_of
        self.refusal_of = refusal_of
        self._listeners: list[asyncio.Queue[ResourceKey]] = []
        self._telling: set[asyncio.Task[None]] = set()

    def restore(self, wants: Iterable[tuple[ResourceKey, Want]]) -> None:
        """What a restarted control plane serves first: the ledger's wishes, replacing all it held."""
        self.entries = {}
        for key, want in wants:
            if isinstance(want, Told):
                self.entries[key] = Entry(want, self._clock.now() + self._acknowledge)

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        assert isinstance(want, Told)
        fault = await self._before("proxy-ensure", key)
        now = self._clock.now()
        entry = self.entries.get(key)
        if entry is None or entry.want != want:
            if isinstance(want, EndpointWant):
                self._watch(f"endpoint-{want.state}", key)
            draining = isinstance(want, EndpointWant) and want.state is EndpointState.DRAINING
            active = now + self._acknowledge + (self._drain if draining else 0.0)
            self.entries[key] = Entry(want, now + self._acknowledge, active)
            self._tell_later(key, self._acknowledge)
            if isinstance(want, RouteWant):
                self._boundaries_follow(want.service)
        if fault is Fault.LOST_REPLY:
            await self._clock.sleep(SILENCE_SECONDS)

    async def observe(self, key: ResourceKey) -> Observed:
        if not self.up or self._faults.draw("proxy-observe", key) is Fault.ERROR:
            return Unknown("the fake data plane does not answer")
        entry = self.entries.get(key)
        if entry is None:
            return Absent()
        now = self._clock.now()
        acknowledged = now >= entry.acknowledged_at
        if isinstance(entry.want, RouteWant):
            return Present(RouteFacts(acknowledged, want=entry.want))
        if isinstance(entry.want, BoundaryWant):
            rejected = self.refusal_of(entry.want)
            missing = self.missing(entry.want)
            moves = entry.want.weight or entry.want.mirror
            return Present(BoundaryFacts(acknowledged and not (rejected and moves), rejected, entry.want, missing))
        healthy = acknowledged and entry.want.state is EndpointState.ACTIVE and self._healthy(key)
        return Present(EndpointFacts(acknowledged, healthy, self.active_requests(key), state=entry.want.state))

    def missing(self, want: BoundaryWant) -> tuple[str, ...]:
        known = {entry.want.service for entry in self.entries.values() if isinstance(entry.want, RouteWant)}
        return tuple(service for service in (want.parent, want.unit) if service not in known)

    def in_force(self, key: ResourceKey) -> BoundaryWant | None:
        """What shares the requests of this boundary now; None: all of them go to the parent."""
        entry = self.entries.get(key)
        if entry is None or not isinstance(entry.want, BoundaryWant):
            return None
        is_shown = self._clock.now() >= entry.acknowledged_at and not self.refusal_of(entry.want)
        return entry.want if is_shown and not self.missing(entry.want) else None

    def _boundaries_follow(self, service: str) -> None:
        """What a boundary becomes with another route of its Service is to be confirmed anew."""
        for key, entry in self.entries.items():
            if isinstance(entry.want, BoundaryWant) and service in (entry.want.parent, entry.want.unit):
                entry.acknowledged_at = self._clock.now() + self._acknowledge
                self._tell_later(key, self._acknowledge)

    def active_requests(self, key: ResourceKey) -> int:
        entry = self.entries.get(key)
        draining = entry is not None and getattr(entry.want, "state", None) is EndpointState.DRAINING
        return 1 if entry is not None and draining and self._clock.now() < entry.active_until else 0

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        fault = await self._before("proxy-remove", key)
        if key in self.entries:
            self._watch("endpoint-removed", key)
            want = self.entries.pop(key).want
            self.hint(key)
            if isinstance(want, RouteWant):
                self._boundaries_follow(want.service)
        if fault is Fault.LOST_REPLY:
            await self._clock.sleep(SILENCE_SECONDS)

    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        """A TrafficReader."""
        fault = self._faults.draw("proxy-read", "")
        if not self.up or fault is Fault.ERROR:
            return Unknown("the fake data plane does not answer")
        if fault is Fault.SLOW:
            await self._clock.sleep(self._faults.seconds(2.0))
        return self.traffic_of(tuple(clusters))

    async def owned(self) -> Sequence[Owned]:
        if not self.up or self._faults.draw("proxy-owned", "") is Fault.ERROR:
            raise ProviderFailure("the fake data plane does not answer")
        return [Owned(key) for key in self.entries]

    async def changes(self) -> AsyncIterator[ResourceKey]:
        hints: asyncio.Queue[ResourceKey] = asyncio.Queue()
        self._listeners.append(hints)
        try:
            while True:
                yield await hints.get()
        finally:
            self._listeners.remove(hints)

    def hint(self, key: ResourceKey) -> None:
        """Tells listeners of a change (a confirmation, a health check), unless the hint is lost."""
        for hints in self._listeners:
            if self._faults.draw("proxy-hint", key) is not Fault.HINT_LOST:
                hints.put_nowait(key)

    async def _before(self, operation: str, key: ResourceKey) -> Fault | None:
        fault = self._faults.draw(operation, key)
        if not self.up or fault is Fault.LOST_REQUEST:
            await self._clock.sleep(SILENCE_SECONDS)
        if fault is Fault.SLOW:
            await self._clock.sleep(self._faults.seconds(2.0))
        if fault is Fault.ERROR:
            raise ProviderFailure("the fake data plane was told to refuse")
        return fault

    def _tell_later(self, key: ResourceKey, seconds: float) -> None:
        async def tell() -> None:
            await self._clock.sleep(seconds)
            self.hint(key)

        task = asyncio.ensure_future(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
