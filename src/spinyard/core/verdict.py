"""The judge: is the new side worse than the old one? Asked after every request if one likes, without inflating errors.

Both sides answer requests that succeed or fail; a = old, b = new, p = probability of failure. Two questions, each with
an e-process that is a function of the four counts alone:

    fail    reject  p_b <= p_a             "it is worse"
    pass    reject  p_b >= p_a + margin    "it is not worse by the margin"

    E = M(counts) / sup over the rejected region of L(counts; p_a, p_b)

M is the likelihood averaged over Beta(1/2, 1/2) for each side. For the true pair in the region, M / L(true) is a
non-negative martingale of mean 1 whatever the order in which the sides are asked, and the supremum only lowers E; so by
Ville's inequality the probability that E ever reaches 1/alpha is at most alpha (universal inference: Wasserman, Ramdas
and Balakrishnan 2020; sequential use in deployments: Lindon, Sanden and Shirikian, arXiv 2205.14762; two proportions:
Turner, Ly and Gruenwald, arXiv 2106.02693). Missing data cannot decide anything: with no counts both E are 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

PROJECTION_MAX = 10_000_000
EVIDENCE_MIN = 1
"""requests on each side before anything is decided"""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    """the measurement cannot be used: it went backwards, or is not a count"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests, and how many of them failed, of one side since the evidence began."""

    requests: int = 0
    failures: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.requests + other.requests, self.failures + other.failures)

    @property
    def rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """`log_e_fail`, `log_e_pass`: natural logarithms of the two e-values; `bound`: what one of them must reach.
    `needs`: about how many more requests on the new side would decide, if both sides go on as now; None: not
    foreseeable.
    """

    verdict: Verdict
    why: str
    old: Counts
    new: Counts
    margin: float
    alpha: float
    log_e_fail: float
    log_e_pass: float
    bound: float
    needs: int | None = None


def judge_success(old: Counts, new: Counts, *, margin: float, alpha: float) -> Judgement:
    """Failure rates of two sides against a margin (0 < margin < 1, absolute), each error rate at most alpha."""
    bound = math.log(1.0 / alpha)
    if not _is_usable(old) or not _is_usable(new):
        return Judgement(Verdict.ERROR, "the counts make no sense", old, new, margin, alpha, 0.0, 0.0, bound)
    log_e_fail, log_e_pass = log_evidence(old, new, margin)
    verdict = Verdict.INCONCLUSIVE
    if min(old.requests, new.requests) >= EVIDENCE_MIN:
        if log_e_fail >= bound:
            verdict = Verdict.FAIL
        elif log_e_pass >= bound:
            verdict = Verdict.PASS
    needs = _needs(old, new, margin, bound) if verdict is Verdict.INCONCLUSIVE else None
    why = _why(verdict, old, new, margin, needs)
    return Judgement(verdict, why, old, new, margin, alpha, log_e_fail, log_e_pass, bound, needs)


def log_evidence(old: Counts, new: Counts, margin: float) -> tuple[float, float]:
    """(log E against "not worse", log E against "worse by the margin or more")."""
    mixture = _log_mixture(old) + _log_mixture(new)
    return mixture - _log_sup(old, new, shift=0.0, worse=False), mixture - _log_sup(old, new, shift=margin, worse=True)


def judge_split(asked_share: float, old: Counts, new: Counts, *, alpha: float) -> tuple[bool, float]:
    """(the split is not the one asked for, log E). Two-sided, anytime-valid: a mixture against the binomial."""
    total = old.requests + new.requests
    if not total or not 0.0 < asked_share < 1.0:
        return False, 0.0
    mixture = _log_mixture(Counts(total, new.requests))
    null = new.requests * math.log(asked_share) + old.requests * math.log1p(-asked_share)
    return mixture - null >= math.log(1.0 / alpha), mixture - null


def _is_usable(counts: Counts) -> bool:
    return 0 <= counts.failures <= counts.requests


def _log_mixture(counts: Counts) -> float:
    """log of the integral of p^f (1-p)^(n-f) over Beta(1/2, 1/2)."""
    failures, successes = counts.failures + 0.5, counts.requests - counts.failures + 0.5
    return math.lgamma(failures) + math.lgamma(successes) - math.lgamma(failures + successes) - math.log(math.pi)


def _log_likelihood(counts: Counts, p: float) -> float:
    successes = counts.requests - counts.failures
    if (p <= 0.0 and counts.failures) or (p >= 1.0 and successes):
        return -math.inf
    out = counts.failures * math.log(p) if counts.failures else 0.0
    return out + (successes * math.log1p(-p) if successes else 0.0)


def _log_sup(old: Counts, new: Counts, *, shift: float, worse: bool) -> float:
    """The largest log-likelihood with p_b >= p_a + shift (worse), or p_b <= p_a + shift (not worse)."""
    if not old.requests or not new.requests:
        # A side without data fits any region: the other one is free.
        return _log_likelihood(old, old.rate) + _log_likelihood(new, new.rate)
    inside = new.rate >= old.rate + shift if worse else new.rate <= old.rate + shift
    if inside:
        return _log_likelihood(old, old.rate) + _log_likelihood(new, new.rate)
    if shift == 0.0:
        both = old + new
        return _log_likelihood(both, both.rate)
    return _maximum(lambda p: _log_likelihood(old, p) + _log_likelihood(new, p + shift), 0.0, 1.0 - shift)


def _maximum(concave: Callable[[float], float], low: float, high: float) -> float:
    """Golden section; the function is concave on the interval. 60 steps shrink it by 3e-13."""
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    x, y = high - ratio * (high - low), low + ratio * (high - low)
    at_x, at_y = concave(x), concave(y)
    for _ in range(60):
        if at_x < at_y:
            low, x, at_x = x, y, at_y
            y = low + ratio * (high - low)
            at_y = concave(y)
        else:
            high, y, at_y = y, x, at_x
            x = high - ratio * (high - low)
            at_x = concave(x)
    return max(at_x, at_y, concave(low), concave(high))


def _needs(old: Counts, new: Counts, margin: float, bound: float) -> int | None:
    """More requests on the new side until one e-value would reach the bound, were the rates to stay as they are."""
    if not old.requests or not new.requests:
        ideal = _needs(Counts(1, 0), Counts(1, 0), margin, bound)
        return ideal
    low, high = 1.0, 2.0
    while not _decides(old, new, margin, bound, high):
        low, high = high, high * 2.0
        if new.requests * high > PROJECTION_MAX:
            return None
    for _ in range(20):
        middle = (low + high) / 2.0
        low, high = (low, middle) if _decides(old, new, margin, bound, middle) else (middle, high)
    return max(1, math.ceil(new.requests * (high - 1.0)))


def _decides(old: Counts, new: Counts, margin: float, bound: float, factor: float) -> bool:
    grown_old = Counts(round(old.requests * factor), round(old.failures * factor))
    grown_new = Counts(round(new.requests * factor), round(new.failures * factor))
    return max(log_evidence(grown_old, grown_new, margin)) >= bound


def _why(verdict: Verdict, old: Counts, new: Counts, margin: float, needs: int | None) -> str:
    seen = (
        f"new {new.failures} of {new.requests} failed ({new.rate:.2%}), "
        f"old {old.failures} of {old.requests} ({old.rate:.2%}), margin {margin:.2%}"
    )
    match verdict:
        case Verdict.PASS:
            return f"not worse by the margin: {seen}"
        case Verdict.FAIL:
            return f"worse: {seen}"
        case _ if needs is None:
            return f"not decided: {seen}; the rates are too near to the margin to foresee when"
        case _:
            return f"not decided: {seen}; needs about {needs} more requests on the new side"
