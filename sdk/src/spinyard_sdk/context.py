"""What a request brings along for everything that is done for it: its side, its key, and how long it may take.

The first hop decides the side once, and it holds for the whole tree of requests. A parent behind Envoy puts
`AsgiRequests` or `WsgiRequests` around its application; the unit's server does the same by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Final

from spinyard_sdk.tracing_web import AsgiTracing, WsgiTracing
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


class AsgiRequests:
    """Around an ASGI application: its requests go on with trace, side, key and deadline.

    FastAPI, Starlette: `app.add_middleware(AsgiRequests)`."""

    def __init__(self, app: Asgi) -> None:
        self._app = app
        self._traced = AsgiTracing(self._within)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._traced(scope, receive, send)

    async def _within(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with within(request_of(lower_headers(scope))):
            await self._app(scope, receive, send)


class WsgiRequests:
    """The same around a WSGI application: Flask: `app.wsgi_app = WsgiRequests(app.wsgi_app)`. What it yields after it
    has returned is traced, and has no side, key or deadline."""

    def __init__(self, app: Wsgi) -> None:
        self._app = app
        self._traced = WsgiTracing(self._within)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self._traced(environ, start_response)

    def _within(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        with within(request_of(headers)):
            return self._app(environ, start_response)


def lower_headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
