"""How long requests took, as counts between fixed bounds. Two of them can be compared when their bounds are the same.

What counts for a bound may mean "less than" (Envoy) or "at most" (Prometheus); nothing here depends on which.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import add, sub


@dataclass(frozen=True, slots=True)
class Histogram:
    """`bounds_ms`: upper bounds, ascending; `counts`: what lies between each and the one before, and at the end what
    lies above the last: one more than bounds. Without bounds and counts: nothing was seen, of whatever bounds.
    """

    bounds_ms: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def problem(self) -> str:
        """Why it is none; empty when it is one."""
        if not self.bounds_ms and not self.counts:
            return ""
        if len(self.counts) != len(self.bounds_ms) + 1:
            return f"{len(self.counts)} counts for {len(self.bounds_ms)} bounds"
        problem = _bounds_problem(self.bounds_ms)
        if problem:
            return problem
        if min(self.counts) < 0:
            return "negative counts: what was counted went backwards"
        return ""

    def __add__(self, other: Histogram) -> Histogram:
        """ValueError when the bounds are not the same."""
        return self._merged(other, 1)

    def __sub__(self, before: Histogram) -> Histogram:
        """What came since `before`; counters that went backwards give negative counts, which is a `problem`."""
        return self._merged(before, -1)

    def cumulative(self) -> tuple[int, ...]:
        return _cumulated(self.counts)

    def bucket_of(self, quantile: float) -> tuple[float, float | None] | None:
        """(lower, upper bound) of where the quantile of what was seen lies; upper None: above all bounds; None: nothing
        was seen."""
        total = self.total
        if total <= 0:
            return None
        at = bisect_left(self.cumulative(), quantile * total)
        low = self.bounds_ms[at - 1] if at else 0.0
        return low, self.bounds_ms[at] if at < len(self.bounds_ms) else None

    def _merged(self, other: Histogram, sign: int) -> Histogram:
        if not other.counts:
            return self
        if self.counts and self.bounds_ms != other.bounds_ms:
            raise ValueError("histograms with different bounds cannot be added")
        mine = self.counts or (0,) * len(other.counts)
        return Histogram(other.bounds_ms, tuple(map(add if sign > 0 else sub, mine, other.counts)))


@lru_cache(maxsize=16)
def _cumulated(counts: tuple[int, ...]) -> tuple[int, ...]:
    """A verdict on several quantiles asks for the same ones again and again."""
    return tuple(accumulate(counts))


@lru_cache(maxsize=64)
def _bounds_problem(bounds_ms: tuple[float, ...]) -> str:
    if not all(0.0 < bound < float("inf") for bound in bounds_ms):
        return "a bound that is not a positive number"
    return "" if all(low < high for low, high in pairwise(bounds_ms)) else "bounds that do not ascend"


def of_cumulative(buckets: Iterable[tuple[float, int]], total: int | None = None) -> Histogram:
    """(upper bound in ms, how many took no longer), as proxies and Prometheus tell it. `total`: with those above the
    last bound; without it there are none. A bound of infinity is the total."""
    told = list(buckets)
    finite = [(float(bound), count) for bound, count in told if bound != float("inf")]
    if not finite:
        return Histogram()
    whole = total if total is not None else told[-1][1]
    counts = (finite[0][1], *(b - a for (_, a), (_, b) in pairwise(finite)), whole - finite[-1][1])
    return Histogram(tuple(bound for bound, _ in finite), counts)


def count_below(bounds_ms: tuple[float, ...], cumulative: tuple[int, ...], ms: float) -> int:
    """At least so many of them took no longer than this."""
    at = bisect_right(bounds_ms, ms)
    return cumulative[at - 1] if at else 0


def count_up_to(bounds_ms: tuple[float, ...], cumulative: tuple[int, ...], ms: float) -> int:
    """At most so many of them took less than this."""
    at = bisect_left(bounds_ms, ms)
    return cumulative[min(at, len(cumulative) - 1)]
