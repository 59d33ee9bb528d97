"""Traffic of a simulated ramp: what each side finished in each second, drawn as counts, not as requests.

Requests arrive at random (Poisson) and are placed at random, so the four counts of a second are independent Poisson
numbers. At one request a second and below single requests are drawn, at their mean distance.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from spinyard.core.verdict.evidence import BLOCK_MIN

NORMAL_FROM = 400.0
"""mean from which a rounded normal number stands for a Poisson one"""
Rates = Callable[[int, float], tuple[float, float]]
"""(step, second) -> failure rate of (old, new)"""


@dataclass(frozen=True, slots=True)
class Traffic:
    per_second: float
    rates: Rates
    cluster: int = 1
    """how often each failure is counted (retries that fail again)"""

    def polls(
        self, share: float, step: int, begin: float, random: Random
    ) -> Iterator[tuple[float, int, int, int, int]]:
        """(second, old requests, old failures, new requests, new failures) of each poll in which something came."""
        one_by_one = self.per_second <= 1.0
        return (self._singles if one_by_one else self._seconds)(share, step, begin, random)

    def _singles(
        self, share: float, step: int, at: float, random: Random
    ) -> Iterator[tuple[float, int, int, int, int]]:
        """Requests one by one, told when both sides have BLOCK_MIN of them: before that no judge of ours would look."""
        distance, many = 1.0 / self.per_second, self.cluster
        while True:
            p_old, p_new = self.rates(step, at)
            n_new = BLOCK_MIN
            n_old = sum([others(share, random) for _ in range(n_new)])
            if n_old < BLOCK_MIN:
                n_new += sum([others(1.0 - share, random) for _ in range(BLOCK_MIN - n_old)])
                n_old = BLOCK_MIN
            f_old, f_new = binomial(n_old, p_old, random), binomial(n_new, p_new, random)
            at += (n_old + n_new) * distance
            yield at, n_old + (many - 1) * f_old, many * f_old, n_new + (many - 1) * f_new, many * f_new

    def _seconds(
        self, share: float, step: int, at: float, random: Random
    ) -> Iterator[tuple[float, int, int, int, int]]:
        old, new, many = self.per_second * (1.0 - share), self.per_second * share, self.cluster
        while True:
            at += 1.0
            p_old, p_new = self.rates(step, at)
            f_old, f_new = many * poisson(old * p_old, random), many * poisson(new * p_new, random)
            n_old = poisson(old * (1.0 - p_old), random) + f_old
            n_new = poisson(new * (1.0 - p_new), random) + f_new
            if n_old or n_new:
                yield at, n_old, f_old, n_new, f_new

    def window(self, share: float, step: int, at: float, seconds: float, random: Random) -> tuple[int, int, int, int]:
        """The counts of a longer stretch, at the rates of its middle (for judges that look once a minute)."""
        p_old, p_new = self.rates(step, at + seconds / 2.0)
        old, new = self.per_second * (1.0 - share) * seconds, self.per_second * share * seconds
        f_old = self.cluster * poisson(old * p_old, random)
        f_new = self.cluster * poisson(new * p_new, random)
        n_old = poisson(old * (1.0 - p_old), random) + f_old
        return n_old, f_old, poisson(new * (1.0 - p_new), random) + f_new, f_new


def others(p: float, random: Random) -> int:
    """How many misses before the first hit of probability p."""
    return int(math.log(1.0 - random.random()) / math.log1p(-p))


def binomial(n: int, p: float, random: Random) -> int:
    if p <= 0.0 or p >= 1.0 or p > 0.25:
        return sum([random.random() < p for _ in range(n)])
    hits, at = 0, others(p, random)
    while at < n:
        hits, at = hits + 1, at + 1 + others(p, random)
    return hits


def poisson(mean: float, random: Random) -> int:
    if mean <= 0.0:
        return 0
    if mean >= NORMAL_FROM:
        return max(0, round(random.gauss(mean, math.sqrt(mean))))
    return bisect_left(_cumulated(mean), random.random())


@lru_cache(maxsize=20_000)
def _cumulated(mean: float) -> tuple[float, ...]:
    term, total, out, k = math.exp(-mean), 0.0, [], 0
    while total < 1.0 - 1e-13 and k < mean + 60.0 + 12.0 * math.sqrt(mean):
        total += term
        out.append(total)
        k += 1
        term *= mean / k
    return tuple(out)


def steady(old: float, new: float) -> Rates:
    def rates(step: int, second: float) -> tuple[float, float]:
        return old, new

    return rates


def waves(base: float, difference: float, period: float) -> Rates:
    """The base rate goes up and down by a factor of 9 in sixteen levels, for both sides alike."""
    levels = tuple(base * (1.0 + 0.8 * math.sin(2.0 * math.pi * k / 16.0)) for k in range(16))

    def rates(step: int, second: float) -> tuple[float, float]:
        level = levels[int(second / period * 16.0) % 16]
        return level, level + difference

    return rates


def by_step(first: float, second_: float, difference: float) -> Rates:
    """The base rate changes when the weight does: totals over both steps then lie (Simpson)."""

    def rates(step: int, second: float) -> tuple[float, float]:
        base = first if step == 0 else second_
        return base, base + difference

    return rates


def sticky(users: int, broken_share: float, shares: tuple[float, ...], random: Random) -> Rates:
    """Users stay on their side and some of them always fail, whatever the version. Who is on the new side at a step
    stays there at the next.
    """
    broken = [random.random() < broken_share for _ in range(users)]
    of_step = []
    for share in shares:
        cut = max(1, round(users * share))
        of_step.append((sum(broken[cut:]) / max(1, users - cut), sum(broken[:cut]) / cut))

    def rates(step: int, second: float) -> tuple[float, float]:
        return of_step[step]

    return rates
