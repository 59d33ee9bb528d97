"""Plain columns, cut to the terminal's width where there is one; a pipe gets every character."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import IO

from spinyard.cli.words import colour_of, is_live, paint

GAP = 3


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, state_column: str = "STATE") -> None:
    for line in table_lines(headers, rows, state_column=state_column, width=_width(sys.stdout)):
        print(line)


def table_lines(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, state_column: str = "STATE", width: int | None = None
) -> list[str]:
    """The last column takes what is left and is cut; the others keep their width."""
    cells = [[" ".join(cell.splitlines()) or "-" for cell in row] for row in rows]
    widths = [max([len(headers[n]), *(len(row[n]) for row in cells)]) for n in range(len(headers))]
    if width is not None:
        rest = width - sum(widths[:-1]) - GAP * (len(widths) - 1)
        widths[-1] = max(len(headers[-1]), min(widths[-1], rest))
    painted = headers.index(state_column) if state_column in headers else -1
    lines = [_line(headers, widths)]
    lines += [_line(row, widths, painted) for row in cells]
    return lines


def print_fields(fields: Mapping[str, object], indent: str = "") -> None:
    """`Name:   value`, aligned; empty values are left out."""
    shown = {name: value for name, value in fields.items() if value not in (None, "", [], {})}
    wide = max((len(name) for name in shown), default=0) + 1
    for name, value in shown.items():
        print(hanging(f"{indent}{name + ':':<{wide}}  ", str(value)))


def hanging(lead: str, text: str, stream: IO[str] | None = None) -> str:
    """`text` after `lead`, broken between words at the terminal's width, the next lines under its first letter: nobody
    else's text can begin a line of ours."""
    width = _width(stream or sys.stdout)
    lines = text.splitlines()
    if width is not None and len(lead) + len(text) > width:
        lines = textwrap.wrap(text, max(20, width - len(lead)))
    return lead + ("\n" + " " * len(lead)).join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], painted: int = -1) -> str:
    out = []
    for n, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = cell if len(cell) <= width else cell[: width - 1] + "…"
        pad = " " * (width - len(text))
        out.append((paint(text, colour_of(text)) if n == painted else text) + pad)
    return (" " * GAP).join(out).rstrip()


def _width(stream: IO[str]) -> int | None:
    return shutil.get_terminal_size().columns if is_live(stream) else None
