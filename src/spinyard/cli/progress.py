"""Waiting with something to look at: a table that redraws itself on a terminal, a line for each change elsewhere.

Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from spinyard.cli.columns import ready_count, why
from spinyard.cli.output import dig, is_deleting, state_of
from spinyard.cli.streams import printable, raw_of
from spinyard.cli.words import colour_of, duration, epoch_of, is_live, may_colour
from spinyard.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import RenderableType

Json = Mapping[str, Any]

POLL_SECONDS = 0.25
SPINS_SHOWN_MAX = 12
ENDED = ("terminated",)


@dataclass(frozen=True, slots=True)
class Group:
    """An object that is waited for, and the spins it owns."""

    item: Json
    spins: Sequence[Json] = ()
    done: str = ""
    """a word in place of its state: available, failed, gone"""


@dataclass(frozen=True, slots=True)
class Scene:
    title: str
    groups: Sequence[Group] = ()
    note: str = ""


class Progress(Protocol):
    def show(self, scene: Scene) -> None: ...


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """`quiet`: nothing at all, for -o json."""
    if quiet:
        yield _Quiet()
    elif is_live(sys.stderr):
        with _live() as shown:
            yield shown
    else:
        yield _Lines()


def poll(step: Callable[[], bool], *, timeout_seconds: float | None) -> bool:
    """Calls `step` until it says True (True) or the time is over (False); at least once."""
    clock = SystemClock()
    deadline = None if timeout_seconds is None else clock.monotonic() + timeout_seconds
    while not step():
        left = POLL_SECONDS if deadline is None else deadline - clock.monotonic()
        if left <= 0:
            return False
        time.sleep(min(POLL_SECONDS, left))
    return True


def title_of(item: Json) -> str:
    return f"{item.get('kind', '')} {dig(item, 'metadata', 'name') or ''}"


def word_of(group: Group) -> str:
    if group.done:
        return group.done
    state = state_of(group.item)
    return (
        f"{state}, deletion asked for"
        if is_deleting(group.item) and state not in ("terminating", "deleting")
        else state
    )


class _Quiet:
    def show(self, scene: Scene) -> None:
        """Nobody looks."""


@dataclass(slots=True)
class _Lines:
    """One line when something is new; never the same line twice in a row for the same thing."""

    said: dict[str, str] = field(default_factory=dict)
    started_at: float = field(default_factory=SystemClock().monotonic)

    def show(self, scene: Scene) -> None:
        if scene.note:
            self._say("note", scene.note)
        for group in scene.groups:
            count = f" {ready_count(group.item)} ready" if group.item.get("kind") == "Service" else ""
            text = f"{title_of(group.item)}: {word_of(group)}{count}{_because(group.item)}"
            # The figures of a rollout move all the time.
            news = re.sub(r"[0-9.,]+", "#", text) if group.item.get("kind") == "Rollout" else text
            self._say(title_of(group.item), text, news)
            for spin in group.spins:
                self._say(title_of(spin), f"  {title_of(spin)}: {state_of(spin)}{_because(spin)}")

    def _say(self, key: str, text: str, news: str = "") -> None:
        news = news or text
        if self.said.get(key) != news:
            self.said[key] = news
            elapsed = SystemClock().monotonic() - self.started_at
            print(f"{elapsed:6.1f}s  {text}", file=sys.stderr, flush=True)


@contextmanager
def _live() -> Iterator[Progress]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=raw_of(sys.stderr), highlight=False, no_color=not may_colour(sys.stderr))
    table = _Table()
    # The last picture stays on the screen: it is the record of what happened.
    with Live(console=console, get_renderable=table.render, refresh_per_second=8, transient=False):
        yield table


@dataclass(slots=True)
class _Table:
    scene: Scene = field(default_factory=lambda: Scene(""))
    started_at: float = field(default_factory=SystemClock().monotonic)

    def show(self, scene: Scene) -> None:
        self.scene = scene

    def render(self) -> RenderableType:
        from rich.console import Group as Rows
        from rich.text import Text

        elapsed = duration(SystemClock().monotonic() - self.started_at)
        rows: list[RenderableType] = [Text.assemble((self.scene.title, "bold"), ("  " + elapsed, "dim"))]
        rows += [_group(group) for group in self.scene.groups]
        if self.scene.note:
            rows.append(Text(printable(self.scene.note), style="dim"))
        return Rows(*rows)


def _group(group: Group) -> RenderableType:
    from rich.console import Group as Rows
    from rich.table import Table
    from rich.text import Text

    head = Text.assemble((title_of(group.item), "bold"), "  ", (word_of(group), _style(group)), no_wrap=True)
    if group.item.get("kind") == "Service":
        head.append(f"  {ready_count(group.item)} ready")
    head.append(_because(group.item), style="dim")
    head.overflow = "ellipsis"
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, min_width=3)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    now = SystemClock().now()
    for spin in group.spins[:SPINS_SHOWN_MAX]:
        state = state_of(spin)
        name = str(dig(spin, "metadata", "name") or "")
        table.add_row("  " + name, Text(state, style=_STYLES[colour_of(state)]), _since(spin, now), _step(spin))
    more = len(group.spins) - SPINS_SHOWN_MAX
    rest = [Text(f"  … and {more} more", style="dim")] if more > 0 else []
    return Rows(head, table, *rest)


_STYLES = {"32": "green", "33": "yellow", "31": "red", "2": "dim"}


def _style(group: Group) -> str:
    return _STYLES[colour_of(group.done or state_of(group.item))]


def _since(item: Json, now: float) -> str:
    since = epoch_of(dig(item, "status", "stateSince"))
    return duration(now - since) if since else ""


def _step(item: Json) -> RenderableType:
    from rich.text import Text

    text = str(dig(item, "status", "message") or dig(item, "status", "reason") or "")
    return Text(printable(" ".join(text.splitlines())))


def _because(item: Json) -> str:
    text = printable(why(item))
    return f"  {text}" if text else ""
