"""`POST /v1/traces`: where Envoy and the instances send their spans (OTLP/HTTP). An application of its own, on
listeners of its own, without the API's token: it takes spans and gives nothing back, whatever is asked.

Whoever may connect may send, so everything is bounded before it is read: size, also of what gzip makes of it, time,
how many at once and how much per second. A refusal is a google.rpc.Status in the encoding of the request.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from spinyard.api.deps import ApiLimits
from spinyard.api.guard import HOST, LOOPBACK_HOSTS, BodyTimeout, Rate, UnsupportedMediaType, WrongHost
from spinyard.errors import InvalidInput, NotFound, SpinyardError, TooLarge, TooMany, UserError
from spinyard.ports.clock import Clock
from spinyard.ports.traces import Taken

PATH: Final = "/v1/traces"
ENVOYS_HOST: Final = "spinyard-otlp"
JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"


class MethodNotAllowed(UserError):
    status = 405
    code = "method_not_allowed"


@dataclass(frozen=True, slots=True)
class OtlpLimits:
    """`body_bytes_max` holds for what came, and for what gzip makes of it."""

    body_bytes_max: int = 2 << 20
    body_seconds: float = 10.0
    bytes_per_second: float = 8 << 20
    burst_bytes_max: float = 32 << 20
    requests_per_second: float = 1_000.0
    burst_max: int = 2_000
    in_flight_max: int = 64


class Sink(Protocol):
    async def take(self, body: bytes, media_type: str) -> Taken:
        """Raises InvalidInput, TooLarge."""
        ...


@dataclass(frozen=True, slots=True)
class OtlpDeps:
    """`answer` and `refusal` write what the protocol says in the encoding of the request."""

    sink: Sink
    answer: Callable[[Taken, str], bytes]
    refusal: Callable[[SpinyardError, str], bytes]
    clock: Clock
    limits: OtlpLimits = OtlpLimits()


class OtlpApp:
    """ASGI."""

    def __init__(self, deps: OtlpDeps) -> None:
        self._deps = deps
        limits = deps.limits
        self._rate = Rate(
            deps.clock,
            ApiLimits(
                requests_per_second=limits.requests_per_second,
                burst_max=limits.burst_max,
                in_flight_max=limits.in_flight_max,
            ),
        )
        self._bytes_left = float(limits.burst_bytes_max)
        self._bytes_at = deps.clock.monotonic()
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        media_type = _media_type(headers)
        answered_as = JSON if media_type == JSON else PROTOBUF
        try:
            _check_request(scope, headers)
            with self._rate.admitted():
                _known(media_type)
                body = await self._body(headers, receive)
                taken = await self._deps.sink.take(body, media_type)
        except SpinyardError as error:
            await self._refuse(error, answered_as, send)
        else:
            await _respond(send, 200, self._deps.answer(taken, answered_as), answered_as)

    async def _refuse(self, error: SpinyardError, media_type: str, send: Send) -> None:
        self.refused += 1
        extra = {"retry-after": "1"} if error.retryable else {}
        # What was not read would be taken for the next request.
        extra |= {"connection": "close"}
        # The protocol has one word for what cannot be read; 422 is the API's.
        status = 400 if error.status == 422 else error.status
        await _respond(send, status, self._deps.refusal(error, media_type), media_type, extra)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        limits = self._deps.limits
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > limits.body_bytes_max:
            raise _too_large(limits.body_bytes_max)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise UnsupportedMediaType(
                f"The content encoding {encoding[:40]!r} is not understood.", next_step="Send gzip, or none."
            )
        try:
            async with asyncio.timeout(limits.body_seconds):
                body = await _read(receive, limits.body_bytes_max)
        except TimeoutError as error:
            raise BodyTimeout(f"The body did not arrive within {limits.body_seconds:g} s.", retryable=True) from error
        if encoding == "gzip":
            body = unpacked(body, limits.body_bytes_max)
        self._count(len(body))
        return body

    def _count(self, size: int) -> None:
        limits, now = self._deps.limits, self._deps.clock.monotonic()
        earned = (now - self._bytes_at) * limits.bytes_per_second
        self._bytes_left = min(limits.burst_bytes_max, self._bytes_left + earned)
        self._bytes_at = now
        if size > self._bytes_left:
            raise TooMany(
                "More spans arrive than are read.",
                next_step="Send fewer, or sample.",
                retryable=True,
                retry_after_seconds=1.0,
            )
        self._bytes_left -= size


def unpacked(body: bytes, limit: int) -> bytes:
    """Never more than a little above `limit` is made of it. Raises TooLarge, InvalidInput."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        out = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"The body is not valid gzip: {error}.", code="invalid_otlp") from error
    if len(out) > limit:
        raise _too_large(limit)
    if not stream.eof:
        raise InvalidInput("The body ends in the middle of its gzip.", code="invalid_otlp")
    return out


def _check_request(scope: Scope, headers: Headers) -> None:
    found = HOST.fullmatch(headers.get("host", ""))
    if found is None or found.group(1).lower() not in LOOPBACK_HOSTS | {ENVOYS_HOST}:
        raise WrongHost("This receiver answers for loopback names only.")
    if scope["path"] != PATH:
        raise NotFound(
            f"There is nothing at {scope['path'][:100]}; traces are taken at {PATH}.",
            next_step="Metrics and logs are not taken here.",
        )
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"Spans are sent by POST; they are read with: spinyard trace ls. ({PATH})")


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _known(media_type: str) -> None:
    if media_type not in (JSON, PROTOBUF):
        # A page in a browser can send a few media types to any address without asking; these two are not among them.
        raise UnsupportedMediaType(
            f"The body is {media_type[:100] or 'of no media type'}.", next_step=f"Send {PROTOBUF}, or {JSON}."
        )


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("The connection ended before the body.", code="invalid_otlp")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _respond(send: Send, status: int, body: bytes, media_type: str, extra: dict[str, str] | None = None) -> None:
    headers = {"content-type": media_type, "content-length": str(len(body)), **(extra or {})}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The export is larger than {limit} bytes.", next_step="Send fewer spans in one request.")
