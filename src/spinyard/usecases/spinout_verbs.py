"""What a person may ask of a Spinout: start, hold, resume, abort, promote. Each is recorded with its actor."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import ServiceSpec
from spinyard.core.spinout import Approval, SpinoutSpec
from spinyard.errors import Conflict, InvalidInput
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import SpinoutState
from spinyard.usecases.change import Caller
from spinyard.usecases.plan import check_match
from spinyard.usecases.spinout_apply import refuse_unready
from spinyard.usecases.spinout_asked import (
    EVIDENCE_CHARACTERS_MAX,
    approvals_of,
    bounded,
    clean,
    going_back,
    live,
    with_approvals,
    write,
)
from spinyard.usecases.spinout_record import record
from spinyard.usecases.spinouts import (
    approved_phases,
    find_spinout,
    goes_back,
    is_over,
    runs,
    spinout_id,
    spinout_over,
    spinout_spec,
    spinout_status,
)

S = SpinoutState
BEFORE_TRAFFIC = (S.ANALYSED, S.DECIDED, S.CONTRACTED)
"""what was said of these counts for every attempt"""


def start(tx: Transaction, namespace: str, name: str, caller: Caller, *, evidence: str = "") -> StoredObject:
    """The first attempt, or another one after it went back. `evidence` approves the phases before the first request
    moves that only people can judge."""
    found = live(tx, namespace, name, caller, "start")
    row, spec = found.row, spinout_spec(found)
    if runs(found):
        raise Conflict(
            f"{spinout_id(found)} was started already, and is {row.state}.",
            code="spinout_started",
            next_step=f"See how far it is: `spinyard spinout status {name} -n {namespace}`.",
            details={"state": row.state, "attempt": spec.started},
        )
    if goes_back(found):
        raise going_back(found, "started again")
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
        approvals=kept + approvals_of(phases, caller, evidence, tx.now, attempt),
    )
    done = write(tx, found, after, caller, "StartRequested", f"Attempt {attempt} started by {caller.actor}.")
    record(
        tx, done, "verb", caller.actor,
        verb="start", attempt=attempt, capacityFloor=after.capacity_floor, evidence=clean(evidence),
    )  # fmt: skip
    for phase in phases:
        record(tx, done, "approval", caller.actor, phase=str(phase), attempt=attempt, evidence=clean(evidence))
    return done


def hold(tx: Transaction, namespace: str, name: str, caller: Caller, *, why: str = "") -> StoredObject:
    """Nothing rises; its guards go on and may take it back. Asking again changes nothing."""
    found = live(tx, namespace, name, caller, "hold")
    if found.row.paused:
        return found
    if goes_back(found):
        raise going_back(found, "held")
    words = bounded(why) or f"by {caller.actor}"
    done = tx.update(found.row.uid, actor=caller.actor, why=f"Held: {words}", reason="HoldRequested", paused=True)
    record(tx, done, "verb", caller.actor, verb="hold", why=words)
    return done


def resume(tx: Transaction, namespace: str, name: str, caller: Caller, *, why: str = "") -> StoredObject:
    """What a person has held goes on. So does what was not decided in time: its deadline counts anew."""
    found = live(tx, namespace, name, caller, "resume")
    words = bounded(why)
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
        after = with_approvals(spec, found, (word,))
        done = write(tx, found, after, caller, "Resumed", f"More time given by {caller.actor}.")
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
    words = bounded(why) or f"by {caller.actor}"
    done = write(tx, found, replace(spec, abort=words), caller, "AbortRequested", f"Abort: {words}")
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
    found = live(tx, namespace, name, caller, "promote")
    spec, status = spinout_spec(found), spinout_status(found)
    if goes_back(found):
        raise going_back(found, "promoted")
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
        if to is not None and passed <= status.step:
            raise InvalidInput(
                f"{spinout_id(found)} is at its step {status.step + 1} already: nothing lies before {to:g} %.",
                code="step_reached",
                next_step=f"Without --to the present step passes: `spinyard spinout promote {name} -n {namespace}`.",
                details={"step": status.step},
            )
        after, what = replace(spec, promoted=max(spec.promoted, passed)), f"Promoted past {passed} of its steps"
    done = write(tx, found, after, caller, "PromoteRequested", f"{what} by {caller.actor}.")
    why = clean(evidence)[:EVIDENCE_CHARACTERS_MAX]
    record(tx, done, "verb", caller.actor, verb="promote", step=status.step, to=to, full=full, evidence=why)
    return done


# -- parts -------------------------------------------------------------------------------------------------------------


def _prepared(spec: SpinoutSpec) -> tuple[SpinoutState, ...]:
    """With a contract, that phase is not for people to say."""
    return (S.ANALYSED, S.DECIDED) if spec.contract else (S.ANALYSED, S.DECIDED, S.CONTRACTED)


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
