"""What a load run found out, and the counting behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the due time to the last byte, of successful requests; percentiles at most 1.6 % too high."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean: float
    p95: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    sent: int
    ok: int
    failed: int
    failed_unsafe: int
    latency_ms: Latency
    apart: int = 0  # answers that were set apart: neither ok nor failed


@dataclass(frozen=True, slots=True)
class Failure:
    at_seconds: float  # since the start, when it failed
    due_seconds: float
    unix_time: float
    phase: str  # when it was due
    phase_at_end: str
    name: str
    method: str
    path: str
    unsafe: bool
    idempotency_key: str | None
    status: int | None
    error: str | None
    written: bool  # false: it never left this program, so it cannot have had an effect
    earlier_on_connection: int  # requests answered before on the same connection
    latency_ms: float
    headers: dict[str, str]
    body: str
    apart: bool = False


@dataclass(frozen=True, slots=True)
class GeneratorReport:
    """How far the figures can be trusted: with `late` large, this program was the bottleneck, not the service."""

    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    connections_opened: int
    waiting_max: int  # requests that waited for a free connection at the same time
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    target: str
    host: str
    rate: float
    seconds_asked: float
    seconds: float
    started_unix: float
    stopped_by: str
    totals: Totals
    phases: dict[str, Totals]
    requests: dict[str, Totals]
    statuses: dict[str, int]
    headers: dict[str, dict[str, int]]
    failures: list[Failure]
    failures_not_kept: int
    generator: GeneratorReport
    # for each value of the timed header: unix time of the first and the last request that was answered with it
    times: dict[str, tuple[float, float]] = field(default_factory=dict)


def read_result(path: Path) -> LoadResult:
    return msgspec.json.decode(path.read_bytes(), type=LoadResult)


class Histogram:
    """Microseconds in buckets that are 1/64 wide relative to their value (as in HdrHistogram), exact below 128."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count, self.sum, self.largest = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        micros = int(seconds * 1e6)
        shift = max(0, micros.bit_length() - 7)
        bucket = (shift << 6) + (micros >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.sum += seconds
        self.largest = max(self.largest, seconds)

    def quantile_ms(self, share: float) -> float:
        """The upper edge of the bucket the quantile falls into; 0 when empty."""
        rest = share * self.count
        for bucket in sorted(self._buckets):
            rest -= self._buckets[bucket]
            if rest <= 0:
                shift = max(0, (bucket >> 6) - 1)
                edge = (((bucket - (shift << 6)) + 1) << shift) / 1000
                return round(min(edge, self.largest * 1000), 3)
        return round(self.largest * 1000, 3)


class Tally:
    def __init__(self) -> None:
        self.sent = self.ok = self.failed = self.failed_unsafe = self.apart = 0
        self._latency = Histogram()

    def finish(self, is_ok: bool, is_unsafe: bool, seconds: float, *, is_apart: bool = False) -> None:
        if is_apart:
            self.apart += 1
        elif is_ok:
            self.ok += 1
            self._latency.add(seconds)
        else:
            self.failed += 1
            self.failed_unsafe += is_unsafe

    def totals(self) -> Totals:
        seen = self._latency
        p50, p90, p95, p99, p999 = (seen.quantile_ms(share) for share in (0.5, 0.9, 0.95, 0.99, 0.999))
        mean = round(seen.sum / seen.count * 1000, 3) if seen.count else 0.0
        latency = Latency(p50, p90, p99, p999, round(seen.largest * 1000, 3), mean, p95)
        return Totals(self.sent, self.ok, self.failed, self.failed_unsafe, latency, self.apart)
