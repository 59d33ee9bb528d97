"""PURE. The bounds of Envoy's latency histogram, as it counts them and as they are true.

Envoy rounds a time down to whole milliseconds, keeps it by its first two digits, and takes for a bound everything that
begins with the same two digits: 29.9 ms counts for the bound 29, and 129 ms for the bound 120. So what counts for a
bound took less than the next number of two digits, and that is what we say.
"""

from __future__ import annotations

_PER_DECADE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
BOUNDS_MS: tuple[int, ...] = (
    *(1, 2, 3, 4, 5, 6, 8),
    *(round(step * decade) for decade in (10, 100, 1_000) for step in _PER_DECADE),
    *(10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 3_600_000),
)
"""What the bounds shall mean: less than so many milliseconds. Numbers of two digits, or they would not be exact."""


def envoy_bounds() -> list[float]:
    """What Envoy must be told for it: 0.5 is its word for less than 1 ms, as a bound is above 0."""
    return [0.5 if bound == 1 else float(bound - _width(bound - 1)) for bound in BOUNDS_MS]


def seconds(envoy_bound: float) -> float:
    """What counts for this bound of Envoy's took less than so many seconds."""
    width = _width(envoy_bound)
    return (envoy_bound // width + 1) * width / 1000


def _width(milliseconds: float) -> int:
    width = 1
    while milliseconds >= 100 * width:
        width *= 10
    return width
