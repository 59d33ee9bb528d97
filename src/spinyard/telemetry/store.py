"""Traces of the recent past, in memory: a ring, bounded in bytes and in age, the oldest trace goes first and whole.

What is kept must be whole, or requests would look broken that are not. So when there is no room for what comes in
WINDOW_SECONDS_MIN only every second trace is taken, or every fourth, and so on, by its id; and what comes late of a
trace that has gone is not taken for a new one. Of one trace each service has so much room: what lacks spans is shown,
and is not counted by. Where wholeness cannot be had, after a start and after more are taken
again, `steady_since` says from when on it can.

One thread: whoever adds or reads does so in the event loop. Nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Final

from spinyard.core.trace import Span
from spinyard.ports.clock import Clock
from spinyard.ports.traces import TraceFilter, TraceSummary

BYTES_MAX: Final = 64 << 20
AGE_SECONDS_MAX: Final = 3600.0
TRACES_MAX: Final = 20_000
SPANS_OF_A_TRACE_MAX: Final = 2_000
SPANS_OF_A_SERVICE_MAX: Final = 500
"""in one trace: whoever uses one trace for many requests takes no room from those whom they reach"""
NAMES_OF_A_TRACE_MAX: Final = 64
WINDOW_SECONDS_MIN: Final = 30.0
THINNED_TIMES_MAX: Final = 16
"""of 65,536 traces one is taken then"""
MEASURE_SECONDS: Final = 5.0
WIDEN_AFTER_SECONDS: Final = 600.0
SETTLE_SECONDS: Final = 20.0
"""exporters that found nobody try again within that time"""

# What the interpreter takes for a span, and for each of its attributes, beside the characters; measured in the tests.
_SPAN_BYTES: Final = 1_000
_ATTRIBUTE_BYTES: Final = 160
_TRACE_BYTES: Final = 1_500


@dataclass(slots=True)
class _Trace:
    """`arrived_at` by the monotonic clock, `last_at` by that of the world. `services`: how many spans of each.
    `is_cut`: some had no room."""

    arrived_at: float
    spans: dict[str, Span] = field(default_factory=dict)
    size: int = _TRACE_BYTES
    start_ns: int = 0
    end_ns: int = 0
    failed: int = 0
    services: dict[str, int] = field(default_factory=dict)
    sides: dict[str, None] = field(default_factory=dict)
    first: Span | None = None
    last_at: float = 0.0
    is_cut: bool = False

    def has_room(self, service: str) -> bool:
        return len(self.spans) < SPANS_OF_A_TRACE_MAX and self.services.get(service, 0) < SPANS_OF_A_SERVICE_MAX


class TraceStore:
    """A ports.TraceReader. `dropped`: spans that had no room in their trace, or went out with an old one."""

    def __init__(
        self,
        clock: Clock,
        *,
        bytes_max: int = BYTES_MAX,
        age_seconds_max: float = AGE_SECONDS_MAX,
        traces_max: int = TRACES_MAX,
    ) -> None:
        self._clock = clock
        self._bytes_max = bytes_max
        self._age_seconds_max = age_seconds_max
        self._traces_max = traces_max
        self._traces: dict[str, _Trace] = {}
        self._bytes = 0
        self._gone: dict[str, None] = {}
        self._thinned = 0
        self._measured_at = self._calm_since = clock.monotonic()
        self._measured_bytes = 0
        self.steady_since = clock.now() + SETTLE_SECONDS
        """seconds since the epoch: traces of requests that ended before it may lack spans"""
        self.received = 0
        self.dropped = 0

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def one_of(self) -> int:
        """Of so many traces one is taken."""
        return 1 << self._thinned

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, spans: Iterable[Span]) -> int:
        """How many of them had no room: a trace takes only so many. One that is there already is not taken again."""
        now, tick = self._clock.now(), self._clock.monotonic()
        refused = 0
        for span in spans:
            trace = self._traces.get(span.trace_id)
            if trace is None:
                if not self._is_wanted(span.trace_id):
                    self.dropped += 1
                    continue
                trace = self._traces[span.trace_id] = _Trace(tick)
                self._bytes += trace.size
                self._measured_bytes += trace.size
            trace.last_at = now
            if span.span_id in trace.spans:
                continue
            if not trace.has_room(span.service):
                trace.is_cut = True
                refused += 1
                continue
            self._put(trace, span)
        self.dropped += refused
        self._make_room()
        if tick - self._measured_at >= MEASURE_SECONDS:
            self._measure(now, tick)
        return refused

    def find(self, trace_id: str) -> Sequence[Span]:
        self._make_room()
        trace = self._traces.get(trace_id.lower())
        return sorted(trace.spans.values(), key=lambda span: (span.start_ns, span.span_id)) if trace else ()

    def recent(self, wanted: TraceFilter, limit: int, *, slowest: bool = False) -> Sequence[TraceSummary]:
        self._make_room()
        found = ((key, trace) for key, trace in reversed(self._traces.items()) if _fits(trace, wanted))
        if slowest:
            chosen = nlargest(limit, found, key=lambda one: one[1].end_ns - one[1].start_ns)
        else:
            chosen = [one for _, one in zip(range(limit), found, strict=False)]
        return [_summary(key, trace) for key, trace in chosen]

    def since(self, at: float) -> Iterator[Sequence[Span]]:
        self._make_room()
        for trace in list(self._traces.values()):
            if trace.last_at >= at and not trace.is_cut:
                yield tuple(trace.spans.values())

    def _put(self, trace: _Trace, span: Span) -> None:
        self.received += 1
        trace.spans[span.span_id] = span
        size = _size(span)
        trace.size += size
        self._bytes += size
        self._measured_bytes += size
        trace.start_ns = min(trace.start_ns or span.start_ns, span.start_ns)
        trace.end_ns = max(trace.end_ns, span.end_ns)
        trace.failed += span.error
        if span.service in trace.services or len(trace.services) < NAMES_OF_A_TRACE_MAX:
            trace.services[span.service] = trace.services.get(span.service, 0) + 1
        if span.side and len(trace.sides) < NAMES_OF_A_TRACE_MAX:
            trace.sides[span.side] = None
        if trace.first is None or _order(span) < _order(trace.first):
            trace.first = span

    def _make_room(self) -> None:
        now = self._clock.monotonic()
        while self._traces:
            key, oldest = next(iter(self._traces.items()))
            is_old = now - oldest.arrived_at > self._age_seconds_max
            if not is_old and self._bytes <= self._bytes_max and len(self._traces) <= self._traces_max:
                return
            del self._traces[key]
            self._bytes -= oldest.size
            self._remember_gone(key)
            if not is_old:
                self.dropped += len(oldest.spans)

    def _is_wanted(self, trace_id: str) -> bool:
        """The end of an id is random (W3C)."""
        return trace_id not in self._gone and int(trace_id[-4:], 16) % self.one_of == 0

    def _remember_gone(self, trace_id: str) -> None:
        self._gone[trace_id] = None
        if len(self._gone) > self._traces_max:
            del self._gone[next(iter(self._gone))]

    def _measure(self, now: float, tick: float) -> None:
        """How long the room would last at the present rate. When twice as many are taken again, a part was left out
        already of those that are on their way at this moment."""
        window = self._bytes_max / max(1.0, self._measured_bytes) * (tick - self._measured_at)
        self._measured_at, self._measured_bytes = tick, 0
        if window < WINDOW_SECONDS_MIN:
            self._thinned = min(self._thinned + 1, THINNED_TIMES_MAX)
        if window < 4 * WINDOW_SECONDS_MIN:
            self._calm_since = tick
        elif self._thinned and tick - self._calm_since >= WIDEN_AFTER_SECONDS:
            self._thinned -= 1
            self._calm_since = tick
            self.steady_since = now + SETTLE_SECONDS


def _order(span: Span) -> tuple[bool, int]:
    """The one without a parent, else the earliest."""
    return bool(span.parent_id), span.start_ns


def _size(span: Span) -> int:
    texts = [span.name, span.service, span.side, span.message, *span.attributes]
    texts += [value for value in span.attributes.values() if isinstance(value, str)]
    letters = sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
    return _SPAN_BYTES + _ATTRIBUTE_BYTES * len(span.attributes) + letters


def _fits(trace: _Trace, wanted: TraceFilter) -> bool:
    if wanted.failed and not trace.failed:
        return False
    if wanted.service and wanted.service not in trace.services:
        return False
    if wanted.side and wanted.side not in trace.sides:
        return False
    return trace.end_ns - trace.start_ns >= wanted.slower_than_seconds * 1e9


def _summary(trace_id: str, trace: _Trace) -> TraceSummary:
    return TraceSummary(
        trace_id=trace_id,
        name=trace.first.name if trace.first else "",
        service=trace.first.service if trace.first else "",
        start_ns=trace.start_ns,
        end_ns=trace.end_ns,
        spans=len(trace.spans),
        failed=trace.failed,
        services=tuple(trace.services),
        sides=tuple(trace.sides),
    )
