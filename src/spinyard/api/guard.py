"""What every request passes before any route: name, rate, token, size, time, depth.

In that order, so that a refusal is cheap: nobody without the token makes us read a body.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinyard.api.deps import ApiLimits
from spinyard.api.problems import internal_problem, problem_response
from spinyard.errors import InvalidInput, SpinyardError, TooLarge, TooMany, Unauthenticated, UserError
from spinyard.ports.clock import Clock

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]{1,5})?")
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
CHECK_IN_THREAD_BYTES: Final = 64 * 1024
PARTS_MAX: Final = 50_000
"""lists and objects in a body: they, not bytes, are what reading costs (0.6 s for a mebibyte of brackets)"""


class WrongHost(UserError):
    status = 421
    code = "wrong_host"


class BodyTimeout(UserError):
    status = 408
    code = "body_timeout"


class UnsupportedMediaType(UserError):
    status = 415
    code = "unsupported_media_type"


class Guard:
    """ASGI middleware, the outermost. The body arrives inside whole, checked, and in one message."""

    def __init__(
        self, app: ASGIApp, *, token: Callable[[], str], clock: Clock, limits: ApiLimits, hosts: frozenset[str]
    ) -> None:
        self._app = app
        self._token = token
        self._limits = limits
        self._hosts = LOOPBACK_HOSTS | {host.lower() for host in hosts}
        self._rate = Rate(clock, limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            _check_address(scope)
            with self._rate.admitted():
                self._check_token(scope, headers)
                inner = await self._with_body(headers, receive)
                await self._app(scope, inner, watched_send)
        except SpinyardError as error:
            close = {"connection": "close"} if error.status in (408, 413) else {}
            if error.status == 401:
                close = {"www-authenticate": 'Bearer realm="spinyard"'}
            await problem_response(error, headers=close)(scope, receive, send)
        except Exception as error:  # the API boundary
            if started:
                raise
            await internal_problem(error, method=scope["method"], path=scope["path"])(scope, receive, send)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        found = HOST.fullmatch(host)
        if found is None or found.group(1).lower() not in self._hosts:
            raise WrongHost(
                f"This server does not answer for the host {host[:100]!r}.",
                next_step="Use the address in <home>/run/server.json, or start the server with that name allowed.",
            )

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] in OPEN_PATHS:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        where = "The token is the content of the file `token` in the server's home (SPINYARD_HOME, else ~/.spinyard)."
        if scheme.lower() != "bearer" or not given.strip():
            raise Unauthenticated(
                "A bearer token is needed.", next_step=f"Send `Authorization: Bearer <token>`. {where}"
            )
        if not hmac.compare_digest(given.strip().encode(), self._token().encode()):
            raise Unauthenticated(
                "This is not the token of this server; it may have been replaced.", next_step=f"Read it again. {where}"
            )

    async def _with_body(self, headers: Headers, receive: Receive) -> Receive:
        body = b""
        if "content-length" in headers or "transfer-encoding" in headers:
            body = await self._read_body(headers, receive)
        if body:
            _check_media_type(headers)
            if len(body) > CHECK_IN_THREAD_BYTES:
                await asyncio.to_thread(check_json, body, self._limits.depth_max)
            else:
                check_json(body, self._limits.depth_max)
        return _replay(body, receive)

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._limits.body_bytes_max
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await _read(receive, limit)
        except TimeoutError as error:
            raise BodyTimeout(
                f"The body did not arrive within {self._limits.body_seconds:g} s.",
                next_step="Send the whole body at once.",
                retryable=True,
            ) from error


class Rate:
    """A token bucket and a bound on requests at once. Streams have a bound of their own, see `Streams`."""

    def __init__(self, clock: Clock, limits: ApiLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._left = float(limits.burst_max)
        self._at = clock.monotonic()
        self.in_flight = 0

    @contextmanager
    def admitted(self) -> Generator[None]:
        self._take()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def _take(self) -> None:
        now = self._clock.monotonic()
        per_second = self._limits.requests_per_second
        self._left = min(float(self._limits.burst_max), self._left + (now - self._at) * per_second)
        self._at = now
        if self._left < 1.0 or self.in_flight >= self._limits.in_flight_max:
            raise TooMany(
                "Too many requests at once.",
                next_step="Wait, and send fewer requests at the same time.",
                retryable=True,
                retry_after_seconds=1.0,
            )
        self._left -= 1.0


def check_json(body: bytes, depth_max: int) -> None:
    """Raises InvalidInput: not JSON, nested too deeply, of too many parts, or with text that cannot be stored."""
    if body.count(b"[") + body.count(b"{") > PARTS_MAX:
        raise InvalidInput(
            f"The JSON has more than {PARTS_MAX} lists and objects.",
            code="invalid_json",
            next_step="Send it in several requests.",
        )
    try:
        value = msgspec.json.decode(body)
    except RecursionError as error:
        raise _too_deep(depth_max) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"The body is not valid JSON: {error}.", code="invalid_json", next_step="Send valid JSON, in UTF-8."
        ) from error
    if b"\\u0000" in body:
        raise InvalidInput(
            "The body has a NUL character in a text.", code="invalid_json", next_step="Remove the NUL character."
        )
    level = _containers([value])
    for _ in range(depth_max):
        if not level:
            return
        level = [
            inner for outer in level for inner in _containers(outer.values() if isinstance(outer, dict) else outer)
        ]
    if not level:
        return
    raise _too_deep(depth_max)


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("The connection ended before the body.", code="invalid_json")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def inner() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return inner


def _check_address(scope: Scope) -> None:
    if b"%00" in scope["query_string"] or b"%00" in scope.get("raw_path", b""):
        raise InvalidInput("The address has a NUL character.", next_step="Remove the NUL character.")


def _check_media_type(headers: Headers) -> None:
    media_type = headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(
            f"The body is {media_type[:100]}, and only JSON is understood.",
            next_step="Send `Content-Type: application/json`.",
        )


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.", next_step="Split it into several requests.")


def _too_deep(depth_max: int) -> InvalidInput:
    return InvalidInput(
        f"The JSON is nested more than {depth_max} deep.", code="invalid_json", next_step="Send a flatter document."
    )
