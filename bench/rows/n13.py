"""N13: the judges beside a threshold judge and a rank-test judge on the same simulated ramps: on success (bench/n13.py)
and on latency (bench/n13_latency.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bench import n13, n13_latency
from bench.measured import Measured, Scale, figures
from bench.n13 import AIM, FLOOR, POWER_MAX

RAMPS = {Scale.QUICK: 60, Scale.NORMAL: 2_500, Scale.FULL: 10_000}
LATENCY_RAMPS = {Scale.QUICK: 12, Scale.NORMAL: 400, Scale.FULL: 10_000}
"""a ramp on latency takes ten times as long to simulate: every look weighs whole histograms"""
JUDGES = ("spinyard", "threshold", "rank")


class Told(Protocol):
    @property
    def false(self) -> float | None: ...


def measure(scale: Scale) -> Measured:
    ramps, latency_ramps = RAMPS[scale], LATENCY_RAMPS[scale]
    found = [n13.results_of(cell, ramps) for cell in n13.cells()]
    ratios = n13.power(max(60, ramps // 5))
    guaranteed = [one for one in found if one.cell.is_guaranteed]
    latency = [cell for asked in n13_latency.questions() for cell in n13_latency.results_of(asked, latency_ramps)]
    worst = {
        judge: [
            *_false_percent([one.judges[judge] for one in guaranteed]),
            *_false_percent([one.judges[judge] for one in latency]),
        ]
        for judge in JUDGES
    }
    return Measured(
        unit="% false verdicts in a cell",
        ours=figures(worst["spinyard"]),
        peers={judge: figures(worst[judge]) for judge in ("threshold", "rank")},
        floor=FLOOR,
        aim=AIM,
        ok=all(n13.is_met(one) for one in guaranteed)
        and all(n13_latency.is_met(one) for one in latency)
        and max(one["ratio"] for one in ratios if one["is_fail"]) <= POWER_MAX,
        notes={
            "ramps": ramps,
            "cells": [one.as_json() for one in found],
            "power": ratios,
            "latency_ramps": latency_ramps,
            "latency_cells": [one.as_json() for one in latency],
            "latency_power": list(n13_latency.power(max(4, latency_ramps // 20))),
        },
    )


def _false_percent(told: Sequence[Told]) -> list[float]:
    return [100.0 * one.false for one in told if one.false is not None]
