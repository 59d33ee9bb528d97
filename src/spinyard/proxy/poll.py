"""Looks at the endpoints again and again, often while one of them is on its way, and tells of those that moved.

Hints only: whoever asks for an endpoint gets a reading of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from spinyard.core.ids import ResourceKey
from spinyard.core.want import EndpointState, EndpointWant
from spinyard.ports.clock import Clock
from spinyard.proxy.stats import ALL, Admin, AdminUnavailable, HostStatus

FAST_SECONDS = 0.05
SLOW_SECONDS = 1.0
# A look at everything may cost at most this share of the time.
SLOW_COST_SHARE = 0.05
# An endpoint that has still not come to rest is looked at with the slow poll only.
RESTLESS_SECONDS = 30.0

Endpoints = Callable[[], Iterable[tuple[ResourceKey, EndpointWant, float]]]
"""(key, want, wanted since, monotonic); none while no Envoy is connected"""


class Poll:
    def __init__(
        self,
        admin: Admin,
        clock: Clock,
        endpoints: Endpoints,
        shares: Callable[[str], tuple[str, ...]],
        tend: Callable[[], Awaitable[None]],
        tell: Callable[[list[ResourceKey]], None],
    ) -> None:
        """`shares`: all clusters with the endpoints of this one, itself first."""
        self._admin = admin
        self._clock = clock
        self._endpoints = endpoints
        self._shares = shares
        self._tend = tend
        self._tell = tell
        self._last: dict[ResourceKey, HostStatus | None] = {}
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Something new: an early look."""
        self._stirred.set()

    async def run(self) -> None:
        all_at = 0.0
        all_pause = SLOW_SECONDS
        while True:
            self._stirred.clear()
            await self._tend()
            start = self._clock.monotonic()
            looks_at_all = start >= all_at
            restless = self._restless(start)
            if looks_at_all or restless:
                await self._look(ALL if looks_at_all else restless)
            now = self._clock.monotonic()
            if looks_at_all:
                all_pause = max(SLOW_SECONDS, (now - start) / SLOW_COST_SHARE)
                all_at = now + all_pause
            await self._rest(FAST_SECONDS if restless else all_at - now)

    def _restless(self, now: float) -> frozenset[str]:
        """The clusters with an endpoint on its way."""
        return frozenset(
            name
            for key, want, since in self._endpoints()
            if now - since < RESTLESS_SECONDS and _is_restless(want, self._last.get(key))
            for name in self._shares(want.cluster)
        )

    async def _look(self, clusters: frozenset[str]) -> None:
        try:
            reading = await self._admin.read(clusters)
        except AdminUnavailable:
            return
        seen: dict[ResourceKey, HostStatus | None] = {}
        moved: list[ResourceKey] = []
        for key, want, _ in self._endpoints():
            host, shared = self._last.get(key), self._shares(want.cluster)
            if reading.tells_of(frozenset(shared)):
                host = reading.shared_host(shared, (want.address, want.port))
                if key not in self._last or _essence(self._last[key]) != _essence(host):
                    moved.append(key)
            seen[key] = host
        self._last = seen
        self._tell(moved)

    async def _rest(self, seconds: float) -> None:
        """Something new ends a long rest early, but never hurries the fast one."""
        await self._clock.sleep(min(seconds, FAST_SECONDS))
        if seconds <= FAST_SECONDS:
            return
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds - FAST_SECONDS))
        stirred = asyncio.ensure_future(self._stirred.wait())
        try:
            await asyncio.wait({sleeper, stirred}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Not awaited: to swallow their cancellation would swallow our own as well.
            sleeper.cancel()
            stirred.cancel()


def _essence(host: HostStatus | None) -> tuple[bool, bool] | None:
    return None if host is None else (host.healthy, host.active_requests == 0)


def _is_restless(want: EndpointWant, host: HostStatus | None) -> bool:
    match want.state:
        case EndpointState.ACTIVE:
            return not want.host and (host is None or not host.healthy)
        case EndpointState.DRAINING:
            return host is None or host.healthy or host.active_requests > 0
        case EndpointState.UNHEALTHY:
            return False
