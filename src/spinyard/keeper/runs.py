"""Commands run to their end for a waiting client: exec probes and `spinyard exec`. Each has a shim and a pipe of its
own, so the loop never waits; a client that goes away takes its command with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Final

from spinyard.keeper import kernel, shim
from spinyard.keeper.errors import KeeperError, from_os
from spinyard.keeper.loop import READ, Loop
from spinyard.keeper.wire import Connection

RUNS_MAX: Final = 256
Answer = Callable[[dict[str, Any]], None]


class _Run:
    __slots__ = ("answer", "pid", "pidfd", "received")

    def __init__(self, pid: int, answer: Answer) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.answer: Answer | None = answer
        self.received = bytearray()


class Runs:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._all: set[_Run] = set()

    def pids(self) -> set[int]:
        return {run.pid for run in self._all}

    def start(self, order: shim.Order, client: Connection, answer: Answer) -> None:
        if len(self._all) >= RUNS_MAX:
            raise KeeperError("TooMany", f"{RUNS_MAX} commands run already", retryable=True)
        result, report = os.pipe()
        try:
            pid = shim.fork()
        except OSError as failed:
            os.close(result)
            os.close(report)
            raise from_os(failed) from failed
        if pid == 0:
            shim.become(order, report)
        os.close(report)
        run = _Run(pid, answer)
        self._all.add(run)
        self._loop.watch(result, READ, lambda _mask: self._receive(run, result))
        client.on_close.append(lambda: self._abandon(run))

    def _abandon(self, run: _Run) -> None:
        run.answer = None
        if run in self._all:
            kernel.send(run.pidfd, shim.KILL)

    def _receive(self, run: _Run, result: int) -> None:
        data = os.read(result, 65536)
        run.received += data
        if data:
            return
        self._loop.forget(result)
        os.close(result)
        os.close(run.pidfd)
        self._all.discard(run)
        if run.answer is not None:
            run.answer(_ending(bytes(run.received)))


def _ending(text: bytes) -> dict[str, Any]:
    if not text:
        error = {"error_class": "InstanceLost", "message": "the command's shim was killed", "retryable": True}
        return {"ok": False, "error": error}
    ended = json.loads(text)
    return {"ok": True, **ended}
