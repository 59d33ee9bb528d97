"""One HTTP/1.1 exchange with Envoy, from a thread or from asyncio, over kept connections.

h11 knows the protocol and does no I/O, so both ways share it, and it is known to the byte what was sent. An exchange
fails as `NotSent` (nothing of the request can have reached anybody) or as `Lost` (it may have been carried out); it is
never tried again here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import h11

CONNECT_SECONDS: Final = 2.0
ANSWER_BYTES_MAX: Final = 64 << 20
READ_BYTES: Final = 64 * 1024
IDLE_MAX: Final = 32
"""kept connections to one address, of one process and one event loop"""
IDLE_SECONDS: Final = 20.0


class NotSent(Exception):
    """No connection, so nothing was sent."""


class Lost(Exception):
    """It ended after something was sent, and before the whole answer was there."""


class TooLarge(Lost):
    """The answer is larger than ANSWER_BYTES_MAX."""


class OutOfTime(Lost):
    """The deadline came first. `sent`: whether anything had been sent."""

    def __init__(self, sent: bool) -> None:
        super().__init__("out of time")
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Answer:
    """Names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    address: tuple[str, int]
    target: str
    headers: Mapping[str, str]
    """with `host`, without `content-length`"""
    body: bytes


class Talk:
    """The protocol's side of one connection. Raises Lost for what is no HTTP, or too much of it."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.CLIENT)
        self._about: h11.Response | None = None
        self._body: list[bytes] = []
        self._size = 0

    def request(self, call: Call) -> bytes:
        headers = [*call.headers.items(), ("content-length", str(len(call.body)))]
        try:
            asked = h11.Request(method="POST", target=call.target, headers=headers)
            parts = [
                self._h11.send(asked),
                self._h11.send(h11.Data(data=call.body)),
                self._h11.send(h11.EndOfMessage()),
            ]
        except h11.LocalProtocolError as error:
            raise NotSent(f"this is no request: {error}") from error
        return b"".join(part for part in parts if part)

    def received(self, data: bytes) -> Answer | None:
        """The answer once it is whole. Empty data: the other end closed."""
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    return None
                if isinstance(event, h11.Response):
                    self._about = event
                elif isinstance(event, h11.Data):
                    self._add(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return self._whole()
                elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    raise Lost("the connection was closed before the answer")
        except h11.RemoteProtocolError as error:
            raise Lost(f"the answer is not whole, or no HTTP: {error}") from error

    def again(self) -> bool:
        """Whether the connection can carry another exchange, and if so, ready for it."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self._about, self._body, self._size = None, [], 0
        return True

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > ANSWER_BYTES_MAX:
            raise TooLarge(f"the answer is larger than {ANSWER_BYTES_MAX} bytes")
        self._body.append(data)

    def _whole(self) -> Answer:
        assert self._about is not None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._about.headers}
        return Answer(self._about.status_code, headers, b"".join(self._body))


# -- from a thread -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    socket: socket.socket
    talk: Talk
    idle_since: float = 0.0


class Lines:
    """Kept connections of this process. Those of a parent process are never used after a fork."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], deque[_Line]] = {}

    def exchange(self, call: Call, until: float) -> Answer:
        """`until`: of time.monotonic. Raises NotSent, Lost, OutOfTime."""
        line = self._line(call.address, until)
        sent = kept = False
        try:
            data = line.talk.request(call)
            line.socket.settimeout(_left(until, sent=False))
            sent = True
            line.socket.sendall(data)
            while True:
                line.socket.settimeout(_left(until, sent=True))
                answer = line.talk.received(line.socket.recv(READ_BYTES))
                if answer is not None:
                    break
            kept = line.talk.again() and self._keep(call.address, line)
            return answer
        except TimeoutError as error:
            raise OutOfTime(sent) from error
        except OSError as error:
            raise Lost(str(error)) from error
        finally:
            if not kept:
                line.socket.close()

    def forget(self) -> None:
        """After a fork: their other end belongs to the process that made them."""
        idle, self._idle = self._idle, {}
        for lines in idle.values():
            for line in lines:
                line.socket.close()

    def _line(self, address: tuple[str, int], until: float) -> _Line:
        lines = self._idle.get(address)
        while lines:
            with contextlib.suppress(IndexError):
                line = lines.pop()
                if time.monotonic() - line.idle_since < IDLE_SECONDS and _is_silent(line.socket):
                    return line
                line.socket.close()
        try:
            made = socket.create_connection(address, min(CONNECT_SECONDS, _left(until, sent=False)))
        except OutOfTime:
            raise
        except OSError as error:
            raise NotSent(str(error)) from error
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Line(made, Talk())

    def _keep(self, address: tuple[str, int], line: _Line) -> bool:
        lines = self._idle.setdefault(address, deque())
        if len(lines) >= IDLE_MAX:
            return False
        line.idle_since = time.monotonic()
        lines.append(line)
        return True


def _is_silent(line: socket.socket) -> bool:
    """Nothing has come since: neither its end nor words that nobody asked for."""
    poll = select.poll()
    poll.register(line, select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)


def _left(until: float, *, sent: bool) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise OutOfTime(sent)
    return left


# -- from asyncio ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Stream:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    talk: Talk
    idle_since: float = 0.0


class Streams:
    """Kept connections of one event loop."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], deque[_Stream]] = {}

    async def exchange(self, call: Call, until: float) -> Answer:
        """As Lines.exchange. Cancelled, the connection is closed at once, which tells the other end."""
        stream = await self._stream(call.address, until)
        sent = kept = False
        try:
            data = stream.talk.request(call)
            async with asyncio.timeout(_left(until, sent=False)):
                sent = True
                stream.writer.write(data)
                await stream.writer.drain()
                while True:
                    answer = stream.talk.received(await stream.reader.read(READ_BYTES))
                    if answer is not None:
                        break
            kept = stream.talk.again() and self._keep(call.address, stream)
            return answer
        except TimeoutError as error:
            raise OutOfTime(sent) from error
        except OSError as error:
            raise Lost(str(error)) from error
        finally:
            if not kept:
                stream.writer.transport.abort()

    async def _stream(self, address: tuple[str, int], until: float) -> _Stream:
        streams = self._idle.get(address)
        while streams:
            stream = streams.pop()
            is_silent = not (stream.reader.at_eof() or stream.writer.is_closing() or stream.reader.exception())
            if is_silent and time.monotonic() - stream.idle_since < IDLE_SECONDS:
                return stream
            stream.writer.transport.abort()
        try:
            async with asyncio.timeout(min(CONNECT_SECONDS, _left(until, sent=False))):
                reader, writer = await asyncio.open_connection(*address)
        except OutOfTime:
            raise
        except OSError as error:
            raise NotSent(str(error) or type(error).__name__) from error
        return _Stream(reader, writer, Talk())

    def _keep(self, address: tuple[str, int], stream: _Stream) -> bool:
        streams = self._idle.setdefault(address, deque())
        if len(streams) >= IDLE_MAX:
            return False
        stream.idle_since = time.monotonic()
        streams.append(stream)
        return True


_LINES: Final = Lines()
_STREAMS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Streams]] = weakref.WeakKeyDictionary()


def exchange(call: Call, until: float) -> Answer:
    return _LINES.exchange(call, until)


async def exchange_async(call: Call, until: float) -> Answer:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        raise NotSent("not within asyncio") from error
    streams = _STREAMS.get(loop)
    if streams is None:
        streams = _STREAMS.setdefault(loop, Streams())
    return await streams.exchange(call, until)


os.register_at_fork(after_in_child=_LINES.forget)
