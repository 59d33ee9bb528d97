"""N9: the control plane killed with -9 while 1,000 spins live -> the API serves again and a new spin answers.

The spins are real processes; one routed service is under load all the time and must lose nothing. No peer is known;
as a reference, how long a bare keeper takes from its start to its first answer.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench.home import ROOT, TINY, Home, environment, first_200, host_of, running_home, service, stop, wait_for
from bench.measured import Measured, Scale, figures
from spinyard.errors import SpinyardError
from spinyard.testing.load_mix import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess

SPINS = {Scale.QUICK: 100, Scale.NORMAL: 1_000, Scale.FULL: 1_000}
KILLS = {Scale.QUICK: 1, Scale.NORMAL: 3, Scale.FULL: 10}
FLOOR, AIM = 5.0, 2.0
RATE = 100.0
CROWD = ("sleep", "1000001")


def measure(scale: Scale) -> Measured:
    with running_home() as home, tempfile.TemporaryDirectory() as folder:
        client = home.client
        client.apply([service("front", TINY, replicas=2)])
        began = time.perf_counter()
        client.apply([service("crowd", CROWD, replicas=SPINS[scale], routed=False)])
        first_200(home.gateway, "/", host_of("front"))
        wait_for("all spins are up", lambda: _ready(home) >= SPINS[scale], 300, 0.5)
        filled, processes = time.perf_counter() - began, _sleepers()
        assert processes >= SPINS[scale], f"only {processes} of {SPINS[scale]} processes are on the machine"
        mix = Mix(requests=[MixEntry(path="/"), MixEntry(path="/", method="POST", body="x" * 100)])
        load = LoadProcess(
            LoadSpec(f"http://{home.gateway}", RATE, 600, mix, host=host_of("front")), Path(folder) / "load.json"
        )
        try:
            time.sleep(2)
            api, serving = [], []
            for turn in range(KILLS[scale]):
                taken = _kill(home, f"new-{turn}")
                api.append(taken[0])
                serving.append(taken[1])
                wait_for("all spins are up", lambda: _ready(home) >= SPINS[scale], 60, 0.5)
            result = load.stop()
        finally:
            load.kill()
    keeper = [_bare_keeper() for _ in range(3)]
    ours = figures(serving)
    return Measured(
        unit="s",
        ours=ours,
        peers={"bare keeper start (reference)": figures(keeper)},
        floor=FLOOR,
        aim=AIM,
        ok=ours.max <= FLOOR and result.totals.failed == 0,
        notes={"spins": SPINS[scale], "api_again_s": [round(one, 2) for one in api], "requests": result.totals.sent,
               "data_plane_errors": result.totals.failed, "filled_s": round(filled, 1), "processes": processes},
    )  # fmt: skip


def _ready(home: Home) -> int:
    status = home.client.get("Service", "default", "crowd")["status"]
    return int(status.get("readyReplicas", status.get("ready", 0)))


def _sleepers() -> int:
    """Counted on the machine itself, not asked of Spinyard."""
    return sum(tuple(process.info["cmdline"] or ()) == CROWD for process in psutil.process_iter(["cmdline"]))


def _kill(home: Home, name: str) -> tuple[float, float]:
    """(seconds until the API answers ready, seconds until a spin asked for after the kill gives its first 200)."""
    old = home.server_pid()
    began = time.perf_counter()
    os.kill(old, signal.SIGKILL)

    def back() -> bool:
        try:
            return home.server_pid() not in (0, old) and home.client.is_ready()
        except SpinyardError:
            return False

    api = wait_for("the API is back", back, 60, 0.01)
    home.client.apply([service(name, TINY)])
    first_200(home.gateway, "/", host_of(name))
    return api, time.perf_counter() - began


def _bare_keeper() -> float:
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir="/tmp") as folder:
        began = time.perf_counter()
        command = [sys.executable, "-m", "spinyard.keeper", "--home", folder]
        process = subprocess.Popen(command, cwd=ROOT, env=environment(Path(folder)), stdout=subprocess.DEVNULL)
        try:
            wait_for("the keeper listens", lambda: _listens(Path(folder) / "run" / "keeper.sock"), 20, 0.005)
            return time.perf_counter() - began
        finally:
            stop(process)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
