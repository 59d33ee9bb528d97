"""Spans as everybody here sees them: what the receiver reads, what is drawn, and what the join rate is counted from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def descendants(spans: Iterable[Span], of: str) -> list[Span]:
    """All spans below the one of that id, by parent ids; a ring among them ends where it began."""
    below: dict[str, list[Span]] = {}
    for span in spans:
        below.setdefault(span.parent_id, []).append(span)
    found: list[Span] = []
    seen = {of}
    waiting = [of]
    while waiting:
        for span in below.get(waiting.pop(), ()):
            if span.span_id not in seen:
                seen.add(span.span_id)
                found.append(span)
                waiting.append(span.span_id)
    return found


def roots(spans: Sequence[Span]) -> list[Span]:
    """Those whose parent is not here, by time. Of a ring that hangs on nothing, its first."""
    ids = {span.span_id for span in spans}
    ordered = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    found = [span for span in ordered if span.parent_id not in ids]
    reached = {span.span_id for root in found for span in (root, *descendants(spans, root.span_id))}
    for span in ordered:
        if span.span_id not in reached:
            found.append(span)
            reached |= {span.span_id, *(one.span_id for one in descendants(spans, span.span_id))}
    return sorted(found, key=lambda span: (span.start_ns, span.span_id))
