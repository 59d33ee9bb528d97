"""A Spinout drawn in lines of coloured words. Pure: the terminal, a pipe and `describe` print the same lines."""

from __future__ import annotations

from collections.abc import Iterator

from spinyard.cli.rollout_view import Step, percent_text, rate_text
from spinyard.cli.side_picture import Line, Span, Strokes, gate_lines, latency_text, side_lines, weight_lines, wrapped
from spinyard.cli.spinout_view import BACK, COMPLETED, ROLLING_BACK, SpinoutView
from spinyard.cli.words import BAD, BUSY, DIM, GOOD, colour_of, duration


def picture(view: SpinoutView, *, width: int, plain: bool = False) -> list[Line]:
    strokes = Strokes(plain=plain)
    sides = [(view.parent, view.old, _instances(view, "old")), (view.unit, view.new, _instances(view, "new"))]
    return [
        _title(view),
        (),
        *_phases(view, strokes, width),
        (),
        *(line for n, step in enumerate(view.steps) for line in _step(view, n, step, strokes, width)),
        *weight_lines(view.asked, view.confirmed, strokes, is_bad=bool(view.stopped)),
        *_mirror(view),
        (),
        *side_lines(sides, strokes, width),
        *_baseline(view),
        *gate_lines(view.gates, width, new="unit"),
        (),
        *_events(view, width),
        *_last(view, width),
    ]


def change_of(view: SpinoutView) -> str:
    """One line for who reads a log: the phase, the weight, both sides, and what is waited for."""
    parts = [f"{view.state}{f' in {view.held_from}' if view.held_from else ''}"]
    if view.is_ramping and view.steps:
        parts.append(f"step {min(view.step + 1, len(view.steps))} of {len(view.steps)}")
    parts.append(f"weight {percent_text(view.confirmed)}")
    if view.asked != view.confirmed:
        parts[-1] += f" (asked: {percent_text(view.asked)})"
    if view.mirror:
        parts.append(f"copied {percent_text(view.mirror)}")
    for name, side in (("parent", view.old), ("unit", view.new)):
        if side.success is not None:
            parts.append(f"{name} {rate_text(side.success)} of {side.requests}")
    return "; ".join([*parts, view.last_words])


# -- parts -------------------------------------------------------------------------------------------------------------


def _title(view: SpinoutView) -> Line:
    age = duration(view.age_seconds) if view.age_seconds is not None else ""
    attempt = f"  attempt {view.attempt}" if view.attempt > 1 else ""
    return (
        (f"Spinout {view.name}", ""),
        (f"  {view.parent} -> {view.unit}  ", ""),
        (view.state, colour_of(view.state)),
        (f"{attempt}  {age}", DIM),
    )


def _phases(view: SpinoutView, strokes: Strokes, width: int) -> Iterator[Line]:
    """In as many lines as it takes, whole words only."""
    marks = {"done": (strokes.done, GOOD), "here": (strokes.here, BUSY), "held": (strokes.held, BUSY),
             "bad": (strokes.bad, BAD)}  # fmt: skip
    line: list[Span] = []
    used = 0
    for phase in view.phases:
        mark, colour = marks.get(phase.mark, (strokes.todo, DIM))
        words = f"{mark} {phase.name}"
        if line and used + len(words) + 2 > width:
            yield tuple(line)
            line, used = [], 0
        line.append((f"{words}  ", colour if phase.mark != "done" else ""))
        used += len(words) + 2
    yield tuple(line)


def _step(view: SpinoutView, number: int, step: Step, strokes: Strokes, width: int) -> Iterator[Line]:
    is_here = number == view.step and view.is_ramping
    went_bad = bool(step.how) and step.how not in ("passed", "promoted", "waived")
    mark, colour = (strokes.done, GOOD) if step.how else (" ", "")
    if went_bad:
        mark, colour = strokes.bad, BAD
    elif is_here and not step.how:
        mark, colour = strokes.here, BUSY
    word = step.how or (view.state if is_here else "")
    took = f"in {duration(step.took_seconds)}" if step.took_seconds is not None else ""
    told = step.pause and not step.how and f"pause {step.pause}"
    rest = " ".join(part for part in (took, told) if part)
    lead = f"  {percent_text(step.weight):>7}  "
    yield ((f"{mark}", colour), (lead, ""), (f"{word:<13}", colour or DIM), (rest, DIM))
    if went_bad and step.why:
        yield from wrapped(" " * (len(lead) + 1), step.why, width, DIM)


def _mirror(view: SpinoutView) -> Iterator[Line]:
    if view.mirror:
        yield ((f"  {percent_text(view.mirror)} of the safe requests are copied to {view.unit} and compared", BUSY),)


def _baseline(view: SpinoutView) -> Iterator[Line]:
    side = view.baseline
    if side.requests:
        figures = ", ".join(
            f"{name} {latency_text(value)}"
            for name, value in (("p50", side.p50), ("p95", side.p95), ("p99", side.p99))
            if value is not None
        )
        words = f"  {view.parent} before: {rate_text(side.success)} of {side.requests:,}"
        yield ((f"{words}{', ' if figures else ''}{figures}", DIM),)


def _instances(view: SpinoutView, side: str) -> str:
    """How many can answer; the engine knows no more of them."""
    found = view.old if side == "old" else view.new
    return f"{found.ready}" if found.ready or found.alive else "-"


def _events(view: SpinoutView, width: int) -> Iterator[Line]:
    for event in view.events:
        text = event if len(event) <= width else event[: width - 1] + "…"
        yield ((text, DIM),)
    if view.events:
        yield ()


def _last(view: SpinoutView, width: int) -> Iterator[Line]:
    is_bad = view.state in (*BACK, ROLLING_BACK)
    yield from wrapped("", view.last_words, width, BAD if is_bad else GOOD if view.state == COMPLETED else BUSY)
