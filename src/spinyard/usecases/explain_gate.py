"""Why nothing more is started: a hold, or the breaker of the template."""

from __future__ import annotations

from spinyard.core.spec import Kind
from spinyard.ports.store import StoredObject
from spinyard.spin.gate import BREAKER_OPEN, HELD

REASONS = frozenset({HELD, BREAKER_OPEN})


def explained(stored: StoredObject) -> tuple[str, str]:
    """(cause, next step)."""
    row = stored.row
    if stored.reason == HELD:
        step = "`spinyard get holds` shows the hold; `spinyard release-hold` with its scope lets all go on."
        return stored.why, step
    again = (
        f" To have it tried at once: `spinyard restart service/{row.name} -n {row.namespace}`."
        if row.kind is Kind.SERVICE
        else ""
    )
    return stored.why, f"Correct the template and apply it; one start is tried by itself now and then.{again}"
