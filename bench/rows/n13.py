"""N13: the judge beside a threshold judge and a rank-test judge on the same simulated ramps (bench/n13.py)."""

from __future__ import annotations

from bench.measured import Measured, Scale, figures
from bench.n13 import AIM, FLOOR, POWER_MAX, Cell, cells, is_met, power, results_of

RAMPS = {Scale.QUICK: 60, Scale.NORMAL: 2_500, Scale.FULL: 10_000}


def measure(scale: Scale) -> Measured:
    ramps = RAMPS[scale]
    found = [results_of(cell, ramps) for cell in cells()]
    ratios = power(max(60, ramps // 5))
    guaranteed = [one for one in found if one.cell.is_guaranteed]
    worst = {judge: _false_percent(guaranteed, judge) for judge in ("spinyard", "threshold", "rank")}
    return Measured(
        unit="% false verdicts in a cell",
        ours=figures(worst["spinyard"]),
        peers={judge: figures(worst[judge]) for judge in ("threshold", "rank")},
        floor=FLOOR,
        aim=AIM,
        ok=all(is_met(one) for one in guaranteed)
        and max(one["ratio"] for one in ratios if one["is_fail"]) <= POWER_MAX,
        notes={"ramps": ramps, "cells": [one.as_json() for one in found], "power": ratios},
    )


def _false_percent(found: list[Cell], judge: str) -> list[float]:
    return [100.0 * false for one in found if (false := one.judges[judge].false) is not None]
