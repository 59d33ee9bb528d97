"""One request and one kept connection: HTTP/1.1 on httptools, never a second try."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field
from typing import Protocol

import httptools

from spinyard.testing.load_mix import Shot

EVIDENCE_BYTES = 200
REPEATABLE = frozenset({"GET", "PUT", "DELETE"})


class Owner(Protocol):
    """Whom a connection serves. All of it is called from the event loop."""

    def connected(self, connection: Connection) -> None: ...

    def released(self, connection: Connection) -> None:
        """It is free for the next request."""

    def lost(self, connection: Connection) -> None: ...

    def finish(self, request: Request, *, answer: Answer | None = None, error: str | None = None) -> None: ...


@dataclass(slots=True, eq=False)
class Request:
    shot: Shot
    path: str
    key: str | None
    payload: bytes
    due: float
    counted_from: float
    phase: str
    is_done: bool = False
    is_written: bool = False
    earlier_on_connection: int = 0
    connection: Connection | None = None

    @property
    def is_unsafe(self) -> bool:
        return self.key is None and self.shot.entry.method not in REPEATABLE


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """A kept connection with at most one request on it. Its methods `on_*` are called by httptools."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._answer = Answer()
        self._answered = 0

    def send(self, request: Request) -> None:
        assert self._transport is not None and self._request is None
        self._request, request.connection = request, self
        request.earlier_on_connection, request.is_written = self._answered, True
        self._answer = Answer()
        self._transport.write(request.payload)

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._owner.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as wrong:
            self._fail(f"answer not understood: {wrong}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.lost(self)
        got = "in the middle of the answer" if self._answer.status else "before any answer"
        self._fail(f"connection lost {got}: {type(exc).__name__}: {exc}" if exc else f"connection closed {got}")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")[:EVIDENCE_BYTES]))

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if len(self._answer.body) < EVIDENCE_BYTES:
            self._answer.body += body[:EVIDENCE_BYTES]

    def on_message_complete(self) -> None:
        if 100 <= self._answer.status < 200:  # an interim answer: the real one follows
            self._answer = Answer()
            return
        request, self._request = self._request, None
        if request is None:  # an answer nobody asked for, such as a 408 on an idle connection
            self.abort()
            return
        self._answered += 1
        self._owner.finish(request, answer=self._answer)
        if self._parser.should_keep_alive():
            self._owner.released(self)
        elif self._transport:
            self._transport.close()

    def _fail(self, error: str) -> None:
        request, self._request = self._request, None
        if request:
            self._owner.finish(request, answer=self._answer if self._answer.status else None, error=error)
