"""Where findings are collected: bounded, with the place kept while the comparison walks down."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from spinyard.spinout.contract.checks import CHECKS, Direction
from spinyard.spinout.contract.document import short
from spinyard.spinout.contract.finding import Finding, Place, Severity

FINDINGS_MAX: Final = 2_000


@dataclass(slots=True)
class Report:
    findings: list[Finding] = field(default_factory=list)
    omitted: Counter[Severity] = field(default_factory=Counter)

    def say(self, check: str, place: Place, was: object, now: object, message: str) -> None:
        severity = CHECKS[check]
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(check, severity, place, short(was, 300), short(now, 300), message))
        else:
            self.omitted[severity] += 1

    @property
    def is_breaking(self) -> bool:
        return self.omitted[Severity.BREAKING] > 0 or any(one.severity is Severity.BREAKING for one in self.findings)


@dataclass(frozen=True, slots=True)
class Here:
    """A place in the comparison of one message, and the report that it writes into."""

    report: Report
    direction: Direction
    place: Place

    def say(self, name: str, was: object, now: object, message: str) -> None:
        """`name` without the direction."""
        self.report.say(f"{self.direction}-{name}", self.place, was, now, message)

    def at(self, pointer: str, step: str = "") -> Here:
        place = replace(self.place, pointer=self.place.pointer + pointer, field=self.place.field + step)
        return replace(self, place=place)
