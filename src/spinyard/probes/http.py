"""An HTTP probe: one GET on a connection of its own, and of the answer little more than the status.

Plain streams instead of an HTTP client: no pool that could show us an old connection, no redirects, no proxies, no
cookies, and a bound on every byte read.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache

from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import HttpGet

_LINE_MAX = 16 * 1024
_LINES_MAX = 256
_INTERIM_MAX = 8
_BODY_MAX = 16 * 1024
_BODY_SECONDS = 0.02
"""for a body whose end is not told: a server that keeps the connection must not hold up the answer"""


async def check_http(action: HttpGet, address: str, port: int) -> ProbeResult:
    """Ok is 200 to 399. Raises OSError for what the connection did. The caller bounds the time."""
    context = _unverified() if action.scheme == "https" else None
    reader, writer = await asyncio.open_connection(address, port, ssl=context, limit=_LINE_MAX)
    try:
        writer.write(_request(action, address, port))
        status, length = await _head(reader)
        await _read_on(reader, length)
    finally:
        # Closed and not awaited: a peer that does not answer to TLS shutdown would hold us.
        writer.close()
    if status is None:
        return ProbeResult(ProbeAnswer.FAILED, f"GET {action.path}: no HTTP answer from port {port}")
    if 200 <= status <= 399:
        return ProbeResult(ProbeAnswer.OK)
    return ProbeResult(ProbeAnswer.FAILED, f"GET {action.path}: status {status}")


def _request(action: HttpGet, address: str, port: int) -> bytes:
    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    headers = {"host": ("Host", action.host or host), "user-agent": ("User-Agent", "spinyard-probe")}
    headers |= {"accept": ("Accept", "*/*")}
    headers |= {name.lower(): (name, value) for name, value in action.headers}
    headers["connection"] = ("Connection", "close")
    lines = [f"GET {action.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.values())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", errors="replace")


async def _head(reader: asyncio.StreamReader) -> tuple[int | None, int | None]:
    """(the final status, None: not HTTP; the length of the body if it is told). Interim answers (1xx) are passed
    over."""
    for _ in range(_INTERIM_MAX):
        length: int | None = None
        try:
            status = _parse(await reader.readline())
            if status is None:
                return None, None
            for _ in range(_LINES_MAX):
                line = await reader.readline()
                if line in (b"\r\n", b"\n", b""):
                    break
                name, _, value = line.partition(b":")
                if name.strip().lower() == b"content-length" and value.strip().isdigit():
                    length = int(value)
        except ValueError:  # a line beyond the limit
            return None, None
        if status >= 200:
            return status, 0 if status in (204, 304) else length
    return None, None


def _parse(line: bytes) -> int | None:
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or len(parts[1]) != 3 or not parts[1].isdigit():
        return None
    return int(parts[1])


async def _read_on(reader: asyncio.StreamReader, length: int | None) -> None:
    """A little of the body, so that a small answer is taken whole and the server does not log a broken pipe."""
    left = _BODY_MAX if length is None else min(length, _BODY_MAX)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            while left > 0 and (chunk := await reader.read(left)):
                left -= len(chunk)
    except OSError:  # the timeout is one, too: the status is what counts
        return


@cache
def _unverified() -> ssl.SSLContext:
    """As in Kubernetes: a probe asks whether it answers, not who."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
