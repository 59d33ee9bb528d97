"""Latencies of a simulated ramp, drawn as counts between bounds.

A distribution is its share between each two bounds, exact. Requests arrive at random and are placed at random, so the
counts between bounds are independent Poisson numbers; few requests are drawn one by one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random
from statistics import NormalDist

from bench.n13_traffic import poisson
from spinyard.core.verdict import Histogram
from spinyard.proxy.latency import BOUNDS_MS

NORMAL = NormalDist()
ONE_BY_ONE = 40.0
"""requests up to which they are drawn one by one"""
ENVOY = tuple(float(bound) for bound in BOUNDS_MS)
"""as Envoy is told to count by us"""
STEP = 0.05
Cdf = Callable[[float], float]


def fine_bounds() -> tuple[float, ...]:
    """Steps of a twentieth where Envoy can count so: it keeps two digits, so from 10 to 20 ms, and ten times as many,
    the steps are larger."""
    out = [float(n) for n in range(1, 10)]
    for ten in (1, 10, 100):
        digits = 10
        while digits < 100:
            out.append(float(digits * ten))
            digits = max(digits + 1, math.floor(digits * (1.0 + STEP)))
    return (*out, 10_000.0, 60_000.0)


FINE = fine_bounds()


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a side's latencies: `cdf` in ms, and its cut at the bounds."""

    bounds_ms: tuple[float, ...]
    cdf: Cdf
    shares: tuple[float, ...]
    cumulative: tuple[float, ...]

    def counts(self, mean: float, random: Random) -> tuple[int, ...]:
        """Of a stretch in which so many requests are expected."""
        if mean > ONE_BY_ONE:
            return tuple([poisson(mean * share, random) if share > 0.0 else 0 for share in self.shares])
        out = [0] * len(self.shares)
        for _ in range(poisson(mean, random)):
            out[bisect_right(self.cumulative, random.random())] += 1
        return tuple(out)

    def histogram(self, mean: float, random: Random) -> Histogram:
        return Histogram(self.bounds_ms, self.counts(mean, random))


def quantile_of(cdf: Cdf, q: float) -> float:
    low, high = 0.0, 1e6
    while high - low > 1e-6 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if cdf(middle) >= q else (middle, high)
    return high


def shape(bounds_ms: tuple[float, ...], cdf: Cdf) -> Shape:
    at_bounds = [cdf(bound) for bound in bounds_ms]
    shares = (at_bounds[0], *(max(0.0, b - a) for a, b in pairwise(at_bounds)), max(0.0, 1.0 - at_bounds[-1]))
    cumulative = tuple(accumulate(shares))
    return Shape(bounds_ms, cdf, shares, (*cumulative[:-1], math.inf))


def lognormal(median_ms: float, sigma: float) -> Cdf:
    return lambda ms: NORMAL.cdf(math.log(ms / median_ms) / sigma) if ms > 0.0 else 0.0


def mixed(*parts: tuple[float, Cdf]) -> Cdf:
    return lambda ms: sum(part * cdf(ms) for part, cdf in parts)


def slower(cdf: Cdf, factor: float, plus_ms: float) -> Cdf:
    return lambda ms: cdf((ms - plus_ms) / factor)


def stretched(cdf: Cdf, from_ms: float, factor: float) -> Cdf:
    """Only what is slower than `from_ms` is slower still."""
    return lambda ms: cdf(ms) if ms <= from_ms else cdf(from_ms + (ms - from_ms) / factor)


HEAVY = lognormal(60.0, 0.8)
"""an ordinary page: its p99 is more than six times its median"""
CACHE = mixed((0.9, lognormal(12.0, 0.4)), (0.1, lognormal(180.0, 0.5)))
"""one in ten misses its cache: two humps with little between"""
