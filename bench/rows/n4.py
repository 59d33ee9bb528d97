"""N4: whole lifecycles a second, durable, from the insert to verified terminated, on the fake provider.

Peer: a durable-workflow library (DBOS) on SQLite in the same run, seven durable steps a workflow; a spin's life here
is nine committed transitions.
"""

from __future__ import annotations

import json
import subprocess
import sys

import uvloop

from bench.home import ROOT
from bench.lifecycles import REPLICAS, live, yard
from bench.measured import Measured, Scale, figures

SPINS = {Scale.QUICK: (1_000, 4_000), Scale.NORMAL: (1_000, 10_000), Scale.FULL: (1_000, 10_000, 100_000)}
RUNS = {Scale.QUICK: 2, Scale.NORMAL: 3, Scale.FULL: 3}
FLOOR, AIM = 500.0, 3_000.0
FLAT = 0.10
PEER_SECONDS = 60


def measure(scale: Scale) -> Measured:
    rates: dict[int, list[float]] = {}
    cpu: dict[int, float] = {}
    peer: list[float] = []
    for size in SPINS[scale]:
        for _ in range(RUNS[scale] if size <= 1_000 else 1):
            peer.append(_workflows())
            with yard() as made:
                lives = uvloop.run(live(made, size, 900.0 if size > 10_000 else 240.0))
            rates.setdefault(size, []).append(lives.spins / lives.seconds)
            cpu[size] = round(lives.cpu_seconds / lives.spins * 1e6)
    every = [rate for of_size in rates.values() for rate in of_size]
    typical = {size: figures(values).p50 for size, values in rates.items()}
    first, last = typical[SPINS[scale][0]], typical[SPINS[scale][-1]]
    falls = 1 - last / first
    ours = figures(every, 1)
    return Measured(
        unit="lifecycles/s",
        ours=ours,
        peers={"DBOS, 7 steps, SQLite": figures(peer, 1)},
        floor=FLOOR,
        aim=AIM,
        ok=min(typical.values()) >= FLOOR and falls <= FLAT,
        notes={"rate_by_spins": typical, "falls": round(falls, 3), "falls_max": FLAT, "cpu_us_per_spin": cpu,
               "spins_per_service": REPLICAS},
    )  # fmt: skip


def _workflows() -> float:
    """In a process of its own: the library keeps threads and a registry for the life of its process."""
    command = [sys.executable, "-m", "bench.dbos_peer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PEER_SECONDS * 2, check=False)
    if done.returncode:
        raise RuntimeError(f"the peer failed: {done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["per_second"])
