"""N13 on latency: cells, what counts as false in them, and what came out.

`python -m bench.n13_latency --out FILE` writes one JSON line a cell, `--power` the requests to decision;
`python -m bench.n13_latency_report CELLS POWER` makes the tables and the plot of docs/judge.md from them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from bench.n13_judges import End
from bench.n13_latency_judges import (
    FIRST_LOOK,
    REQUESTS_MAX,
    Pair,
    Pairs,
    decides_dkw,
    decides_intervals,
    decides_ours,
    rank,
    spinyard,
    threshold,
)
from bench.n13_latency_traffic import CACHE, ENVOY, FINE, HEAVY, Cdf, quantile_of, shape, slower, stretched
from spinyard.core.verdict import Histogram, QuantileGoal, Verdict

FLOOR, AIM = 2.0, 1.0
ALPHA = 0.01
PER_SECOND = (0.1, 1.0, 10.0, 100.0, 1000.0)
QUANTILES = (0.5, 0.95, 0.99)
PLUS_MS = 2.0
SWINGS = (0.6, 1.0, 1.6)
PEER_EVERY = 4
"""the peers are slow and their error rates are large: a quarter of the ramps is enough"""
SHAPES: dict[str, Cdf] = {"heavy tail": HEAVY, "cache": CACHE}


@dataclass(frozen=True, slots=True)
class Grid:
    """Bounds, and goals with margins that they can carry."""

    name: str
    bounds_ms: tuple[float, ...]
    goals: tuple[QuantileGoal, ...]


def _goals(*margins: float) -> tuple[QuantileGoal, ...]:
    return tuple(QuantileGoal(q, margin, PLUS_MS) for q, margin in zip(QUANTILES, margins, strict=True))


FINE_GRID = Grid("fine", FINE, _goals(0.25, 0.25, 0.5))
ENVOY_GRID = Grid("Envoy's", ENVOY, _goals(0.5, 0.5, 1.0))


@dataclass(frozen=True, slots=True)
class Question:
    """`truth`: "within" (a roll-back is false) or "beyond" (an advance is false)."""

    name: str
    shape: str
    grid: Grid
    old: Cdf
    new: Cdf
    truth: str
    loads: tuple[float, ...] = (1.0,)
    """both sides take so many times as long, stretch by stretch"""

    @property
    def pairs(self) -> Pairs:
        sides = [[slower(side, load, 0.0) for side in (self.old, self.new)] for load in self.loads]
        return tuple(Pair(*(shape(self.grid.bounds_ms, side) for side in pair)) for pair in sides)


@dataclass(frozen=True, slots=True)
class Came:
    ramps: int
    advanced: float
    """raised at least once"""
    rolled_back: float
    completed: float
    """raised to the end and not rolled back"""
    false: float
    undecided: float
    new_requests: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Cell:
    cell: Question
    per_second: float
    judges: dict[str, Came]

    def as_json(self) -> dict[str, Any]:
        question = {
            "name": self.cell.name, "shape": self.cell.shape, "grid": self.cell.grid.name, "truth": self.cell.truth,
            "per_second": self.per_second,
        }  # fmt: skip
        return {**question, "judges": {name: asdict(came) for name, came in self.judges.items()}}


def questions() -> list[Question]:
    fine = [question for name in SHAPES for question in _questions(name, FINE_GRID)]
    coarse = [
        question for question in _questions("heavy tail", ENVOY_GRID) if question.name not in ("+5 %", "slow tail")
    ]
    swings = [
        replace(question, name=f"load swings, {question.name}", loads=SWINGS)
        for question in _questions("heavy tail", FINE_GRID)
        if question.name in ("same", "twice the margin")
    ]
    return [*fine, *swings, *coarse]


def results_of(question: Question, ramps: int, run: int = 0) -> list[Cell]:
    """One cell for each rate. Other ramps in each `run`: they can be pooled."""
    pairs, goals = question.pairs, question.grid.goals
    is_worse = question.truth == "beyond"
    random = Random(f"{question.name} {question.shape} {question.grid.name} {run}")
    ours = [spinyard(pairs, goals, ALPHA, PER_SECOND, random, is_worse=is_worse) for _ in range(ramps)]
    p99 = quantile_of(question.old, 0.99)
    limit_ms = (p99 + goals[-1].limit.of(p99)) / 2.0
    out = []
    for rate in PER_SECOND:
        times = max(10, ramps // PEER_EVERY)
        judges = {
            "spinyard": _came([ends[rate] for ends in ours], question.truth),
            "threshold": _came([threshold(pairs, rate, limit_ms, random) for _ in range(times)], question.truth),
            "rank": _came([rank(pairs, rate, random) for _ in range(times)], question.truth),
        }
        out.append(Cell(question, rate, judges))
    return out


def is_met(cell: Cell) -> bool:
    """No allowance for chance: with few ramps a single false verdict is a miss."""
    return cell.judges["spinyard"].false <= FLOOR / 100.0


def power(times: int) -> Iterator[dict[str, Any]]:
    """Mean requests on the new side to the decision, for one goal at a time, looked at with every 10 % more."""
    for share in (0.1, 0.5):
        for question in _questions("heavy tail", FINE_GRID):
            if question.name in ("same", "400 ms slower"):
                for goal in FINE_GRID.goals:
                    yield _power(question, goal, share, times)


def _power(question: Question, goal: QuantileGoal, share: float, times: int) -> dict[str, Any]:
    (pair,), random = question.pairs, Random(f"{question.name} {goal.quantile} {share}")
    judges = {
        "ours": lambda old, new: decides_ours(goal, ALPHA, share, old, new),
        "intervals": lambda old, new: decides_intervals(goal, ALPHA, old, new),
        "dkw": lambda old, new: decides_dkw(goal, ALPHA, old, new),
    }
    taken: dict[str, list[int]] = {name: [] for name in judges}
    wrong = dict.fromkeys(judges, 0)
    is_false = Verdict.FAIL if question.truth == "within" else Verdict.PASS
    for _ in range(times):
        old, new, requests, left = Histogram(), Histogram(), 0.0, set(judges)
        while left and requests < 20 * REQUESTS_MAX:
            more = max(FIRST_LOOK / share, requests / 10.0)
            requests += more
            old += pair.old.histogram(more * (1.0 - share), random)
            new += pair.new.histogram(more * share, random)
            if not old.total or not new.total:
                continue
            for name in sorted(left):
                verdict = judges[name](old, new)
                if verdict is not Verdict.INCONCLUSIVE:
                    taken[name].append(new.total)
                    wrong[name] += verdict is is_false
                    left.discard(name)
    mean = {name: round(sum(took) / times) if len(took) == times else None for name, took in taken.items()}
    return {
        "name": question.name, "truth": question.truth, "quantile": goal.quantile, "share": share, "times": times,
        "mean": mean, "wrong": wrong, "ideal": round(_ideal(question, goal, share)),
    }  # fmt: skip


def _ideal(question: Question, goal: QuantileGoal, share: float) -> float:
    """ln(1 / alpha) over the least that a request on the new side tells, at the place where it tells least; of those
    who know both distributions without bounds."""
    (pair,), q = question.pairs, goal.quantile
    middle = quantile_of(question.old, q)
    least = math.inf
    for n in range(-600, 601):
        v = middle * math.exp(n / 300.0)
        p_old, p_new = pair.old.cdf(v), pair.new.cdf(goal.limit.of(v))
        counts = (p_new > q) == (question.truth == "within")
        told = (1.0 - share) * _divergence(p_old, q) + (share * _divergence(p_new, q) if counts else 0.0)
        least = min(least, told / share)
    return math.log(1.0 / ALPHA) / least


def _divergence(p: float, q: float) -> float:
    out = p * math.log(p / q) if p > 0.0 else 0.0
    return out + ((1.0 - p) * math.log((1.0 - p) / (1.0 - q)) if p < 1.0 else 0.0)


def _questions(name: str, grid: Grid) -> list[Question]:
    old = SHAPES[name]
    middle, tail = grid.goals[0], grid.goals[-1]
    p90, p99 = quantile_of(old, 0.9), quantile_of(old, 0.99)
    longer = (p99 * (1.0 + 2.0 * tail.margin) + 2.0 * PLUS_MS - p90) / (p99 - p90)
    news = {
        "same": (old, "within"),
        "+5 %": (slower(old, 1.05, 0.0), "within"),
        "twice the margin": (slower(old, 1.0 + 2.0 * middle.margin, 2.0 * PLUS_MS), "beyond"),
        "slow tail": (stretched(old, p90, longer), "beyond"),
        "400 ms slower": (slower(old, 1.0, 400.0), "beyond"),
    }
    return [Question(what, name, grid, old, new, truth) for what, (new, truth) in news.items()]


def _came(ends: list[End], truth: str) -> Came:
    n = len(ends)
    advanced, rolled_back = sum(e.advanced for e in ends) / n, sum(e.rolled_back for e in ends) / n
    return Came(
        n,
        advanced,
        rolled_back,
        completed=sum(e.completed for e in ends) / n,
        false=rolled_back if truth == "within" else advanced,
        undecided=sum(not e.completed and not e.rolled_back for e in ends) / n,
        new_requests=round(sum(e.new_requests for e in ends) / n, 1),
        seconds=round(sum(e.seconds for e in ends) / n, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.n13_latency")
    parser.add_argument("--ramps", type=int, default=10_000)
    parser.add_argument("--part", default="0/1", help="this of so many parts of the questions")
    parser.add_argument("--run", type=int, default=0, help="other ramps than those of other runs")
    parser.add_argument("--power", action="store_true", help="the requests to decision, instead of the cells")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    part, parts = (int(n) for n in asked.part.split("/"))
    with asked.out.open("a") as out:
        for question in () if asked.power else questions()[part::parts]:
            for cell in results_of(question, asked.ramps, asked.run):
                print(json.dumps(cell.as_json()), file=out, flush=True)
        for one in power(max(20, asked.ramps // 25)) if asked.power else ():
            print(json.dumps(one), file=out, flush=True)


if __name__ == "__main__":
    main()
