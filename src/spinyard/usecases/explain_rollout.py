"""Why a Rollout is where it is: what keeps it, its gates with their numbers, the steps it came by. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from spinyard.core.figures import Gate, SideFigures
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import RolloutSpec
from spinyard.core.verdict import Evidence, judge
from spinyard.ports.store import StoredObject
from spinyard.spin.rollout.status import RolloutState, RolloutStatus, StepRecord
from spinyard.usecases.rollouts import rollout_spec, rollout_status

Line = tuple[str, str, float | None]
"""source, text, and when"""


ASKED_FOR = frozenset({"Aborted", "Deleted"})
"""reasons to go back that are no fault of the new version"""
GOING_BACK = frozenset({RolloutState.RETREATING, RolloutState.REMOVING})


def status_of_rollout(found: StoredObject) -> RolloutStatus:
    """One that a newer version wrote in another shape says nothing."""
    try:
        return rollout_status(found)
    except msgspec.MsgspecError:
        return RolloutStatus()


def cause(found: StoredObject) -> str:
    row, status = found.row, status_of_rollout(found)
    if row.state == RolloutState.ROLLED_BACK:
        return f"Rolled back: {status.stopped or found.why}"
    if status.stopped:
        return f"It goes back to 0 %: {status.stopped}"
    if row.paused:
        return f"It is paused at {_percent(status.shown_weight)}."
    return found.why or f"It is {row.state}."


def is_users(found: StoredObject) -> bool:
    """A person must act: the new version failed, or a word is waited for."""
    status = status_of_rollout(found)
    failed = bool(status.stopped) and status.stopped_reason not in ASKED_FOR
    return failed or found.row.paused or waits_for_person(found)


def waits_for_person(found: StoredObject) -> bool:
    spec, status = rollout_spec(found), status_of_rollout(found)
    steps = spec.strategy.steps
    return (
        found.row.state == RolloutState.JUDGING
        and status.step < len(steps)
        and steps[status.step].wait
        and spec.promoted <= status.step
        and not spec.promoted_fully
    )


def next_step(found: StoredObject) -> str:
    row, spec, status = found.row, rollout_spec(found), status_of_rollout(found)
    words = f"{row.name} -n {row.namespace}"
    if row.state == RolloutState.SUCCEEDED:
        return f"Nothing: {spec.service} has the new version; `spinyard rollout rollback {words}` takes it back."
    if row.state == RolloutState.ROLLED_BACK:
        if status.stopped_reason in ASKED_FOR:
            return "Nothing: it went back because a person asked for it. Apply the Service again for a new rollout."
        return "Correct the new version and apply the Service again: that is a new rollout."
    if row.state in GOING_BACK:
        return "Nothing: it goes back by itself, and keeps its record."
    if row.state == RolloutState.PROMOTING:
        return f"Nothing: the old instances go. `spinyard rollout rollback {words}` takes it back."
    if row.paused:
        return f"`spinyard rollout resume {words}` lets it go on, `spinyard rollout abort {words}` goes back."
    if row.state == RolloutState.PENDING:
        return f"`spinyard explain service/{spec.service} -n {row.namespace}`: it begins when its Service is available."
    if waits_for_person(found):
        return f"`spinyard rollout promote {words}` lets it go on, `spinyard rollout abort {words}` goes back."
    return f"Nothing: it needs {status.needs}." if status.needs else "Nothing: it is on its way."


def evidence(found: StoredObject) -> Iterator[Line]:
    spec, status = rollout_spec(found), status_of_rollout(found)
    steps = max(1, len(spec.strategy.steps))
    step = min(status.step + 1, steps)
    asked = "" if status.weight == status.shown_weight else f", {_percent(status.weight)} is asked for"
    where = (
        f"step {step} of {steps}: {_percent(status.shown_weight)} of the requests go to {spec.template_digest}{asked}"
    )
    yield "rollout", where + (f"; needs {status.needs}" if status.needs and found.finished_at is None else ""), None
    for gate in status.gates:
        yield "gate", gate_text(gate), None
    if status.evidence is not None:
        yield "judge", judge_text(status.evidence, spec), None
    yield "figures", f"old: {side_text(status.old)}", None
    yield "figures", f"new: {side_text(status.new)}", None
    for record in status.steps:
        yield "step", step_text(record), record.left_at
    if status.last_error:
        yield "instance", f"{status.last_error_class}: {status.last_error}", None


def gate_text(gate: Gate) -> str:
    numbers = [
        f"{name} {value:.4g}"
        for name, value in (("old", gate.old), ("new", gate.new), ("limit", gate.limit))
        if value is not None
    ]
    is_said = f"needs about {gate.needs} more" in gate.why
    needs = f"; needs about {gate.needs} more requests on the new side" if gate.needs and not is_said else ""
    shown = f" [{', '.join(numbers)}]" if numbers else ""
    return f"{gate.name}: {gate.verdict}: {gate.why}{needs}{shown}"


def judge_text(seen: Evidence, spec: RolloutSpec) -> str:
    found = judge(seen, alpha=spec.strategy.analysis.alpha)
    return (
        f"{found.verdict}: n = {found.new.requests} new ({found.new.failures} failed) against {found.old.requests} old "
        f"({found.old.failures} failed), margin {found.margin:.4g}; log e-value for pass {found.log_e_pass:.2f}, for "
        f"fail {found.log_e_fail:.2f}, bound {found.bound:.2f} (alpha {found.alpha:g})"
    )


def side_text(side: SideFigures) -> str:
    rate = f", {1 - side.failures / side.requests:.2%} good" if side.requests else ""
    if side.low is not None and side.high is not None:
        rate += f" (95 %: {side.low:.2%} to {side.high:.2%})"
    latency = ", ".join(
        f"{name} {value * 1000:.0f} ms"
        for name, value in (("p50", side.p50), ("p95", side.p95), ("p99", side.p99))
        if value is not None
    )
    return (
        f"{side.requests} requests, {side.failures} failed{rate}, {side.per_second:.1f} per second"
        + (f", {latency}" if latency else "")
        + f"; {side.ready} of {side.alive} instances in traffic"
    )


def step_text(record: StepRecord) -> str:
    seconds = record.left_at - record.begun_at if record.begun_at else 0.0
    return (
        f"{_percent(record.weight)} {record.how} after {seconds:.0f} s: new {record.new.failures} of "
        f"{record.new.requests} failed, old {record.old.failures} of {record.old.requests}"
        + (f"; {record.why}" if record.why else "")
    )


def _percent(weight: int) -> str:
    return f"{weight * 100 / WEIGHT_ALL:g} %"
