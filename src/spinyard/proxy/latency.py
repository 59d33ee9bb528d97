"""PURE. The bounds of Envoy's latency histogram, as it counts them and as they are true.

Envoy rounds a time down to whole milliseconds, keeps it by its first two digits, and takes for a bound everything that
begins with the same two digits: 29.9 ms counts for the bound 29, and 129 ms for the bound 120. So what counts for a
bound took less than the next number of two digits, and that is what we say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_PER_DECADE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
BOUNDS_MS: tuple[int, ...] = (
    *(1, 2, 3, 4, 5, 6, 8),
    *(round(step * decade) for decade in (10, 100, 1_000) for step in _PER_DECADE),
    *(10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 3_600_000),
)
"""What the bounds shall mean: less than so many milliseconds. Numbers of two digits, or they would not be exact."""


def _fine_bounds() -> Iterator[int]:
    """Each a twentieth above the one before, where two digits can say so."""
    yield from range(1, 10)
    for width in (1, 10, 100):
        digits = 10
        while digits < 100:
            yield digits * width
            digits = max(digits + 1, digits * 21 // 20)
    yield from (10_000, 15_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 3_600_000)


FINE_BOUNDS_MS: tuple[int, ...] = tuple(_fine_bounds())
"""Of the clusters of boundaries: a bucket that is wider than the margin of a latency goal decides nothing. They are
few, and a reading costs by the number of bounds."""
FINE_PREFIX = "cluster.spinout/"


def bucket_settings() -> list[dict[str, object]]:
    """For Envoy's `stats_config`; the first that fits a name is taken."""
    return [
        {
            "match": {"safe_regex": {"regex": f"{FINE_PREFIX}.*\\.upstream_rq_time"}},
            "buckets": envoy_bounds(FINE_BOUNDS_MS),
        },
        {"match": {"suffix": ".upstream_rq_time"}, "buckets": envoy_bounds(BOUNDS_MS)},
    ]


def envoy_bounds(bounds_ms: Iterable[int] = BOUNDS_MS) -> list[float]:
    """What Envoy must be told for it: 0.5 is its word for less than 1 ms, as a bound is above 0."""
    return [0.5 if bound == 1 else float(bound - _width(bound - 1)) for bound in bounds_ms]


def seconds(envoy_bound: float) -> float:
    """What counts for this bound of Envoy's took less than so many seconds."""
    width = _width(envoy_bound)
    return (envoy_bound // width + 1) * width / 1000


def _width(milliseconds: float) -> int:
    width = 1
    while milliseconds >= 100 * width:
        width *= 10
    return width
