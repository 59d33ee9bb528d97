"""LookJoin, answered from the traces that are kept: spans and the rule that counts them know nothing of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from spinyard.core.observed import LookJoin, TraceJoin, Unknown
from spinyard.core.trace import Span
from spinyard.ports.clock import Clock
from spinyard.ports.reader import ReadAnswer, ReadLook
from spinyard.ports.traces import TraceReader
from spinyard.spinout.join import JoinRate, join_rate

SETTLE_SECONDS = 6.0
"""what is younger is not counted: exporters of OpenTelemetry send every five seconds"""
SAMPLES_MAX = 5
KEPT_SECONDS = 3.0
"""who asks twice a second is not given another count each time: it goes through everything that is kept"""


class JoinReader:
    def __init__(self, traces: TraceReader, clock: Clock) -> None:
        self._traces = traces
        self._clock = clock
        self._kept: dict[LookJoin, tuple[float, TraceJoin]] = {}

    async def read(self, look: ReadLook) -> ReadAnswer:
        """A request that left no trace in the unit is broken too: who judges need not know why."""
        if not isinstance(look, LookJoin):
            return Unknown(f"traces do not answer {type(look).__name__}")
        now = self._clock.monotonic()
        self._kept = {known: one for known, one in self._kept.items() if 0 <= now - one[0] < KEPT_SECONDS}
        if look in self._kept:
            return self._kept[look][1]
        answer = await self._count(look)
        self._kept[look] = (now, answer)
        return answer

    async def _count(self, look: LookJoin) -> TraceJoin:
        # Copied here, where nobody writes meanwhile; counted elsewhere, as that takes a while.
        traces = list(self._traces.since(look.since))
        since, until = max(look.since, self._traces.steady_since), self._clock.now() - SETTLE_SECONDS
        found = await asyncio.to_thread(_counted, traces, look, since, until)
        samples = (*found.broken_samples, *found.missing_samples)[:SAMPLES_MAX]
        return TraceJoin(found.joined, found.broken + found.missing, samples)


def _counted(traces: Sequence[Sequence[Span]], look: LookJoin, since: float, until: float) -> JoinRate:
    window = {"since_ns": int(since * 1e9), "until_ns": int(until * 1e9)}
    return join_rate(traces, unit=look.service or service_of(look.cluster), clusters={look.cluster}, **window)


def service_of(cluster: str) -> str:
    """`namespace/service/uid~side`: the service is what its instances are told as OTEL_SERVICE_NAME."""
    parts = cluster.split("/")
    return parts[1] if len(parts) == 3 else cluster
