"""Tables and plots of docs/judge.md from the lines that `python -m bench.n13` wrote.

python -m bench.n13_report CELLS.jsonl POWER.jsonl: rewrites what is between the `n13` marks in docs/judge.md, and
docs/img/judge-*.svg.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
JUDGES = {"spinyard": "#1a7f5a", "threshold": "#c2571a", "rank": "#5b5bb0"}
SHOWN_MIN = 0.01
"""per cent; less is drawn there"""
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 340, 64, 50, 40, 16
FONT = 'font-family="sans-serif" font-size="12"'
Json = dict[str, Any]


def main() -> None:
    cells, power = (lines(Path(name)) for name in sys.argv[1:3])
    tables = "\n".join(
        [
            *_false_table(
                [c for c in cells if c["truth"] != "between" and c["name"] in ("steady, 0", "steady, margin")]
            ),
            "",
            *_other_table(
                sorted((c for c in cells if not c["name"].startswith("steady")), key=lambda c: str(c["name"]))
            ),
            "",
            *_regression_table([c for c in cells if c["name"] == "steady, 10x"]),
            "",
            *_power_table(power),
        ]
    )
    write_between("n13", tables)
    steady = [c for c in cells if c["name"] in ("steady, 0", "steady, margin")]
    (DOCS / "img" / "judge-false.svg").write_text(_false_plot(steady))
    found = [c for c in cells if c["name"] == "steady, 10x" and c["base"] == 0.01]
    (DOCS / "img" / "judge-time.svg").write_text(_time_plot(found))


def write_between(mark: str, tables: str) -> None:
    """Rewrites what is between the marks in docs/judge.md."""
    page = DOCS / "judge.md"
    head, _, rest = page.read_text().partition(f"<!-- {mark} -->\n")
    _, _, tail = rest.partition(f"<!-- /{mark} -->\n")
    assert tail, f"docs/judge.md has no marks {mark}"
    page.write_text(f"{head}<!-- {mark} -->\n{tables}\n<!-- /{mark} -->\n{tail}")


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _false_table(cells: list[Json]) -> Iterable[str]:
    judged = "false: ours | undecided | mean new-side requests | false: threshold | false: rank"
    yield f"| requests/s | base | new side | {judged} | ramps |"
    yield "|---:|---:|---|---:|---:|---:|---:|---:|---:|"
    for c in sorted(cells, key=lambda c: (c["name"] != "steady, 0", c["per_second"], c["base"])):
        ours = c["judges"]["spinyard"]
        undecided = 1.0 - _decided(c)
        new = "same" if c["truth"] == "better" else "+ margin"
        yield (
            f"| {c['per_second']:g} | {percent(c['base'])} | {new} | **{percent(ours['false'], 2)}** "
            f"| {percent(undecided)} | {ours['new_requests']:,.0f} | {percent(c['judges']['threshold']['false'])} "
            f"| {percent(c['judges']['rank']['false'])} | {ours['ramps']:,} |"
        )


def _other_table(cells: list[Json]) -> Iterable[str]:
    yield "| what is special | false: ours | threshold | rank | ramps |"
    yield "|---|---:|---:|---:|---:|"
    for c in cells:
        name = c["name"].removesuffix(", 0").removesuffix(", margin")
        truth = "same rates" if c["truth"] == "better" else "+ margin"
        falses = [percent(c["judges"][judge]["false"], 2) for judge in JUDGES]
        ramps = f"{c['judges']['spinyard']['ramps']:,}"
        yield f"| {name}; {truth} | **{falses[0]}** | {falses[1]} | {falses[2]} | {ramps} |"


def _regression_table(cells: list[Json]) -> Iterable[str]:
    yield "| requests/s | base -> new | advanced: ours | threshold | rank | seconds: ours | threshold | rank |"
    yield "|---:|---|---:|---:|---:|---:|---:|---:|"
    for c in sorted(cells, key=lambda c: (c["per_second"], c["base"], c["difference"])):
        if c["truth"] == "between":
            continue
        judges = [c["judges"][judge] for judge in JUDGES]
        advanced = " | ".join(percent(j["advanced"]) for j in judges)
        seconds = " | ".join(f"{j['seconds']:,.0f}" for j in judges)
        rates = f"{percent(c['base'])} -> {percent(c['base'] + c['difference'])}"
        yield f"| {c['per_second']:g} | {rates} | {advanced} | {seconds} |"


def _power_table(rows: list[Json]) -> Iterable[str]:
    yield "| decision | old -> new | alpha | ideal, per arm | ours, mean | ours / ideal | wrong |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for r in rows:
        what = "fail" if r["is_fail"] else "pass"
        rates = f"{percent(r['p_old'])} -> {percent(r['p_new'])}"
        wrong = f"{r['wrong']} of {r['times']:,}"
        took = f"{r['ideal']:,.0f} | {r['mean']:,.0f} | **{r['ratio']:.2f}**"
        yield f"| {what} | {rates} | {r['alpha']:g} | {took} | {wrong} |"


def _decided(cell: Json) -> float:
    """Ramps that ended advanced to the full or rolled back; what was raised and then rolled back counts once."""
    ours = cell["judges"]["spinyard"]
    return float(min(1.0, ours["advanced"] + ours["rolled_back"]))


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %".replace(".0 %", " %")


def _false_plot(cells: list[Json]) -> str:
    """One column a cell, from slow to fast traffic; false verdicts on a logarithmic axis."""
    cells = sorted(cells, key=lambda c: (c["per_second"], c["name"], c["base"]))
    out = frame(
        "False verdicts in each cell: at each rate three healthy ones, then three that are worse by the margin", "%"
    )
    low, high = math.log10(SHOWN_MIN), 2.0
    for tick in (0.01, 0.1, 1.0, 10.0, 100.0):
        out += tick_y((math.log10(tick) - low) / (high - low), f"{tick:g}", strong=tick == 1.0)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(cells))
    rates = sorted({c["per_second"] for c in cells})
    for rate in rates:
        at = [i for i, c in enumerate(cells) if c["per_second"] == rate]
        out.append(text(LEFT + (sum(at) / len(at) + 0.5) * step, HEIGHT - 28, f"{rate:g}/s", "middle"))
    for i, c in enumerate(cells):
        for judge, colour in JUDGES.items():
            false = max(SHOWN_MIN, 100.0 * c["judges"][judge]["false"])
            y = y_of((math.log10(false) - low) / (high - low))
            out.append(
                f'<circle cx="{LEFT + (i + 0.5) * step:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" fill-opacity=".8"/>'
            )
    return closed(out)


def _time_plot(cells: list[Json]) -> str:
    cells = sorted(cells, key=lambda c: c["per_second"])
    out = frame("1 % -> 10 % errors: mean time to the end of the ramp, and how many were let through", "s")
    low, high = 0.0, 4.0
    for tick in (1, 10, 100, 1_000, 10_000):
        out += tick_y((math.log10(tick) - low) / (high - low), f"{tick:,}", strong=False)
    places = {c["per_second"]: LEFT + (i + 0.5) * (WIDTH - LEFT - RIGHT) / len(cells) for i, c in enumerate(cells)}
    for rate, x in places.items():
        out.append(text(x, HEIGHT - 28, f"{rate:g}/s", "middle"))
    for n, (judge, colour) in enumerate(JUDGES.items()):
        points = []
        for c in cells:
            came = c["judges"][judge]
            x, y = places[c["per_second"]], y_of((math.log10(max(1.0, came["seconds"])) - low) / (high - low))
            points.append(f"{x:.1f},{y:.1f}")
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
            if came["advanced"] >= 0.0005:
                said = f"{percent(came['advanced'])} advanced"
                out.append(text(x + 7, y + 14 - 20 * (n == 1), said, "start", colour))
        out.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return closed(out)


def frame(title: str, unit: str, colours: dict[str, str] = JUDGES) -> list[str]:
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        text(LEFT, 18, title, "start"),
        text(LEFT - 8, TOP - 8, unit, "end"),
    ]
    for i, (judge, colour) in enumerate(colours.items()):
        out.append(f'<circle cx="{LEFT + 6 + 110 * i}" cy="{HEIGHT - 10}" r="4.5" fill="{colour}"/>')
        out.append(text(LEFT + 16 + 110 * i, HEIGHT - 6, judge, "start"))
    return out


def tick_y(part: float, label: str, *, strong: bool) -> list[str]:
    y, colour = y_of(part), "#444" if strong else "#ddd"
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'
    return [line, text(LEFT - 8, y + 4, label, "end")]


def y_of(part: float) -> float:
    return HEIGHT - BOTTOM - min(1.0, part) * (HEIGHT - BOTTOM - TOP)


def text(x: float, y: float, text: str, anchor: str, colour: str = "#222") -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escaped}</text>'


def closed(out: list[str]) -> str:
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    main()
