"""The share of requests whose trace goes on inside the unit: what a spinout must not break (M9, and row N19).

Counted are requests that the gateway gave to the unit, each by the gateway's own span. One is joined when a span of the
unit is below that span by parent ids. It is broken when its trace has a span of the unit that hangs on nothing of the
gateway's, and missing when there is none: then nobody there records, or what was recorded did not arrive. Requests that
were not recorded by the gateway are not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from spinyard.core.trace import CLUSTER, GATEWAY_SERVICE, Span

SAMPLES_MAX: Final = 10
# Envoy's response flags of requests that no instance ever had.
NOT_REACHED: Final = frozenset({"UF", "UH", "UO", "NR", "NC", "RL", "DPE", "IH", "UAEX", "OM"})


@dataclass(frozen=True, slots=True)
class JoinRate:
    """`pending`: too young, their spans may be on the way; they count for nothing. Samples are trace ids."""

    joined: int = 0
    broken: int = 0
    missing: int = 0
    pending: int = 0
    broken_samples: tuple[str, ...] = ()
    missing_samples: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        return self.joined + self.broken + self.missing

    @property
    def share(self) -> float | None:
        """None: there was nothing to join, which is neither good nor bad."""
        return self.joined / self.requests if self.requests else None


def join_rate(
    traces: Iterable[Sequence[Span]], *, unit: str, clusters: Set[str], since_ns: int = 0, until_ns: int
) -> JoinRate:
    """`unit`: its `service.name`. `clusters`: where the gateway sends what is the unit's. The window is over ends of
    the gateway's spans: `until_ns` must leave exporters the time to send theirs (five seconds for most)."""
    counts = {"joined": 0, "broken": 0, "missing": 0, "pending": 0}
    samples: dict[str, list[str]] = {"broken": [], "missing": []}
    for spans in traces:
        entries = [span for span in spans if is_entry(span, clusters) and span.end_ns >= since_ns]
        if not entries:
            continue
        inside, has_strays = _inside(spans, unit, clusters)
        for entry in entries:
            if entry.end_ns > until_ns:
                result = "pending"
            elif entry.span_id in inside:
                result = "joined"
            else:
                result = "broken" if has_strays else "missing"
            counts[result] += 1
            if result in samples and len(samples[result]) < SAMPLES_MAX and entry.trace_id not in samples[result]:
                samples[result].append(entry.trace_id)
    return JoinRate(**counts, broken_samples=tuple(samples["broken"]), missing_samples=tuple(samples["missing"]))


def is_entry(span: Span, clusters: Set[str]) -> bool:
    """A request that the gateway gave to one of these clusters, where an instance had it."""
    if span.service != GATEWAY_SERVICE or span.kind != "server" or span.attributes.get(CLUSTER) not in clusters:
        return False
    flags = str(span.attributes.get("response_flags", "")).split(",")
    return NOT_REACHED.isdisjoint(flags)


def _inside(spans: Sequence[Span], unit: str, clusters: Set[str]) -> tuple[set[str], bool]:
    """Ids of all spans that have one of the unit below them, and whether the unit has spans below no entry."""
    parents = {span.span_id: span.parent_id for span in spans}
    entries = {span.span_id for span in spans if is_entry(span, clusters)}
    inside: set[str] = set()
    has_strays = False
    for span in spans:
        if span.service == unit:
            above = _ancestors(span.parent_id, parents)
            inside |= above
            has_strays |= entries.isdisjoint(above)
    return inside, has_strays


def _ancestors(parent: str, parents: Mapping[str, str]) -> set[str]:
    """A ring ends where it began."""
    seen: set[str] = set()
    while parent and parent not in seen:
        seen.add(parent)
        parent = parents.get(parent, "")
    return seen
