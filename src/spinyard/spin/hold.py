"""A Hold ends by itself at its time, or when a person releases it. What it holds sees that in its own next pass."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from spinyard.core.machine import Machine, edges
from spinyard.core.observed import Look, Seen
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import HoldSpec, Kind

KEEP_SECONDS = 7 * 86400.0
"""who held what, and why, can be read for a week"""


class HoldState(StrEnum):
    ACTIVE = "active"
    ENDED = "ended"


TRANSITIONS = Machine(
    name="Hold",
    initial=HoldState.ACTIVE,
    terminal=frozenset({HoldState.ENDED}),
    edges=edges({HoldState.ACTIVE: [HoldState.ENDED], HoldState.ENDED: []}),
)


def decide(row: ObjectRow, now: float) -> Plan:
    assert isinstance(row.spec, HoldSpec)
    until = row.spec.until
    if row.delete_at is not None:
        return _ended(row, "released", "Released")
    if until is not None and now >= until:
        return _ended(row, "its time is over", "Expired")
    return Plan(HoldState.ACTIVE, row.status, f"held by {row.spec.by}: {row.spec.why}", "Held", until)


def _ended(row: ObjectRow, why: str, reason: str) -> Plan:
    return replace(Plan(HoldState.ENDED, row.status, why, reason, None), finished=True, keep_seconds=KEEP_SECONDS)


class HoldDomain:
    """The kind Hold for the engine."""

    kind = Kind.HOLD
    machine: Machine = TRANSITIONS

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return ()

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return decide(row, now)
