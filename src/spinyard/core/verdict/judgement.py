"""From evidence to a verdict, with its reason and what is still needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from spinyard.core.verdict.counts import Counts
from spinyard.core.verdict.evidence import BLOCK_MIN, NOTHING, RATIOS, Evidence, guessed_rates
from spinyard.core.verdict.stakes import divergence, log_sum, nearest

ALPHA_MIN = 1e-4
NEEDS_MAX = 10_000_000
NEEDS_WEIGHT = 4.0
"""a forecast may trust the first failures more than a stake does"""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    """the last measurement cannot be used: it went backwards, or is not a count"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What every judge says. `log_e_fail`, `log_e_pass`: natural logarithms of the two e-values; `bound`: what one of
    them must reach (all 0 where there is no sequential test). `needs`: about how many more requests on the new side
    would decide, if both sides go on as now; None: not foreseeable.

    `old`, `new`: requests, and how many of them count against the side: failed, or were over the limit. `value_*`: what
    was compared with `limit`, in `unit`; None: unknown. `missing`: what there must be before it can be decided.
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
    test: str = "rates of two sides"
    value_old: float | None = None
    value_new: float | None = None
    limit: float | None = None
    unit: str = ""
    missing: str = ""


def plain(
    verdict: Verdict,
    why: str,
    test: str,
    *,
    new: Counts = NOTHING,
    value: float | None = None,
    limit: float | None = None,
    unit: str = "",
    missing: str = "",
    needs: int | None = None,
) -> Judgement:
    """Of one side, without bets."""
    return Judgement(
        verdict,
        why,
        NOTHING,
        new,
        0.0,
        0.0,
        0.0,
        0.0,
        0.0,
        needs,
        test=test,
        value_new=value,
        limit=limit,
        unit=unit,
        missing=missing,
    )


def judge(evidence: Evidence, *, alpha: float) -> Judgement:
    """Pass when "worse by the margin or more" is refuted; else fail when "not worse" is refuted. Each error rate is at
    most alpha however often this is asked. ValueError when alpha is not in ALPHA_MIN .. 0.5.
    """
    if not ALPHA_MIN <= alpha <= 0.5:
        raise ValueError(f"alpha must be between {ALPHA_MIN} and 0.5, it is {alpha}")
    bound = math.log(1.0 / alpha)
    log_e_fail, log_e_pass = evidence.worse.log_total, evidence.not_worse.log_total
    verdict = _verdict(evidence.problem, log_e_fail, log_e_pass, bound)
    needs = _needs(evidence, bound) if verdict is Verdict.INCONCLUSIVE else None
    why = _why(verdict, evidence, needs, is_worse=log_e_fail >= bound)
    old, new, margin = evidence.old, evidence.new, evidence.margin
    rate_old, rate_new = (side.rate if side.requests else None for side in (old, new))
    return Judgement(
        verdict,
        why,
        old,
        new,
        margin,
        alpha,
        log_e_fail,
        log_e_pass,
        bound,
        needs,
        value_old=rate_old,
        value_new=rate_new,
        limit=None if rate_old is None else rate_old + margin,
        unit="failed",
        missing=_missing(verdict, evidence, needs),
    )


def judge_split(asked_share: float, old: Counts, new: Counts, *, alpha: float) -> tuple[bool, float]:
    """(the split is not the one asked for, log E), of the counts of one step so far. Two-sided and anytime-valid for
    requests that are placed independently: a Beta(1/2, 1/2) mixture against the binomial.
    """
    total = old.requests + new.requests
    if total <= 0 or not 0.0 < asked_share < 1.0 or min(old.requests, new.requests) < 0:
        return False, 0.0
    mixture = math.lgamma(new.requests + 0.5) + math.lgamma(old.requests + 0.5) - math.lgamma(total + 1)
    null = new.requests * math.log(asked_share) + old.requests * math.log1p(-asked_share)
    log_e = mixture - math.log(math.pi) - null
    return log_e >= math.log(1.0 / alpha), log_e


def _missing(verdict: Verdict, evidence: Evidence, needs: int | None) -> str:
    if verdict is Verdict.ERROR:
        return "a measurement that can be used"
    if verdict is not Verdict.INCONCLUSIVE:
        return ""
    if not evidence.old.requests:
        return "requests on the old side"
    return "rates that are further from the margin" if needs is None else f"about {needs} more requests on the new side"


def _verdict(problem: str, log_e_fail: float, log_e_pass: float, bound: float) -> Verdict:
    if problem:
        return Verdict.ERROR
    if log_e_pass >= bound:
        return Verdict.PASS
    return Verdict.FAIL if log_e_fail >= bound else Verdict.INCONCLUSIVE


def _needs(evidence: Evidence, bound: float) -> int | None:
    """More requests on the new side until one of the e-values is expected at the bound."""
    exposure, margin = _exposure(evidence), evidence.margin
    _, p_old, p_new = guessed_rates(evidence, NEEDS_WEIGHT)
    both, a, b = guessed_rates(evidence)
    gains_pass = tuple(_gain(p_old, p_new, x, y, margin, exposure) for x, y in ((both, both), (a, b)))
    share = 1.0 / (1.0 + exposure)
    failures = p_new + p_old * exposure
    gains_fail = tuple(p_new * math.log(r) - failures * math.log1p(share * (r - 1.0)) for r in RATIOS)
    ways = (
        _until((*evidence.not_worse.logs, evidence.not_worse.log_kept), (*gains_pass, 0.0), bound),
        _until((*evidence.worse.logs, evidence.worse.log_kept), (*gains_fail, 0.0), bound),
    )
    shortest = min((n for n in ways if n is not None), default=None)
    return None if shortest is None else max(1, shortest, BLOCK_MIN - evidence.open_new.requests)


def _exposure(evidence: Evidence) -> float:
    """Requests on the old side for one on the new, at the present step; even when nothing is known."""
    old, new = evidence.step_old.requests, evidence.step_new.requests
    return (old + 1.0) / (new + 1.0)


def _gain(p_old: float, p_new: float, a: float, b: float, margin: float, exposure: float) -> float:
    """Mean growth, for one request on the new side, of what is staked on (a, b) when (p_old, p_new) is true."""
    if b >= a + margin:
        return 0.0
    q = nearest(exposure, 1.0, a, b, margin)
    old = divergence(p_old, q) - divergence(p_old, a)
    return exposure * old + divergence(p_new, q + margin) - divergence(p_new, b)


def _until(logs: tuple[float, ...], gains: tuple[float, ...], bound: float) -> int | None:
    def reaches(requests: float) -> bool:
        return log_sum(tuple(log + requests * gain for log, gain in zip(logs, gains, strict=True))) >= bound

    if max(gains) <= 0.0 or not reaches(NEEDS_MAX):
        return None
    low, high = 0, NEEDS_MAX
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _why(verdict: Verdict, evidence: Evidence, needs: int | None, *, is_worse: bool) -> str:
    old, new = evidence.old, evidence.new
    seen = (
        f"new {new.failures} of {new.requests} failed ({new.rate:.2%}), "
        f"old {old.failures} of {old.requests} ({old.rate:.2%}), margin {evidence.margin:.2%}"
    )
    if evidence.steps > 1:
        seen += f", over {evidence.steps} steps, each compared within itself"
    match verdict:
        case Verdict.ERROR:
            return f"the last measurement cannot be used: {evidence.problem}"
        case Verdict.PASS if is_worse:
            return f"worse, but by less than the margin: {seen}"
        case Verdict.PASS:
            return f"not worse by the margin: {seen}"
        case Verdict.FAIL:
            return f"worse: {seen}"
        case Verdict.INCONCLUSIVE if needs is None:
            return f"not decided: {seen}; the rates are too near to the margin to foresee when"
        case Verdict.INCONCLUSIVE:
            return f"not decided: {seen}; needs about {needs} more requests on the new side"
