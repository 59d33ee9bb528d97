"""Why a Spinout is where it is: what keeps it or sent it back, its gates with their numbers, the way it came. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import Approval, SpinoutSpec
from spinyard.core.verdict import Evidence, judge
from spinyard.ports.store import StoredObject
from spinyard.spinout.status import Passed, SpinoutState, SpinoutStatus
from spinyard.usecases.explain_rollout import gate_text, side_text
from spinyard.usecases.spinouts import (
    approved_phases,
    goes_back,
    is_over,
    present_phase,
    runs,
    spinout_spec,
    spinout_status,
)

S = SpinoutState
Line = tuple[str, str, float | None]
"""source, text, and when"""

ASKED_FOR = frozenset({"Aborted", "Deleted", "NoGo"})
"""reasons to go back that are no fault of the unit"""


def status_of_spinout(found: StoredObject) -> SpinoutStatus:
    """One that a newer version wrote in another shape says nothing."""
    try:
        return spinout_status(found)
    except msgspec.MsgspecError:
        return SpinoutStatus()


def cause(found: StoredObject) -> str:
    row, status = found.row, status_of_spinout(found)
    if row.state in (S.ROLLED_BACK, S.ABANDONED):
        return f"{'Rolled back' if row.state == S.ROLLED_BACK else 'Abandoned'}: {status.stopped or found.why}"
    if status.stopped and goes_back(found):
        return f"It goes back to 0 %: {status.stopped}"
    if row.state == S.HELD:
        return f"It is held in {status.held_from} at {_percent(status.shown_weight)}: {status.held_why or found.why}"
    if row.paused:
        return f"It is held by a person at {_percent(status.shown_weight)}."
    if not runs(found) and not is_over(found):
        return f"It was not started yet; it is {row.state}."
    return found.why or f"It is {row.state}."


def is_users(found: StoredObject) -> bool:
    """A person must act: the unit failed, or a word is waited for."""
    status = status_of_spinout(found)
    failed = bool(status.stopped) and status.stopped_reason not in ASKED_FOR and not is_over(found)
    return failed or (found.row.state == S.HELD) or found.row.paused or bool(waits_for(found))


def waits_for(found: StoredObject) -> str:
    """The command that a person has to give, or nothing."""
    row, spec, status = found.row, spinout_spec(found), status_of_spinout(found)
    words = f"{row.name} -n {row.namespace}"
    if is_over(found) or goes_back(found):
        return ""
    if not runs(found):
        return f"spinyard spinout start {words}"
    upcoming = _by_people_after(spec, present_phase(found))
    if upcoming is not None and str(upcoming) not in approved_phases(spec):
        return f"spinyard spinout approve {row.name} {upcoming} -n {row.namespace} --evidence TEXT"
    step = spec.steps[status.step] if row.state == S.RAMPING and status.step < len(spec.steps) else None
    if step is not None and step.wait and spec.promoted <= status.step and not spec.promoted_fully:
        return f"spinyard spinout promote {words}"
    return ""


def next_step(found: StoredObject) -> str:
    row, status = found.row, status_of_spinout(found)
    words = f"{row.name} -n {row.namespace}"
    if row.state == S.COMPLETED:
        return "Nothing: the unit has the responsibility."
    if row.state == S.ABANDONED:
        return "Nothing: it was decided against."
    if row.state == S.ROLLED_BACK:
        again = f"`spinyard spinout start {words}` begins another attempt."
        return again if status.stopped_reason in ASKED_FOR else f"Correct the unit; then {again}"
    if goes_back(found):
        return "Nothing: it goes back by itself, and pages when it cannot."
    if row.paused:
        return (
            f"`spinyard spinout resume {words}` lets it go on, `spinyard spinout abort {words} --why TEXT` goes back."
        )
    command = waits_for(found)
    if command:
        return f"`{command}` lets it go on."
    if row.state == S.HELD:
        return (
            f"It goes on when that is there; `spinyard spinout promote {words}` lets the step pass, "
            f"`spinyard spinout abort {words} --why TEXT` goes back."
        )
    return f"Nothing: it needs {status.needs}." if status.needs else "Nothing: it is on its way."


def evidence(found: StoredObject) -> Iterator[Line]:
    spec, status = spinout_spec(found), status_of_spinout(found)
    yield "spinout", _where(found, spec, status), None
    for gate in status.gates:
        yield "gate", gate_text(gate), None
    if status.evidence is not None:
        yield "judge", judge_text(status.evidence, spec), None
    if status.baseline is not None:
        yield "figures", f"parent before: {side_text(status.baseline)}", None
    if status.new.requests or status.old.requests:
        yield "figures", f"parent: {side_text(status.old)}", None
        yield "figures", f"unit: {side_text(status.new)}", None
    for record in status.passed:
        yield "phase", passed_text(record), record.left_at
    for approval in spec.approvals:
        yield "approval", approval_text(approval), approval.at
    if status.last_error:
        yield "instance", f"{status.last_error_class}: {status.last_error}", None


def judge_text(seen: Evidence, spec: SpinoutSpec) -> str:
    found = judge(seen, alpha=spec.gates.alpha)
    return (
        f"{found.verdict}: n = {found.new.requests} of the unit ({found.new.failures} failed) against "
        f"{found.old.requests} of the parent ({found.old.failures} failed), margin {found.margin:.4g}; log e-value for "
        f"pass {found.log_e_pass:.2f}, for fail {found.log_e_fail:.2f}, bound {found.bound:.2f} (alpha {found.alpha:g})"
    )


def passed_text(record: Passed) -> str:
    seconds = record.left_at - record.begun_at if record.begun_at else 0.0
    what = f"{record.phase} at {_percent(record.weight)}" if record.weight else record.phase
    counts = ""
    if record.new.requests:
        counts = (
            f": unit {record.new.failures} of {record.new.requests} failed, parent {record.old.failures} of "
            f"{record.old.requests}"
        )
    return f"{what} {record.how} after {seconds:.0f} s{counts}" + (f"; {record.why}" if record.why else "")


def approval_text(approval: Approval) -> str:
    what = f"gate {approval.waives} waived in {approval.phase}" if approval.waives else f"{approval.phase} approved"
    first = approval.evidence.strip().splitlines()[0][:200] if approval.evidence.strip() else ""
    return f"{what} by {approval.actor} (attempt {approval.attempt}): {first}"


def _where(found: StoredObject, spec: SpinoutSpec, status: SpinoutStatus) -> str:
    steps = max(1, len(spec.steps))
    asked = "" if status.weight == status.shown_weight else f", {_percent(status.weight)} is asked for"
    step = f", step {min(status.step + 1, steps)} of {steps}" if present_phase(found) is S.RAMPING else ""
    needs = f"; needs {status.needs}" if status.needs and not is_over(found) else ""
    return (
        f"attempt {max(1, status.attempt)}, {found.row.state}{step}: {_percent(status.shown_weight)} of the requests "
        f"of the boundary go to {spec.unit}{asked}{needs}"
    )


def _by_people_after(spec: SpinoutSpec, present: SpinoutState) -> SpinoutState | None:
    """The phase that comes next, when people have to say that it is reached. A start stands for the first two."""
    match present:
        case S.PROPOSED | S.ANALYSED | S.DECIDED if not spec.contract:
            return S.CONTRACTED
        case S.RETIRING:
            return S.COMPLETED
        case _:
            return None


def _percent(weight: int) -> str:
    return f"{weight * 100 / WEIGHT_ALL:g} %"
