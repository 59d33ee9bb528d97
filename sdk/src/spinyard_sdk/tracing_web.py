"""A trace goes on inside a web application: `AsgiTracing(app)`, `WsgiTracing(app)`.

    app = AsgiTracing(app)                          # FastAPI, Starlette, Django, Quart: app.add_middleware(AsgiTracing)
    application = WsgiTracing(application)          # Flask: app.wsgi_app = WsgiTracing(app.wsgi_app)

Each request is a span inside of the caller's, with method, path (never the query), status and the side it came for.
Where the program's own OpenTelemetry has begun a span for the request already, nothing is added.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

from spinyard_sdk.tracing import TRACEPARENT, TRACESTATE, Child, TraceContext, child, current, parse
from spinyard_sdk.wire import SIDE_HEADER

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
StartResponse = Callable[..., Any]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

SIDE_ATTRIBUTE = "spinyard.side"
_NAMES = frozenset(name.encode() for name in (TRACEPARENT, TRACESTATE, SIDE_HEADER))


class AsgiTracing:
    """Requests of HTTP; WebSockets keep the caller's context and get no span."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or current() is not None:
            await self._app(scope, receive, send)
            return
        found: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            if name in _NAMES:
                found.setdefault(name.decode(), []).append(value.decode("latin-1"))
        span = _span(scope["method"], scope["path"], found)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _answered(span, message["status"])
            await send(message)

        with span:
            await self._app(scope, receive, noting)


class WsgiTracing:
    """The span ends when the server closes the body."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if current() is not None:
            return self._app(environ, start_response)
        names = ((TRACEPARENT, "HTTP_TRACEPARENT"), (TRACESTATE, "HTTP_TRACESTATE"), (SIDE_HEADER, _wsgi(SIDE_HEADER)))
        found = {name: [environ[key]] for name, key in names if environ.get(key)}
        path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
        span = _span(environ["REQUEST_METHOD"], path.encode("latin-1").decode(errors="replace"), found)

        def noting(status: str, *rest: Any, **more: Any) -> Any:
            _answered(span, int(status[:3]))
            return start_response(status, *rest, **more)

        span.__enter__()
        try:
            body = self._app(environ, noting)
        except BaseException as error:
            span.__exit__(type(error), error, error.__traceback__)
            raise
        span.leave()
        return _Body(body, span)


class _Body:
    """What the application yields, inside of its span again."""

    def __init__(self, body: Iterable[bytes], span: Child) -> None:
        self._body = body
        self._parts = iter(body)
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._span.enter()
        try:
            return next(self._parts)
        except StopIteration:
            raise
        except BaseException as error:
            self._span.fail(type(error).__name__)
            raise
        finally:
            self._span.leave()

    def close(self) -> None:
        try:
            if (close := getattr(self._body, "close", None)) is not None:
                close()
        finally:
            self._span.end()


def _span(method: str, path: str, headers: dict[str, list[str]]) -> Child:
    attributes: dict[str, str | bool | int | float] = {"http.request.method": method, "url.path": path}
    if side := headers.get(SIDE_HEADER):
        attributes[SIDE_ATTRIBUTE] = side[0]
    return child(f"{method} {path}", "server", attributes, parent=_caller(headers))


def _caller(headers: dict[str, list[str]]) -> TraceContext | None:
    """Two of them are none: nobody knows which one is true."""
    found = headers.get(TRACEPARENT, ())
    return parse(found[0], ",".join(headers.get(TRACESTATE, ()))) if len(found) == 1 else None


def _answered(span: Child, status: int) -> None:
    span.set("http.response.status_code", status)
    if status >= 500:
        span.fail(str(status))


def _wsgi(name: str) -> str:
    return "HTTP_" + name.upper().replace("-", "_")
