"""A real keeper in a home of its own, spoken to as any client does; and what /proc says beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
INSTALLATION = "keeper-tests"


class Keeper:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "spinyard.keeper", "--home", str(self.home)], stderr=subprocess.PIPE, text=True
        )
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
        try:
            return bool(self.ask("hello")["ok"])
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        """Ends everything; a keeper that a test killed is started again for it."""
        if self.process is None or self.process.poll() is not None:
            self.start()
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        for instance in self.ask("list")["instances"]:
            self.ask("remove", key=instance["key"], epoch=1 << 40, now=True)
        self.ask("stop", instances=True)
        _, said = self.process.communicate(timeout=20)
        assert "Traceback" not in said, said
        log = self.home / "logs" / "keeper.log"
        assert not log.exists() or "Traceback" not in log.read_text(), log.read_text()

    # -- the protocol --------------------------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(20)
        peer.connect(str(self.home / "run" / "keeper.sock"))
        return peer

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        with self.connect() as peer:
            peer.sendall(json.dumps({"v": 1, "id": 7, "op": op, **fields}).encode() + b"\n")
            return read_line(peer)

    def run(self, key: str, *argv: str, **fields: Any) -> dict[str, Any]:
        """Starts; the answer."""
        request: dict[str, Any] = {
            "key": key,
            "epoch": 1,
            "argv": list(argv),
            "env": [{"name": "SPINYARD_INSTALLATION", "value": INSTALLATION}],
            "cwd": "/",
            "ports": [],
            "directories": [],
            "grace_seconds": 0.5,
            "timeout_seconds": None,
            "memory_bytes": None,
            "cpu": None,
            "open_files": None,
            "processes": None,
            "log_bytes": 1 << 20,
            "log_name": key.split("/")[0],
            "isolation": "none",
        }
        return self.ask("start", **{**request, **fields})

    def begin(self, key: str, *argv: str, **fields: Any) -> dict[str, Any]:
        """Starts, and waits until the program itself runs; its state."""
        answer = self.run(key, *argv, **fields)
        assert answer["ok"], answer
        state = until(lambda: self._executed(key))
        assert state["pid"] > 0, state  # tests send signals to it, and 0 would be all of us
        return state

    def _executed(self, key: str) -> dict[str, Any] | None:
        state = self.observe(key)
        if state is None or state["state"] == "exited":
            return state
        return state if f"SPINYARD_KEY={key}" in environ_of(state["pid"]) else None

    def script(self, key: str, script: str, **fields: Any) -> dict[str, Any]:
        return self.begin(key, "sh", "-c", script, **fields)

    def observe(self, key: str) -> dict[str, Any] | None:
        answer = self.ask("observe", key=key)
        assert answer["ok"], answer
        instance: dict[str, Any] | None = answer["instance"]
        return instance

    def exited(self, key: str, seconds: float = 10.0) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            state = self.observe(key)
            assert state is not None, f"{key} was collected"
            return state if state["state"] == "exited" else None

        return until(ended, seconds)

    def remove(self, key: str, *, now: bool = False) -> None:
        assert self.ask("remove", key=key, epoch=1, now=now)["ok"]

    def gone(self, key: str, seconds: float = 10.0) -> None:
        until(lambda: self.observe(key) is None, seconds)

    def supervised(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.ask("supervised")["supervised"] if entry["name"] == name)

    def shim_of(self, key: str) -> int:
        identity = json.loads((self.home / "run" / "instances" / key.replace("/", "~") / "identity.json").read_text())
        return int(identity["shim_pid"])

    def log(self, key: str) -> Path:
        name, _, part = key.partition("/")
        return self.home / "logs" / name / f"{part}.log"


def read_line(peer: socket.socket) -> dict[str, Any]:
    received = b""
    while not received.endswith(b"\n"):
        data = peer.recv(1 << 16)
        if not data:
            raise ConnectionError("the keeper hung up")
        received += data
    answer: dict[str, Any] = json.loads(received)
    return answer


def until(check: Callable[[], T | None], seconds: float = 10.0) -> T:
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {check}"
        time.sleep(0.005)


def environ_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def marked(mark: str) -> list[int]:
    """All live processes that carry the mark in their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid() and is_alive(int(name)):
            try:
                arguments = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in arguments:
                found.append(int(name))
    return found
