"""`get rollout NAME -w`: a picture that redraws itself on a terminal, a line for each change elsewhere, until it has
ended. Goes on over a restart of the server."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from spinyard.cli.exits import Exit
from spinyard.cli.follow import endless
from spinyard.cli.output import print_line, reference, state_of
from spinyard.cli.rollout_picture import Line, change_of, picture
from spinyard.cli.rollout_view import SUCCEEDED, RolloutView, rollout_view
from spinyard.cli.streams import is_utf8, printable, raw_of
from spinyard.cli.words import is_live, may_colour, paint
from spinyard.client import Client
from spinyard.clock import SystemClock

if TYPE_CHECKING:
    from rich.text import Text

Json = dict[str, Any]

WIDTH_MAX = 120
_STYLES = {"32": "green", "33": "yellow", "31": "red", "2": "dim"}


class Shown(Protocol):
    def show(self, item: Json) -> None: ...


def follow_rollout(client: Client, item: Json, output: str) -> int:
    """`item`: as it was just read. Exit code 0 when it succeeded, 1 when it went back or is gone."""
    meta = item["metadata"]
    with _shown(output) as shown:
        shown.show(item)
        if _ended(item):
            return _exit(item)
        for event in endless(
            client, lambda resume: client.watch("Rollout", meta["namespace"], meta["name"], resume=resume), ""
        ):
            item = json.loads(event.data)
            shown.show(item)
            if _ended(item) or event.type == "DELETED":
                break
    return _exit(item)


def print_picture(item: Json) -> None:
    """Once, as `describe` has it."""
    width = min(shutil.get_terminal_size().columns, WIDTH_MAX) if is_live(sys.stdout) else WIDTH_MAX
    view = rollout_view(item, SystemClock().now())
    for line in picture(view, width=width, plain=not is_utf8(sys.stdout)):
        print("".join(paint(text, colour) for text, colour in line).rstrip())


def _ended(item: Json) -> bool:
    return rollout_view(item, 0.0).has_ended


def _exit(item: Json) -> int:
    return Exit.OK if state_of(item) == SUCCEEDED else Exit.FAILED


@contextmanager
def _shown(output: str) -> Iterator[Shown]:
    if output in ("json", "yaml", "name"):
        yield _Data(output)
    elif is_live(sys.stdout):
        with _live() as drawn:
            yield drawn
    else:
        yield _Lines()


class _Data:
    def __init__(self, output: str) -> None:
        self._output = output

    def show(self, item: Json) -> None:
        item = {**item, "kind": "Rollout"}
        if self._output == "name":
            print(f"{reference(item)} {state_of(item)}", flush=True)
        else:
            print_line({"type": "MODIFIED", "object": item})


class _Lines:
    """A line when something else than a figure is new."""

    def __init__(self) -> None:
        self._said = ""

    def show(self, item: Json) -> None:
        view = rollout_view(item, SystemClock().now())
        key = _without_numbers(view)
        if key != self._said:
            self._said = key
            print(f"{view.age_seconds or 0:6.1f}s  {view.name}: {change_of(view)}", flush=True)


def _without_numbers(view: RolloutView) -> str:
    words = [view.state, view.step, view.asked, view.confirmed, view.is_paused, view.old.ready, view.new.ready]
    words += [(gate.name, gate.verdict) for gate in view.gates]
    return f"{words} {re.sub(r'[0-9.,]+', '#', view.last_words)}"


@contextmanager
def _live() -> Iterator[Shown]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=raw_of(sys.stdout), highlight=False, no_color=not may_colour(sys.stdout))
    drawn = _Picture(console.width, plain=not is_utf8(sys.stdout))
    # The last picture stays on the screen: it is the record of what happened.
    with Live(console=console, get_renderable=drawn.render, refresh_per_second=8, transient=False) as live:
        try:
            yield drawn
        finally:
            live.vertical_overflow = "visible"


class _Picture:
    def __init__(self, width: int, *, plain: bool) -> None:
        self._width = min(width, WIDTH_MAX)
        self._plain = plain
        self._item: Json = {}

    def show(self, item: Json) -> None:
        self._item = item

    def render(self) -> Text:
        from rich.text import Text

        if not self._item:
            return Text("")
        view = rollout_view(self._item, SystemClock().now())
        lines = [_text(line) for line in picture(view, width=self._width, plain=self._plain)]
        out = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        return out


def _text(line: Line) -> Text:
    from rich.text import Text

    return Text.assemble(*((printable(text), _STYLES.get(colour, "")) for text, colour in line))
