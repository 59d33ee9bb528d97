"""What a request brings along for everything that is done for it: its side, its key, and how long it may take.

The first hop decides the side once, and it holds for the whole tree of requests. A parent behind Envoy puts `asgi` or
`wsgi` around its application; the unit's server does the same by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from spinyard_sdk import tracing
from spinyard_sdk.wire import KEY_HEADER, PARENT, SIDE_HEADER, TIMEOUT_HEADER, UNIT, Side

TIMEOUT_MILLISECONDS_MAX: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Request:
    """`side` None: nobody has decided. `until`: of time.monotonic; None: no limit."""

    side: Side | None = None
    key: str = ""
    until: float | None = None


REQUEST: Final[ContextVar[Request | None]] = ContextVar("spinyard_request", default=None)


def request_of(headers: Mapping[str, str]) -> Request:
    """From headers with names in lower case. What is not understood counts as absent."""
    said = headers.get(SIDE_HEADER)
    side: Side | None = UNIT if said == UNIT else PARENT if said == PARENT else None
    timeout = headers.get(TIMEOUT_HEADER, "")
    until = None
    if timeout.isascii() and timeout.isdecimal() and len(timeout) <= 9:
        until = time.monotonic() + min(int(timeout), TIMEOUT_MILLISECONDS_MAX) / 1e3
    return Request(side, headers.get(KEY_HEADER, ""), until)


@contextlib.contextmanager
def within(request: Request) -> Generator[None]:
    token = REQUEST.set(request)
    try:
        yield
    finally:
        REQUEST.reset(token)


@contextlib.contextmanager
def deadline(seconds: float) -> Generator[None]:
    """Remote calls inside of the block end by then. A deadline that is there already and sooner stays."""
    before = REQUEST.get() or Request()
    until = time.monotonic() + seconds
    with within(replace(before, until=until if before.until is None else min(before.until, until))):
        yield


def remaining() -> float | None:
    """Seconds until the caller stops waiting, 0 when that is over; None: nobody said."""
    request = REQUEST.get()
    if request is None or request.until is None:
        return None
    return max(0.0, request.until - time.monotonic())


Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def asgi(app: Asgi) -> Asgi:
    """Around an ASGI application: its requests are continued in trace, side and deadline."""

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = lower_headers(scope)

        async def watched(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _told(span, int(message["status"]))
            await send(message)

        with within(request_of(headers)), _span(scope["method"], headers) as span:
            await app(scope, receive, watched)

    return around


def wsgi(app: Wsgi) -> Wsgi:
    """The same for a WSGI application. What it yields after it has returned is outside of it."""

    def around(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }

        def watched(status: str, *rest: Any) -> Any:
            _told(span, int(status[:3]))
            return start_response(status, *rest)

        with within(request_of(headers)), _span(environ.get("REQUEST_METHOD", "GET"), headers) as span:
            return app(environ, watched)

    return around


def lower_headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _span(method: str, headers: Mapping[str, str]) -> tracing.Child:
    return tracing.child(method, "server", {"http.request.method": method}, parent=tracing.extract(headers))


def _told(span: tracing.Child, status: int) -> None:
    span.set("http.response.status_code", status)
    if status >= 500:
        span.fail(f"HTTP {status}")
