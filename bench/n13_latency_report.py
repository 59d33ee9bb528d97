"""Tables and plots of docs/judge.md on latency from the lines that `python -m bench.n13_latency` wrote.

python -m bench.n13_latency_report CELLS.jsonl POWER.jsonl: rewrites what is between the `n13-latency` marks in
docs/judge.md, and docs/img/judge-latency-*.svg. Cells of the same question and rate are pooled.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from bench.n13_latency import questions
from bench.n13_report import (
    DOCS,
    HEIGHT,
    JUDGES,
    LEFT,
    RIGHT,
    SHOWN_MIN,
    WIDTH,
    Json,
    closed,
    frame,
    lines,
    percent,
    text,
    tick_y,
    write_between,
    y_of,
)

WAYS = {"ours": "#1a7f5a", "intervals": "#b08a1e", "dkw": "#c2571a", "ideal": "#888888"}
COUNTED = ("ramps",)


def main() -> None:
    cells, power = pooled(lines(Path(sys.argv[1]))), lines(Path(sys.argv[2]))
    write_between("n13-latency", "\n".join([*_table(cells), "", *_power_table(power)]))
    (DOCS / "img" / "judge-latency-false.svg").write_text(_false_plot(cells))
    (DOCS / "img" / "judge-latency-requests.svg").write_text(_power_plot(power))


def pooled(cells: list[Json]) -> list[Json]:
    """Runs of the same cell, weighed with their ramps."""
    out: dict[tuple[str, str, str, float], Json] = {}
    for cell in cells:
        key = (cell["shape"], cell["grid"], cell["name"], cell["per_second"])
        before = out.get(key)
        if before is None:
            out[key] = cell
            continue
        before["judges"] = {judge: _weighed(before["judges"][judge], came) for judge, came in cell["judges"].items()}
    return sorted(out.values(), key=_place)


def _place(cell: Json) -> tuple[int, int]:
    """As the questions are asked."""
    asked = [(q.shape, q.grid.name, q.name) for q in questions()]
    return asked.index((cell["shape"], cell["grid"], cell["name"])), int(10 * cell["per_second"])


def _weighed(a: Json, b: Json) -> Json:
    n = a["ramps"] + b["ramps"]
    return {k: n if k in COUNTED else (a[k] * a["ramps"] + b[k] * b["ramps"]) / n for k in a}


def _table(cells: list[Json]) -> Iterable[str]:
    yield (
        "| latencies | bounds | new side | false: ours, worst rate | undecided at 0.1 / 1 / 10 / 100 / 1,000 a second "
        "| new-side requests | seconds at 10 a second | false: threshold | false: rank | ramps |"
    )
    yield "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for (form, grid, name), group in groupby(cells, key=lambda c: (c["shape"], c["grid"], c["name"])):
        rates = sorted(group, key=lambda c: float(c["per_second"]))
        ours = [c["judges"]["spinyard"] for c in rates]
        undecided = " / ".join(f"{100 * came['undecided']:.0f}" for came in ours)
        at_ten = next(c["judges"]["spinyard"] for c in rates if c["per_second"] == 10.0)
        peers = " | ".join(_range([c["judges"][peer]["false"] for c in rates]) for peer in ("threshold", "rank"))
        yield (
            f"| {form} | {grid} | {name} | **{percent(max(came['false'] for came in ours), 2)}** | {undecided} % "
            f"| {at_ten['new_requests']:,.0f} | {at_ten['seconds']:,.0f} | {peers} | {ours[0]['ramps']:,} |"
        )


def _range(falses: list[float]) -> str:
    low, high = percent(min(falses), 0), percent(max(falses), 0)
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _power_table(rows: list[Json]) -> Iterable[str]:
    yield "| new side | quantile | share | ideal | ours | ours / ideal | two intervals | uniform band (DKW) | wrong |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        mean = {way: "-" if came is None else f"{came:,}" for way, came in row["mean"].items()}
        ratio = "-" if row["mean"]["ours"] is None else f"{row['mean']['ours'] / row['ideal']:.1f}"
        yield (
            f"| {row['name']} | p{100 * row['quantile']:g} | {percent(row['share'], 0)} | {row['ideal']:,} "
            f"| **{mean['ours']}** | {ratio} | {mean['intervals']} | {mean['dkw']} "
            f"| {sum(row['wrong'].values())} of {row['times']} |"
        )


def _false_plot(cells: list[Json]) -> str:
    rates = sorted({float(c["per_second"]) for c in cells})
    ordered = sorted(cells, key=lambda c: (c["per_second"], c["truth"] != "within", c["shape"], c["grid"]))
    out = frame("Latency: false verdicts in each cell; at each rate those within the margins, then those beyond", "%")
    low, high = math.log10(SHOWN_MIN), 2.0
    for tick in (0.01, 0.1, 1.0, 10.0, 100.0):
        out += tick_y((math.log10(tick) - low) / (high - low), f"{tick:g}", strong=tick == 1.0)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(ordered))
    for rate in rates:
        at = [i for i, c in enumerate(ordered) if c["per_second"] == rate]
        out.append(text(LEFT + (sum(at) / len(at) + 0.5) * step, HEIGHT - 28, f"{rate:g}/s", "middle"))
    for i, cell in enumerate(ordered):
        for judge, colour in JUDGES.items():
            false = max(SHOWN_MIN, 100.0 * cell["judges"][judge]["false"])
            y = y_of((math.log10(false) - low) / (high - low))
            x = LEFT + (i + 0.5) * step
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" fill-opacity=".8"/>')
    return closed(out)


def _power_plot(rows: list[Json]) -> str:
    """A column for each question, the means on a logarithmic axis."""
    out = frame("Requests on the new side to the decision: at 10 % of the traffic, then at 50 %", "", WAYS)
    low, high = 0.0, 6.0
    for tick in (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000):
        label = f"{tick:,}" if tick < 1_000_000 else "million"
        out += tick_y((math.log10(tick) - low) / (high - low), label, strong=False)
    step = (WIDTH - LEFT - RIGHT) / max(1, len(rows))
    for i, row in enumerate(rows):
        x = LEFT + (i + 0.5) * step
        label = f"p{100 * row['quantile']:g} {'same' if row['truth'] == 'within' else '+400'}"
        out.append(text(x, HEIGHT - 36 + 12 * (i % 2), label, "middle"))
        for way, colour in WAYS.items():
            came = row["ideal"] if way == "ideal" else row["mean"][way]
            if came is not None:
                y = y_of((math.log10(max(1.0, came)) - low) / (high - low))
                out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
    return closed(out)


if __name__ == "__main__":
    main()
