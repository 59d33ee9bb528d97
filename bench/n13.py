"""N13: cells, what counts as false in them, and what came out. `python -m bench.n13 --out FILE` writes one JSON line a
cell; `python -m bench.n13_report FILE ...` makes the tables and plots of docs/judge.md from them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from bench.n13_judges import SHARES, End, rank, spinyard, threshold
from bench.n13_traffic import Rates, Traffic, by_step, steady, sticky, waves
from spinyard.core.verdict import Counts, Evidence, Increment, fold
from spinyard.core.verdict.stakes import divergence, nearest

FLOOR, AIM, POWER_MAX = 2.0, 1.0, 1.5
ALPHA, MARGIN = 0.01, 0.05
PER_SECOND = (0.1, 1.0, 10.0, 100.0, 1000.0)
BASES = (0.001, 0.01, 0.05)
REGRESSIONS = ((0.001, 0.01), (0.01, 0.1), (0.02, 0.2))
RANK_EVERY = 4
"""the rank test is slow and its error rates are large: a quarter of the ramps is enough"""


@dataclass(frozen=True, slots=True)
class Question:
    """`truth`: "better" (a roll-back is false), "worse" (an advance is false), or "between" (neither is)."""

    name: str
    per_second: float
    base: float
    difference: float
    truth: str
    make_rates: Callable[[Random], Rates]
    cluster: int = 1
    is_guaranteed: bool = True


@dataclass(frozen=True, slots=True)
class Came:
    ramps: int
    advanced: float
    rolled_back: float
    false: float | None
    new_requests: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Cell:
    cell: Question
    judges: dict[str, Came]

    def as_json(self) -> dict[str, Any]:
        question = {k: v for k, v in _fields(self.cell).items() if k != "make_rates"}
        return {**question, "judges": {name: asdict(came) for name, came in self.judges.items()}}


def cells() -> list[Question]:
    """False verdicts first, then the rest: an interrupted run has what matters."""
    grid = [
        _steady(rate, base, d) for d in ("0", "margin", "2x margin", "10x") for rate in PER_SECOND for base in BASES
    ]
    return [*grid[: 2 * len(PER_SECOND) * len(BASES)], *_other(), *grid[2 * len(PER_SECOND) * len(BASES) :]]


def results_of(question: Question, ramps: int) -> Cell:
    judges = {
        "spinyard": lambda traffic, random: spinyard(traffic, MARGIN, ALPHA, random),
        "threshold": lambda traffic, random: threshold(traffic, question.base + MARGIN / 2.0, random),
        "rank": rank,
    }
    out = {}
    for name, judge in judges.items():
        random = Random(f"{question.name} {question.per_second} {question.base} {question.difference}")
        times = max(20, ramps // RANK_EVERY) if name == "rank" else ramps
        ends = [
            judge(Traffic(question.per_second, question.make_rates(random), question.cluster), random)
            for _ in range(times)
        ]
        out[name] = _came(ends, question.truth)
    return Cell(question, out)


def is_met(cell: Cell) -> bool:
    """No allowance for chance: with few ramps a single false verdict is a miss."""
    ours = cell.judges["spinyard"]
    return ours.false is None or ours.false <= FLOOR / 100.0


def power(times: int) -> list[dict[str, Any]]:
    """Mean requests on the new side to the decision at 50/50, over ln(1/alpha) / KL of the nearest point."""
    out = []
    for alpha in (0.05, 0.01):
        for p_old, p_new in REGRESSIONS:
            out.append(_power(p_old, p_new, (p_new - p_old) / 2.0, alpha, times, is_fail=True))
        for p in (0.0, *BASES):
            out.append(_power(p, p, MARGIN, alpha, times, is_fail=False))
    return out


def _steady(per_second: float, base: float, difference: str) -> Question:
    new = {"0": base, "margin": base + MARGIN, "2x margin": base + 2.0 * MARGIN, "10x": 10.0 * base}[difference]
    truth = "better" if new <= base else "worse" if new >= base + MARGIN else "between"
    return Question(f"steady, {difference}", per_second, base, new - base, truth, _always(steady(base, new)))


def _other() -> Iterator[Question]:
    for difference, truth in ((0.0, "better"), (MARGIN, "worse")):
        name = "0" if truth == "better" else "margin"
        yield Question(
            f"base in waves x9, {name}", 10.0, 0.02, difference, truth, _always(waves(0.02, difference, 120.0))
        )
        moves = by_step(0.005, 0.05, difference)
        yield Question(f"base 0.5 -> 5 % with the weight, {name}", 100.0, 0.005, difference, truth, _always(moves))
    for times in (2, 3, 5):
        name, same = f"each failure counted {times} times, 0", _always(steady(0.01, 0.01))
        yield Question(name, 10.0, 0.01, 0.0, "better", same, cluster=times, is_guaranteed=False)
    for users in (100, 1_000, 10_000):
        name = f"{users} users who stay, 1 % of them always fail, 0"
        yield Question(name, 10.0, 0.01, 0.0, "better", _of_users(users), is_guaranteed=False)


def _always(rates: Rates) -> Callable[[Random], Rates]:
    return lambda random: rates


def _of_users(users: int) -> Callable[[Random], Rates]:
    return lambda random: sticky(users, 0.01, SHARES, random)


def _came(ends: list[End], truth: str) -> Came:
    n = len(ends)
    advanced, rolled_back = sum(e.advanced for e in ends) / n, sum(e.rolled_back for e in ends) / n
    false = {"better": rolled_back, "worse": advanced, "between": None}[truth]
    seconds, requests = sum(e.seconds for e in ends) / n, sum(e.new_requests for e in ends) / n
    return Came(n, advanced, rolled_back, false, round(requests, 1), round(seconds, 1))


def _power(p_old: float, p_new: float, margin: float, alpha: float, times: int, *, is_fail: bool) -> dict[str, Any]:
    q_old = (p_old + p_new) / 2.0 if is_fail else nearest(1.0, 1.0, p_old + 1e-12, p_new + 1e-12, margin)
    q_new = q_old if is_fail else q_old + margin
    ideal = math.log(1.0 / alpha) / (divergence(p_old, q_old) + divergence(p_new, q_new))
    random, bound, taken, wrong = Random(f"{p_old} {p_new} {alpha}"), math.log(1.0 / alpha), [], 0
    traffic = Traffic(1.0, steady(p_old, p_new))
    for _ in range(times):
        evidence = Evidence(margin=margin)
        for _, n_old, f_old, n_new, f_new in traffic.polls(0.5, 0, 0.0, random):
            evidence = fold(evidence, Increment(0, Counts(n_old, f_old), Counts(n_new, f_new)))
            is_worse, passes = evidence.worse.log_total >= bound, evidence.not_worse.log_total >= bound
            if is_worse or passes:
                break
        taken.append(evidence.new.requests)
        wrong += passes if is_fail else is_worse and not passes
    mean = sum(taken) / times
    return {
        "p_old": p_old, "p_new": p_new, "margin": margin, "alpha": alpha, "is_fail": is_fail, "times": times,
        "ideal": round(ideal, 1), "mean": round(mean, 1), "ratio": round(mean / ideal, 3), "wrong": wrong,
    }  # fmt: skip


def _fields(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in Question.__slots__}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.n13")
    parser.add_argument("--ramps", type=int, default=10_000)
    parser.add_argument("--part", default="0/1", help="this of so many parts of the cells")
    parser.add_argument("--power", action="store_true", help="the requests to decision, instead of the cells")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    part, parts = (int(n) for n in asked.part.split("/"))
    with asked.out.open("a") as out:
        for question in () if asked.power else cells()[part::parts]:
            print(json.dumps(results_of(question, asked.ramps).as_json()), file=out, flush=True)
        for one in power(max(60, asked.ramps // 5)) if asked.power else ():
            print(json.dumps(one), file=out, flush=True)


if __name__ == "__main__":
    main()
