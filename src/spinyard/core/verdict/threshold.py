"""One figure against a limit: queue depth, age of the oldest message, cost. And a share against one: trace join.

A figure that is missing, stale, of too few samples or no number decides nothing; it never passes and never fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from spinyard.core.verdict.alone import judge_alone
from spinyard.core.verdict.counts import Counts
from spinyard.core.verdict.judgement import Judgement, Verdict, plain

TEST, SHARE_TEST = "threshold", "share against a limit"


class Direction(StrEnum):
    MAX = "max"
    """the figure may be at most the limit"""
    MIN = "min"


@dataclass(frozen=True, slots=True)
class Threshold:
    """ValueError for a limit that is no number, and for times and counts below what makes sense."""

    limit: float
    direction: Direction = Direction.MAX
    stale_seconds: float = 120.0
    samples_min: int = 1
    unit: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.limit):
            raise ValueError(f"limit must be a number, it is {self.limit}")
        if not 0.0 < self.stale_seconds < math.inf or self.samples_min < 1:
            raise ValueError("stale_seconds must be above 0 and samples_min at least 1")

    def allows(self, value: float) -> bool:
        return value <= self.limit if self.direction is Direction.MAX else value >= self.limit


@dataclass(frozen=True, slots=True)
class Sample:
    """`at`: when it was true, on the same clock as `now`. `samples`: how many things it was made of."""

    value: float
    at: float
    samples: int = 1


def judge_threshold(threshold: Threshold, sample: Sample | None, *, now: float) -> Judgement:
    """`sample` None: the source answered, with nothing."""
    if sample is None:
        return plain(Verdict.INCONCLUSIVE, "not decided: no sample", test=TEST, missing="a sample", unit=threshold.unit)
    value, limit = sample.value, threshold.limit
    new = Counts(max(0, sample.samples), 0)
    if math.isnan(value) or math.isinf(value):
        return plain(Verdict.ERROR, f"the sample is {value}, which is no figure", test=TEST, missing="a sample")
    age = now - sample.at
    if not age <= threshold.stale_seconds or age < -threshold.stale_seconds:
        words = f"{age:.0f} s old" if age > 0.0 else f"from {-age:.0f} s ahead"
        why = f"not decided: the sample is {words}, at most {threshold.stale_seconds:g} s is fresh"
        missing = "a fresh sample"
        return plain(Verdict.INCONCLUSIVE, why, test=TEST, new=new, limit=limit, unit=threshold.unit, missing=missing)
    few, unit = threshold.samples_min - sample.samples, threshold.unit
    words = f"{_figure(value, unit)}, {threshold.direction} {_figure(limit, unit)}"
    if few > 0:
        why, missing = f"not decided: {words}, of {sample.samples} samples; needs {few} more", f"{few} more samples"
        decided = Verdict.INCONCLUSIVE
        return plain(decided, why, TEST, new=new, value=value, limit=limit, unit=unit, missing=missing, needs=few)
    allowed = threshold.allows(value)
    verdict, lead = (Verdict.PASS, "within the limit") if allowed else (Verdict.FAIL, "beyond the limit")
    return plain(verdict, f"{lead}: {words}", TEST, new=new, value=value, limit=limit, unit=unit)


def judge_share(at_least: float, good: int, total: int, *, alpha: float) -> Judgement:
    """At least so large a share of all is good: the sequential test of `judge_alone`, as often as one likes. ValueError
    when `at_least` is not between 0 and 1."""
    bad = Counts(total, total - good)
    verdict, needs = judge_alone(1.0 - at_least, bad, alpha=alpha)
    seen = f"{good} of {total} ({good / total:.2%})" if total > 0 else "none seen"
    words = f"{seen}, at least {at_least:.2%}"
    missing = ""
    match verdict:
        case Verdict.PASS:
            lead = "within the limit"
        case Verdict.FAIL:
            lead = "below the limit"
        case Verdict.ERROR:
            lead, missing = "these are no counts", "counts"
        case Verdict.INCONCLUSIVE:
            lead = "not decided"
            missing = "a share that is further from the limit" if needs is None else f"about {needs} more"
            words = f"{words}; needs {missing}"
    value = good / total if total > 0 else None
    why = f"{lead}: {words}"
    return plain(verdict, why, SHARE_TEST, new=bad, value=value, limit=at_least, missing=missing, needs=needs)


def _figure(value: float, unit: str) -> str:
    return f"{value:.6g} {unit}".rstrip()
