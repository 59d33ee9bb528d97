"""Parts of pictures of requests that move from one side to the other: weights, both sides' figures, gates. Pure: the
terminal, a pipe and `describe` print the same lines."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

from spinyard.cli.rollout_view import Gate, Side, percent_text, rate_text
from spinyard.cli.words import BAD, BUSY, DIM, GOOD, counted

Span = tuple[str, str]
"""text, and its colour or empty"""
Line = tuple[Span, ...]
Row = tuple[str, Side, str]
"""how the side is called, its figures, and its instances in words"""

BAR_WIDTH: Final = 40
AXIS_WIDTH: Final = 20
_VERDICTS: Final = {"pass": GOOD, "fail": BAD, "error": BAD, "inconclusive": BUSY}
_HEADERS: Final = ("", "SUCCESS", "95 % INTERVAL", "", "REQUESTS", "PER S", "P50", "P95", "P99", "INSTANCES")
_LEFT: Final = (0, 2, 3)
"""columns of text; the others are numbers"""
_DROPPED: Final = (3, 5, 6, 8)
"""left out one after the other where a terminal is too narrow"""


class Strokes:
    """What a picture is drawn with; `plain` for terminals without these letters."""

    def __init__(self, *, plain: bool = False) -> None:
        self.full, self.half, self.empty = ("#", "=", ".") if plain else ("█", "▓", "░")
        self.here, self.done, self.bad = (">", "+", "x") if plain else ("▶", "✔", "✘")
        self.held, self.todo = ("=", " ") if plain else ("‖", "·")
        self.dot, self.dash, self.point = (" ", "-", "o") if plain else (" ", "─", "●")


def text_of(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def weight_lines(asked: float, confirmed: float, strokes: Strokes, *, is_bad: bool) -> Iterator[Line]:
    """Weights in percent."""
    for name, weight in (("asked", asked), ("confirmed", confirmed)):
        filled = _filled(weight)
        bar = strokes.full * filled + strokes.empty * (BAR_WIDTH - filled)
        colour = BAD if is_bad else GOOD if name == "confirmed" else BUSY
        yield ((f"  weight {name:<10} {percent_text(weight):>7}  ", ""), (bar, colour))


def _filled(weight: float) -> int:
    """More than nothing is never an empty bar, less than all never a full one."""
    filled = round(weight / 100 * BAR_WIDTH)
    if 0 < weight < 100:
        return min(max(filled, 1), BAR_WIDTH - 1)
    return min(max(filled, 0), BAR_WIDTH)


def side_lines(sides: Sequence[Row], strokes: Strokes, width: int) -> Iterator[Line]:
    floor = _floor([side for _, side, _ in sides])
    rows = [_HEADERS, *(_row(name, side, instances, floor, strokes) for name, side, instances in sides)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADERS))]
    kept = _kept(widths, width)
    for index, row in enumerate(rows):
        cells = [f"{row[n]:<{widths[n]}}" if n in _LEFT else f"{row[n]:>{widths[n]}}" for n in kept]
        yield (("  " + "  ".join(cells), DIM if index == 0 else ""),)


def _kept(widths: Sequence[int], width: int) -> list[int]:
    kept = [n for n in range(len(widths)) if widths[n] or n == 0]
    for dropped in _DROPPED:
        if sum(widths[n] + 2 for n in kept) > width and dropped in kept:
            kept.remove(dropped)
    return kept


def _row(name: str, side: Side, instances: str, floor: float, strokes: Strokes) -> tuple[str, ...]:
    has_interval = side.low is not None and side.high is not None
    return (
        name,
        rate_text(side.success),
        f"{rate_text(side.low)} - {rate_text(side.high)}" if has_interval else "-",
        _axis(side, floor, strokes),
        f"{side.requests:,}",
        f"{side.per_second:.1f}" if side.requests else "-",
        latency_text(side.p50),
        latency_text(side.p95),
        latency_text(side.p99),
        instances,
    )


def _floor(sides: Sequence[Side]) -> float:
    """Where the axis of success begins: five points or more below 100, so that a difference is seen."""
    lowest = min((side.low for side in sides if side.low is not None), default=0.95)
    return min(0.95, math.floor(lowest * 20) / 20)


def _axis(side: Side, floor: float, strokes: Strokes) -> str:
    """The interval, and the rate within it, from `floor` to 100 %."""
    if side.low is None or side.high is None or side.success is None:
        return ""
    low, at, high = (_column(value, floor) for value in (side.low, side.success, side.high))
    cells = [strokes.dash if low <= n <= high else strokes.dot for n in range(AXIS_WIDTH)]
    cells[at] = strokes.point
    return "".join(cells)


def _column(value: float, floor: float) -> int:
    share = (value - floor) / (1.0 - floor)
    return min(max(round(share * (AXIS_WIDTH - 1)), 0), AXIS_WIDTH - 1)


def gate_lines(gates: Sequence[Gate], width: int, *, new: str) -> Iterator[Line]:
    """`new`: how the side is called whose requests a gate needs."""
    if not gates:
        return
    yield ()
    wide = max(len(gate.name) for gate in gates)
    for gate in gates:
        lead = f"  {gate.name:<{wide}}  {gate.verdict:<12}  "
        first, *rest = wrapped(lead, gate.why + _needs(gate, new), width, "")
        text = first[0][0].removeprefix(lead)
        head: Span = (f"  {gate.name:<{wide}}  ", "")
        yield (head, (f"{gate.verdict:<12}  ", _VERDICTS.get(gate.verdict, BUSY)), (text, ""))
        yield from rest


def _needs(gate: Gate, new: str) -> str:
    """The judge says it in its own words already."""
    if not gate.needs or "more request" in gate.why:
        return ""
    return f"; needs about {counted(gate.needs, 'more request')} on the {new}"


def wrapped(lead: str, text: str, width: int, colour: str) -> Iterator[Line]:
    lines = textwrap.wrap(text, max(20, width - len(lead))) or [""]
    yield ((lead + lines[0], colour),)
    for line in lines[1:]:
        yield ((" " * len(lead) + line, colour),)


def latency_text(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"
