"""N2: cold spin -> first 200 through Envoy, beside the bare program's own start, the two taking turns.

Ours begins before the apply over the HTTP API of a new Service (its route is made too) and ends at the first 200 at the
gateway. Bare: `subprocess` of the same command, until its first 200 on its own port.
"""

from __future__ import annotations

import subprocess
import time

from bench.home import ROOT, TINY, Home, environment, first_200, free_port, host_of, running_home, service, stop
from bench.measured import Figures, Measured, Scale, figures

TIMES = {Scale.QUICK: 5, Scale.NORMAL: 20, Scale.FULL: 50}
PROGRAMS = {
    "tiny": (TINY, "/healthz"),
    "httpbin": (("gunicorn", "--bind", "127.0.0.1:${PORT}", "--log-level", "error", "httpbin:app"), "/status/200"),
}


def measure(scale: Scale) -> Measured:
    ours: dict[str, Figures] = {}
    bare: dict[str, Figures] = {}
    with running_home() as home:
        for name, (command, path) in PROGRAMS.items():
            spins, starts = [], []
            for turn in range(-1, TIMES[scale]):  # the first of each only warms caches
                spin = _spin(home, f"{name}-{turn + 1}", command, path)
                start = _bare(home, command, path)
                if turn >= 0:
                    spins.append(spin)
                    starts.append(start)
            ours[name], bare[name] = figures(spins, 1), figures(starts, 1)
    floors = {name: round(1.25 * bare[name].p50 + 60, 1) for name in PROGRAMS}
    aims = {name: round(1.1 * bare[name].p50 + 25, 1) for name in PROGRAMS}
    worst = max(PROGRAMS, key=lambda name: ours[name].p50 - floors[name])
    return Measured(
        unit="ms",
        ours=ours[worst],
        peers={f"bare {worst}": bare[worst]},
        floor=floors[worst],
        aim=aims[worst],
        ok=all(ours[name].p50 <= floors[name] for name in PROGRAMS),
        notes={
            name: {"ours_p50": ours[name].p50, "ours_p99": ours[name].p99, "bare_p50": bare[name].p50,
                   "floor": floors[name], "aim": aims[name]}
            for name in PROGRAMS
        },
    )  # fmt: skip


def _spin(home: Home, name: str, command: tuple[str, ...], path: str) -> float:
    client = home.client
    client.info()
    began = time.perf_counter()
    client.apply([service(name, command, probe=path)])
    first_200(home.gateway, path, host_of(name))
    taken = (time.perf_counter() - began) * 1000
    home.delete(name)
    home.spinyard("wait", f"service/{name}", "--for=delete", "--timeout", "30s")
    return taken


def _bare(home: Home, command: tuple[str, ...], path: str) -> float:
    port = free_port()
    words = [word.replace("${PORT}", str(port)) for word in command]
    began = time.perf_counter()
    env = environment(home.path, PORT=str(port))
    process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        first_200(f"127.0.0.1:{port}", path, "localhost")
        return (time.perf_counter() - began) * 1000
    finally:
        stop(process)
