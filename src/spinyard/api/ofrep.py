"""The OpenFeature Remote Evaluation Protocol 0.3: Spinouts as boolean flags, for programs in any language.

    POST /ofrep/v1/evaluate/flags/{key}   one           POST /ofrep/v1/evaluate/flags   all, with ETag and 304
    GET  /ofrep/v1/stream                 server-sent events: evaluate again

An application of its own, for the listener that instances may use without the API's token: it gives weights and takes
nothing. Flags are read from the store when commits have changed them, never for an evaluation.
https://openfeature.dev/docs/reference/other-technologies/ofrep/openapi/
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from spinyard.api.deps import ApiLimits, Notifier, Run
from spinyard.api.guard import HOST, LOOPBACK_HOSTS, Rate
from spinyard.api.streams import Parts, Streams
from spinyard.core.spec import Kind
from spinyard.errors import StoreFailure, TooMany
from spinyard.ports.clock import Clock
from spinyard.ports.store import Store
from spinyard.usecases.flags import Evaluation, Flag, FlagError, evaluate, read_flags
from spinyard_sdk.wire import UNIT

PREFIX: Final = "/ofrep/v1/"
EVALUATE: Final = PREFIX + "evaluate/flags"
STREAM: Final = PREFIX + "stream"
BODY_BYTES_MAX: Final = 64 * 1024
BODY_SECONDS: Final = 5.0
KEY_CHARACTERS_MAX: Final = 520
HEARTBEAT: Final = b": still here\n\n"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OfrepLimits:
    requests_per_second: float = 5_000.0
    burst_max: int = 10_000
    in_flight_max: int = 256
    streams_max: int = 256
    poll_seconds: float = 1.0
    pause_seconds: float = 0.02
    """between two looks at the store, however many commits there are"""
    reread_seconds: float = 30.0
    """records that were pruned leave no mark"""
    heartbeat_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class OfrepDeps:
    """`gateway`: host:port where the SDK reaches Envoy from inside; empty: nowhere."""

    store: Store
    run_read: Run
    notifier: Notifier
    clock: Clock
    gateway: Callable[[], str] = str
    limits: OfrepLimits = field(default_factory=OfrepLimits)


class Board:
    """All flags, as they were after the newest commit that touched a Spinout. `follow` keeps them so."""

    def __init__(self, deps: OfrepDeps) -> None:
        self._deps = deps
        self._moved = asyncio.Event()
        self._cursor = (0, "")
        self._read_at = float("-inf")
        self.flags: Mapping[str, Flag] = {}
        self.etag = ""
        self.changed_at = 0.0
        self.turn = 0
        """grows with each change that this server has seen"""

    async def follow(self) -> None:
        """For ever. A store that fails keeps what was read last."""
        while True:
            newest = self._cursor[0] - 1
            try:
                newest = await self._look()
            except StoreFailure as error:
                _log.warning("flags_not_read", why=str(error))
            await asyncio.sleep(self._deps.limits.pause_seconds)
            await self._deps.notifier.wait(newest, self._deps.limits.poll_seconds)

    async def refresh(self) -> None:
        """The flags as the store has them now."""
        self._read_at = float("-inf")
        await self._look()

    async def wait_after(self, turn: int, seconds: float) -> None:
        if self.turn > turn:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return

    async def _look(self) -> int:
        deps, now = self._deps, self._deps.clock.monotonic()
        is_old = now - self._read_at >= deps.limits.reread_seconds
        cursor = self._cursor

        def read() -> tuple[int, Mapping[str, Flag] | None]:
            newest = deps.store.commit_seq()
            flags = deps.store.read(
                lambda tx: read_flags(tx) if is_old or tx.changed(Kind.SPINOUT, after=cursor, limit=1) else None,
                now=deps.clock.now(),
            )
            return newest, flags

        newest, flags = await deps.run_read(read)
        # What is committed between the two reads is looked at once more.
        self._cursor = (newest + 1, "")
        if flags is not None:
            self._read_at = now
            if flags != self.flags or not self.etag:
                self._take(flags)
        return newest

    def _take(self, flags: Mapping[str, Flag]) -> None:
        self.flags = flags
        self.etag = _etag(repr(sorted(flags.items())).encode())
        self.changed_at = self._deps.clock.now()
        self.turn += 1
        self._moved.set()
        self._moved = asyncio.Event()


class OfrepApp:
    """ASGI. Run `board.follow()` beside it; `streams.close()` ends the streams."""

    def __init__(self, deps: OfrepDeps) -> None:
        self._deps = deps
        self.board = Board(deps)
        self.streams = Streams(deps.limits.streams_max)
        self.evaluations = 0
        limits = deps.limits
        self._bodies = _Bodies(limits.in_flight_max)
        self._rate = Rate(
            deps.clock,
            ApiLimits(
                requests_per_second=limits.requests_per_second,
                burst_max=limits.burst_max,
                in_flight_max=limits.in_flight_max,
            ),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            refused = _refusal(scope, Headers(scope=scope))
            if refused is not None:
                await _respond(send, refused[0], {"errorDetails": refused[1]})
            elif scope["path"] == STREAM:
                await self._stream(scope, receive, send)
            else:
                await self._evaluate(scope, receive, send)
        except TooMany as error:
            await _respond(send, 429, {"errorDetails": error.message}, {"retry-after": "1"})

    async def _evaluate(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = unquote(scope["path"][len(EVALUATE) :]).strip("/")
        named = {"key": key} if key else {}
        try:
            async with self._bodies.place():
                body = await _body(receive)
            with self._rate.admitted():
                await self._answer(key, _context(body), scope, send)
        except _Broken as error:
            await _respond(
                send, error.status, {**named, "errorCode": FlagError.PARSE_ERROR, "errorDetails": str(error)}
            )

    async def _answer(self, key: str, context: Mapping[str, Any], scope: Scope, send: Send) -> None:
        if not self.board.etag:
            await self.board.refresh()
        self.evaluations += 1
        if key:
            await self._one(key, context, send)
        else:
            await self._all(context, Headers(scope=scope), send)

    async def _one(self, key: str, context: Mapping[str, Any], send: Send) -> None:
        flag = self.board.flags.get(key)
        if flag is None:
            why = f"there is no Spinout {key!r}; list them with: spinyard get spinouts -A"
            await _respond(send, 404, {"key": key, "errorCode": FlagError.FLAG_NOT_FOUND, "errorDetails": why})
            return
        shown = self._shown(flag, evaluate(flag, context.get("targetingKey")))
        await _respond(send, 400 if "errorCode" in shown else 200, shown)

    async def _all(self, context: Mapping[str, Any], headers: Headers, send: Send) -> None:
        key = context.get("targetingKey")
        flags = [self._shown(flag, evaluate(flag, key)) for flag in self.board.flags.values()]
        streams = [{"type": "sse", "endpoint": {"requestUri": STREAM}}]
        body = msgspec.json.encode(
            {
                "flags": flags,
                "eventStreams": streams,
                "metadata": {"flagConfigLastModified": int(self.board.changed_at)},
            }
        )
        # Of the answer, not of the flags alone: another key has other answers.
        etag = _etag(msgspec.json.encode(flags))
        if etag in [one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")]:
            await _send(send, 304, b"", {"etag": etag})
        else:
            await _send(send, 200, body, {"etag": etag})

    def _shown(self, flag: Flag, found: Evaluation) -> dict[str, Any]:
        if found.error is not None:
            return {"key": flag.key, "errorCode": found.error, "errorDetails": found.details}
        about = {"weight": flag.weight, "shadow": flag.shadow, "version": flag.version, "host": flag.host}
        return {
            "key": flag.key,
            "value": found.side == UNIT,
            "reason": found.reason,
            "variant": found.side,
            "metadata": {**about, "gateway": self._deps.gateway()},
        }

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            await _respond(send, 405, {"errorDetails": "the stream is read by GET"})
            return
        seen = Headers(scope=scope).get("last-event-id", "")
        response = self.streams.respond(self._events(seen), media_type="text/event-stream")
        await response(scope, receive, send)

    async def _events(self, seen: str) -> Parts:
        """`seen`: the ETag of the flags that the client knows; a change that it has missed is told at once."""
        if not self.board.etag:
            await self.board.refresh()
        turn = self.board.turn
        yield HEARTBEAT
        if seen and seen != self.board.etag.strip('"'):
            yield self._event()
        while True:
            await self.board.wait_after(turn, self._deps.limits.heartbeat_seconds)
            yield self._event() if self.board.turn > turn else HEARTBEAT
            turn = self.board.turn

    def _event(self) -> bytes:
        told = {"type": "refetchEvaluation", "etag": self.board.etag, "lastModified": int(self.board.changed_at)}
        return (
            f"id: {self.board.etag.strip(chr(34))}\nevent: message\ndata: ".encode()
            + msgspec.json.encode(told)
            + b"\n\n"
        )


class _Bodies:
    """Who waits for a body. When it is too many, the one that has waited longest goes: so whoever sends slowly, or
    never, takes no place from those who send at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[asyncio.Timeout, None] = {}

    @asynccontextmanager
    async def place(self) -> AsyncGenerator[None]:
        """Raises _Broken."""
        if len(self._waiting) >= self._most:
            longest = next(iter(self._waiting))
            del self._waiting[longest]
            if not longest.expired():
                longest.reschedule(0.0)
        try:
            async with asyncio.timeout(BODY_SECONDS) as timeout:
                self._waiting[timeout] = None
                try:
                    yield
                finally:
                    self._waiting.pop(timeout, None)
        except TimeoutError as error:
            raise _Broken(f"the body did not arrive within {BODY_SECONDS:g} s, or sooner than others", 408) from error


class _Broken(Exception):
    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


def _refusal(scope: Scope, headers: Headers) -> tuple[int, str] | None:
    """Whoever may connect may ask, so a page in somebody's browser may not: by name, by origin, by media type."""
    host = HOST.fullmatch(headers.get("host", ""))
    if host is None or host.group(1).lower() not in LOOPBACK_HOSTS:
        return 421, "flags are told under loopback names only"
    if "origin" in headers:
        return 403, "flags are for programs, not for pages in a browser"
    path = scope["path"]
    if path == STREAM:
        return None
    if path != EVALUATE and not path.startswith(EVALUATE + "/"):
        return 404, f"there is nothing at {path[:100]}; flags are at {EVALUATE}"
    if len(path) > len(EVALUATE) + KEY_CHARACTERS_MAX:
        return 404, "no flag has so long a key"
    if scope["method"] != "POST":
        return 405, "flags are evaluated by POST"
    if headers.get("content-type", "application/json").partition(";")[0].strip().lower() != "application/json":
        return 415, "the body is application/json"
    return None


async def _body(receive: Receive) -> bytes:
    """Raises _Broken."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Broken("the connection ended before the body")
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise _Broken(f"a context may have {BODY_BYTES_MAX} bytes", 413)
        if not message.get("more_body", False):
            return bytes(body)


def _context(body: bytes) -> Mapping[str, Any]:
    """Raises _Broken."""
    try:
        found = msgspec.json.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Broken(f"the body is not valid JSON: {error}") from error
    context = found.get("context", {}) if isinstance(found, dict) else None
    if not isinstance(context, dict):
        raise _Broken('the body is an object with an object "context"')
    return context


def _etag(content: bytes) -> str:
    return f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'


async def _respond(send: Send, status: int, document: object, extra: Mapping[str, str] | None = None) -> None:
    close = {"connection": "close"} if status in (408, 413, 415, 421) else {}
    await _send(send, status, msgspec.json.encode(document), {**close, **(extra or {})})


async def _send(send: Send, status: int, body: bytes, extra: Mapping[str, str]) -> None:
    headers = {"cache-control": "no-store", **extra}
    if status != 304:
        headers |= {"content-type": "application/json", "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
