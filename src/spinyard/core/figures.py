"""What a side answered, as figures a person reads: from the counters of the data plane, by differences."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec

from spinyard.core.observed import ClusterTraffic
from spinyard.core.verdict import Counts, stretch_is_over

NOTHING = ClusterTraffic()


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """Both sides' counters at one moment. `serial`: of the part whose weight was in force."""

    epoch: str
    at: float
    serial: int
    old: ClusterTraffic
    new: ClusterTraffic


class Gate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is judged, as a person reads it. `name`: "success rate", "p95 latency", "failed starts" ...
    `verdict`: pass, fail, inconclusive or error. `needs`: about how many more requests on the new side would decide."""

    name: str
    verdict: str
    why: str
    needs: int | None = None
    old: float | None = None
    new: float | None = None
    limit: float | None = None


class SideFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of the present step. `low`, `high`: 95 % confidence interval (Wilson) of the success rate. Latency in seconds."""

    requests: int = 0
    failures: int = 0
    per_second: float = 0.0
    low: float | None = None
    high: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    ready: int = 0
    alive: int = 0


def since(before: ClusterTraffic, after: ClusterTraffic) -> Counts:
    return Counts(after.requests - before.requests, after.failures - before.failures)


def stretch_from(known: Reading | None, judged: Reading, latest: Reading, *, limit: float, alpha: float) -> Reading:
    """Where the stretch of the new side's last requests begins, alone against `limit`: at `judged`, the reading before
    `latest`, when the known one had passed by then, or is of other counters."""
    if known is None or (known.epoch, known.serial) != (latest.epoch, latest.serial):
        return judged
    return judged if stretch_is_over(limit, since(known.new, judged.new), alpha=alpha) else known


def stretch_counts(known: Reading | None, latest: Reading | None) -> Counts:
    if known is None or latest is None or (known.epoch, known.serial) != (latest.epoch, latest.serial):
        return Counts()
    return since(known.new, latest.new)


def figures(before: ClusterTraffic, after: ClusterTraffic, seconds: float) -> SideFigures:
    counts = since(before, after)
    low, high = wilson(counts)
    shape = buckets_between(before, after)
    p50, p95, p99 = (quantile(shape, q) for q in (0.5, 0.95, 0.99))
    return SideFigures(
        requests=counts.requests,
        failures=counts.failures,
        per_second=counts.requests / seconds if seconds > 0 else 0.0,
        low=low,
        high=high,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def wilson(counts: Counts) -> tuple[float | None, float | None]:
    """95 % interval of the success rate (Wilson 1927), for people to read; verdicts do not rest on it."""
    n = counts.requests
    if n <= 0 or not counts.is_usable:
        return None, None
    z, p = 1.959964, 1.0 - counts.rate
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def buckets_between(before: ClusterTraffic, after: ClusterTraffic) -> list[tuple[float, int]]:
    earlier = dict(before.latency)
    return [(bound, count - earlier.get(bound, 0)) for bound, count in after.latency]


def quantile(shape: list[tuple[float, int]], q: float) -> float | None:
    """From cumulative buckets, linear within the bucket. None without requests, or when the counters went back."""
    counts = [count for _, count in shape]
    if not counts or counts[-1] <= 0 or counts[0] < 0 or any(b < a for a, b in pairwise(counts)):
        return None
    rank = q * counts[-1]
    below, lower = 0, 0.0
    for bound, count in shape:
        if count >= rank and count > below:
            return lower + (bound - lower) * (rank - below) / (count - below)
        below, lower = count, bound
    return lower


def begun_between(before: ClusterTraffic, after: ClusterTraffic) -> Counts:
    return Counts(max(0, after.requests + after.active - before.requests - before.active), 0)
