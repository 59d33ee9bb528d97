"""The judges of N13 on latency, each driving a ramp of the same traffic: 10 %, then 50 %, then advanced.

The peers are re-implemented from their rules, no code taken:
* threshold (in the manner of Flagger and Argo Rollouts): a check fails when the p99 of the last minute, interpolated
  between bounds as Prometheus does, is above a fixed value; a check that does not fail raises the weight; five failed
  ones in a row (our reading) roll back; no data is no failure. The value is the old side's true p99 and half the
  margin, which in life nobody knows.
* rank (Kayenta's Mann-Whitney rule, tolerance 0.25, confidence 98 %, without its filter of outliers) on the p50, p95
  and p99 of each of 30 minutes per step and side; failed when one of them is high.

For the requests to decision: `dkw`, a band that holds for both whole distributions at all times (Howard and Ramdas,
arXiv 1906.09712), and `intervals`, a confidence sequence for the quantile of each side by itself (the same paper).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import cycle
from random import Random

from bench.n13_judges import CHECKS_FAILED, CHECKS_MAX, MINUTE, POINTS, SHARES, STEP_SECONDS, End, is_high
from bench.n13_latency_traffic import Shape
from spinyard.core.verdict import (
    Histogram,
    LatencyEvidence,
    LatencyIncrement,
    QuantileGoal,
    Verdict,
    decide_latency,
    fold_latency,
    quantile_range,
)

REQUESTS_MAX = 100_000
SECONDS_MIN, SECONDS_MAX = 60.0, 86_400.0
FIRST_LOOK = 10
LOOKS_PER_DOUBLING = 6


@dataclass(frozen=True, slots=True)
class Pair:
    old: Shape
    new: Shape


Pairs = tuple[Pair, ...]
"""one after the other, stretch by stretch or minute by minute, and again from the first"""


def spinyard(
    pairs: Pairs,
    goals: tuple[QuantileGoal, ...],
    alpha: float,
    rates: tuple[float, ...],
    random: Random,
    *,
    is_worse: bool,
) -> dict[float, End]:
    """One history of requests for all rates: at each they come in other seconds, and the horizon is another. It is
    looked at with every 8 to 17 % more requests.
    A ramp that is worse ends when it was raised: more cannot be wrong of it."""
    ends: dict[float, End] = {}
    begun = dict.fromkeys(rates, 0.0)
    evidence, new_before = LatencyEvidence(), 0
    for step, share in enumerate(SHARES):
        requests, chunk, turns = 0, FIRST_LOOK, cycle(pairs)
        waiting, entered = set(begun), dict(begun)
        begun = {}
        while waiting:
            if requests >= 2 * LOOKS_PER_DOUBLING * chunk:
                chunk *= 2
            requests += chunk
            pair = next(turns)
            sides = pair.old.histogram(chunk * (1.0 - share), random), pair.new.histogram(chunk * share, random)
            evidence = fold_latency(evidence, LatencyIncrement(step, share, *sides))
            verdicts = decide_latency(evidence, goals, alpha=alpha)
            new = new_before + sum(evidence.new)
            passes = set(verdicts) == {Verdict.PASS}
            for rate in list(waiting):
                seconds = requests / rate
                at = entered[rate] + max(1.0, seconds)
                if Verdict.FAIL in verdicts:
                    ends[rate] = End(step > 0, True, new, at)
                elif passes and seconds >= STEP_SECONDS:
                    if step == len(SHARES) - 1 or is_worse:
                        ends[rate] = End(True, False, new, at, completed=True)
                    else:
                        begun[rate] = at
                elif at >= horizon(rate):
                    ends[rate] = End(step > 0, False, new, at)
                else:
                    continue
                waiting.discard(rate)
        new_before += sum(evidence.new)
    return ends


def horizon(per_second: float) -> float:
    return min(SECONDS_MAX, max(SECONDS_MIN, REQUESTS_MAX / per_second))


def threshold(pairs: Pairs, per_second: float, limit_ms: float, random: Random) -> End:
    step, failed, new, raised = 0, 0, 0, False
    for check in range(CHECKS_MAX):
        pair = pairs[check % len(pairs)]
        seen = pair.new.counts(per_second * SHARES[step] * MINUTE, random)
        new += sum(seen)
        value = interpolated(pair.new.bounds_ms, seen, 0.99)
        if value is not None and value > limit_ms:
            failed += 1
            if failed == CHECKS_FAILED:
                return End(raised, True, new, (check + 1) * MINUTE)
            continue
        failed, raised, step = 0, True, step + 1
        if step == len(SHARES):
            return End(True, False, new, (check + 1) * MINUTE, completed=True)
    return End(raised, False, new, CHECKS_MAX * MINUTE)


def rank(pairs: Pairs, per_second: float, random: Random) -> End:
    at, new = 0.0, 0
    for step, share in enumerate(SHARES):
        minutes = []
        for minute in range(POINTS):
            pair = pairs[minute % len(pairs)]
            old_seen = pair.old.counts(per_second * (1.0 - share) * MINUTE, random)
            new_seen = pair.new.counts(per_second * share * MINUTE, random)
            minutes.append((old_seen, new_seen))
            at, new = at + MINUTE, new + sum(new_seen)
        for q in (0.5, 0.95, 0.99):
            olds, news = (
                [v for seen in minutes if (v := interpolated(pair.old.bounds_ms, seen[side], q)) is not None]
                for side in (0, 1)
            )
            if olds and news and is_high(olds, news):
                return End(step > 0, True, new, at)
    return End(True, False, new, at, completed=True)


def interpolated(bounds: tuple[float, ...], counts: tuple[int, ...], q: float) -> float | None:
    """As histogram_quantile of Prometheus: linear between two bounds; the last one when it is above."""
    total = sum(counts)
    if not total:
        return None
    wanted, below = q * total, 0
    for n, count in enumerate(counts):
        if below + count >= wanted:
            if n == len(bounds):
                break
            low = bounds[n - 1] if n else 0.0
            return low + (bounds[n] - low) * (wanted - below) / count
        below += count
    return bounds[-1]


def decides_dkw(goal: QuantileGoal, alpha: float, old: Histogram, new: Histogram) -> Verdict:
    """A band about each distribution, at alpha / 2 each: every quantile lies between where its edges cross q."""
    return _between(goal, _band(goal.quantile, alpha / 2.0, old), _band(goal.quantile, alpha / 2.0, new))


def decides_intervals(goal: QuantileGoal, alpha: float, old: Histogram, new: Histogram) -> Verdict:
    """Each quantile in an interval of its own, each side at alpha / 2; one-sided bets, so half of it at each end."""
    return _between(goal, *(quantile_range(goal.quantile, side, alpha) for side in (old, new)))


def decides_ours(goal: QuantileGoal, alpha: float, share: float, old: Histogram, new: Histogram) -> Verdict:
    evidence = fold_latency(LatencyEvidence(), LatencyIncrement(1, share, old, new))
    return decide_latency(evidence, (goal,), alpha=alpha)[0]


def _between(goal: QuantileGoal, old: tuple[float, float | None], new: tuple[float, float | None]) -> Verdict:
    if new[1] is not None and new[1] <= goal.limit.of(old[0]):
        return Verdict.PASS
    if old[1] is not None and new[0] >= goal.limit.of(old[1]):
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE


def _band(q: float, alpha: float, side: Histogram) -> tuple[float, float | None]:
    total = side.total
    width = 0.85 * math.sqrt((math.log(math.log(math.e * total)) + 0.8 * math.log(1612.0 / alpha)) / total)
    shares = [count / total for count in side.cumulative()[:-1]]
    at_low, at_high = bisect_left(shares, q - width), bisect_right(shares, q + width)
    low = side.bounds_ms[at_low - 1] if at_low else 0.0
    return low, side.bounds_ms[at_high] if at_high < len(side.bounds_ms) else None
