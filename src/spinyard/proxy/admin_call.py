"""A connection to Envoy's admin socket of which it is known which process is at the other end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import httptools

_PEER = struct.Struct("3i")
_READ_BYTES = 1 << 16


class CallFailed(Exception):
    """No answer, or none that can be used."""


class _Answer:
    def __init__(self) -> None:
        self.body = bytearray()
        self.is_whole = False

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_whole = True


class AdminCall:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer

    async def get(self, path: str, query: Mapping[str, str], bytes_max: int) -> bytes:
        """Raises CallFailed, OSError."""
        target = f"{path}?{urlencode(query)}"
        self._writer.write(f"GET {target} HTTP/1.1\r\nhost: envoy\r\n\r\n".encode())
        await self._writer.drain()
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_whole:
            part = await self._reader.read(_READ_BYTES)
            if not part:
                raise CallFailed("Envoy's admin closed the connection before its answer was whole")
            try:
                parser.feed_data(part)
            except httptools.HttpParserError as error:
                raise CallFailed(f"Envoy's admin said something that is not HTTP: {error}") from error
            if len(answer.body) > bytes_max:
                raise CallFailed(f"Envoy's admin said more than {bytes_max} bytes")
        if parser.get_status_code() != 200:
            raise CallFailed(f"Envoy's admin answered {parser.get_status_code()} to {path}")
        return bytes(answer.body)


@contextlib.asynccontextmanager
async def admin_call(path: Path) -> AsyncIterator[AdminCall]:
    """`pid`: of the process that listens on this socket, as the kernel knows it. Raises OSError."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        sock = writer.get_extra_info("socket")
        pid, _, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        yield AdminCall(reader, writer, pid)
    finally:
        writer.close()
