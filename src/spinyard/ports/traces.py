"""Traces of the recent past, for whoever shows them or counts by them. They are a window, not a record: what is older
or more than there is room for is gone, and after a restart of the server there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from spinyard.core.trace import Span


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """`name` and `service`: of the span that began it, as far as it is known by now."""

    trace_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    spans: int
    failed: int
    services: tuple[str, ...]
    sides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """Everything given must hold. `slower_than_seconds`: from the first span's begin to the last one's end."""

    service: str = ""
    side: str = ""
    failed: bool = False
    slower_than_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one export. `rejected` spans were not kept, for the reason `why`."""

    accepted: int
    rejected: int = 0
    why: str = ""


class TraceReader(Protocol):
    @property
    def steady_since(self) -> float:
        """Traces of requests that ended before this moment (seconds since the epoch) may lack spans."""
        ...

    def find(self, trace_id: str) -> Sequence[Span]:
        """By time; empty when there is no such trace (any more)."""
        ...

    def recent(self, wanted: TraceFilter, limit: int, *, slowest: bool = False) -> Sequence[TraceSummary]:
        """The newest first, or the slowest."""
        ...

    def since(self, at: float) -> Iterable[Sequence[Span]]:
        """The spans of each trace of which something arrived at or after `at` (seconds since the epoch), and of which
        nothing was left out for want of room."""
        ...


class NoTraces:
    steady_since = 0.0

    def find(self, trace_id: str) -> Sequence[Span]:
        return ()

    def recent(self, wanted: TraceFilter, limit: int, *, slowest: bool = False) -> Sequence[TraceSummary]:
        return ()

    def since(self, at: float) -> Iterable[Sequence[Span]]:
        return ()
