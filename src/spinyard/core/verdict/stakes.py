"""E-values of one block of requests, and the stakes that ride on them.

An e-value has mean at most 1 when the hypothesis is true: the return of a bet at fair odds against it. Winning much is
evidence. Stakes on several alternatives add up, and what was not staked keeps its worth (docs/judge.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spinyard.core.verdict.counts import Counts

SUPPORT_MAX = 256
"""terms of the exact sum; above, Hoeffding's bounds, which only lower the e-value"""
STEPS_MAX = 60


@dataclass(frozen=True, slots=True)
class Stakes:
    """Natural logarithms: what rides on each alternative by now, and what is kept back for what becomes true later."""

    logs: tuple[float, ...]
    log_kept: float

    @property
    def log_total(self) -> float:
        return log_sum((*self.logs, self.log_kept))

    def after(
        self, log_factors: tuple[float, ...], part: float, log_shares: tuple[float, ...], log_max: float
    ) -> Stakes:
        """First `part` of what is kept back is staked too, as if the evidence began here; then all win or lose."""
        fresh = self.log_kept + math.log(part)
        logs = []
        for log, factor, log_share in zip(self.logs, log_factors, log_shares, strict=True):
            high, low = (log, fresh + log_share) if log > fresh + log_share else (fresh + log_share, log)
            logs.append(min(high + math.log1p(math.exp(low - high)) + factor, log_max))
        return Stakes(tuple(logs), self.log_kept + math.log1p(-part))


def stakes_on(log_shares: tuple[float, ...], kept: float) -> Stakes:
    return Stakes(tuple(log_share + math.log1p(-kept) for log_share in log_shares), math.log(kept))


def log_sum(logs: tuple[float, ...]) -> float:
    top = max(logs)
    return top + math.log(sum([math.exp(log - top) for log in logs]))


def log_worse(old: Counts, new: Counts, ratios: tuple[float, ...]) -> tuple[float, ...]:
    """Against "new fails no more often than old", for each odds ratio: ratio ** k / E0[ratio ** K].

    Given how many requests each side had and how many of both failed, K, the failures on the new side, is
    hypergeometric when the sides are alike, and smaller when the new one is better.
    """
    failures = old.failures + new.failures
    if not failures or not old.requests or not new.requests:
        return (0.0,) * len(ratios)
    low, high = max(0, failures - old.requests), min(failures, new.requests)
    if high - low >= SUPPORT_MAX:
        return tuple(new.failures * math.log(r) - _log_mean_bound(old, new, r) for r in ratios)
    weights, log_weight = [0.0], 0.0
    for k in range(low, high):
        log_weight += math.log((new.requests - k) * (failures - k) / ((k + 1) * (old.requests - failures + k + 1)))
        weights.append(log_weight)
    top = max(weights)
    plain = top + math.log(sum([math.exp(weight - top) for weight in weights]))
    out = []
    for ratio in ratios:
        tilt = math.log(ratio)
        tilted = [weight + tilt * k for k, weight in enumerate(weights)]
        top = max(tilted)
        mean = top + math.log(sum([math.exp(weight - top) for weight in tilted])) - plain
        out.append(tilt * (new.failures - low) - mean)
    return tuple(out)


def log_not_worse(old: Counts, new: Counts, p_old: float, p_new: float, margin: float) -> float:
    """Against "new fails more often than old by the margin or more", for the alternative (p_old, p_new).

    The likelihood ratio of the alternative to the nearest point of the hypothesis (Kullback-Leibler, weighted with the
    requests of each side). The mean logarithm is concave in the true rates and its slope at the nearest point leads
    out of the hypothesis, so the mean is at most 1 all over it.
    """
    if p_new >= p_old + margin or not old.requests or not new.requests:
        return 0.0
    q_old = nearest(old.requests, new.requests, p_old, p_new, margin)
    q_new = q_old + margin
    return _log_ratio(old, p_old, q_old) + _log_ratio(new, p_new, q_new)


def nearest(old: float, new: float, p_old: float, p_new: float, margin: float) -> float:
    """q that is nearest to the alternative with the new side at q + margin.

    The root of a cubic (the slope without its poles) that rises through zero once between the two ends: Newton's
    steps, or halving when one leads out.
    """
    low, high = max(0.0, p_new - margin), min(p_old, 1.0 - margin)
    q = (low + high) / 2.0
    for _ in range(STEPS_MAX):
        s = q + margin
        left, right = q - p_old, s - p_new
        room_q, room_s = q * (1.0 - q), s * (1.0 - s)
        height = old * left * room_s + new * right * room_q
        if height > 0.0:
            high = q
        else:
            low = q
        slope = old * (room_s + left * (1.0 - 2.0 * s)) + new * (room_q + right * (1.0 - 2.0 * q))
        after = q - height / slope if slope else low
        if not low <= after <= high:
            after = (low + high) / 2.0
        if abs(after - q) <= 1e-10 * q:
            return after
        q = after
    return q


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler, of one request."""
    out = p * math.log(p / q) if p > 0.0 else 0.0
    return out + ((1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 else 0.0)


def _log_ratio(counts: Counts, p: float, q: float) -> float:
    out = counts.failures * math.log(p / q) if counts.failures else 0.0
    successes = counts.requests - counts.failures
    return out + (successes * (math.log1p(-p) - math.log1p(-q)) if successes else 0.0)


def _log_mean_bound(old: Counts, new: Counts, ratio: float) -> float:
    """Upper bound of log E0[ratio ** K]: drawing without putting back is never more spread than with (Hoeffding 1963).
    The four ways to see the same draw give four bounds.
    """
    failures = old.failures + new.failures
    total = old.requests + new.requests
    successes = total - failures
    share, rate = new.requests / total, failures / total
    full = math.log(ratio)
    return min(
        failures * math.log1p(share * (ratio - 1.0)),
        new.requests * math.log1p(rate * (ratio - 1.0)),
        new.requests * full + successes * math.log1p(share * (1.0 / ratio - 1.0)),
        failures * full + old.requests * math.log1p(rate * (1.0 / ratio - 1.0)),
    )
