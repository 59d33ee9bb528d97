"""What a person approves, decides or waives of a Spinout: never without evidence, each with its actor recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spinyard.core.spinout import Approval
from spinyard.errors import Conflict, InvalidInput
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import FORWARD, SpinoutState
from spinyard.usecases.change import Caller
from spinyard.usecases.spinout_asked import (
    EVIDENCE_CHARACTERS_MAX,
    approvals_of,
    clean,
    going_back,
    live,
    with_approvals,
    write,
)
from spinyard.usecases.spinout_record import record
from spinyard.usecases.spinouts import (
    BY_PEOPLE,
    approved_phases,
    goes_back,
    present_phase,
    runs,
    spinout_id,
    spinout_spec,
    spinout_status,
)

S = SpinoutState
Decision = Literal["go", "no-go", "postpone"]


@dataclass(frozen=True, slots=True)
class Approve:
    """`through`: every phase of people on the way there too. `waive`: the name of a gate that may fail in this attempt,
    until `expires_seconds` from now (None: to its end)."""

    phase: str = ""
    evidence: str = ""
    through: bool = False
    decision: Decision | None = None
    waive: str = ""
    expires_seconds: float | None = None


def approve(tx: Transaction, namespace: str, name: str, caller: Caller, asked: Approve) -> StoredObject:
    """A phase that people judge, the decision, or a gate that may fail. Never without evidence. An Approval names the
    phase that may be reached by it."""
    found = live(tx, namespace, name, caller, "approve")
    if goes_back(found):
        raise going_back(found, "approved")
    evidence = _evidence(found, asked.evidence)
    if asked.waive:
        return _waive(tx, found, caller, asked, evidence)
    if asked.decision in ("no-go", "postpone"):
        return _decide(tx, found, caller, asked, evidence)
    return _approve_phases(tx, found, caller, asked, evidence)


# -- parts -------------------------------------------------------------------------------------------------------------


def _decide(tx: Transaction, found: StoredObject, caller: Caller, asked: Approve, evidence: str) -> StoredObject:
    """Against it, for good or for now: possible as long as it is not decided."""
    if present_phase(found) not in (S.PROPOSED, S.ANALYSED):
        raise Conflict(
            f"{spinout_id(found)} is {found.row.state}: it was decided, and goes on.",
            code="phase_passed",
            next_step=f"Go back: `spinyard spinout abort {found.row.name} -n {found.row.namespace} --why TEXT`.",
        )
    spec = spinout_spec(found)
    attempt = spec.started if runs(found) else spec.started + 1
    word = Approval(str(S.DECIDED), caller.actor, evidence, tx.now, attempt, decision=asked.decision or "")
    reason = "DecidedNoGo" if asked.decision == "no-go" else "Postponed"
    done = write(
        tx, found, with_approvals(spec, found, (word,)), caller, reason, f"{asked.decision}, said by {caller.actor}."
    )
    record(tx, done, "decision", caller.actor, decision=asked.decision, attempt=attempt, evidence=evidence)
    return done


def _approve_phases(
    tx: Transaction, found: StoredObject, caller: Caller, asked: Approve, evidence: str
) -> StoredObject:
    spec = spinout_spec(found)
    last = _phase(found, "decided" if asked.decision == "go" else asked.phase)
    here = FORWARD.index(present_phase(found))
    if FORWARD.index(last) <= here:
        raise Conflict(
            f"{spinout_id(found)} is {found.row.state}: {last} lies behind it.",
            code="phase_passed",
            next_step=f"What it needs now: `spinyard spinout status {found.row.name} -n {found.row.namespace}`.",
        )
    if last is S.COMPLETED and FORWARD[here] is not S.RETIRING:
        raise Conflict(
            f"{spinout_id(found)} is {found.row.state}: that it is completed can be said when it is retiring.",
            code="phase_not_reached",
            next_step=f"What it needs before: `spinyard spinout status {found.row.name} -n {found.row.namespace}`.",
        )
    way = FORWARD[here + 1 : FORWARD.index(last) + 1] if asked.through else (last,)
    phases = tuple(phase for phase in way if phase in BY_PEOPLE)
    attempt = spec.started if runs(found) else spec.started + 1
    known = approved_phases(spec, attempt)
    fresh = tuple(phase for phase in phases if phase not in known)
    if not fresh:
        return found
    after = with_approvals(spec, found, approvals_of(fresh, caller, evidence, tx.now, attempt))
    names = ", ".join(fresh)
    done = write(tx, found, after, caller, "Approved", f"{names} approved by {caller.actor}.")
    for phase in fresh:
        record(
            tx, done, "approval", caller.actor,
            phase=str(phase), attempt=attempt, decision=asked.decision, evidence=evidence,
        )  # fmt: skip
    return done


def _waive(tx: Transaction, found: StoredObject, caller: Caller, asked: Approve, evidence: str) -> StoredObject:
    spec = spinout_spec(found)
    if not runs(found):
        raise Conflict(
            f"{spinout_id(found)} is {found.row.state}: a gate is waived while it is asked.",
            code="not_started",
            next_step=f"`spinyard spinout start {found.row.name} -n {found.row.namespace}`",
        )
    known = [gate.name for gate in spinout_status(found).gates]
    if asked.waive not in known:
        there = ", ".join(known) if known else "none is asked at present"
        raise InvalidInput(
            f"{spinout_id(found)} has no gate {asked.waive!r} in its present phase.",
            code="no_such_gate",
            next_step=f"Its gates: {there}.",
            details={"gates": known},
        )
    expires = None if asked.expires_seconds is None else tx.now + asked.expires_seconds
    waiver = Approval(
        str(present_phase(found)), caller.actor, evidence, tx.now, spec.started, waives=asked.waive, expires_at=expires
    )
    done = write(
        tx,
        found,
        with_approvals(spec, found, (waiver,)),
        caller,
        "Waived",
        f"Gate {asked.waive} waived by {caller.actor}.",
    )
    record(
        tx, done, "waiver", caller.actor,
        gate=asked.waive, phase=waiver.phase, attempt=spec.started, expiresAt=expires, evidence=evidence,
    )  # fmt: skip
    return done


def _phase(found: StoredObject, word: str) -> SpinoutState:
    try:
        phase = S(word)
    except ValueError:
        phase = None
    if phase not in BY_PEOPLE:
        seen = f"{word} is reached when the engine has seen it" if phase in FORWARD else f"there is no phase {word!r}"
        raise InvalidInput(
            f"{spinout_id(found)}: {seen}; nobody can approve it.",
            code="not_approvable",
            next_step=f"Approve one of {', '.join(BY_PEOPLE)}; a gate that fails can be waived with --waive.",
        )
    return phase


def _evidence(found: StoredObject, text: str) -> str:
    """Raises InvalidInput: an approval that rests on nothing is none."""
    given = clean(text)
    if given and len(given) <= EVIDENCE_CHARACTERS_MAX:
        return given
    raise InvalidInput(
        f"{spinout_id(found)}: "
        + ("an approval rests on evidence." if not given else f"the evidence has {len(given)} characters."),
        code="evidence_missing" if not given else "evidence_too_long",
        next_step=f"Say it, or where it is, in at most {EVIDENCE_CHARACTERS_MAX} characters: --evidence TEXT.",
    )
