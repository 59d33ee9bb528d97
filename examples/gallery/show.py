"""What the demo shows while it runs, and the tables at its end.

On a terminal one picture is drawn again and again; elsewhere (a pipe, CI) each step is one line when it is done, and no
line is broken, however narrow.
"""

from __future__ import annotations

import io
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from examples.gallery.show_rollout import judged_table, percent, rollout_line, rollout_picture
from examples.gallery.show_spinout import spinout_line, spinout_picture

Spins = Sequence[Mapping[str, Any]]

MARKS = {"running": "[yellow]»[/]", "done": "[green]✓[/]", "broken": "[red]✗[/]"}
STATE_COLOURS = {
    "serving": "green",
    "draining": "yellow",
    "terminating": "yellow",
    "cleaning": "yellow",
    "failed": "red",
}
# Cells: the widest step, the widest spin with its state, and what stands left of the history.
STEP_WIDTH, SPIN_WIDTH, HISTORY_INDENT = 30, 24, 14
HEIGHTS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"
BAR_WIDTH = 24
LOOK_SECONDS = 0.2


class Show:
    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._steps: list[tuple[str, str, str, float]] = []
        self._load: Mapping[str, object] = {}
        self._latency: deque[float] = deque(maxlen=240)
        self._spins: Spins = ()
        self._away = False
        self._spin_rows = 0
        self._ended: list[RenderableType] = []
        self._rollout: RenderableType | None = None
        self._weight_said = 0.0
        self._spinout_said = ""
        self._began = time.monotonic()
        self._closed = threading.Event()
        self._live: Live | None = None
        if sys.stdout.isatty():
            self._live = Live(console=self.console, get_renderable=self._picture, refresh_per_second=8)

    def __enter__(self) -> Show:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._spins = ()
        if self._live:
            self._live.stop()

    # -- what happens --------------------------------------------------------------------------------------------------

    def follow(self, look: Callable[[], Spins | None]) -> None:
        """Asks for the spins until the end, in a thread, so that the picture never waits for a step. None: the control
        plane does not answer."""
        if self._live:
            threading.Thread(target=self._follow, args=(look,), name="demo-picture", daemon=True).start()

    def _follow(self, look: Callable[[], Spins | None]) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            seen = look()
            self._away = seen is None
            if seen is not None and not self._closed.is_set():
                self._spins = seen

    def on_load(self, event: Mapping[str, object]) -> None:
        """Each event of the load."""
        if event.get("event") == "progress":
            self._load = event
            self._latency.append(number(event, "p99_ms"))

    def rollout(self, version: str, rollout: Mapping[str, Any] | None) -> None:
        """A rollout as it stands; None: it is over."""
        if self._live:
            self._rollout = None if rollout is None else rollout_picture(version, rollout)
        elif rollout is not None and (weight := percent(rollout["status"])) != self._weight_said:
            self._weight_said = weight
            self.say(f"        {escape(rollout_line(rollout))}")

    def spinout(self, spinout: Mapping[str, Any] | None) -> None:
        """A spinout as it stands; None: it is over."""
        if self._live:
            self._rollout = None if spinout is None else spinout_picture(spinout)
        elif (
            spinout is not None
            and (said := f"{spinout['status']['state']} {percent(spinout['status'])}") != self._spinout_said
        ):
            self._spinout_said = said
            self.say(f"        {escape(spinout_line(spinout))}")

    def begin(self, what: str) -> None:
        self._steps.append((what, "running", "", time.monotonic() - self._began))

    def done(self, note: str) -> None:
        what, _, _, at = self._steps[-1]
        self._steps[-1] = (what, "done", note, at)
        if not self._live:
            self.say(f"{at:5.1f}s  {escape(what)}: {escape(note)}")

    def broken(self) -> None:
        if self._steps and self._steps[-1][1] == "running":
            what, _, note, at = self._steps[-1]
            self._steps[-1] = (what, "broken", note, at)

    def say(self, markup: str) -> None:
        """One line, never broken by us: a terminal does that itself, and a file must not have it."""
        self.console.print(markup, soft_wrap=True)

    # -- the picture ---------------------------------------------------------------------------------------------------

    def _picture(self) -> Group:
        parts: list[RenderableType] = [self._steps_table()]
        if self._rollout is not None:
            parts += [Text(), self._rollout]
        if self._load:
            parts.append(Text())
            if not self._closed.is_set():  # at the end the table says it better
                parts.append(Text.from_markup(self._load_line()))
            parts.append(Text.from_markup(self._history_line(), overflow="crop"))
        if self._spins and not self._closed.is_set():
            parts += [Text(), self._spins_table()]
        return Group(*parts)

    def _steps_table(self) -> Table:
        steps = Table.grid(padding=(0, 1))
        for width in (6, 1, STEP_WIDTH):
            steps.add_column(width=width, no_wrap=True)
        steps.add_column(no_wrap=True, overflow="ellipsis")
        for what, state, note, at in tuple(self._steps):
            running = state == "running"
            said = f"{time.monotonic() - self._began - at:.1f} s" if running else escape(note)
            name = f"[bold]{escape(what)}[/]" if running else escape(what)
            steps.add_row(f"[dim]{at:5.1f}s[/]", MARKS[state], name, f"[dim]{said}[/]")
        return steps

    def _load_line(self) -> str:
        load = self._load
        unsafe = int(number(load, "failed_unsafe"))
        failed = int(number(load, "failed")) - unsafe
        colour = "green" if not failed else "red"
        lost = f"   [yellow]{unsafe} unsafe[/]" if unsafe else ""
        lost += f"   [yellow]{int(number(load, 'apart'))} on purpose[/]" if number(load, "apart") else ""
        return (
            f"  requests [bold]{int(number(load, 'sent')):5d}[/]   failed [{colour}]{failed}[/]   "
            f"p50 {number(load, 'p50_ms'):4.0f} ms   p99 {number(load, 'p99_ms'):4.0f} ms   "
            f"in flight {int(number(load, 'in_flight')):2d}{lost}"
        )

    def _history_line(self) -> str:
        """p99 of each half second, on a scale where a tenfold is as high everywhere: 1 ms at the bottom, 1 s on top."""
        room = max(1, self.console.width - HISTORY_INDENT - 1)
        return "  [dim]p99 so far[/]  [cyan]" + "".join(height(ms) for ms in list(self._latency)[-room:]) + "[/]"

    def _spins_table(self) -> Table:
        columns = max(1, (self.console.width - 2) // SPIN_WIDTH)
        cells = [self._spin(spin) for spin in self._spins]
        rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
        # It never shrinks, so that nothing below or above jumps.
        self._spin_rows = max(self._spin_rows, len(rows))
        rows += [[] for _ in range(self._spin_rows - len(rows))]
        table = Table.grid()
        table.add_column(width=2)
        for _ in range(columns):
            table.add_column(width=SPIN_WIDTH, no_wrap=True)
        for row in rows:
            table.add_row("", *row)
        table.add_row("", *(["[yellow]as last seen[/]"] if self._away else []))
        return table

    def _spin(self, spin: Mapping[str, Any]) -> str:
        state = str(spin["status"]["state"])
        name = str(spin["metadata"]["name"]).rpartition("-")[2]
        colour = "dim" if self._away else STATE_COLOURS.get(state, "cyan")
        return f"[{colour}]● {escape(name)} {escape(state)}[/]"

    # -- the end -------------------------------------------------------------------------------------------------------

    def table(self, title: str, rows: Sequence[tuple[str, str, bool | None]]) -> None:
        """(what, value, whether the promise was kept; None: a fact, not a promise)"""
        table = Table(
            title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2)
        )
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True)
        for name, value, good in rows:
            colour = "" if good is None else "green" if good else "bold red"
            mark = "" if good is None else MARKS["done" if good else "broken"]
            table.add_row(escape(name), f"[{colour}]{escape(value)}[/]" if colour else escape(value), mark)
        self._end(table)

    def judged(self, title: str, steps: Sequence[tuple[str, float, Mapping[str, Any]]]) -> None:
        """(version, percent, record) of each step of a rollout that was left."""
        self._end(judged_table(title, steps))

    def durations(self, title: str, steps: Sequence[tuple[str, int, float, float]]) -> None:
        """(state, spins, mean ms, worst ms) as bars: solid to the mean, light to the worst."""
        widest = max((worst for *_, worst in steps), default=0.0) or 1.0
        table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2))
        for name in ("state", "spins", "mean ms", "worst ms", ""):
            table.add_column(
                name, justify="left" if name in ("state", "") else "right", no_wrap=True, header_style="dim"
            )
        for state, spins, mean, worst in steps:
            table.add_row(escape(state), str(spins), f"{mean:.0f}", f"{worst:.0f}", bar(mean / widest, worst / widest))
        self._end(table)

    def _end(self, part: RenderableType) -> None:
        self._ended += [Text(), part]
        self.console.print()
        self.console.print(part)

    def draw(self, path: Path) -> None:
        """The last picture and the tables as an SVG."""
        paper = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, highlight=False)
        paper.print(Group(self._picture(), *self._ended))
        drawn = paper.export_svg(title="make demo")
        path.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))  # nothing is fetched from elsewhere


def number(event: Mapping[str, object], name: str) -> float:
    value = event.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def height(ms: float) -> str:
    """One of eight heights, by the logarithm: 1 ms or less is the lowest, 1 s or more the highest."""
    steps = 0
    edge = 1.0
    while ms > edge and steps < len(HEIGHTS) - 1:
        edge *= 1000 ** (1 / (len(HEIGHTS) - 1))
        steps += 1
    return HEIGHTS[steps]


def bar(mean_share: float, worst_share: float) -> str:
    cells = mean_share * BAR_WIDTH
    full = int(cells)
    solid = "█" * full + EIGHTHS[int((cells - full) * 8)].strip()
    light = "░" * max(0, round(worst_share * BAR_WIDTH) - len(solid))
    return f"[cyan]{solid or '▏'}[/][dim]{light}[/]"
