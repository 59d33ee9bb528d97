"""How the demo shows a rollout: two lines while it goes, a row for each step afterwards. The figures are the API's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Json = Mapping[str, Any]

BAR_WIDTH = 30
HOW = {"passed": "[green]passed[/]", "failed": "[red]back to 0 %[/]"}


def rollout_line(rollout: Json) -> str:
    """For a pipe, which gets one whenever the weight that Envoy confirmed has changed."""
    status = rollout["status"]
    said = f"{percent(status):g} % of the requests on the new version, {status['state']}"
    for step in (status.get("steps") or ())[-1:]:
        old, new = sides(step)
        said += f"; at {step['weight'] / 100:g} %: old {failed(old)}, new {failed(new)} failed: {step['how']}"
    return said


def rollout_picture(version: str, rollout: Json) -> RenderableType:
    status = rollout["status"]
    weight = percent(status)
    full = round(weight / 100 * BAR_WIDTH) or int(weight > 0)
    colour = "red" if status.get("stopped") else "green"
    old, new = sides(status)
    why = str(status.get("stopped") or status.get("needs") or "")
    lines = (
        f"  {'version ' + escape(version):<11}[{colour}]{'█' * full}[/][dim]{'░' * (BAR_WIDTH - full)}[/]"
        f"{weight:6g} %  [bold]{escape(status['state'])}[/]",
        f"  {'success':<11}old {success(old)}   new {success(new)}   [dim]{escape(why)}[/]",
    )
    return Group(*(cut(line) for line in lines))


def judged_table(title: str, steps: Sequence[tuple[str, float, Json]]) -> Table:
    """(version, percent, record)"""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2))
    for name in ("version", "weight", "old failed", "new failed", "seconds", ""):
        table.add_column(name, justify="left" if name in ("version", "") else "right", no_wrap=True, header_style="dim")
    for version, weight, step in steps:
        old, new = sides(step)
        how = str(step.get("how"))
        words = HOW.get(how, escape(how))
        table.add_row(escape(version), f"{weight:g} %", failed(old), failed(new), took(step), words)
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


def failed(side: Json) -> str:
    return f"{int(side.get('failures') or 0)} of {int(side.get('requests') or 0)}"


def took(step: Json) -> str:
    begun, left = step.get("begunAt"), step.get("leftAt")
    if not begun or not left:
        return "-"
    return f"{(datetime.fromisoformat(left) - datetime.fromisoformat(begun)).total_seconds():.1f}"


def cut(markup: str) -> Text:
    text = Text.from_markup(markup, overflow="ellipsis")
    text.no_wrap = True
    return text
