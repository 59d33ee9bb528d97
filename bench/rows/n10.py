"""N10: memory (PSS) and CPU of keeper, server and Envoy with nothing to do. Peer: that Envoy alone."""

from __future__ import annotations

import time
from pathlib import Path

from bench.home import TINY, first_200, host_of, running_home, service
from bench.measured import Figures, Measured, Scale, figures

SECONDS = {Scale.QUICK: 10, Scale.NORMAL: 30, Scale.FULL: 120}
FLOOR_MB, AIM_MB = 250.0, 180.0
CPU_AIM_PERCENT = 2.0


def measure(scale: Scale) -> Measured:
    with running_home() as home:
        # One service has come and gone, so that everything was used once.
        home.client.apply([service("warm", TINY)])
        first_200(home.gateway, "/", host_of("warm"))
        home.delete("warm")
        home.spinyard("wait", "service/warm", "--for=delete", "--timeout", "30s")
        time.sleep(2)
        family = home.family()
        began, used = time.perf_counter(), sum(_cpu(p.pid) for p in family.values())
        totals, envoy = [], []
        while time.perf_counter() - began < SECONDS[scale]:
            time.sleep(1)
            sizes = {name: pss_mb(process.pid) for name, process in family.items()}
            totals.append(sum(sizes.values()))
            envoy.append(sizes["envoy"])
        percent = (sum(_cpu(p.pid) for p in family.values()) - used) / (time.perf_counter() - began) * 100
        resident = {name: round(p.memory_info().rss / 1e6, 1) for name, p in family.items()}
    ours: Figures = figures(totals, 1)
    return Measured(
        unit="MB PSS",
        ours=ours,
        peers={"Envoy alone": figures(envoy, 1)},
        floor=FLOOR_MB,
        aim=AIM_MB,
        ok=ours.max <= FLOOR_MB,
        notes={"pss_mb": {k: round(v, 1) for k, v in sizes.items()}, "rss_mb": resident,
               "rss_mb_sum": round(sum(resident.values()), 1), "cpu_percent": round(percent, 2),
               "cpu_aim_percent": CPU_AIM_PERCENT},
    )  # fmt: skip


def pss_mb(pid: int) -> float:
    """Shared pages counted once in all."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no Pss of {pid}")


def _cpu(pid: int) -> float:
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
