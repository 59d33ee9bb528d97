"""N7: what an engine costs while 100,000 spins serve and nothing happens, sweeps included. Peer: the same with 1,000.

Each size runs in a process of its own; the share is CPU time of that process over the time watched.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from typing import Any

import uvloop

from bench.crowd import copy_life, settle_one
from bench.home import ROOT
from bench.lifecycles import yard
from bench.measured import Measured, Scale, figures

SPINS = {Scale.QUICK: 10_000, Scale.NORMAL: 100_000, Scale.FULL: 100_000}
SECONDS = {Scale.QUICK: 35, Scale.NORMAL: 60, Scale.FULL: 300}
FLOOR, AIM = 5.0, 1.0
FEW = 1_000
WINDOW_SECONDS = 5.0


def measure(scale: Scale) -> Measured:
    few = _in_a_process(FEW, SECONDS[scale])
    many = _in_a_process(SPINS[scale], SECONDS[scale])
    return Measured(
        unit="% of a core",
        # p50, p99 and max are of windows of 5 s; the floor holds for the whole, in notes.
        ours=figures(many["windows"]),
        peers={f"{FEW} spins": figures(few["windows"])},
        floor=FLOOR,
        aim=AIM,
        ok=many["percent"] < FLOOR,
        ratio={f"{FEW} spins": round(many["percent"] / max(few["percent"], 0.01), 2)},
        notes={"spins": SPINS[scale], "percent": many["percent"], "percent_few": few["percent"],
               "sweeps": many["sweeps"], "passes": many["passes"]},
    )  # fmt: skip


def _in_a_process(spins: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.rows.n7", str(spins), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 240, check=False)
    if done.returncode:
        raise RuntimeError(f"{spins} spins: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


async def _idle(spins: int, seconds: float) -> dict[str, object]:
    with yard() as made:
        copy_life(made, await settle_one(made), spins)
        figures_of = made.context.figures
        running = asyncio.create_task(made.engine.run())
        await asyncio.sleep(2)
        sweeps, passes = figures_of.sweeps, figures_of.passes
        began, used = time.perf_counter(), _cpu()
        windows = []
        while time.perf_counter() - began < seconds:
            at, before = time.perf_counter(), _cpu()
            await asyncio.sleep(WINDOW_SECONDS)
            windows.append((_cpu() - before) / (time.perf_counter() - at) * 100)
        percent = (_cpu() - used) / (time.perf_counter() - began) * 100
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert figures_of.sweeps > sweeps, "no sweep fell into the time watched"
        assert sum(made.store.counts().values()) == spins + 2, "spins were lost while idle"
    return {
        "percent": round(percent, 2),
        "windows": windows,
        "sweeps": figures_of.sweeps - sweeps,
        "passes": figures_of.passes - passes,
    }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_idle(int(sys.argv[1]), float(sys.argv[2])))))
