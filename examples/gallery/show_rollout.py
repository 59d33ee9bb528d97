"""How the demo shows a rollout: two lines while it goes, one row for each step afterwards. Figures as the API tells them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

Json = Mapping[str, Any]

BAR_WIDTH = 30
HOW = {"passed": "[green]passed[/]", "failed": "[red]back to 0 %[/]"}


def rollout_line(rollout: Json) -> str:
    """State and weight: what a pipe gets a line for whenever it changes."""
    status = rollout["status"]
    return f"{percent(status):g} % on the new version: {status['state']}"


def rollout_figures(rollout: Json) -> str:
    old, new = sides(rollout["status"])
    return f"; old {count(old)}, new {count(new)}" if new.get("requests") else ""


def rollout_picture(version: str, rollout: Json) -> RenderableType:
    status = rollout["status"]
    weight = percent(status)
    full = round(weight / 100 * BAR_WIDTH) or int(weight > 0)
    colour = "red" if status.get("stopped") else "green"
    old, new = sides(status)
    grid = Table.grid(padding=(0, 1))
    for width in (12, BAR_WIDTH, 6):
        grid.add_column(width=width, no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    bar = f"[{colour}]{'█' * full}[/][dim]{'░' * (BAR_WIDTH - full)}[/]"
    grid.add_row(f"  version {escape(version)}", bar, f"{weight:g} %", f"[bold]{escape(status['state'])}[/]")
    why = str(status.get("stopped") or status.get("needs") or "")
    grid.add_row("  success", f"old {success(old)}   new {success(new)}", "", f"[dim]{escape(why)}[/]")
    return grid


def judged_table(title: str, steps: Sequence[tuple[str, float, Json]]) -> Table:
    """(version, percent, record)"""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2))
    for name in ("version", "weight", "old failed", "new failed", "seconds", ""):
        table.add_column(name, justify="left" if name in ("version", "") else "right", no_wrap=True, header_style="dim")
    for version, weight, step in steps:
        old, new = sides(step)
        how = str(step.get("how"))
        words = HOW.get(how, escape(how))
        table.add_row(escape(version), f"{weight:g} %", short(old), short(new), took(step), words)
    return table


def percent(status: Json) -> float:
    """Of the requests, confirmed by Envoy. The API counts in parts of 10,000."""
    return float(status.get("shownWeight") or 0) / 100


def sides(found: Json) -> tuple[Json, Json]:
    return found.get("old") or {}, found.get("new") or {}


def success(side: Json) -> str:
    """Never rounded up to 100 %."""
    requests, failures = int(side.get("requests") or 0), int(side.get("failures") or 0)
    if not requests:
        return "-"
    return f"{math.floor((requests - failures) / requests * 1000) / 10:g} % of {requests}"


def count(side: Json) -> str:
    return f"{int(side.get('failures') or 0)} of {int(side.get('requests') or 0)} failed"


def short(side: Json) -> str:
    return f"{int(side.get('failures') or 0)} of {int(side.get('requests') or 0)}"


def took(step: Json) -> str:
    begun, left = step.get("begunAt"), step.get("leftAt")
    if not begun or not left:
        return "-"
    return f"{(datetime.fromisoformat(left) - datetime.fromisoformat(begun)).total_seconds():.1f}"
