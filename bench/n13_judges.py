"""The three judges of N13, each driving a ramp of the same traffic: 10 %, then 50 %, then advanced.

The peers are re-implemented from their rules, no code taken:
* threshold (in the manner of Flagger and Argo Rollouts): a check fails when the success rate of the last minute is
  below a fixed value; a check that does not fail raises the weight; five failed ones in a row (our reading) roll back;
  no data is no failure. The value is half a margin above the true base rate, which in life nobody knows.
* rank (Kayenta's Mann-Whitney rule, tolerance 0.25, confidence 98 %, without its filter of outliers): error rates of 30
  minutes per step and side; failed when the lower end of the confidence interval of the shift is above a quarter of its
  estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from bench.n13_traffic import Traffic
from spinyard.core.verdict import Counts, Evidence, Increment, fold
from spinyard.core.verdict.evidence import BLOCK_MIN

SHARES = (0.10, 0.50)
STEP_SECONDS = 10.0
REQUESTS_MAX = 20_000
SECONDS_MIN, SECONDS_MAX = 60.0, 86_400.0
MINUTE = 60.0
CHECKS_MAX = 60
CHECKS_FAILED = 5
POINTS = 30
RANK_TOLERANCE = 0.25
RANK_Z = 2.3263478740408408
"""98 %, two-sided"""


@dataclass(frozen=True, slots=True)
class End:
    advanced: bool
    """the weight was raised at least once"""
    rolled_back: bool
    new_requests: int
    seconds: float
    completed: bool = False
    """raised to the end; only told of latency"""


def spinyard(traffic: Traffic, margin: float, alpha: float, random: Random) -> End:
    """Polled each second, fails at any moment, raises after at least 10 s of a step and only on "pass"."""
    bound = math.log(1.0 / alpha)
    horizon = min(SECONDS_MAX, max(SECONDS_MIN, REQUESTS_MAX / traffic.per_second))
    evidence, at, raised = Evidence(margin=margin), 0.0, False
    for step, share in enumerate(SHARES):
        begin, passes = at, evidence.not_worse.log_total >= bound
        n_old = f_old = n_new = f_new = 0
        for at, a, b, c, d in traffic.polls(share, step, begin, random):
            n_old, f_old, n_new, f_new = n_old + a, f_old + b, n_new + c, f_new + d
            # What fold keeps open until there is a block of it is kept open here: the same evidence, sooner computed.
            if n_new >= BLOCK_MIN <= n_old:
                evidence = fold(evidence, Increment(step, Counts(n_old, f_old), Counts(n_new, f_new)))
                n_old = f_old = n_new = f_new = 0
                passes = evidence.not_worse.log_total >= bound
                if not passes and evidence.worse.log_total >= bound:
                    return End(raised, True, evidence.new.requests, at)
            if passes and at - begin >= STEP_SECONDS:
                break
            if at >= horizon:
                return End(raised, False, evidence.new.requests, at)
        raised = True
    return End(True, False, evidence.new.requests, at)


def threshold(traffic: Traffic, rate_max: float, random: Random) -> End:
    step, failed, new, raised = 0, 0, 0, False
    for check in range(CHECKS_MAX):
        _, _, n_new, f_new = traffic.window(SHARES[step], step, check * MINUTE, MINUTE, random)
        new += n_new
        if n_new and f_new > rate_max * n_new:
            failed += 1
            if failed == CHECKS_FAILED:
                return End(raised, True, new, (check + 1) * MINUTE)
            continue
        failed, raised, step = 0, True, step + 1
        if step == len(SHARES):
            return End(True, False, new, (check + 1) * MINUTE)
    return End(raised, False, new, CHECKS_MAX * MINUTE)


def rank(traffic: Traffic, random: Random) -> End:
    at, new = 0.0, 0
    for step, share in enumerate(SHARES):
        olds, news = [], []
        for _ in range(POINTS):
            n_old, f_old, n_new, f_new = traffic.window(share, step, at, MINUTE, random)
            at, new = at + MINUTE, new + n_new
            if n_old:
                olds.append(f_old / n_old)
            if n_new:
                news.append(f_new / n_new)
        if olds and news and is_high(olds, news):
            return End(step > 0, True, new, at)
    return End(True, False, new, at)


def is_high(olds: list[float], news: list[float]) -> bool:
    """Hodges-Lehmann shift and its interval by the normal approximation of the rank sum."""
    if olds == news:
        return False
    shifts = sorted([x - y for x in news for y in olds])
    m, n, pairs = len(news), len(olds), len(shifts)
    estimate = (shifts[(pairs - 1) // 2] + shifts[pairs // 2]) / 2.0
    low = math.floor(pairs / 2.0 - RANK_Z * math.sqrt(pairs * (m + n + 1) / 12.0))
    return low >= 0 and shifts[low] > RANK_TOLERANCE * abs(estimate)
