"""A trace as lines: who worked inside of whom, when and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinyard.cli.words import BAD, DIM, GOOD, counted, paint

Json = Mapping[str, Any]

LINES_MAX = 200
INDENT_LEVELS_MAX = 12
NAME_CHARACTERS_MAX = 56
BAR_CHARACTERS_MIN = 16
MESSAGES_MAX = 10
WIDTH = 120
"""where the output has none of its own"""
PLAIN = str.maketrans("█└├│…", "#`||.")
"""where it is not UTF-8"""
STATUS_ATTRIBUTES = ("http.response.status_code", "http.status_code", "rpc.grpc.status_code")


@dataclass(frozen=True, slots=True)
class Row:
    """`lead` is the tree before the name. `side` may be that of a span around it: `told` says whether it is its own."""

    span: Json
    lead: str
    side: str
    told: bool


def waterfall_lines(trace: Json, *, width: int | None = None, lines_max: int = LINES_MAX) -> list[str]:
    """`trace` as the API gives it."""
    spans: Sequence[Json] = trace["spans"]
    rows = list(_rows(spans))
    total = max(float(trace["seconds"]), 1e-9)
    shown = rows[:lines_max]
    services = {str(span["service"]) for span in spans}
    failed = sum(bool(span["error"]) for span in spans)
    bad = f", {failed} failed" if failed else ""
    lines = [
        f"trace {trace['traceId']}  {trace.get('startedAt') or ''}".rstrip(),
        f"{took(total)}, {counted(len(spans), 'span')} of {counted(len(services), 'service')}{bad}",
        "",
    ]
    cells = [_cells(row) for row in shown]
    wide = [max(len(title), *(len(cell[n]) for cell in cells)) for n, title in enumerate(TITLES)]
    bar = max(BAR_CHARACTERS_MIN, (width or WIDTH) - sum(wide) - 2 * len(TITLES))
    lines.append("  ".join([*_padded(TITLES, wide), _scale(total, bar)]))
    for row, cell in zip(shown, cells, strict=True):
        lines.append("  ".join([*_painted(row, _padded(cell, wide)), _bar(row.span, total, bar)]))
    lines += _messages(shown)
    if len(rows) > len(shown):
        lines.append(f"… and {counted(len(rows) - len(shown), 'span')} more: all of them with -o json")
    return lines


TITLES = ("SERVICE, SPAN", "SIDE", "STATUS", "TOOK")


def took(seconds: float) -> str:
    """Three figures: 87 us, 4.31 ms, 214 ms, 3.20 s."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        milliseconds = seconds * 1e3
        return f"{milliseconds:.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f} ms"
    return f"{seconds:.2f} s"


def status_of(span: Json) -> str:
    attributes = span.get("attributes") or {}
    code = next((str(attributes[name]) for name in STATUS_ATTRIBUTES if attributes.get(name) not in (None, "", 0)), "")
    return code or ("error" if span["error"] else "-")


def _rows(spans: Sequence[Json]) -> Iterator[Row]:
    """Depth first, by time. Whose parent is not here is a root; a ring is begun at its first span."""
    below: dict[str, list[Json]] = {}
    ids = {str(span["spanId"]) for span in spans}
    for span in spans:
        parent = str(span["parentSpanId"])
        below.setdefault(parent if parent in ids else "", []).append(span)
    seen: set[str] = set()
    yield from _tree(below.get("", []), below, seen)
    for span in spans:
        if span["spanId"] not in seen:
            yield from _tree([span], below, seen)


def _tree(tops: Sequence[Json], below: Mapping[str, Sequence[Json]], seen: set[str]) -> Iterator[Row]:
    waiting = [(span, "", "", "") for span in reversed(tops)]
    while waiting:
        span, lead, inside, side = waiting.pop()
        if span["spanId"] in seen:
            continue
        seen.add(str(span["spanId"]))
        own = str(span.get("side") or "")
        yield Row(span, lead, own or side, bool(own))
        children = below.get(str(span["spanId"]), ())
        deep = len(inside) // 2 >= INDENT_LEVELS_MAX
        for n, child in reversed(list(enumerate(children))):
            is_last = n == len(children) - 1
            branch = inside + ("└ " if is_last else "├ ")
            rest = inside if deep else inside + ("  " if is_last else "│ ")
            waiting.append((child, branch, rest, own or side))


def _cells(row: Row) -> tuple[str, ...]:
    name = _cut(f"{row.lead}{row.span['service']}  {row.span['name']}", NAME_CHARACTERS_MAX)
    return name, row.side or "-", status_of(row.span), took(row.span["seconds"])


def _padded(cells: Sequence[str], wide: Sequence[int]) -> list[str]:
    """The last one is a number: to the right."""
    *texts, number = (text.ljust(width) for text, width in zip(cells, wide, strict=True))
    return [*texts, number.strip().rjust(wide[-1])]


def _painted(row: Row, parts: list[str]) -> list[str]:
    name, side, status, number = parts
    if row.side and not row.told:
        side = paint(side, DIM)
    return [name, side, paint(status, BAD) if row.span["error"] else status, number]


def _scale(total: float, width: int) -> str:
    left, right = "|0", f"{took(total)}|"
    return left + " " * max(1, width - len(left) - len(right)) + right


def _bar(span: Json, total: float, width: int) -> str:
    """A span that is there is at least one character wide, and none leaves the picture, whatever its clock said."""
    begin = min(width - 1, max(0, int(float(span["offsetSeconds"]) / total * width)))
    long = max(1, min(width - begin, round(float(span["seconds"]) / total * width)))
    return (" " * begin + paint("█" * long, BAD if span["error"] else GOOD)).rstrip()


def _messages(rows: Sequence[Row]) -> Iterator[str]:
    told = [f"{row.span['service']}  {row.span['name']}: {row.span['message']}" for row in rows if row.span["message"]]
    if told:
        yield ""
        yield from told[:MESSAGES_MAX]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
