"""What the engine knows of a kind: two pure functions. The engine itself knows no domain word."""

from __future__ import annotations

from typing import Protocol

from spinyard.core.machine import Machine
from spinyard.core.observed import Look, Seen
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind


class Domain(Protocol):
    @property
    def kind(self) -> Kind: ...

    @property
    def machine(self) -> Machine: ...

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        """What must be observed before deciding. Pure. No look twice."""
        ...

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        """Pure and total: every row and every answer, Unknown included, gives a plan."""
        ...
