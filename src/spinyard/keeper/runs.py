"""Commands run to their end for a waiting client: exec probes, `spinyard exec` and `spinyard run`. Each has a shim and
a pipe of its own, so the loop never waits; a client that goes away takes its command with it, and so does the end of
the instance that it runs beside."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

from spinyard.keeper import kernel, logs, shim
from spinyard.keeper.errors import KeeperError, from_os
from spinyard.keeper.loop import READ, Loop
from spinyard.keeper.wire import Connection

RUNS_MAX: Final = 256
BACKLOG_BYTES: Final = 256 << 10
"""of output that a client has not taken; nothing more is read from its command until it has"""
STREAM_NAMES: Final = {logs.OUTPUT: "stdout", logs.ERRORS: "stderr"}
Answer = Callable[[dict[str, Any]], None]


class _Run:
    __slots__ = ("answer", "beside", "client", "is_ended_with", "is_held", "is_stream", "pid", "pidfd", "received")

    def __init__(self, pid: int, client: Connection, answer: Answer, beside: str, is_stream: bool) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.client = client
        self.answer: Answer | None = answer
        self.beside = beside
        self.is_stream = is_stream
        self.is_held = False
        self.is_ended_with = False
        self.received = bytearray()


class Runs:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._all: set[_Run] = set()

    def pids(self) -> set[int]:
        return {run.pid for run in self._all}

    def start(self, order: shim.Order, client: Connection, answer: Answer, *, beside: str = "") -> None:
        """`beside`: the key of the instance whose end is its end. With `order.stream` the answer is called for each
        piece of output too."""
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
        run = _Run(pid, client, answer, beside, order.stream)
        self._all.add(run)
        self._loop.watch(result, READ, lambda _mask: self._receive(run, result))
        client.on_close.append(lambda: self._abandon(run, result))

    def end_beside(self, key: str) -> None:
        for run in self._all:
            if run.beside == key:
                run.is_ended_with = True
                kernel.send(run.pidfd, shim.KILL)

    def _abandon(self, run: _Run, result: int) -> None:
        run.answer = None
        if run in self._all:
            kernel.send(run.pidfd, shim.KILL)
            self._go_on(run, result)

    def _receive(self, run: _Run, result: int) -> None:
        data = os.read(result, 65536)
        run.received += data
        if data:
            if run.is_stream:
                self._pass_on(run, result)
            return
        self._loop.forget(result)
        os.close(result)
        os.close(run.pidfd)
        self._all.discard(run)
        if run.answer is not None:
            run.answer(_ending(run))

    def _pass_on(self, run: _Run, result: int) -> None:
        """Whole frames to the client; the last one, and what is not whole yet, stay in `received`."""
        size = logs.FRAME.size
        while len(run.received) >= size:
            kind, length = logs.FRAME.unpack_from(run.received)
            if kind == logs.ENDED or len(run.received) < size + length:
                break
            data = bytes(run.received[size : size + length])
            del run.received[: size + length]
            if run.answer is not None:
                piece = {"output": STREAM_NAMES.get(kind, "started"), "data": b64encode(data).decode()}
                run.answer({"ok": True, **piece})
        if run.client.waiting_bytes > BACKLOG_BYTES and not run.client.closed and not run.is_held:
            run.is_held = True
            self._loop.forget(result)
            run.client.on_taken.append(lambda: self._go_on(run, result))

    def _go_on(self, run: _Run, result: int) -> None:
        if run.is_held:
            run.is_held = False
            self._loop.watch(result, READ, lambda _mask: self._receive(run, result))


def _ending(run: _Run) -> dict[str, Any]:
    text = bytes(run.received[logs.FRAME.size :] if run.is_stream else run.received)
    if not text:
        error = {"error_class": "InstanceLost", "message": "the command's shim was killed", "retryable": True}
        return {"ok": False, "error": error}
    ended = json.loads(text)
    if run.is_ended_with and ended["exit_code"] is None and not ended["error"]:
        ended["error"] = "its instance has ended"
    return {"ok": True, **ended}
