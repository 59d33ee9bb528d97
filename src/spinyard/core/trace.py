"""Spans as everybody here sees them: what the receiver reads, what is drawn, and what the join rate is counted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

GATEWAY_SERVICE: Final = "spinyard-gateway"
"""`service.name` of what Envoy tells"""
SIDE: Final = "spinyard.side"
CLUSTER: Final = "spinyard.service"
"""on the gateway's spans: the cluster that the request went to"""

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Span:
    """Ids in lower-case hex, `parent_id` empty for the first of a trace; times in nanoseconds since the epoch, by the
    clock of whoever made it. `side` is empty where it was not told."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: SpanKind
    service: str
    start_ns: int
    end_ns: int
    side: str = ""
    error: bool = False
    message: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9
