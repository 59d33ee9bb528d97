"""What comparing two contracts gives: findings, each with a stable id, where it is, and what was and is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    BREAKING = "breaking"
    """somebody who keeps to the old contract can be surprised"""
    NOTE = "note"
    """nobody who keeps to the old contract can tell, but a person should look"""
    SAFE = "safe"


_ORDER = {severity: n for n, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """`pointer` is a JSON pointer into the contract with every $ref put in and every allOf merged; of a thing that was
    removed, into the old one. `field` is the same for people: `body.photos[].width`."""

    path: str = ""
    method: str = ""
    status: str = ""
    pointer: str = ""
    field: str = ""

    def text(self) -> str:
        operation = f"{self.method} {self.path}".strip()
        return " ".join(part for part in (operation, self.status and f"-> {self.status}", self.field) if part)

    def as_data(self) -> dict[str, object]:
        return {
            "path": self.path,
            "method": self.method,
            "status": self.status,
            "pointer": self.pointer,
            "field": self.field,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    id: str
    severity: Severity
    place: Place
    was: str
    now: str
    message: str

    def as_data(self) -> dict[str, object]:
        return {
            "id": self.id,
            "severity": self.severity.value,
            "where": self.place.as_data(),
            "was": self.was,
            "now": self.now,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class ContractDiff:
    """Sorted: breaking first, then by place. `omitted` counts, by severity, what is too much to be listed."""

    findings: tuple[Finding, ...]
    old_digest: str
    new_digest: str
    omitted: dict[Severity, int] = field(default_factory=dict)

    @property
    def breaking(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.BREAKING)

    @property
    def is_compatible(self) -> bool:
        """Every caller of the old contract is served by the new one."""
        return self.count(Severity.BREAKING) == 0

    def count(self, severity: Severity) -> int:
        return sum(one.severity is severity for one in self.findings) + self.omitted.get(severity, 0)

    def accepting(self, ids: Iterable[str]) -> ContractDiff:
        """The same with these breaking ids turned into notes: somebody answers for them."""
        accepted = frozenset(ids)
        changed = [
            Finding(one.id, Severity.NOTE, one.place, one.was, one.now, f"{one.message} (accepted)")
            if one.id in accepted and one.severity is Severity.BREAKING
            else one
            for one in self.findings
        ]
        return ContractDiff(in_order(changed), self.old_digest, self.new_digest, self.omitted)

    def as_data(self) -> dict[str, object]:
        return {
            "compatible": self.is_compatible,
            "counts": {severity.value: self.count(severity) for severity in Severity},
            "omitted": sum(self.omitted.values()),
            "oldDigest": self.old_digest,
            "newDigest": self.new_digest,
            "findings": [one.as_data() for one in self.findings],
        }


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda one: (_ORDER[one.severity], one.place, one.id, one.was, one.now)))
