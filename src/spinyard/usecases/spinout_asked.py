"""What every verb of a Spinout begins and ends with: one that lives, a spec that is written, bounded words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spinyard.core.spinout import Approval, SpinoutSpec
from spinyard.errors import Conflict
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import SpinoutState
from spinyard.usecases.change import Caller
from spinyard.usecases.plan import check_match
from spinyard.usecases.refusals import being_deleted
from spinyard.usecases.spinouts import find_spinout, is_over, spinout_id, spinout_over, spinout_spec, spinout_status

EVIDENCE_CHARACTERS_MAX = 16_000
WHY_CHARACTERS_MAX = 500
APPROVALS_MAX = 200
"""of one attempt; those of earlier ones are in the history alone"""


def live(tx: Transaction, namespace: str, name: str, caller: Caller, what: str) -> StoredObject:
    found = find_spinout(tx, namespace, name)
    check_match(found, caller.if_match)
    if is_over(found):
        raise spinout_over(found, what)
    if found.row.delete_at is not None:
        raise being_deleted(spinout_id(found))
    return found


def write(
    tx: Transaction, found: StoredObject, spec: SpinoutSpec, caller: Caller, reason: str, why: str
) -> StoredObject:
    return tx.update(found.row.uid, actor=caller.actor, why=why, reason=reason, spec=spec)


def going_back(found: StoredObject, what: str) -> Conflict:
    row = found.row
    why = spinout_spec(found).abort or spinout_status(found).stopped or found.why
    return Conflict(
        f"{spinout_id(found)} goes back ({why}): it cannot be {what} now.",
        code="spinout_goes_back",
        next_step=f"Start it again when it is rolled back: `spinyard spinout status {row.name} -n {row.namespace} -w`.",
        details={"state": row.state},
    )


def with_approvals(spec: SpinoutSpec, found: StoredObject, more: tuple[Approval, ...]) -> SpinoutSpec:
    if len(spec.approvals) + len(more) > APPROVALS_MAX:
        raise Conflict(
            f"{spinout_id(found)} has {len(spec.approvals)} approvals and waivers in this attempt; {APPROVALS_MAX} are "
            "the most.",
            code="too_many_approvals",
            next_step="Go back and begin another attempt, or let the gates decide.",
        )
    return replace(spec, approvals=spec.approvals + more)


def approvals_of(
    phases: Sequence[SpinoutState], caller: Caller, evidence: str, now: float, attempt: int
) -> tuple[Approval, ...]:
    text = clean(evidence)[:EVIDENCE_CHARACTERS_MAX]
    return tuple(
        Approval(str(phase), caller.actor, text, now, attempt, decision="go" if phase is SpinoutState.DECIDED else "")
        for phase in phases
    )


def clean(text: str) -> str:
    """Without what no database takes."""
    return text.replace("\0", "").strip()


def bounded(text: str) -> str:
    return clean(text)[:WHY_CHARACTERS_MAX]
