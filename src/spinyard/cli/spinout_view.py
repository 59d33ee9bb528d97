"""A Spinout as its picture needs it, from the published JSON. What is missing there is shown as not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spinyard.cli.output import dig, state_of
from spinyard.cli.rollout_view import Gate, Side, Step, gate_of, one_line, pause_words, percent_of, side_of
from spinyard.cli.words import clock_time, epoch_of

Json = Mapping[str, Any]

PHASES: Final = ("proposed", "analysed", "decided", "contracted", "scaffolded", "instrumented", "baselined",
                 "shadowing", "ramping", "switched", "soaking", "retiring", "completed")  # fmt: skip
COMPLETED: Final = "completed"
HELD: Final = "held"
ROLLING_BACK: Final = "rolling_back"
BACK: Final = ("rolled_back", "abandoned")
STOPPED: Final = (COMPLETED, HELD, *BACK)
"""a watch ends here: nothing more happens by itself, or only when what is missing comes"""
EVENTS_SHOWN_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Phase:
    """`mark`: done, here, held, bad, or nothing for one that is still to come."""

    name: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class SpinoutView:
    """`asked`, `confirmed`, `mirror`: percent. `step`: index of the present one. `baseline`: the parent before anything
    moved. `events`: the newest last."""

    name: str
    parent: str
    unit: str
    state: str
    attempt: int
    why: str
    needs: str
    stopped: str
    phases: tuple[Phase, ...]
    steps: tuple[Step, ...]
    step: int
    asked: float
    confirmed: float
    mirror: float
    old: Side
    new: Side
    baseline: Side
    gates: tuple[Gate, ...]
    is_paused: bool
    is_paged: bool
    held_from: str
    held_why: str
    age_seconds: float | None
    events: tuple[str, ...] = ()

    @property
    def has_stopped(self) -> bool:
        return self.state in STOPPED

    @property
    def is_ramping(self) -> bool:
        return "ramping" in (self.state, self.held_from)

    @property
    def last_words(self) -> str:
        """What the present phase waits for, or how it ended."""
        if self.state == COMPLETED:
            return f"done: {self.why or 'the unit has the responsibility'}"
        if self.state in BACK:
            word = "rolled back" if self.state == "rolled_back" else "abandoned"
            return f"{word}: {self.stopped or self.why or 'no reason given'}"
        if self.state == ROLLING_BACK:
            paged = "; it takes too long, and pages" if self.is_paged else ""
            return f"going back: {self.stopped}" + (f"; waits for {self.needs}" if self.needs else "") + paged
        if self.state == HELD:
            more = f"; waits for {self.needs}" if self.needs and self.needs != self.held_why else ""
            return f"held: {self.held_why or self.why}{more}"
        return f"waits for {self.needs}" if self.needs else self.why or "goes on"


def spinout_view(item: Json, now: float, events: Sequence[Json] = ()) -> SpinoutView:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    state = state_of(item)
    finished = epoch_of(status.get("finishedAt"))
    created = epoch_of(dig(item, "metadata", "creationTimestamp"))
    held_from = str(status.get("heldFrom") or "")
    return SpinoutView(
        name=str(dig(item, "metadata", "name") or ""),
        parent=str(spec.get("parent") or "parent"),
        unit=str(spec.get("unit") or "unit"),
        state=state,
        attempt=int(status.get("attempt") or 0),
        why=one_line(status.get("message") or status.get("reason")),
        needs=one_line(status.get("needs")).removeprefix("waiting for "),
        stopped=one_line(status.get("stopped")),
        phases=_phases(state, held_from, status),
        steps=_steps(spec, status),
        step=int(status.get("step") or 0),
        asked=percent_of(status.get("weight")),
        confirmed=percent_of(status.get("shownWeight")),
        mirror=percent_of(status.get("mirror")),
        old=side_of(status.get("old")),
        new=side_of(status.get("new")),
        baseline=side_of(status.get("baseline")),
        gates=tuple(gate_of(one) for one in status.get("gates") or ()),
        is_paused=bool(status.get("paused")),
        is_paged=bool(status.get("paged")),
        held_from=held_from,
        held_why=one_line(status.get("heldWhy")),
        age_seconds=None if created is None else max(0.0, (finished or now) - created),
        events=tuple(_event(one) for one in events[-EVENTS_SHOWN_MAX:]),
    )


def _phases(state: str, held_from: str, status: Json) -> tuple[Phase, ...]:
    """Those that were left carry a mark, and the one it is in, or came back from, another."""
    left = [str(one.get("phase") or "") for one in _of_attempt(status)]
    is_back = state in (ROLLING_BACK, *BACK)
    here = held_from if state == HELD else left[-1] if is_back and left else state
    position = PHASES.index(here) if here in PHASES else 0
    mark = "bad" if is_back else "held" if state == HELD else "done" if state == COMPLETED else "here"
    marks = ["done"] * position + [mark]
    return tuple(Phase(name, marks[n] if n < len(marks) else "") for n, name in enumerate(PHASES))


def _of_attempt(status: Json) -> list[Json]:
    """What was left in the present attempt; all of it before the first one began."""
    begun = epoch_of(status.get("attemptAt"))
    passed = [one for one in status.get("passed") or () if isinstance(one, Mapping)]
    if begun is None or int(status.get("attempt") or 0) < 2:
        return passed
    return [one for one in passed if (epoch_of(one.get("leftAt")) or 0.0) >= begun]


def _steps(spec: Json, status: Json) -> tuple[Step, ...]:
    """What was asked for, each with how it was left; matched by weight, since one may be left out (promote --full)."""
    ramp = [one for one in _of_attempt(status) if one.get("phase") == "ramping"]
    left = {percent_of(one.get("weight")): one for one in ramp}
    return tuple(_step(one, left.get(float(one.get("weight") or 0), {})) for one in spec.get("steps") or ())


def _step(asked: Json, left: Json) -> Step:
    begun, ended = epoch_of(left.get("begunAt")), epoch_of(left.get("leftAt"))
    return Step(
        weight=float(asked.get("weight") or 0),
        pause=pause_words(asked.get("pause")),
        how=str(left.get("how") or ""),
        why=one_line(left.get("why")),
        took_seconds=ended - begun if begun is not None and ended is not None else None,
    )


def _event(one: Json) -> str:
    return f"{clock_time(one.get('at'))}  {one.get('reason') or ''}: {one_line(one.get('message'))}"
