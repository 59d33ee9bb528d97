"""What the demo shows while it runs, and the table at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

MARKS = {"running": "[yellow]»[/]", "done": "[green]✓[/]", "broken": "[red]✗[/]"}
STATE_COLOURS = {
    "serving": "green",
    "draining": "yellow",
    "terminating": "yellow",
    "failed": "red",
    "cleaning": "yellow",
}


class Show:
    """Live on a terminal; elsewhere each step is one line when it is done."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self._steps: list[tuple[str, str, str, float]] = []
        self._load: Mapping[str, object] = {}
        self._spins: Sequence[Mapping[str, Any]] = ()
        self._began = time.monotonic()
        self._live = Live(console=self.console, refresh_per_second=8) if sys.stdout.isatty() else None

    def __enter__(self) -> Show:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._picture())
            self._live.stop()

    def begin(self, what: str) -> None:
        self._steps.append((what, "running", "", time.monotonic() - self._began))
        self.refresh()

    def done(self, note: str) -> None:
        what, _, _, at = self._steps[-1]
        self._steps[-1] = (what, "done", note, at)
        if not self._live:
            self.console.print(f"{at:5.1f}s  {what}: {note}")
        self.refresh()

    def broken(self) -> None:
        if self._steps and self._steps[-1][1] == "running":
            what, _, note, at = self._steps[-1]
            self._steps[-1] = (what, "broken", note, at)

    def update(self, load: Mapping[str, object], spins: Sequence[Mapping[str, Any]]) -> None:
        self._load, self._spins = load, spins
        self.refresh()

    def refresh(self) -> None:
        if self._live:
            self._live.update(self._picture())

    def _picture(self) -> Group:
        steps = Table.grid(padding=(0, 1))
        for what, state, note, at in self._steps:
            steps.add_row(f"[dim]{at:5.1f}s[/]", MARKS[state], what, f"[dim]{note}[/]")
        parts: list[Any] = [steps, Text()]
        if self._load:
            parts.append(Text.from_markup(self._load_line()))
        if self._spins:
            parts.append(Text.from_markup(self._spins_line()))
        return Group(*parts)

    def _load_line(self) -> str:
        load = self._load
        failed = int(str(load.get("failed", 0)))
        colour = "green" if not failed else "red"
        return (
            f"  requests [bold]{load.get('sent', 0)}[/]   failed [{colour}]{failed}[/]   "
            f"p50 {load.get('p50', 0)} ms   p99 {load.get('p99', 0)} ms   in flight {load.get('in_flight', 0)}"
        )

    def _spins_line(self) -> str:
        words = []
        for spin in self._spins:
            state = str(spin["status"]["state"])
            colour = STATE_COLOURS.get(state, "cyan")
            words.append(f"[{colour}]● {spin['metadata']['name'].rsplit('-', 1)[1]} {state}[/]")
        return "  " + "   ".join(words)

    def table(self, title: str, rows: Sequence[tuple[str, str, bool | None]]) -> None:
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, value, good in rows:
            colour = "" if good is None else "green" if good else "bold red"
            table.add_row(name, f"[{colour}]{value}[/]" if colour else value)
        self.console.print()
        self.console.print(table)

    def durations(self, title: str, steps: Sequence[tuple[str, float, float]]) -> None:
        """(step, mean ms, worst ms) as bars."""
        widest = max((mean for _, mean, _ in steps), default=0.0) or 1.0
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2))
        for name in ("step", "mean ms", "worst ms", ""):
            table.add_column(name, justify="right" if "ms" in name else "left")
        for step, mean, worst in steps:
            table.add_row(
                step, f"{mean:.0f}", f"{worst:.0f}", "[cyan]" + "█" * max(1, round(30 * mean / widest)) + "[/]"
            )
        self.console.print()
        self.console.print(table)
