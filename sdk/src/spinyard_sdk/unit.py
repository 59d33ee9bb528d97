"""The unit's side of a boundary: the same functions, served over HTTP.

    app = serve(thumbnails)          # a module, functions, classes or instances; any ASGI server runs it

`POST /{boundary}/{function}` with the arguments as one JSON object. Errors are problem documents (RFC 9457); trace,
side and deadline are those of the caller. Whoever may connect may call: put it where only Envoy reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Final

import msgspec

from spinyard_sdk import tracing
from spinyard_sdk.context import Asgi, Receive, Scope, Send, lower_headers, remaining, request_of, within
from spinyard_sdk.functions import Boundary, Codec, Function, codec_of
from spinyard_sdk.sides import state_of
from spinyard_sdk.wire import BOUNDARY_HEADER, PROBLEMS, SHADOW_HEADER, UNIT

BODY_BYTES_MAX: Final = 64 << 20
BODY_SECONDS: Final = 30.0
CALLS_MAX: Final = 64
THREADS_MAX: Final = 32
HEALTH: Final = frozenset({"/healthz", "/readyz"})

_log: Final = logging.getLogger("spinyard_sdk.unit")


@dataclass(frozen=True, slots=True)
class _Served:
    function: Function
    codec: Codec
    call: Callable[..., Any]


class _Problem(Exception):
    def __init__(self, status: int, code: str, detail: str = "", more: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.document = {"type": PROBLEMS + code, "title": code.replace("_", " "), "status": status, "code": code}
        if detail:
            self.document["detail"] = detail
        self.document |= more or {}


def serve(*things: Any, calls_max: int = CALLS_MAX, threads_max: int = THREADS_MAX) -> Asgi:
    """`calls_max`: at once; one more is told 503 `busy`, before it began. Functions that are not async run in threads.

    Raises NotTyped for a function whose hints have no form in JSON, ValueError for two functions with one path or none.
    """
    served: dict[str, _Served] = {}
    for thing in things:
        for function, call in _functions_of(thing):
            path = f"/{function.boundary}/{function.name}"
            if path in served:
                raise ValueError(f"two functions would answer at {path}")
            served[path] = _Served(function, codec_of(function), call)
    if not served:
        raise ValueError("nothing of this is decorated with @boundary")
    for name in {one.function.boundary for one in served.values()}:
        # It is the unit: what it calls of its own stays here.
        state = state_of(name)
        state.is_served_here = True
        state.take(state.flag)
    return _Unit(served, calls_max, threads_max)


def _functions_of(thing: Any) -> list[tuple[Function, Callable[..., Any]]]:
    if isinstance(thing, ModuleType):
        # Also what another module brought in: it is there to be served.
        found = {id(value): value for value in vars(thing).values() if _is_decorated(value)}
        return [one for value in found.values() for one in _functions_of(value)]
    if inspect.isfunction(thing):
        function = getattr(thing, "__spinyard_function__", None)
        return [(function, function.call)] if function is not None else []
    if not _is_decorated(thing):
        return []
    owner: Any = thing if isinstance(thing, type) else type(thing)
    instance = thing() if isinstance(thing, type) else thing
    out = []
    for name in owner.__spinyard_boundary__.functions:
        wrapped = inspect.getattr_static(owner, name)
        function = getattr(getattr(wrapped, "__func__", wrapped), "__spinyard_function__")  # noqa: B009
        out.append((function, function.call.__get__(instance) if function.bound else function.call))
    return out


def _is_decorated(thing: Any) -> bool:
    return isinstance(getattr(thing, "__spinyard_boundary__", None), Boundary)


class _Unit:
    def __init__(self, served: Mapping[str, _Served], calls_max: int, threads_max: int) -> None:
        self._served = served
        self._calls_max = calls_max
        self._running = 0
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix="spinyard-unit")
        self._busy_threads = 0
        self._threads_max = threads_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                self._threads.shutdown(wait=False, cancel_futures=True)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in HEALTH:
            await _send(send, 200, b'{"status":"ok"}')
            return
        headers = lower_headers(scope)
        one = self._served.get(scope["path"])
        request = replace(request_of(headers), side=UNIT)
        with within(request), _span(scope["path"] if one else "unknown", headers) as span:
            try:
                if one is None:
                    raise _Problem(404, "unknown_function", "no function of a boundary is at this path")
                answer = await self._call(one, scope, headers, receive)
            except _Problem as problem:
                span.set("http.response.status_code", problem.status)
                if problem.status >= 500:
                    span.fail(str(problem.document["code"]))
                await _send_problem(send, one, problem)
            except _Gone:
                span.fail("the caller is gone")
            else:
                assert one is not None
                span.set("http.response.status_code", 200)
                await _send(send, 200, answer, one.function.boundary)

    async def _call(self, one: _Served, scope: Scope, headers: Mapping[str, str], receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise _Problem(405, "method_not_allowed", "functions are called by POST")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise _Problem(415, "unsupported_media_type", "arguments are application/json")
        if SHADOW_HEADER in headers and not one.function.safe:
            raise _Problem(409, "not_safe", f"{one.function.name} is not safe, so it is not run to be compared")
        with self._admitted():
            body = await _body(headers, receive)
            try:
                args, kwargs = one.codec.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _Problem(422, "invalid_arguments", str(error)) from error
            return await self._run(one, args, kwargs, receive)

    @contextlib.contextmanager
    def _admitted(self) -> Any:
        if self._running >= self._calls_max:
            raise _Problem(503, "busy", f"{self._calls_max} calls are running")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    async def _run(self, one: _Served, args: tuple[Any, ...], kwargs: dict[str, Any], receive: Receive) -> bytes:
        left = remaining()
        try:
            async with _until_gone(receive), asyncio.timeout(left):
                if one.function.is_async:
                    value = await one.call(*args, **kwargs)
                else:
                    value = await self._in_thread(one, args, kwargs)
            return one.codec.encode_result(value)
        except TimeoutError as error:
            # The function's own TimeoutError, before time was up, is a failure like any other.
            if left is None or (remaining() or 0.0) > 0:
                raise self._failed(one, error) from error
            raise _Problem(504, "deadline_exceeded", "the caller's time was up") from error
        except (_Problem, _Gone):
            raise
        except Exception as error:
            raise self._failed(one, error) from error

    async def _in_thread(self, one: _Served, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Nobody can stop a thread: one whose caller is gone goes on, and keeps its place until it ends."""
        if self._busy_threads >= self._threads_max:
            raise _Problem(503, "busy", f"{self._threads_max} calls are running")
        context = contextvars.copy_context()
        self._busy_threads += 1
        future = self._threads.submit(context.run, one.call, *args, **kwargs)
        loop = asyncio.get_running_loop()

        def ended(_: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._thread_ended)

        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    def _thread_ended(self) -> None:
        self._busy_threads -= 1

    def _failed(self, one: _Served, error: Exception) -> _Problem:
        declared = one.codec.encode_exception(error)
        if declared is not None:
            return _Problem(409, "raised", more={**declared, "title": type(error).__name__})
        # Its words may hold anybody's data: they stay here.
        _log.error("%s of %s failed", one.function.name, one.function.boundary, exc_info=error)
        return _Problem(500, "internal", "the function failed with an exception that its boundary does not declare")


class _Gone(Exception):
    """Nobody waits for the answer any more."""


@contextlib.asynccontextmanager
async def _until_gone(receive: Receive) -> AsyncIterator[None]:
    """Cancels the block when the caller hangs up. The body has been read before."""
    running = asyncio.current_task()
    assert running is not None
    is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            continue
        is_gone = True
        running.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if is_gone and running.uncancel() == 0:
            raise _Gone from None
        raise
    finally:
        watching.cancel()


async def _body(headers: Mapping[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > BODY_BYTES_MAX:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > BODY_BYTES_MAX:
                    raise _too_large()
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError as error:
        raise _Problem(408, "body_timeout", f"the body did not arrive within {BODY_SECONDS:g} s") from error


def _too_large() -> _Problem:
    return _Problem(413, "too_large", f"arguments may have {BODY_BYTES_MAX} bytes")


def _span(name: str, headers: Mapping[str, str]) -> tracing.Child:
    return tracing.child(name.strip("/"), "server", {"http.request.method": "POST"}, parent=tracing.extract(headers))


async def _send_problem(send: Send, one: _Served | None, problem: _Problem) -> None:
    body = msgspec.json.encode(problem.document)
    boundary = one.function.boundary if one is not None else "-"
    await _send(send, problem.status, body, boundary, "application/problem+json", close=problem.status in (408, 413))


async def _send(
    send: Send,
    status: int,
    body: bytes,
    boundary: str = "",
    media_type: str = "application/json",
    *,
    close: bool = False,
) -> None:
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    if boundary:
        headers.append((BOUNDARY_HEADER.encode(), boundary.encode()))
    if close:
        # What was not read would be taken for the next request.
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
