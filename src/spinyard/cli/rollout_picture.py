"""A Rollout drawn in lines of coloured words. Pure: the terminal, a pipe and `describe` print the same lines."""

from __future__ import annotations

from collections.abc import Iterator

from spinyard.cli.rollout_view import ROLLED_BACK, RolloutView, Step, percent_text, rate_text
from spinyard.cli.side_picture import Line, Strokes, gate_lines, side_lines, text_of, weight_lines, wrapped
from spinyard.cli.words import BAD, BUSY, DIM, GOOD, colour_of, duration

__all__ = ["change_of", "picture", "text_of"]


def picture(view: RolloutView, *, width: int, plain: bool = False) -> list[Line]:
    strokes = Strokes(plain=plain)
    sides = (("old", view.old), ("new", view.new))
    return [
        _title(view),
        *(line for n, step in enumerate(view.steps) for line in _step(view, n, step, strokes, width)),
        (),
        *weight_lines(view.asked, view.confirmed, strokes, is_bad=bool(view.stopped)),
        (),
        *side_lines([(n, side, view.instances_of(side)) for n, side in sides], strokes, width),
        *gate_lines(view.gates, width, new="new side"),
        (),
        *_last(view, width),
    ]


def change_of(view: RolloutView) -> str:
    """One line for who reads a log: the state, the weight, both sides, and what is waited for."""
    number = min(view.step + 1, len(view.steps))
    parts = [f"{view.state}{', paused' if view.is_paused else ''}", f"step {number} of {len(view.steps)}"]
    parts.append(f"weight {percent_text(view.confirmed)}")
    if view.asked != view.confirmed:
        parts[-1] += f" (asked: {percent_text(view.asked)})"
    for name, side in (("old", view.old), ("new", view.new)):
        if side.success is not None:
            parts.append(f"{name} {rate_text(side.success)} of {side.requests}")
    return "; ".join([*parts, view.last_words])


# -- parts -------------------------------------------------------------------------------------------------------------


def _title(view: RolloutView) -> Line:
    age = duration(view.age_seconds) if view.age_seconds is not None else ""
    paused = (("  paused", BUSY),) if view.is_paused else ()
    return (
        (f"Rollout {view.name}", ""),
        (f" of service {view.service}  ", ""),
        (view.state, colour_of(view.state)),
        *paused,
        (f"  {age}", DIM),
    )


def _step(view: RolloutView, number: int, step: Step, strokes: Strokes, width: int) -> Iterator[Line]:
    is_here = number == view.step and not view.has_ended
    went_bad = step.how in ("failed", "aborted")
    mark, colour = (strokes.done, GOOD) if step.how else (" ", "")
    if went_bad:
        mark, colour = strokes.bad, BAD
    elif is_here and not step.how:
        mark, colour = strokes.here, BUSY
    word = step.how or (view.state if is_here else "skipped" if number < view.step else "")
    took = f"in {duration(step.took_seconds)}" if step.took_seconds is not None else ""
    told = step.pause and not step.how and f"pause {step.pause}"
    rest = " ".join(part for part in (took, told) if part)
    lead = f"  {percent_text(step.weight):>7}  "
    yield ((f"{mark}", colour), (lead, ""), (f"{word:<13}", colour or DIM), (rest, DIM))
    if went_bad and step.why:
        yield from wrapped(" " * (len(lead) + 1), step.why, width, DIM)


def _last(view: RolloutView, width: int) -> Iterator[Line]:
    bad = bool(view.stopped) or view.state == ROLLED_BACK
    yield from wrapped("", view.last_words, width, BAD if bad else GOOD if view.has_ended else BUSY)
