"""A watch that draws: a picture that redraws itself on a terminal, a line for each change elsewhere, until what is
drawn has ended. Goes on over a restart of the server."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from spinyard.cli.follow import endless
from spinyard.cli.output import print_line, reference, state_of
from spinyard.cli.side_picture import Line
from spinyard.cli.streams import is_utf8, printable, raw_of
from spinyard.cli.words import is_live, may_colour, paint
from spinyard.client import Client

if TYPE_CHECKING:
    from rich.text import Text

Json = dict[str, Any]

WIDTH_MAX = 120
_STYLES = {"32": "green", "33": "yellow", "31": "red", "2": "dim"}


class Drawing(Protocol):
    """One kind, as it is drawn."""

    @property
    def kind(self) -> str: ...

    def lines(self, item: Json, *, width: int, plain: bool) -> list[Line]: ...

    def change(self, item: Json) -> tuple[str, str]:
        """(what makes it another, one line about it)."""
        ...

    def has_ended(self, item: Json) -> bool: ...

    def exit_code(self, item: Json) -> int:
        """Of one that has ended, or is gone."""
        ...


class Shown(Protocol):
    def show(self, item: Json) -> None: ...


def follow_drawn(client: Client, item: Json, output: str, drawing: Drawing) -> int:
    """`item`: as it was just read."""
    meta = item["metadata"]
    with _shown(output, drawing) as shown:
        shown.show(item)
        if drawing.has_ended(item):
            return drawing.exit_code(item)
        for event in endless(
            client, lambda resume: client.watch(drawing.kind, meta["namespace"], meta["name"], resume=resume), ""
        ):
            item = json.loads(event.data)
            shown.show(item)
            if drawing.has_ended(item) or event.type == "DELETED":
                break
    return drawing.exit_code(item)


def print_drawn(item: Json, drawing: Drawing) -> None:
    """Once, as `describe` has it."""
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX) if is_live(sys.stdout) else WIDTH_MAX
    for line in drawing.lines(item, width=width, plain=not is_utf8(sys.stdout)):
        print("".join(paint(text, colour) for text, colour in line).rstrip())


@contextmanager
def _shown(output: str, drawing: Drawing) -> Iterator[Shown]:
    if output in ("json", "yaml", "name"):
        yield _Data(output, drawing.kind)
    elif is_live(sys.stdout):
        with _live(drawing) as drawn:
            yield drawn
    else:
        yield _Lines(drawing)


class _Data:
    def __init__(self, output: str, kind: str) -> None:
        self._output = output
        self._kind = kind

    def show(self, item: Json) -> None:
        item = {**item, "kind": self._kind}
        if self._output == "name":
            print(f"{reference(item)} {state_of(item)}", flush=True)
        else:
            print_line({"type": "MODIFIED", "object": item})


class _Lines:
    """A line when something else than a figure is new."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._said = ""

    def show(self, item: Json) -> None:
        key, line = self._drawing.change(item)
        if key != self._said:
            self._said = key
            print(line, flush=True)


@contextmanager
def _live(drawing: Drawing) -> Iterator[Shown]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=raw_of(sys.stdout), highlight=False, no_color=not may_colour(sys.stdout))
    drawn = _Picture(drawing, console.width, plain=not is_utf8(sys.stdout))
    # The last picture stays on the screen: it is the record of what happened.
    with Live(console=console, get_renderable=drawn.render, refresh_per_second=8, transient=False) as live:
        try:
            yield drawn
        finally:
            live.vertical_overflow = "visible"


class _Picture:
    def __init__(self, drawing: Drawing, width: int, *, plain: bool) -> None:
        self._drawing = drawing
        self._width = min(width, WIDTH_MAX)
        self._plain = plain
        self._item: Json = {}

    def show(self, item: Json) -> None:
        self._item = item

    def render(self) -> Text:
        from rich.text import Text

        if not self._item:
            return Text("")
        lines = [_text(line) for line in self._drawing.lines(self._item, width=self._width, plain=self._plain)]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _text(line: Line) -> Text:
    from rich.text import Text

    return Text.assemble(*((printable(text), _STYLES.get(colour, "")) for text, colour in line))
