"""A home of its own with the public commands, and a look at the machine that does not ask Spinyard."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from spinyard.cli.keeper_link import KeeperLink
from spinyard.client import Client, from_home, read_server_file
from spinyard.errors import SpinyardError

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
WEB = Path(__file__).with_name("programs") / "web.py"
PORTS_EACH = 60
PATIENCE_SECONDS = 20.0


def web(*options: str) -> list[str]:
    return [sys.executable, "-I", "-S", str(WEB), *options]


class House:
    """`ports`: a range that no other test has, so that whatever listens in it is ours."""

    pause_seconds = 0.03
    """between two looks while something is waited for"""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sy-e2e-", dir="/tmp"))
        self._lock, self.ports = _own_ports()
        self.gateway_port = free_port()
        self.installation = ""
        self._others = set(_pids())
        """of before, so never ours: not looked at again for as long as they live"""

    @property
    def gateway(self) -> str:
        return f"127.0.0.1:{self.gateway_port}"

    # -- the public commands -----------------------------------------------------------------------------------------

    def run(
        self, *words: str, text: str | None = None, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "spinyard.cli", *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**self.environment(), **(env or {})},
            cwd=ROOT,
            check=False,
        )

    def cli(self, *words: str, text: str | None = None, timeout: float = 60.0, **env: str) -> str:
        """Its output; the test fails with what it said when it fails."""
        done = self.run(*words, text=text, env=env, timeout=timeout)
        assert done.returncode == 0, f"spinyard {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
        python_path = f"{ROOT / 'src'}:{ROOT}"
        # Without its cache every start of a server would compile all of src.
        left_out = ("SPINYARD_", "PYTHONDONTWRITEBYTECODE")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(left_out)}
        return {**kept, "SPINYARD_HOME": str(self.home), "PATH": path, "PYTHONPATH": python_path}

    def start(self, **env: str) -> None:
        low, high = self.ports
        words = ("--gateway", self.gateway, "--port-range", f"{low}-{high}", "-o", "json")
        self.cli("server", *words, timeout=90, **env)
        self.wait("it says which installation it is", self._learn)

    def _learn(self) -> str:
        self.installation = str(self.client.info()["installation"])
        return self.installation

    @property
    def keeper(self) -> KeeperLink:
        return KeeperLink(self.home / "run" / "keeper.sock")

    @property
    def client(self) -> Client:
        return from_home(self.home, actor="e2e", patience_seconds=lambda: PATIENCE_SECONDS)

    def apply(self, *objects: Json) -> None:
        self.client.apply(objects, key=os.urandom(8).hex())

    def find(self, kind: str, name: str) -> Json | None:
        try:
            return self.client.get(kind, "default", name)
        except SpinyardError as error:
            if error.status == 404:
                return None
            raise

    def get(self, kind: str, name: str) -> Json:
        return self.client.get(kind, "default", name, finished=True)

    def spins(self, owner: str, *, kind: str = "service", finished: str = "false") -> list[Json]:
        labels = {f"spinyard.dev/{kind}": owner}
        return list(self.client.list("Spin", "default", labels=labels, finished=finished)["items"])

    def states(self, owner: str, *, kind: str = "service") -> list[str]:
        return sorted(str(spin["status"]["state"]) for spin in self.spins(owner, kind=kind))

    def serve(self, name: str, count: int, *, seconds: float = 40.0, state: str = "serving") -> list[Json]:
        """Waits until exactly that many instances are there and serve."""
        self.wait(f"{count} of {name} in {state}", lambda: self.states(name) == [state] * count, seconds)
        return self.spins(name)

    def delete(self, kind: str, name: str, *, seconds: float = 40.0) -> Json:
        """Deletes, waits for the end; its record."""
        uid = self.client.get(kind, "default", name)["metadata"]["uid"]
        self.client.delete(kind, "default", name, key=f"delete-{uid}")
        self.wait(f"{kind} {name} is gone", lambda: self.find(kind, name) is None, seconds)
        return {}

    # -- the gateway ---------------------------------------------------------------------------------------------------

    def request(self, host: str, path: str = "/", *, method: str = "GET") -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=20)
        try:
            connection.request(method, path, headers={"Host": host})
            reply = connection.getresponse()
            return reply.status, reply.read().decode(), {k.lower(): v for k, v in reply.getheaders()}
        finally:
            connection.close()

    # -- conditions ----------------------------------------------------------------------------------------------------

    def wait(self, what: str, check: Callable[[], object], seconds: float = 30.0) -> float:
        """Seconds until it was so. A server that is away for a moment is waited for too."""
        began = time.monotonic()
        seen: object = None
        while True:
            try:
                seen = check()
            except (SpinyardError, OSError, http.client.HTTPException) as away:
                seen = away
            else:
                if seen:
                    return time.monotonic() - began
            assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what} ({seen!r})\n{self.story()}"
            time.sleep(self.pause_seconds)

    def story(self) -> str:
        """For a failed test: what there is, and what was said last."""
        try:
            lines = [
                f"{one['kind']} {one['metadata']['name']}: {one['status'].get('state')} {one['status'].get('message')}"
                for kind in ("Service", "Rollout", "Spinout", "WarmPool", "Claim", "Job", "Spin")
                for one in self.client.list(kind)["items"]
            ]
        except SpinyardError as error:
            lines = [repr(error)]
        log = sorted((self.home / "logs").glob("server*.log"))
        lines += log[-1].read_text(errors="replace").splitlines()[-15:] if log else []
        return "\n".join(lines)

    # -- violence ------------------------------------------------------------------------------------------------------

    def server_pid(self) -> int:
        server = read_server_file(self.home)
        return server.pid if server is not None and is_alive(server.pid) else 0

    def keeper_pid(self) -> int:
        """As it says itself: its shims are forks of it and look the same. 0: none answers."""
        try:
            return int(self.keeper.ask("hello")["pid"])
        except SpinyardError:
            return 0

    def envoy_pids(self) -> list[int]:
        return [pid for pid, words in _commands(self.home) if words and words[0].endswith("envoy")]

    def instance_pids(self, key: str = "") -> list[int]:
        return [pid for pid, environ in self._tagged() if not key or environ.get("SPINYARD_KEY") == key]

    # -- what is left --------------------------------------------------------------------------------------------------

    def keyed(self) -> dict[str, list[int]]:
        """Live processes by the key in their environment."""
        out: dict[str, list[int]] = {}
        for pid, environ in self._tagged():
            out.setdefault(environ.get("SPINYARD_KEY", ""), []).append(pid)
        return out

    def left(self) -> list[str]:
        """On the machine: tagged processes, listening ports, data, records, endpoints of Envoy; then the ledger."""
        self._others = set()  # a pid may have changed hands since
        low, high = self.ports
        out = [f"process {pid} of {environ.get('SPINYARD_KEY')}" for pid, environ in self._tagged()]
        out += [f"listening port {port}" for port in listening() if low <= port <= high]
        out += [f"data {path}" for path in sorted((self.home / "data").rglob("*"))]
        records = (self.home / "run" / "instances").glob("*")
        out += [f"record {path.name}" for path in sorted(records) if not path.name.startswith("supervised")]
        out += [f"endpoint {one}" for one in self.endpoints()]
        out += [f"ledger row {row['key']}" for row in self.client.resources()["items"]]
        out += [f"orphan {row['key']}" for row in self.client.orphans()["items"]]
        return out

    def endpoints(self) -> list[str]:
        """What Envoy itself would send requests to, in its own words."""
        low, high = self.ports
        out = []
        for cluster in json.loads(self.envoy_admin("/clusters?format=json")).get("cluster_statuses", []):
            for host in cluster.get("host_statuses", []):
                address = host["address"].get("socket_address", {})
                if low <= int(address.get("port_value", 0)) <= high:
                    out.append(f"{cluster['name']} {address['port_value']}")
        return out

    def envoy_admin(self, path: str) -> str:
        connection = http.client.HTTPConnection("admin", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        try:
            connection.sock.connect(str(self.home / "run" / "envoy-admin.sock"))
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def _tagged(self) -> list[tuple[int, dict[str, str]]]:
        out = []
        pids = _pids()
        self._others = self._others.intersection(pids)
        for pid in pids:
            environ = {} if pid in self._others else _environ(pid)
            if self.installation and environ.get("SPINYARD_INSTALLATION") == self.installation and is_alive(pid):
                out.append((pid, environ))
        return out

    # -- the end -------------------------------------------------------------------------------------------------------

    def kill_everything(self) -> None:
        """Of this home, by pid, again for what was started meanwhile."""
        deadline = time.monotonic() + 10
        while mine := [pid for pid, _ in _commands(self.home)] + self.instance_pids():
            for pid in dict.fromkeys(mine):
                kill(pid)
            assert time.monotonic() < deadline, f"they do not die: {mine}"
            time.sleep(0.05)

    def close(self) -> None:
        self.kill_everything()
        shutil.rmtree(self.home, ignore_errors=True)
        self._lock.close()


# -- the machine -----------------------------------------------------------------------------------------------------


def unpack(archive: tarfile.TarFile, place: Path) -> None:
    """Python before 3.11.4 knows no filters."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(place, filter="data")
    else:
        archive.extractall(place)  # noqa: S202  made by ourselves


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Of a process that was just found; one that is gone meanwhile is what we want."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_alive(pid: int) -> bool:
    """Not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening() -> set[int]:
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {int(words[1].rsplit(":", 1)[1], 16) for words in rows if words[3] == "0A"}


def _own_ports() -> tuple[IO[str], tuple[int, int]]:
    """Below what the kernel gives to clients, and kept from other tests by a lock for as long as it is open."""
    for low in range(30_000, 32_700 - PORTS_EACH, PORTS_EACH):
        lock = open(f"{tempfile.gettempdir()}/sy-ports-{low}.lock", "w")  # noqa: SIM115  open for the life of a House
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        taken = listening()
        if not any(port in taken for port in range(low, low + PORTS_EACH)):
            return lock, (low, low + PORTS_EACH - 1)
        lock.close()
    raise AssertionError("no range of ports is free for this test")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environ(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = file.read().decode(errors="replace").split("\0")
    except OSError:
        return {}  # gone meanwhile, or not ours to read
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def _commands(home: Path) -> list[tuple[int, list[str]]]:
    """(pid, words) of what runs with that home in its command line: the keeper, its shims, the server, Envoy."""
    out = []
    for pid in _pids():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(home) in word for word in words) and pid != os.getpid() and is_alive(pid):
            out.append((pid, words))
    return out
