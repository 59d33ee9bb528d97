"""What is counted: finished requests of a side, and how many of them failed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    requests: int = 0
    failures: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.requests + other.requests, self.failures + other.failures)

    def __sub__(self, before: Counts) -> Counts:
        """What came since `before`. Counters that went backwards give negative numbers, which `fold` refuses."""
        return Counts(self.requests - before.requests, self.failures - before.failures)

    @property
    def rate(self) -> float:
        return self.failures / self.requests if self.requests else 0.0

    @property
    def is_usable(self) -> bool:
        return 0 <= self.failures <= self.requests


@dataclass(frozen=True, slots=True)
class Increment:
    """What both sides finished in one stretch of time in which the weight did not change.

    `step` names the weight (any number that is another one for another weight); counts of different steps are never
    pooled. A stretch with a change of weight or a gap in it is missing data: it is not folded.
    """

    step: int
    old: Counts
    new: Counts
