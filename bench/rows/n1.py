"""N1: warm claim -> first 200 of its own host name through Envoy, 50 claims/s, open loop, from a filled pool.

The pool's maximum is its minimum, so nothing is refilled meanwhile. Time counts from the intended moment of each claim,
over the HTTP API, to the first 200 at the gateway. Peers in the same run, one after the other: `docker run` of a static
busybox httpd (`docker import`, host network: the fastest that Docker does) and the bare start of our program.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.home import ROOT, TINY, Home, Json, environment, first_200, free_port, running_home, stop, wait_for
from bench.measured import Figures, Measured, Scale, figures
from spinyard.client import read_server_file

CLAIMS = {Scale.QUICK: 50, Scale.NORMAL: 200, Scale.FULL: 400}
PEER_STARTS = {Scale.QUICK: 5, Scale.NORMAL: 20, Scale.FULL: 50}
RATE = 50.0
THREADS = 16
SPARE = 5
FLOOR_P50, FLOOR_P99, AIM_P50, AIM_P99 = 25.0, 80.0, 10.0, 30.0
BUSYBOX = Path("/bin/busybox")


def measure(scale: Scale) -> Measured:
    with running_home() as home:
        ours, cold, cpu = _claims(home, CLAIMS[scale])
        bare = [_bare(home) for _ in range(PEER_STARTS[scale])]
    peers: dict[str, Figures] = {"bare start": figures(bare, 1)}
    docker, why = _docker(PEER_STARTS[scale])
    if docker:
        peers["docker run"] = figures(docker, 1)
    found = figures(ours, 1)
    return Measured(
        unit="ms",
        ours=found,
        peers=peers,
        floor=FLOOR_P50,
        aim=AIM_P50,
        ok=found.p50 <= FLOOR_P50 and found.p99 <= FLOOR_P99 and not cold,
        notes={
            "p99_floor": FLOOR_P99,
            "p99_aim": AIM_P99,
            "per_second": RATE,
            "not_warm": cold,
            "cpu_ms_per_claim": cpu,
            "docker": why,
        },
    )


def _claims(home: Home, count: int) -> tuple[list[float], int, Json]:
    size = count + SPARE
    template: Json = {
        "command": list(TINY),
        "workingDir": str(ROOT),
        "env": [{"name": "PYTHONPATH", "value": str(ROOT)}],
        "ports": [{"name": "http"}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
        "terminationGracePeriodSeconds": 5,
    }
    spec: Json = {"owner": "bench", "min": size, "max": size, "hostSuffix": "box.localhost", "template": template}
    home.client.apply(
        [{"apiVersion": "spinyard.dev/v1", "kind": "WarmPool", "metadata": {"name": "box"}, "spec": spec}]
    )
    wait_for("the pool is full", lambda: _warm(home) == size, 240, every=0.5)
    server = read_server_file(home.path)
    assert server is not None
    caller = Caller(server.url.removeprefix("http://"), (home.path / "token").read_text().strip(), home.gateway)
    before = _cpu(home)
    began = time.perf_counter() + 0.2
    moments = [began + index / RATE for index in range(count)]
    with ThreadPoolExecutor(THREADS, initializer=caller.connect) as pool:
        taken = list(pool.map(caller.claim, range(count), moments))
    after = _cpu(home)
    spent = {name: round((after[name] - before[name]) * 1000 / count, 2) for name in after}
    listed = home.client.list("Claim", "default")["items"]
    return taken, sum(1 for claim in listed if claim["status"].get("cold")), spent


def _cpu(home: Home) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in home.family().items()}


def _warm(home: Home) -> int:
    return int(home.client.get("WarmPool", "default", "box")["status"].get("warm", 0))


class Caller:
    """One keep-alive connection to the API and one to the gateway for each thread."""

    def __init__(self, api: str, token: str, gateway: str) -> None:
        self._api, self._token, self._gateway = api, token, gateway
        self._mine = threading.local()

    def connect(self) -> None:
        for name, address in (("api", self._api), ("gate", self._gateway)):
            host, _, port = address.rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=20)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            setattr(self._mine, name, connection)

    def claim(self, number: int, moment: float) -> float:
        time.sleep(max(0.0, moment - time.perf_counter()))
        body = json.dumps({"name": f"c{number}"})
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        self._mine.api.request("POST", "/v1/namespaces/default/warmpools/box/claims", body, headers)
        answer = self._mine.api.getresponse()
        said = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"claim {number}: {answer.status} {said[:300]!r}")
        host = json.loads(said)["status"].get("host") or f"c{number}.box.localhost"
        until = time.perf_counter() + 20
        while True:
            self._mine.gate.request("GET", "/healthz", headers={"Host": host})
            answer = self._mine.gate.getresponse()
            answer.read()
            if answer.status == 200:
                return (time.perf_counter() - moment) * 1000
            if time.perf_counter() > until:
                raise TimeoutError(f"no 200 of {host} within 20 s")
            time.sleep(0.001)


def _bare(home: Home) -> float:
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(TINY, cwd=ROOT, env=environment(home.path, PORT=str(port)), stderr=subprocess.DEVNULL)
    try:
        first_200(f"127.0.0.1:{port}", "/healthz", "localhost")
        return (time.perf_counter() - began) * 1000
    finally:
        stop(process)


# -- docker run --------------------------------------------------------------------------------------------------------


def _docker(count: int) -> tuple[list[float], str]:
    """(milliseconds, why there are none). Needs docker.io and busybox-static of Debian, and root."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None or not BUSYBOX.exists():
        return [], "docker.io and busybox-static are not installed"
    with tempfile.TemporaryDirectory(prefix="sy-docker-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            with _dockerd(Path(folder)) as docker:
                _import(docker, Path(folder))
                return [_run(docker) for _ in range(count + 1)][1:], "docker run --network host, busybox httpd"
        except (OSError, subprocess.SubprocessError, TimeoutError) as error:
            return [], f"dockerd does not run here: {error}"


@contextmanager
def _dockerd(folder: Path) -> Iterator[tuple[str, ...]]:
    """A daemon of its own: nothing of another one is touched."""
    address = f"unix://{folder}/docker.sock"
    words = ["dockerd", "--storage-driver=vfs", "--iptables=false", "--bridge=none", "-H", address,
             "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
             "--pidfile", f"{folder}/pid"]  # fmt: skip
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(words, stdout=log, stderr=log)
    docker = ("docker", "-H", address)
    try:
        wait_for("dockerd answers", lambda: _ask((*docker, "version")) == 0, 30, every=0.2)
        yield docker
    finally:
        stop(daemon)
        _unmount(folder)


def _unmount(folder: Path) -> None:
    """dockerd leaves its network namespace mounted, and then its folder cannot be removed."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounts if place.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", place], check=True)


def _ask(words: tuple[str, ...]) -> int:
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode


def _import(docker: tuple[str, ...], folder: Path) -> None:
    root = folder / "root"
    (root / "bin").mkdir(parents=True)
    (root / "www").mkdir()
    (root / "www" / "index.html").write_text("ok\n")
    shutil.copy2(BUSYBOX, root / "bin" / "busybox")
    subprocess.run(["tar", "-C", str(root), "-cf", str(folder / "root.tar"), "."], check=True)
    subprocess.run([*docker, "import", str(folder / "root.tar"), "web"], check=True, stdout=subprocess.DEVNULL)


def _run(docker: tuple[str, ...]) -> float:
    port = free_port()
    began = time.perf_counter()
    words: list[Any] = [*docker, "run", "-d", "--rm", "--network", "host", "web", "/bin/busybox", "httpd", "-f",
                        "-p", f"127.0.0.1:{port}", "-h", "/www"]  # fmt: skip
    started = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    try:
        first_200(f"127.0.0.1:{port}", "/index.html", "localhost")
        return (time.perf_counter() - began) * 1000
    finally:
        subprocess.run([*docker, "kill", started.stdout.strip()], check=True, stdout=subprocess.DEVNULL)
