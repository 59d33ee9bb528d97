"""A verdict about latency, in words and figures that a person can check."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from spinyard.core.verdict.counts import Counts
from spinyard.core.verdict.histogram import Histogram, count_below
from spinyard.core.verdict.judgement import Judgement, Verdict
from spinyard.core.verdict.quantile_bets import Limit, quantile_range

PAIR_TEST, ALONE_TEST = "quantile of two sides", "quantile against a limit"


@dataclass(frozen=True, slots=True)
class Seen:
    """`limit` for two sides, `alone_ms` for one."""

    quantile: float
    old: Histogram
    new: Histogram
    limit: Limit | None
    alone_ms: float | None

    @property
    def limit_ms(self) -> float | None:
        """As far as it is known: from the upper bound of where the old side's quantile seems to be."""
        if self.limit is None:
            return self.alone_ms
        bucket = self.old.bucket_of(self.quantile)
        return None if bucket is None or bucket[1] is None else self.limit.of(bucket[1])


def found(
    seen: Seen,
    verdict: Verdict,
    problem: str,
    margin: float,
    alpha: float,
    log_e_fail: float,
    log_e_pass: float,
    bound: float,
    needs: int | None,
) -> Judgement:
    missing = _missing(seen, verdict, needs, alpha)
    return Judgement(
        verdict,
        _why(seen, verdict, problem, missing),
        _over(seen.old, seen.limit_ms),
        _over(seen.new, seen.limit_ms),
        margin,
        alpha,
        log_e_fail,
        log_e_pass,
        bound,
        needs,
        test=PAIR_TEST if seen.limit else ALONE_TEST,
        value_old=_upper(seen.old, seen.quantile),
        value_new=_upper(seen.new, seen.quantile),
        limit=seen.limit_ms,
        unit="ms",
        missing=missing,
    )


def too_coarse(seen: Seen, alpha: float) -> str:
    """Why no number of requests could tell that two sides are alike; empty when some could."""
    if seen.limit is None or not seen.old.total:
        return ""
    lowest, highest = quantile_range(seen.quantile, seen.old, alpha)
    low = 0.0
    for high in seen.old.bounds_ms:
        if low >= (highest if highest is not None else math.inf):
            return ""
        if high > lowest and _reached(seen.old.bounds_ms, seen.limit.of(low)) < high:
            room = f"a margin of at least {100.0 * (high / low - 1.0):.0f} % or {high - low:g} ms" if low else ""
            return (
                f"{room or f'at least {high:g} ms of room'}, or finer bounds: {low:g} to {high:g} ms is counted as one"
            )
        low = high
    return (
        "" if highest is not None else f"bounds above {low:g} ms: the {_name(seen.quantile)} may be over the last one"
    )


def _missing(seen: Seen, verdict: Verdict, needs: int | None, alpha: float) -> str:
    if verdict is Verdict.ERROR:
        return "a measurement that can be used"
    if verdict is not Verdict.INCONCLUSIVE:
        return ""
    if seen.limit is not None and not seen.old.total:
        return "requests on the old side"
    if not seen.new.total:
        return f"at least {needs} requests on the new side"
    coarse = too_coarse(seen, alpha)
    if coarse:
        return coarse
    return (
        "quantiles that are further from the limit" if needs is None else f"about {needs} more requests on the new side"
    )


def _why(seen: Seen, verdict: Verdict, problem: str, missing: str) -> str:
    name = _name(seen.quantile)
    new = f"new {name} {_range(seen.new, seen.quantile)} of {seen.new.total} requests"
    if seen.limit is None:
        what = f"{new}; the limit is {seen.alone_ms:g} ms"
    else:
        old = f"old {_range(seen.old, seen.quantile)} of {seen.old.total}"
        what = f"{new}, {old}; allowed {_allowed(seen.limit)}"
    match verdict:
        case Verdict.ERROR:
            return f"the last measurement cannot be used: {problem}"
        case Verdict.PASS:
            return f"within the limit: {what}"
        case Verdict.FAIL:
            return f"too slow: {what}"
        case Verdict.INCONCLUSIVE:
            return f"not decided: {what}; needs {missing}"


def _reached(bounds: tuple[float, ...], ms: float) -> float:
    at = bisect_right(bounds, ms)
    return bounds[at - 1] if at else 0.0


def _name(quantile: float) -> str:
    return f"p{quantile * 100:g}"


def _allowed(limit: Limit) -> str:
    parts = []
    if limit.factor != 1.0:
        parts.append(f"{100.0 * (limit.factor - 1.0):g} %")
    if limit.plus_ms:
        parts.append(f"{limit.plus_ms:g} ms")
    return " and ".join(parts) + " more"


def _range(side: Histogram, quantile: float) -> str:
    bucket = side.bucket_of(quantile)
    if bucket is None:
        return "unknown"
    low, high = bucket
    return f"over {low:g} ms" if high is None else f"{low:g} to {high:g} ms"


def _upper(side: Histogram, quantile: float) -> float | None:
    bucket = side.bucket_of(quantile)
    return None if bucket is None else bucket[1]


def _over(side: Histogram, limit_ms: float | None) -> Counts:
    """Those over the limit, as far as the bounds tell."""
    if limit_ms is None or not side.total:
        return Counts(side.total, 0)
    return Counts(side.total, side.total - count_below(side.bounds_ms, side.cumulative(), limit_ms))
