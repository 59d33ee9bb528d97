"""The demo's stage: a home of its own, the public commands, and a look at the machine that does not ask Spinyard."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinyard.client import Client, from_home, read_server_file
from spinyard.errors import SpinyardError

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("spinyard.yaml")
GALLERY = {"spinyard.dev/service": "gallery"}
EVERY: dict[str, str] = {}


# For each thing that is waited for. So long only a machine takes that is busy with something else.
DEADLINE_SECONDS = 120.0


class BrokenPromise(Exception):
    """Something that the demo shows did not happen."""


@dataclass(slots=True)
class Stage:
    home: Path
    gateway: str
    installation: str = ""
    ports_seen: frozenset[int] = frozenset()

    @classmethod
    def build(cls, gateway: str) -> Stage:
        """A short path: unix sockets have no room for a long one."""
        return cls(Path(tempfile.mkdtemp(prefix="spinyard-demo-", dir="/tmp")), gateway)

    # -- the public commands -----------------------------------------------------------------------------------------

    def spinyard(self, *words: str, text: str | None = None, timeout: float = DEADLINE_SECONDS) -> str:
        """Runs the command; its output. Raises BrokenPromise with what it said when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "spinyard.cli", *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(),
            cwd=ROOT,
            check=False,
            start_new_session=True,  # Ctrl-C is for the demo; it ends what it started itself
        )
        if done.returncode:
            said = done.stderr or done.stdout
            raise BrokenPromise(f"spinyard {' '.join(words)}: exit code {done.returncode}\n{said}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, "SPINYARD_HOME": str(self.home), "PATH": path, "PYTHONPATH": str(ROOT)}

    def variant(self, file: Path, name: str, changes: Mapping[str, str]) -> Path:
        """The file with other words in some places. Its working directory was relative to the file."""
        text = file.read_text()
        for before, after in {**changes, "workingDir: ../..": f"workingDir: {ROOT}"}.items():
            if text.count(before) != 1:
                raise BrokenPromise(f"{file} was to say {before!r} once")
            text = text.replace(before, after)
        path = self.home / name
        path.write_text(text)
        return path

    def start(self) -> None:
        self.spinyard("server", "--gateway", self.gateway, "-o", "json")

    @property
    def client(self) -> Client:
        return from_home(self.home, actor="demo", patience_seconds=lambda: 15.0)

    def service(self) -> Json:
        return dict(self.client.get("Service", "default", "gallery"))

    def spins(self, labels: Mapping[str, str] = GALLERY, *, finished: bool = False) -> list[Json]:
        listed = self.client.list("Spin", "default", labels=labels, finished="all" if finished else "false")
        return list(listed["items"])

    def ready(self) -> int:
        return sum(spin["status"]["state"] == "serving" for spin in self.spins())

    def glance(self) -> list[Json] | None:
        """The spins as they are just now; None when the control plane does not answer. It never waits for it."""
        try:
            return list(from_home(self.home, actor="demo").list("Spin", "default")["items"])
        except (SpinyardError, OSError):
            return None

    @contextlib.contextmanager
    def through_envoy(self, host: str) -> Iterator[Callable[[str], int]]:
        """Asks over one connection; the status of the answer."""
        connection = http.client.HTTPConnection(self.gateway, timeout=10)

        def ask(path: str) -> int:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            answer.read()
            return answer.status

        try:
            yield ask
        finally:
            connection.close()

    def wait(self, what: str, check: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> float:
        """Seconds until it was so. A server that is away for a moment is waited for too."""
        began = time.monotonic()
        while True:
            if check():
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                raise BrokenPromise(f"not within {seconds:g} s: {what}")
            time.sleep(0.05)

    # -- violence ------------------------------------------------------------------------------------------------------

    def kill_server(self) -> int:
        server = read_server_file(self.home)
        if server is None:
            raise BrokenPromise("there is no server to kill")
        os.kill(server.pid, signal.SIGKILL)
        return server.pid

    def server_pid(self) -> int:
        server = read_server_file(self.home)
        return server.pid if server is not None else 0

    def kill_instance(self, uid: str) -> int:
        """The program itself, not what watches it: found by the key in its environment, killed through a pidfd."""
        for pid, key in processes_with("SPINYARD_KEY"):
            if key == f"{uid}/process":
                handle = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
                return pid
        raise BrokenPromise(f"no process of {uid} to kill")

    def kill_all(self) -> list[int]:
        """What still runs from this home, whoever started it; the parents come first. The pids."""
        killed: list[int] = []
        for _ in range(20):
            found = sorted(set(self._running()))
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            killed += [pid for pid in found if pid not in killed]
            if not found:
                break
            time.sleep(0.05)
        return killed

    def keep_only_logs(self) -> None:
        for path in self.home.iterdir():
            if path.is_dir() and not path.is_symlink() and path.name != "logs":
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "logs":
                path.unlink(missing_ok=True)

    def _running(self) -> list[int]:
        """Named the home in their command line, or got it in their environment."""
        home = str(self.home).encode()
        told = [pid for pid, value in processes_with("SPINYARD_HOME") if value == str(self.home)]
        told += [pid for pid, value in processes_with("SPINYARD_INSTALLATION") if value == self.installation]
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # gone meanwhile
                if entry.name.isdigit() and home in (entry / "cmdline").read_bytes():
                    told.append(int(entry.name))
        return [pid for pid in told if pid != os.getpid() and not is_zombie(pid)]

    # -- what is left --------------------------------------------------------------------------------------------------

    def left(self) -> list[str]:
        """Seen on the machine itself: tagged processes, listening ports, data, endpoints of Envoy, open ledger rows."""
        out = [
            f"process {pid}"
            for pid, value in processes_with("SPINYARD_INSTALLATION")
            if value == self.installation and not is_ours(pid, self.home)
        ]
        out += [f"listening port {port}" for port in listening() if 20000 <= port <= 29999 and self._was_ours(port)]
        out += [f"data {path}" for path in sorted((self.home / "data").glob("*"))]
        out += [f"instance record {path.name}" for path in self._records()]
        out += [f"endpoint {name}" for name in self._endpoints()]
        out += [f"ledger row {row['key']}" for row in self.client.resources()["items"]]
        out += [f"orphan {row['key']}" for row in self.client.orphans()["items"]]
        return out

    def left_of_pool(self, pool: str, hosts: list[str]) -> list[str]:
        """The same of one pool, its members and its claims, while other things go on."""
        records = self.spins({"spinyard.dev/pool": pool}, finished=True)
        uids = {record["metadata"]["uid"] for record in records}
        out = [f"spin {one['metadata']['name']}" for one in records if one["status"]["state"] != "terminated"]
        keys = processes_with("SPINYARD_KEY")
        out += [f"process {pid}" for pid, key in keys if key.partition("/")[0] in uids]
        out += [f"ledger row {row['key']}" for row in self.client.resources()["items"] if row["owner"] in uids]
        out += [f"endpoint {name}" for name in self._endpoints() if name.startswith(f"default/{pool}/")]
        for host in hosts:
            with self.through_envoy(host) as ask:
                out += [f"route {host}"] if ask("/healthz") != 404 else []
        return out

    def remember_installation(self) -> None:
        self.installation = str(self.client.info()["installation"])

    def remember_ports(self) -> None:
        ports = {port for spin in self.spins(EVERY) for port in (spin["status"].get("ports") or {}).values()}
        self.ports_seen = self.ports_seen | ports

    def _was_ours(self, port: int) -> bool:
        return port in self.ports_seen

    def _records(self) -> list[Path]:
        found = (self.home / "run" / "instances").glob("*")
        return sorted(path for path in found if not path.name.startswith("supervised"))

    def _endpoints(self) -> list[str]:
        """Envoy's own words, over its admin socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.home / "run" / "envoy-admin.sock"))
            connection.sendall(b"GET /clusters?format=json HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
            reply = b""
            while chunk := connection.recv(65536):
                reply += chunk
        body = reply.split(b"\r\n\r\n", 1)[1]
        clusters = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1]).get("cluster_statuses", [])
        return [f"{one['name']}" for one in clusters if one["name"].startswith("default/") and one.get("host_statuses")]


def processes_with(variable: str) -> list[tuple[int, str]]:
    """(pid, value) of every process on the machine with that variable in its environment."""
    out = []
    wanted = variable.encode() + b"="
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile, or not ours to read
        out += [(int(entry.name), pair[len(wanted) :].decode()) for pair in environment if pair.startswith(wanted)]
    return out


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True


def is_ours(pid: int, home: Path) -> bool:
    """Server and Envoy go on until the end; they are not instances."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True
    return b"server-process" in words or b"/envoy" in words


def listening() -> set[int]:
    out = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A":
            out.add(int(words[1].rsplit(":", 1)[1], 16))
    return out


def free_gateway(wanted: str) -> str:
    """The address asked for, or any free port when something else listens there."""
    host, _, port = wanted.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            with socket.socket() as other:
                other.bind((host, 0))
                return f"{host}:{other.getsockname()[1]}"
    return wanted
