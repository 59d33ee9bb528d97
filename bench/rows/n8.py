"""N8: requests lost while instances are replaced under 300 requests/s, open loop, keep-alive, half of them POST.

Ours: `spinyard restart` in a loop. Peer, in the same run: the naive order on the same Envoy binary with the same
program: the new one is up, then the old one is taken out of the endpoints and gets its SIGTERM in the same moment.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.home import TINY, first_200, host_of, running_home, service, wait_for
from bench.measured import Figures, Measured, Scale
from bench.naive import naive_gateway
from spinyard.testing.load_mix import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult

REPLACEMENTS = {Scale.QUICK: 20, Scale.NORMAL: 500, Scale.FULL: 500}
NAIVE = {Scale.QUICK: 20, Scale.NORMAL: 100, Scale.FULL: 500}
REPLICAS = 5
RATE = 300.0
WORK = {"TINY_WORK_MS": "5"}
MIX = Mix(requests=[MixEntry(path="/"), MixEntry(path="/", method="POST", body="x" * 200, headers={"x-bench": "1"})])


def measure(scale: Scale) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        replaced, seconds, ours = _ours(REPLACEMENTS[scale], Path(folder) / "ours.json")
        naive_replaced, naive = _naive(NAIVE[scale], Path(folder) / "naive.json")
    lost, naive_lost = float(ours.totals.failed), float(naive.totals.failed)
    scaled = round(naive_lost * replaced / naive_replaced, 1)
    return Measured(
        unit="requests lost",
        ours=Figures(lost, lost, lost, replaced),
        peers={"naive order": Figures(scaled, scaled, scaled, naive_replaced)},
        floor=0,
        aim=0,
        ok=lost == 0 and replaced >= REPLACEMENTS[scale],
        notes={"replacements": replaced, "seconds": round(seconds, 1), "requests": ours.totals.sent,
               "p50_ms": ours.totals.latency_ms.p50, "p99_ms": ours.totals.latency_ms.p99,
               "naive_lost": naive_lost, "naive_replacements": naive_replaced, "naive_requests": naive.totals.sent,
               "failures": [f"{f.method} {f.status} {f.error}" for f in ours.failures[:20]]},
    )  # fmt: skip


def _ours(count: int, out: Path) -> tuple[int, float, LoadResult]:
    with running_home() as home:
        update = {"rollingUpdate": {"maxSurge": REPLICAS, "maxUnavailable": 0}}
        home.client.apply([service("app", TINY, replicas=REPLICAS, env=WORK, update=update)])
        first_200(home.gateway, "/", host_of("app"))
        wait_for("all serve", lambda: len(home.serving("app")) == REPLICAS, 60)
        load = LoadProcess(LoadSpec(f"http://{home.gateway}", RATE, 3000, MIX, host=host_of("app")), out)
        began = time.perf_counter()
        try:
            time.sleep(1)
            replaced = 0
            while replaced < count:
                before = {spin["metadata"]["uid"] for spin in home.serving("app")}
                home.spinyard("restart", "app")

                def rolled(old: set[str] = before) -> bool:
                    spins = home.client.list("Spin", "default", labels={"spinyard.dev/service": "app"})["items"]
                    new = [s for s in spins if s["metadata"]["uid"] not in old and s["status"]["state"] == "serving"]
                    return len(new) == REPLICAS and len(spins) == REPLICAS

                wait_for("all are replaced", rolled, 60)
                replaced += REPLICAS
            time.sleep(1)
            return replaced, time.perf_counter() - began, load.stop()
        finally:
            load.kill()


def _naive(count: int, out: Path) -> tuple[int, LoadResult]:
    with naive_gateway(TINY, REPLICAS, WORK) as gateway:
        load = LoadProcess(LoadSpec(f"http://{gateway.address}", RATE, 3000, MIX), out)
        try:
            time.sleep(1)
            for _ in range(count):
                gateway.replace_one()
            time.sleep(1)
            return count, load.stop()
        finally:
            load.kill()
