"""What a person may ask of a Spinout: start, approve, hold, resume, abort, promote. Each is recorded with its actor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import ServiceSpec
from spinyard.core.spinout import Approval, SpinoutSpec
from spinyard.errors import Conflict, InvalidInput
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import FORWARD, SpinoutState
from spinyard.usecases.change import Caller
from spinyard.usecases.plan import check_match
from spinyard.usecases.refusals import being_deleted
from spinyard.usecases.spinout_apply import refuse_unready
from spinyard.usecases.spinout_record import record
from spinyard.usecases.spinouts import (
    BY_PEOPLE,
    approved_phases,
    find_spinout,
    goes_back,
    is_over,
    present_phase,
    runs,
    spinout_id,
    spinout_over,
    spinout_spec,
    spinout_status,
)

S = SpinoutState
Decision = Literal["go", "no-go", "postpone"]

EVIDENCE_CHARACTERS_MAX = 16_000
WHY_CHARACTERS_MAX = 500
APPROVALS_MAX = 200
"""of one attempt; those of earlier ones are in the history alone"""

BEFORE_TRAFFIC = (S.ANALYSED, S.DECIDED, S.CONTRACTED)
"""what was said of these counts for every attempt"""


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


def start(tx: Transaction, namespace: str, name: str, caller: Caller, *, evidence: str = "") -> StoredObject:
    """The first attempt, or another one after it went back. `evidence` approves the phases before the first request
    moves that only people can judge."""
    found = _live(tx, namespace, name, caller, "start")
    row, spec = found.row, spinout_spec(found)
    if runs(found):
        raise Conflict(
            f"{spinout_id(found)} was started already, and is {row.state}.",
            code="spinout_started",
            next_step=f"See how far it is: `spinyard spinout status {name} -n {namespace}`.",
            details={"state": row.state, "attempt": spec.started},
        )
    if goes_back(found):
        raise _goes_back(found, "started again")
    parent, unit = refuse_unready(tx, found)
    attempt = spec.started + 1
    kept = tuple(
        one for one in spec.approvals if one.attempt == attempt or (one.phase in BEFORE_TRAFFIC and not one.waives)
    )
    known = approved_phases(spec)
    phases = tuple(phase for phase in _prepared(spec) if phase not in known) if evidence.strip() else ()
    after = replace(
        spec,
        started=attempt,
        abort="",
        promoted=0,
        promoted_fully=False,
        parent_uid=parent.row.uid,
        unit_uid=unit.row.uid,
        capacity_floor=_floor(parent),
        approvals=kept + _approvals(phases, caller, evidence, tx.now, attempt),
    )
    done = _update(tx, found, after, caller, "StartRequested", f"Attempt {attempt} started by {caller.actor}.")
    record(
        tx, done, "verb", caller.actor,
        verb="start", attempt=attempt, capacityFloor=after.capacity_floor, evidence=evidence.strip(),
    )  # fmt: skip
    for phase in phases:
        record(tx, done, "approval", caller.actor, phase=str(phase), attempt=attempt, evidence=evidence)
    return done


def approve(tx: Transaction, namespace: str, name: str, caller: Caller, asked: Approve) -> StoredObject:
    """A phase that people judge, the decision, or a gate that may fail. Never without evidence. An Approval names the
    phase that may be reached by it."""
    found = _live(tx, namespace, name, caller, "approve")
    if goes_back(found):
        raise _goes_back(found, "approved")
    evidence = _evidence(found, asked.evidence)
    if asked.waive:
        return _waive(tx, found, caller, asked, evidence)
    if asked.decision in ("no-go", "postpone"):
        return _decide(tx, found, caller, asked, evidence)
    return _approve_phases(tx, found, caller, asked, evidence)


def hold(tx: Transaction, namespace: str, name: str, caller: Caller, *, why: str = "") -> StoredObject:
    """Nothing rises; its guards go on and may take it back. Asking again changes nothing."""
    found = _live(tx, namespace, name, caller, "hold")
    if found.row.paused:
        return found
    if goes_back(found):
        raise _goes_back(found, "held")
    words = _words(why) or f"by {caller.actor}"
    done = tx.update(found.row.uid, actor=caller.actor, why=f"Held: {words}", reason="HoldRequested", paused=True)
    record(tx, done, "verb", caller.actor, verb="hold", why=words)
    return done


def resume(tx: Transaction, namespace: str, name: str, caller: Caller, *, why: str = "") -> StoredObject:
    """What a person has held goes on. So does what was not decided in time: its deadline counts anew."""
    found = _live(tx, namespace, name, caller, "resume")
    words = _words(why)
    if found.row.paused:
        done = tx.update(
            found.row.uid, actor=caller.actor, why=f"Resumed by {caller.actor}.", reason="Resumed", paused=False
        )
    elif found.row.state != S.HELD:
        return found
    elif spinout_status(found).held_reason == "Inconclusive":
        # Another generation is another wish: it looks again, with all its time.
        spec = spinout_spec(found)
        word = Approval(str(S.HELD), caller.actor, words or "goes on", tx.now, spec.started)
        after = _with(spec, found, (word,))
        done = _update(tx, found, after, caller, "Resumed", f"More time given by {caller.actor}.")
    else:
        raise _held_by_itself(found)
    record(tx, done, "verb", caller.actor, verb="resume", why=words)
    return done


def abort(tx: Transaction, namespace: str, name: str, caller: Caller, *, why: str = "") -> StoredObject:
    """Back to 0 %, from wherever it is. Of one that goes back, or is back, nothing more is asked: the first word
    stays."""
    found = find_spinout(tx, namespace, name)
    check_match(found, caller.if_match)
    if is_over(found):
        raise spinout_over(found, "abort")
    spec = spinout_spec(found)
    if spec.abort or (found.row.state == S.ROLLED_BACK and not runs(found)):
        return found
    words = _words(why) or f"by {caller.actor}"
    done = _update(tx, found, replace(spec, abort=words), caller, "AbortRequested", f"Abort: {words}")
    record(tx, done, "verb", caller.actor, verb="abort", why=words)
    return done


def promote(
    tx: Transaction,
    namespace: str,
    name: str,
    caller: Caller,
    *,
    to: float | None = None,
    full: bool = False,
    evidence: str = "",
) -> StoredObject:
    """The present step is left without asking its gates; `to`: all steps before the one of that weight (percent);
    `full`: all. The guards hold nevertheless."""
    found = _live(tx, namespace, name, caller, "promote")
    spec, status = spinout_spec(found), spinout_status(found)
    if goes_back(found):
        raise _goes_back(found, "promoted")
    if S.RAMPING not in (found.row.state, status.held_from):
        raise Conflict(
            f"{spinout_id(found)} is {found.row.state}: only steps of the ramp can be promoted.",
            code="not_ramping",
            next_step=f"What it needs: `spinyard spinout status {name} -n {namespace}`; a gate can be waived: "
            f"`spinyard spinout approve {name} --waive GATE --evidence TEXT`.",
            details={"state": found.row.state},
        )
    if full:
        after, what = replace(spec, promoted_fully=True), "Promoted past all steps"
    else:
        passed = status.step + 1 if to is None else _steps_before(spec, to)
        after, what = replace(spec, promoted=max(spec.promoted, passed)), f"Promoted past {passed} of its steps"
    done = _update(tx, found, after, caller, "PromoteRequested", f"{what} by {caller.actor}.")
    why = evidence.strip()[:EVIDENCE_CHARACTERS_MAX]
    record(tx, done, "verb", caller.actor, verb="promote", step=status.step, to=to, full=full, evidence=why)
    return done


# -- parts -------------------------------------------------------------------------------------------------------------


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
    after = _with(spec, found, _approvals(fresh, caller, evidence, tx.now, attempt))
    names = ", ".join(fresh)
    done = _update(tx, found, after, caller, "Approved", f"{names} approved by {caller.actor}.")
    for phase in fresh:
        record(
            tx, done, "approval", caller.actor,
            phase=str(phase), attempt=attempt, decision=asked.decision, evidence=evidence,
        )  # fmt: skip
    return done


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
    done = _update(tx, found, _with(spec, found, (word,)), caller, reason, f"{asked.decision}, said by {caller.actor}.")
    record(tx, done, "decision", caller.actor, decision=asked.decision, attempt=attempt, evidence=evidence)
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
    done = _update(
        tx, found, _with(spec, found, (waiver,)), caller, "Waived", f"Gate {asked.waive} waived by {caller.actor}."
    )
    record(
        tx, done, "waiver", caller.actor,
        gate=asked.waive, phase=waiver.phase, attempt=spec.started, expiresAt=expires, evidence=evidence,
    )  # fmt: skip
    return done


def _live(tx: Transaction, namespace: str, name: str, caller: Caller, what: str) -> StoredObject:
    found = find_spinout(tx, namespace, name)
    check_match(found, caller.if_match)
    if is_over(found):
        raise spinout_over(found, what)
    if found.row.delete_at is not None:
        raise being_deleted(spinout_id(found))
    return found


def _update(
    tx: Transaction, found: StoredObject, spec: SpinoutSpec, caller: Caller, reason: str, why: str
) -> StoredObject:
    return tx.update(found.row.uid, actor=caller.actor, why=why, reason=reason, spec=spec)


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


def _prepared(spec: SpinoutSpec) -> tuple[SpinoutState, ...]:
    """With a contract, that phase is not for people to say."""
    return (S.ANALYSED, S.DECIDED) if spec.contract else (S.ANALYSED, S.DECIDED, S.CONTRACTED)


def _approvals(
    phases: Sequence[SpinoutState], caller: Caller, evidence: str, now: float, attempt: int
) -> tuple[Approval, ...]:
    text = evidence.strip()[:EVIDENCE_CHARACTERS_MAX]
    return tuple(
        Approval(str(phase), caller.actor, text, now, attempt, decision="go" if phase is S.DECIDED else "")
        for phase in phases
    )


def _with(spec: SpinoutSpec, found: StoredObject, more: tuple[Approval, ...]) -> SpinoutSpec:
    if len(spec.approvals) + len(more) > APPROVALS_MAX:
        raise Conflict(
            f"{spinout_id(found)} has {len(spec.approvals)} approvals and waivers in this attempt; {APPROVALS_MAX} are "
            "the most.",
            code="too_many_approvals",
            next_step="Go back and begin another attempt, or let the gates decide.",
        )
    return replace(spec, approvals=spec.approvals + more)


def _evidence(found: StoredObject, text: str) -> str:
    """Raises InvalidInput: an approval that rests on nothing is none."""
    given = text.strip()
    if given and len(given) <= EVIDENCE_CHARACTERS_MAX:
        return given
    raise InvalidInput(
        f"{spinout_id(found)}: "
        + ("an approval rests on evidence." if not given else f"the evidence has {len(given)} characters."),
        code="evidence_missing" if not given else "evidence_too_long",
        next_step=f"Say it, or where it is, in at most {EVIDENCE_CHARACTERS_MAX} characters: --evidence TEXT.",
    )


def _words(text: str) -> str:
    return text.strip()[:WHY_CHARACTERS_MAX]


def _floor(parent: StoredObject) -> int:
    """What takes everything back: as many as there are when it starts. Of something external we keep nothing."""
    spec = parent.row.spec
    assert isinstance(spec, ServiceSpec)
    return 0 if spec.external is not None else spec.replicas


def _steps_before(spec: SpinoutSpec, percent: float) -> int:
    weights = [step.weight for step in spec.steps]
    asked = round(percent * WEIGHT_ALL / 100)
    if asked not in weights:
        known = ", ".join(f"{weight * 100 / WEIGHT_ALL:g}" for weight in weights)
        raise InvalidInput(
            f"No step has the weight {percent:g}.",
            code="no_such_step",
            next_step=f"Its steps: {known}.",
            details={"steps": [weight * 100 / WEIGHT_ALL for weight in weights]},
        )
    return weights.index(asked)


def _held_by_itself(found: StoredObject) -> Conflict:
    row, status = found.row, spinout_status(found)
    if status.held_reason == "Held":
        next_step = "`spinyard get holds` shows the hold; `spinyard release-hold` with its scope lets all go on."
    else:
        next_step = (
            f"It goes on by itself when that is there; `spinyard spinout abort {row.name} -n {row.namespace} "
            "--why TEXT` goes back."
        )
    return Conflict(
        f"{spinout_id(found)} is not held by a word of yours: {status.held_why or found.why}",
        code="held_by_itself",
        next_step=next_step,
        details={"heldFrom": status.held_from, "heldReason": status.held_reason},
    )


def _goes_back(found: StoredObject, what: str) -> Conflict:
    row = found.row
    why = spinout_spec(found).abort or spinout_status(found).stopped or found.why
    return Conflict(
        f"{spinout_id(found)} goes back ({why}): it cannot be {what} now.",
        code="spinout_goes_back",
        next_step=f"Start it again when it is rolled back: `spinyard spinout status {row.name} -n {row.namespace} -w`.",
        details={"state": row.state},
    )
