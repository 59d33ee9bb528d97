"""How the demo shows a spinout: two lines while it moves. The figures are the API's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape

from examples.gallery.show_rollout import BAR_WIDTH, cut, percent, sides, success

Json = Mapping[str, Any]


def spinout_line(spinout: Json) -> str:
    """For a pipe, which gets one whenever the phase or the weight that Envoy confirmed has changed."""
    status = spinout["status"]
    old, new = sides(status)
    said = f"{status['state']}, {percent(status):g} % of the thumbnails on the unit"
    if new.get("requests"):
        said += f"; success parent {success(old)}, unit {success(new)}"
    return said + (f"; {status['stopped']}" if status.get("stopped") else "")


def spinout_picture(spinout: Json) -> RenderableType:
    status = spinout["status"]
    weight = percent(status)
    full = round(weight / 100 * BAR_WIDTH) or int(weight > 0)
    colour = "red" if status.get("stopped") else "green"
    old, new = sides(status)
    why = str(status.get("stopped") or status.get("needs") or "")
    lines = (
        f"  {'thumbnails':<11}[{colour}]{'█' * full}[/][dim]{'░' * (BAR_WIDTH - full)}[/]"
        f"{weight:6g} %  [bold]{escape(status['state'])}[/]",
        f"  {'success':<11}parent {success(old)}   unit {success(new)}   p95 {ms(old)} / {ms(new)}",
        f"  [dim]{escape(why)}[/]",
    )
    return Group(*(cut(line) for line in lines))


def ms(side: Json) -> str:
    p95 = side.get("p95")
    return "-" if p95 is None else f"{float(p95) * 1000:.0f} ms"
