"""What Envoy says of its endpoints, read over its admin socket.

One reading serves everybody who asks within some milliseconds, but never somebody who needs to know what was true after
a moment that the reading cannot have seen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import aiohttp
import msgspec

from spinyard.ports.clock import Clock

FRESH_SECONDS = 0.015
CALL_TIMEOUT_SECONDS = 2.0
BODY_BYTES_MAX = 256 << 20
FILTER_CHARACTERS_MAX = 4_000
ALL: frozenset[str] = frozenset()

Address = tuple[str, int]


class AdminUnavailable(Exception):
    """Envoy does not answer on its admin socket; nothing is known."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    healthy: bool
    active_requests: int
    requests_total: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """`started_at`: monotonic; what was confirmed before it is in it. `clusters`: those asked for; empty: all."""

    started_at: float
    clusters: frozenset[str]
    hosts: Mapping[tuple[str, Address], HostStatus]

    def host(self, cluster: str, address: Address) -> HostStatus | None:
        return self.hosts.get((cluster, address))

    def shared_host(self, clusters: Iterable[str], address: Address) -> HostStatus | None:
        """One endpoint in several clusters: healthy where all say so, and all their requests together."""
        hosts = [host for cluster in clusters if (host := self.host(cluster, address)) is not None]
        if not hosts:
            return None
        return HostStatus(
            healthy=all(host.healthy for host in hosts),
            active_requests=sum(host.active_requests for host in hosts),
            requests_total=sum(host.requests_total for host in hosts),
            why=next((host.why for host in hosts if host.why), ""),
        )

    def active_requests(self, cluster: str) -> int:
        return sum(host.active_requests for (name, _), host in self.hosts.items() if name == cluster)

    def tells_of(self, clusters: frozenset[str]) -> bool:
        return not self.clusters or (bool(clusters) and clusters <= self.clusters)


class Admin:
    def __init__(self, socket: Path, clock: Clock) -> None:
        self._socket = socket
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._last: Reading | None = None
        self._one_call = asyncio.Lock()
        self._next: asyncio.Task[Reading] | None = None
        self._asked: set[frozenset[str]] = set()
        self._readings: set[asyncio.Task[Reading]] = set()

    async def close(self) -> None:
        for reading in list(self._readings):
            reading.cancel()
        await asyncio.gather(*self._readings, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def read(self, clusters: frozenset[str] = ALL, *, after: float = 0.0) -> Reading:
        """A reading of these clusters that started at `after` (monotonic) or later, at most FRESH_SECONDS old.

        One call is under way at a time; all who ask meanwhile share the next. Raises AdminUnavailable.
        """
        last, oldest = self._last, max(after, self._clock.monotonic() - FRESH_SECONDS)
        if last is not None and last.started_at >= oldest and last.tells_of(clusters):
            return last
        if self._next is None:
            self._next = asyncio.create_task(self._read_next())
            self._readings.add(self._next)
            self._next.add_done_callback(self._readings.discard)
        self._asked.add(clusters)
        return await asyncio.shield(self._next)

    async def _read_next(self) -> Reading:
        async with self._one_call:
            asked, self._asked, self._next = self._asked, set(), None
            clusters = ALL if ALL in asked else frozenset().union(*asked)
            pattern = "^(" + "|".join(re.escape(name) for name in sorted(clusters)) + ")$"
            if len(pattern) > FILTER_CHARACTERS_MAX:
                clusters = ALL
            now = self._clock.monotonic()
            body = await self._get("/clusters", {"format": "json"} | ({"filter": pattern} if clusters else {}))
            self._last = Reading(now, clusters, MappingProxyType(parse_clusters(body)))
            return self._last

    async def is_ready(self) -> bool:
        """Envoy says LIVE: it has its first configuration. Raises AdminUnavailable when it says nothing."""
        return (await self._get("/server_info", {})).find(b'"state": "LIVE"') >= 0

    async def _get(self, path: str, query: Mapping[str, str]) -> bytes:
        try:
            async with self._connected().get(f"http://envoy{path}", params=query) as answer:
                if answer.status != 200:
                    raise AdminUnavailable(f"Envoy's admin answered {answer.status} to {path}")
                return await _bounded(answer.content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AdminUnavailable(f"Envoy's admin does not answer: {str(error) or type(error).__name__}") from error

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(self._socket)),
                timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_SECONDS),
                auto_decompress=False,
            )
        return self._session


async def _bounded(stream: aiohttp.StreamReader) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in stream.iter_any():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise AdminUnavailable(f"Envoy's admin said more than {BODY_BYTES_MAX} bytes")
        parts.append(part)
    return b"".join(parts)


class _SocketAddress(msgspec.Struct):
    address: str = ""
    port_value: int = 0


class _Address(msgspec.Struct):
    socket_address: _SocketAddress = msgspec.field(default_factory=_SocketAddress)


class _Stat(msgspec.Struct):
    name: str
    value: str = "0"


class _Health(msgspec.Struct):
    eds_health_status: str = "HEALTHY"
    failed_active_health_check: bool = False
    failed_outlier_check: bool = False
    failed_active_degraded_check: bool = False
    pending_dynamic_removal: bool = False
    pending_active_hc: bool = False


class _Host(msgspec.Struct):
    address: _Address = msgspec.field(default_factory=_Address)
    stats: list[_Stat] = []
    health_status: _Health = msgspec.field(default_factory=_Health)


class _Cluster(msgspec.Struct):
    name: str = ""
    host_statuses: list[_Host] = []


class _Clusters(msgspec.Struct):
    cluster_statuses: list[_Cluster] = []


_CLUSTERS = msgspec.json.Decoder(_Clusters)


def parse_clusters(body: bytes) -> dict[tuple[str, Address], HostStatus]:
    """`/clusters?format=json` by (cluster, address). Raises AdminUnavailable for what is not that."""
    try:
        clusters = _CLUSTERS.decode(body)
    except msgspec.MsgspecError as error:
        raise AdminUnavailable(f"Envoy's admin said something we do not understand: {error}") from error
    return {
        (cluster.name, (host.address.socket_address.address, host.address.socket_address.port_value)): _status(host)
        for cluster in clusters.cluster_statuses
        for host in cluster.host_statuses
    }


def _status(host: _Host) -> HostStatus:
    """A request that waits for its connection is not counted as active by Envoy, but it belongs to this endpoint."""
    stats = {stat.name: int(stat.value) for stat in host.stats if stat.name.startswith("rq_")}
    why = _unhealthy_because(host.health_status)
    active = stats.get("rq_active", 0) + stats.get("rq_pending_active", 0)
    return HostStatus(not why, active, stats.get("rq_total", 0), why)


def _unhealthy_because(health: _Health) -> str:
    if health.pending_dynamic_removal:
        return "being removed"
    if health.pending_active_hc:
        return "not checked yet"
    if health.failed_active_health_check:
        return "health check failed"
    if health.failed_outlier_check:
        return "no connection to it could be made lately"
    if health.eds_health_status not in ("HEALTHY", "UNKNOWN"):
        return health.eds_health_status.lower()
    return ""
