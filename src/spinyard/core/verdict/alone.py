"""One side alone against a fixed rate: for full weight, where there is nobody to compare with at the same time.

A likelihood ratio against the rate `limit` for a worse alternative is an e-value of "it fails at most as often as the
limit", for a better one of "at least as often": its mean is linear in the true rate and 1 at the limit. Both depend on
the counts alone, so it may be asked at any time (Ville); the limit itself is taken as known.

After a million good requests an hour of errors hardly moves the whole. So there is a second way to fail, by a stretch
of the latest requests: when one has passed the next begins. The n-th may be wrong with alpha / 2 / ((n + 1) (n + 2)),
n from 0: all of them together with alpha / 2, however long it goes on; the whole has the other half.
"""

from __future__ import annotations

import math

from spinyard.core.verdict.counts import Counts
from spinyard.core.verdict.judgement import Verdict
from spinyard.core.verdict.stakes import log_sum

WORSE = (0.03, 0.1, 0.25, 0.5, 0.9)
"""alternatives, as parts of the way from the limit to 1"""
BETTER = (0.0, 0.25, 0.5, 0.75, 0.9)
"""and as parts of the limit"""
NEEDS_MAX = 100_000


def judge_alone(limit: float, seen: Counts, *, alpha: float) -> tuple[Verdict, int | None]:
    """(verdict, about how many more requests without a failure would pass it). ValueError when limit is not in 0 .. 1
    (both excluded). Each verdict is wrong at most with probability alpha, however often it is asked."""
    if not 0.0 < limit < 1.0:
        raise ValueError(f"limit must be between 0 and 1, it is {limit}")
    if not seen.is_usable:
        return Verdict.ERROR, None
    if _is_worse(limit, seen, alpha):
        return Verdict.FAIL, None
    if _is_better(limit, seen, alpha):
        return Verdict.PASS, None
    low, high = 1, NEEDS_MAX
    if not _is_better(limit, Counts(seen.requests + high, seen.failures), alpha):
        return Verdict.INCONCLUSIVE, None
    while low < high:
        middle = (low + high) // 2
        enough = _is_better(limit, Counts(seen.requests + middle, seen.failures), alpha)
        low, high = (low, middle) if enough else (middle + 1, high)
    return Verdict.INCONCLUSIVE, low


def judge_lately(
    limit: float, whole: Counts, stretch: Counts, nth: int, *, alpha: float
) -> tuple[Verdict, int | None, bool]:
    """As `judge_alone` of the whole, but it fails by the nth stretch (from 0) too; the last one: only by that."""
    verdict, needs = judge_alone(limit, whole, alpha=alpha)
    if verdict is Verdict.ERROR or not stretch.is_usable:
        return Verdict.ERROR, None, False
    if _is_worse(limit, whole, alpha / 2.0):
        return Verdict.FAIL, None, False
    if _is_worse(limit, stretch, alpha / 2.0 / ((nth + 1) * (nth + 2))):
        return Verdict.FAIL, None, True
    # Between the whole alpha and its half nothing is said of the whole.
    return (Verdict.INCONCLUSIVE, None, False) if verdict is Verdict.FAIL else (verdict, needs, False)


def stretch_is_over(limit: float, stretch: Counts, *, alpha: float) -> bool:
    """It has passed: what comes now is another one's."""
    return stretch.is_usable and _is_better(limit, stretch, alpha) and not _is_worse(limit, stretch, alpha)


def _is_worse(limit: float, seen: Counts, alpha: float) -> bool:
    return _mean(limit, seen, [limit + part * (1.0 - limit) for part in WORSE]) >= math.log(1.0 / alpha)


def _is_better(limit: float, seen: Counts, alpha: float) -> bool:
    return _mean(limit, seen, [part * limit for part in BETTER]) >= math.log(1.0 / alpha)


def _mean(limit: float, seen: Counts, alternatives: list[float]) -> float:
    good = seen.requests - seen.failures
    logs = tuple(_times(seen.failures, rate, limit) + _times(good, 1.0 - rate, 1.0 - limit) for rate in alternatives)
    return log_sum(logs) - math.log(len(alternatives))


def _times(count: int, rate: float, limit: float) -> float:
    if not count:
        return 0.0
    return count * math.log(rate / limit) if rate > 0.0 else -math.inf
