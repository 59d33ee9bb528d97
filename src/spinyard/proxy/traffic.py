"""What Envoy has counted for a cluster: how many requests, how many failed, how long they took.

What counts as what (each seen with Envoy 1.40, tests/proxy/test_traffic.py):

* `upstream_rq_[1-5]xx` has each request once, by its last answer, however often it was tried; also what Envoy itself
  answers for the cluster: no instance, no connection, connection lost, timeout. A request whose client went away before
  the answer is in none of them, nor is one in a cluster that Envoy does not have.
* An answer that breaks off in the middle counts by its status.
* `grpc.N` has each gRPC call by its status. Those that Envoy itself answered are in there and in `5xx`: the larger of
  the two is right as long as a cluster has only one kind of requests, and too small for one that has both.
* `upstream_rq_time` is of answers of instances only, see latency.py for its bounds. Envoy brings a histogram up to
  date when it is asked, but answers with what it was before: so it is asked twice.

The epoch is the process at the other end of the socket (envoy_process.py): a restart between two calls is seen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from spinyard.core.observed import ClusterTraffic, Traffic, Unknown
from spinyard.ports.clock import Clock
from spinyard.proxy import latency
from spinyard.proxy.admin_call import AdminCall, CallFailed, admin_call
from spinyard.proxy.envoy_process import look_at

CALL_TIMEOUT_SECONDS = 2.0
BODY_BYTES_MAX = 8 << 20
CLUSTERS_PER_CALL = 20
# With 1,000 clusters a reading takes Envoy 70 ms: however many ask, it is not busy with them for more than this.
COST_SHARE = 0.25
# Envoy's workers hand in their histograms within this time; a later one is in the next reading.
MERGE_SECONDS = 0.01

# unknown, deadline exceeded, unimplemented, internal, unavailable, data loss: the others are the caller's.
_GRPC_FAILURES = (2, 4, 12, 13, 14, 15)
_STATS = rf"(upstream_rq_([1-5]xx|active|pending_active|time)|grpc\.({'|'.join(map(str, _GRPC_FAILURES))}))"


class EnvoyTraffic:
    """`envoys`: how many are connected. One reading is under way at a time; all who ask meanwhile share the next. It is
    always one that began after it was asked for: whoever compares two must not be given the same one twice."""

    def __init__(self, admin_socket: Path, clock: Clock, envoys: Callable[[], int]) -> None:
        self._admin_socket = admin_socket
        self._clock = clock
        self._envoys = envoys
        self._one_reading = asyncio.Lock()
        self._not_before = 0.0
        self._asked: set[str] = set()
        self._next: asyncio.Task[Traffic | Unknown] | None = None
        self._readings: set[asyncio.Task[Traffic | Unknown]] = set()

    async def close(self) -> None:
        for reading in list(self._readings):
            reading.cancel()
        await asyncio.gather(*self._readings, return_exceptions=True)

    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        if self._next is None:
            self._next = asyncio.create_task(self._read_next(), name="proxy-traffic")
            self._readings.add(self._next)
            self._next.add_done_callback(self._readings.discard)
        self._asked.update(clusters)
        all_of_them = await asyncio.shield(self._next)
        if isinstance(all_of_them, Unknown):
            return all_of_them
        wanted = {name: all_of_them.clusters[name] for name in clusters if name in all_of_them.clusters}
        return Traffic(epoch=all_of_them.epoch, at=all_of_them.at, clusters=wanted)

    async def _read_next(self) -> Traffic | Unknown:
        async with self._one_reading:
            await self._clock.sleep(max(0.0, self._not_before - self._clock.monotonic()))
            names, self._asked, self._next = sorted(self._asked), set(), None
            if (why := self._not_one()) is not None:
                return why
            start = self._clock.monotonic()
            try:
                async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                    traffic = await self._ask(names)
            except TimeoutError:
                return Unknown(f"Envoy's admin gave no counters within {CALL_TIMEOUT_SECONDS:g} s")
            except (CallFailed, OSError, msgspec.MsgspecError) as error:
                return Unknown(f"Envoy gave no counters: {str(error) or type(error).__name__}")
            cost = self._clock.monotonic() - start - MERGE_SECONDS
            self._not_before = start + min(cost / COST_SHARE, CALL_TIMEOUT_SECONDS / 2)
            return self._not_one() or traffic

    def _not_one(self) -> Unknown | None:
        envoys = self._envoys()
        if envoys == 1:
            return None
        return Unknown("an Envoy is being replaced: both count" if envoys else "no Envoy is connected")

    async def _ask(self, names: Sequence[str]) -> Traffic:
        async with admin_call(self._admin_socket) as call:
            envoy = look_at(call.pid)
            if envoy.takes_over:
                raise CallFailed("it has just replaced another one, and may still be waiting for its counters")
            await call.get("/stats", _NOTHING, BODY_BYTES_MAX)
            await self._clock.sleep(MERGE_SECONDS)
            at = self._clock.now()
            stats = await _stats(call, names)
            return Traffic(epoch=envoy.identity, at=at, clusters=_by_cluster(stats, names))


async def _stats(call: AdminCall, names: Sequence[str]) -> _Stats:
    stats = _Stats()
    for start in range(0, len(names), CLUSTERS_PER_CALL):
        body = await call.get("/stats", _query(_pattern(names[start : start + CLUSTERS_PER_CALL])), BODY_BYTES_MAX)
        for entry in _SAID.decode(body).stats:
            if isinstance(entry.value, int):
                stats.numbers[entry.name] = entry.value
            for histogram in entry.histograms:
                stats.histograms[histogram.name] = histogram.buckets
    return stats


# The cheapest question that makes Envoy merge its histograms.
_NOTHING = {"type": "TextReadouts", "filter": "^$"}


def _query(pattern: str) -> dict[str, str]:
    """`usedonly`: of 1,000 clusters most counters never moved, and Envoy need not make their names to compare them."""
    return {"format": "json", "histogram_buckets": "cumulative", "usedonly": "", "filter": pattern}


def _pattern(names: Iterable[str]) -> str:
    return rf"^cluster\.({'|'.join(re.escape(stat_name(name)) for name in names)})\.{_STATS}$"


def stat_name(cluster: str) -> str:
    """As Envoy writes it in the names of its counters."""
    return re.sub(r"://|:/|:|\0", "_", cluster)


def _by_cluster(stats: _Stats, names: Iterable[str]) -> dict[str, ClusterTraffic]:
    found = ((name, _cluster(stats, f"cluster.{stat_name(name)}")) for name in names)
    return {name: traffic for name, traffic in found if traffic is not None}


def _cluster(stats: _Stats, prefix: str) -> ClusterTraffic | None:
    """The sum of the classes, not the counter of all: so there are never more failures than requests."""
    by_class = [stats.numbers.get(f"{prefix}.upstream_rq_{digit}xx") for digit in range(1, 6)]
    active = stats.numbers.get(f"{prefix}.upstream_rq_active")
    if active is None and all(count is None for count in by_class):
        return None
    requests = sum(count or 0 for count in by_class)
    grpc_failures = sum(stats.numbers.get(f"{prefix}.grpc.{status}", 0) for status in _GRPC_FAILURES)
    buckets = stats.histograms.get(f"{prefix}.upstream_rq_time", ())
    return ClusterTraffic(
        requests=requests,
        failures=min(max(by_class[4] or 0, grpc_failures), requests),
        active=(active or 0) + stats.numbers.get(f"{prefix}.upstream_rq_pending_active", 0),
        latency=tuple((latency.seconds(bucket.upper_bound), bucket.cumulative) for bucket in buckets),
    )


class _Bucket(msgspec.Struct):
    upper_bound: float
    cumulative: int


class _Histogram(msgspec.Struct):
    name: str
    buckets: tuple[_Bucket, ...] = ()


class _Entry(msgspec.Struct):
    name: str = ""
    value: int | str | None = None
    histograms: tuple[_Histogram, ...] = ()


class _Said(msgspec.Struct):
    stats: tuple[_Entry, ...] = ()


class _Stats:
    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.histograms: dict[str, tuple[_Bucket, ...]] = {}


_SAID = msgspec.json.Decoder(_Said)
