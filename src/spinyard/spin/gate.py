"""What keeps a parent (Service, WarmPool, Job) from starting more by itself: a hold, and the breaker of the template.

What a person asked for goes on under a hold: the parent says how many of its starts are that (`asked`). The breaker
knows no such difference but one: its records count from the last wish of a person (see `breaker_of`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from spinyard.core.ids import Digest, Uid, fraction_of
from spinyard.core.observed import Held, Look, LookHold, Seen, Starts
from spinyard.core.plan import ChildChange, CreateChild, EventDraft, Plan, Reservation, Reserve
from spinyard.core.row import ObjectRow
from spinyard.core.spec import SpinSpec
from spinyard.spin.breaker import CLOSED, SCOPE, Breaker, breaker_of, scope_of, starts_look
from spinyard.spin.status import Condition, conditions_with

HELD = "Held"
BREAKER_OPEN = "BreakerOpen"
TRIAL_LOOK_SECONDS = 5.0
"""how often it is looked how a trial, its own or another parent's, goes"""


@dataclass(frozen=True, slots=True)
class Gate:
    digest: Digest
    owner: Uid
    held: Held | None
    breaker: Breaker
    is_tried: bool
    """somebody has the trial start"""
    now: float

    def most(self, wanted: int, asked: int) -> int:
        """How many of `wanted` starts may be made now; `asked`: that many of them a person wished for."""
        if self.held is not None:
            wanted = min(wanted, asked)
        if wanted <= 0 or not self.breaker.is_open:
            return max(0, wanted)
        return 0 if self.is_tried or self.now < self.breaker.until else 1

    @property
    def wake_in(self) -> float | None:
        """When this may be otherwise without anybody saying so."""
        waits = []
        if self.held is not None and self.held.until is not None:
            waits.append(self.held.until - self.now)
        if self.breaker.is_open:
            pause = TRIAL_LOOK_SECONDS * (0.75 + 0.5 * fraction_of(self.owner))
            waits.append(pause if self.now >= self.breaker.until else self.breaker.until - self.now)
        return max(0.01, min(waits)) if waits else None

    @property
    def words(self) -> str:
        if self.breaker.is_open:
            return f"no more are started: {self.breaker.words}"
        return self.held.words if self.held is not None else ""

    @property
    def reason(self) -> str:
        return BREAKER_OPEN if self.breaker.is_open else HELD


def gate_of(row: ObjectRow, seen: Seen, digest: Digest, now: float, *, since: float = 0.0) -> Gate:
    """`since`: a later wish of a person than the object itself."""
    held = seen.answers.get(hold_look(row))
    starts = seen.answers.get(starts_look(digest))
    breaker, is_tried = CLOSED, False
    if isinstance(starts, Starts):
        breaker = breaker_of(starts, digest, row.uid, now, since=max(row.created_at, since))
        is_tried = starts.trial is not None or scope_of(digest) in seen.refused
    return Gate(digest, row.uid, held if isinstance(held, Held) else None, breaker, is_tried, now)


def gate_looks(row: ObjectRow, *digests: Digest) -> tuple[Look, ...]:
    return (hold_look(row), *(starts_look(digest) for digest in dict.fromkeys(digests) if digest))


def hold_look(row: ObjectRow) -> LookHold:
    return LookHold(row.namespace, row.kind, row.name)


def as_trials(plan: Plan, *gates: Gate) -> Plan:
    """The plan whose starts, where a breaker is open, are marked as the one trial, and need its reservation."""
    marks = {gate.digest: gate.breaker.trials + 1 for gate in gates if gate.breaker.is_open}
    starts = [c for c in plan.children if isinstance(c, CreateChild) and c.template_digest in marks]
    if not starts:
        return plan
    needed = tuple(Reserve(scope_of(child.template_digest), child.uid, limit=1) for child in starts)
    children = tuple(_marked(child, marks) for child in plan.children)
    return replace(plan, children=children, requires=plan.requires + needed)


def with_trials_returned(plan: Plan, row: ObjectRow, seen: Seen, now: float) -> Plan:
    """Every plan of a parent goes through this. While one of its trials runs, it is looked at now and then: nothing
    says that an instance has been up for long enough."""
    over = trials_over(row, seen, now)
    kept = [held for held in row.reservations if held.scope.startswith(SCOPE) and held not in over]
    if kept or any(needed.scope.startswith(SCOPE) for needed in plan.requires):
        plan = replace(plan, wake_at=min(plan.wake_at or math.inf, now + TRIAL_LOOK_SECONDS))
    return replace(plan, returns=plan.returns + over) if over else plan


def trials_over(row: ObjectRow, seen: Seen, now: float) -> tuple[Reservation, ...]:
    """Reservations of trials that are known to be good or bad, or of templates that are not wanted any more."""
    out = []
    for held in row.reservations:
        if held.scope.startswith(SCOPE):
            starts = seen.answers.get(starts_look(Digest(held.scope.removeprefix(SCOPE))))
            trial = starts.trial if isinstance(starts, Starts) else None
            if trial is None or trial.child != held.name or not trial.runs(now):
                out.append(held)
    return tuple(out)


def noted(
    conditions: tuple[Condition, ...], gate: Gate, *, is_blocked: bool
) -> tuple[tuple[Condition, ...], tuple[EventDraft, ...]]:
    """The conditions Held and BreakerOpen as they are now, and an event when one of them begins or ends."""
    known = {condition.type: condition for condition in conditions}
    events: list[EventDraft] = []
    held, breaker = gate.held, gate.breaker
    if held is not None:
        conditions = conditions_with(conditions, HELD, True, "Hold", held.words, gate.now)
        if HELD not in known:
            until = "until it is released" if held.until is None else f"until {_clock(held.until)}"
            events.append(EventDraft("Normal", HELD, f"{held.words} ({held.scope}, {until})"))
    elif HELD in known:
        conditions = without(conditions, HELD)
        events.append(EventDraft("Normal", "HoldReleased", f"no longer {known[HELD].message}"))
    if breaker.is_open and (is_blocked or BREAKER_OPEN in known):
        conditions = conditions_with(conditions, BREAKER_OPEN, True, "StartsFail", breaker.words, gate.now)
        if BREAKER_OPEN not in known:
            left = max(0.0, breaker.until - gate.now)
            events.append(EventDraft("Warning", BREAKER_OPEN, f"{gate.words}. One is tried in {left:.0f} s."))
    elif BREAKER_OPEN in known:
        conditions = without(conditions, BREAKER_OPEN)
        events.append(EventDraft("Normal", "BreakerClosed", "its template may be started again"))
    return conditions, tuple(events)


def without(conditions: tuple[Condition, ...], kind: str) -> tuple[Condition, ...]:
    return tuple(condition for condition in conditions if condition.type != kind)


def _marked(child: ChildChange, marks: dict[Digest, int]) -> ChildChange:
    if not isinstance(child, CreateChild) or child.template_digest not in marks:
        return child
    assert isinstance(child.spec, SpinSpec)
    return replace(child, spec=replace(child.spec, trial=marks[child.template_digest]))


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
