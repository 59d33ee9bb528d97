"""A home with a running Spinyard, driven by the public CLI and API; everything real."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from spinyard.client import Client, from_home, read_server_file

ROOT = Path(__file__).resolve().parents[1]
TINY = (sys.executable, "-m", "bench.programs.tiny")
Json = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Home:
    path: Path
    gateway: str

    @property
    def client(self) -> Client:
        return from_home(self.path, actor="bench", patience_seconds=lambda: 20.0)

    def spinyard(self, *words: str, timeout: float = 120.0) -> str:
        command = [sys.executable, "-m", "spinyard.cli", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=environment(self.path), cwd=ROOT, check=False
        )
        if done.returncode:
            raise RuntimeError(f"spinyard {' '.join(words)}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
        return done.stdout

    def server_pid(self) -> int:
        server = read_server_file(self.path)
        return server.pid if server is not None else 0

    def family(self) -> dict[str, psutil.Process]:
        """keeper, server and envoy."""
        server = psutil.Process(self.server_pid())
        keeper = server.parent()
        assert keeper is not None
        mine = (
            p for p in psutil.process_iter(["exe", "cmdline"]) if str(self.path) in " ".join(p.info["cmdline"] or ())
        )
        envoy = next(p for p in mine if Path(p.info["exe"] or "").name == "envoy")
        return {"keeper": keeper, "server": server, "envoy": envoy}

    def serving(self, service: str) -> list[Json]:
        listed = self.client.list("Spin", "default", labels={"spinyard.dev/service": service})
        return [spin for spin in listed["items"] if spin["status"]["state"] == "serving"]

    def delete(self, service: str) -> None:
        self.client.delete("Service", "default", service)


@contextmanager
def running_home() -> Iterator[Home]:
    """Taken down with all that it made, whatever happens. A short path: unix sockets have no room for a long one."""
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        home = Home(Path(folder), f"127.0.0.1:{free_port()}")
        home.spinyard("server", "--gateway", home.gateway, "-o", "json")
        try:
            yield home
        finally:
            home.spinyard("down", "--delete", "--timeout", "150s", timeout=180)


def environment(home: Path, **more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    source = f"{ROOT}:{ROOT / 'src'}:{ROOT / 'sdk' / 'src'}"
    return {**os.environ, "SPINYARD_HOME": str(home), "PATH": path, "PYTHONPATH": source, **more}


def service(
    name: str,
    command: tuple[str, ...],
    *,
    replicas: int = 1,
    probe: str = "/healthz",
    routed: bool = True,
    env: dict[str, str] | None = None,
    update: Json | None = None,
) -> Json:
    """The manifest of a Service, as a user would write it."""
    template: Json = {"command": list(command), "workingDir": str(ROOT), "terminationGracePeriodSeconds": 5}
    variables = {"PYTHONPATH": str(ROOT), **(env or {})}
    template["env"] = [{"name": key, "value": value} for key, value in variables.items()]
    spec: Json = {"owner": "bench", "replicas": replicas, "template": template}
    if routed:
        template["ports"] = [{"name": "http"}]
        template["readinessProbe"] = {"httpGet": {"path": probe, "port": "http"}, "periodSeconds": 1}
        spec["route"] = {"hosts": [host_of(name)], "pathPrefix": "/"}
    if update:
        spec["update"] = update
    return {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def host_of(name: str) -> str:
    return f"{name}.localhost"


def first_200(address: str, path: str, host: str, limit_seconds: float = 60.0) -> None:
    """Asks every 2 ms over one connection, as long as it holds, until the answer is 200."""
    until = time.perf_counter() + limit_seconds
    name, _, port = address.rpartition(":")
    connection: http.client.HTTPConnection | None = None
    while True:
        try:
            if connection is None:
                connection = http.client.HTTPConnection(name, int(port), timeout=5)
                connection.connect()
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                connection.close()
                return
        except (OSError, http.client.HTTPException):
            connection = None
        if time.perf_counter() > until:
            raise TimeoutError(f"no 200 of {host}{path} at {address} within {limit_seconds:g} s")
        time.sleep(0.002)


def wait_for(what: str, check: Callable[[], bool], seconds: float, every: float = 0.05) -> float:
    began = time.perf_counter()
    while not check():
        if time.perf_counter() - began > seconds:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(every)
    return time.perf_counter() - began


def at_once(work: Callable[..., T], *arguments: Sequence[Any]) -> list[T]:
    """Each in a thread of its own. The first failure, or an interrupt, is not held up by the others: they fail when the
    home is taken down."""
    pool = ThreadPoolExecutor(len(arguments[0]))
    try:
        return list(pool.map(work, *arguments))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
