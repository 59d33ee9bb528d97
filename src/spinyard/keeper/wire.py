"""One client's connection: lines in, lines out, both bounded."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final

from spinyard.keeper.loop import READ, WRITE, Loop

REQUEST_BYTES_MAX: Final = 1 << 20
ANSWER_BYTES_MAX: Final = 16 << 20
"""A client that does not read is dropped when this much waits for it."""


class Connection:
    def __init__(self, loop: Loop, peer: socket.socket, on_line: Callable[[Connection, bytes], None]) -> None:
        self._loop = loop
        self._peer = peer
        self._on_line = on_line
        self._received = bytearray()
        self._waiting = bytearray()
        self.on_close: list[Callable[[], None]] = []
        self.on_taken: list[Callable[[], None]] = []
        """called once, when nothing waits to be sent any more"""
        self.subscribed = False
        self.closed = False
        self._closing = False
        peer.setblocking(False)
        loop.watch(peer.fileno(), READ, self._ready)

    def send(self, message: dict[str, Any]) -> None:
        if self.closed:
            return
        self._waiting += json.dumps(message).encode() + b"\n"
        if len(self._waiting) > ANSWER_BYTES_MAX:
            self.close()
            return
        self._flush()

    @property
    def waiting_bytes(self) -> int:
        return len(self._waiting)

    def close_when_sent(self) -> None:
        self._closing = True
        if not self.closed:
            self._flush()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._peer.fileno())
        self._peer.close()
        for callback in self.on_close:
            callback()

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        if mask & READ and not self.closed:
            self._receive()

    def drain(self) -> None:
        """Everything sent so far, now. Done before a newer connection is served, so that a client which gave up on a
        connection cannot be told on the next that something is absent, and then see its old request carried out."""
        while not self.closed and self._receive():
            continue

    def _receive(self) -> bool:
        try:
            data = self._peer.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        if self._closing:
            return True
        self._received += data
        while not self.closed and (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._on_line(self, line)
        if len(self._received) > REQUEST_BYTES_MAX:
            self._received.clear()
            message = f"a request has at most {REQUEST_BYTES_MAX} bytes"
            self.send(refusal(0, "InvalidRequest", message))
            self.close_when_sent()
        return True

    def _flush(self) -> None:
        try:
            while self._waiting:
                sent = self._peer.send(self._waiting)
                del self._waiting[:sent]
        except BlockingIOError:
            self._loop.change(self._peer.fileno(), READ | WRITE, self._ready)
            return
        except OSError:
            self.close()
            return
        self._loop.change(self._peer.fileno(), READ, self._ready)
        if self._closing:
            self.close()
            return
        taken, self.on_taken = self.on_taken, []
        for callback in taken:
            callback()


def refusal(request_id: object, error_class: str, message: str, *, retryable: bool = False) -> dict[str, Any]:
    error = {"error_class": error_class, "message": message, "retryable": retryable}
    return {"id": request_id, "ok": False, "error": error}
