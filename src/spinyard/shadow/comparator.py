"""Where Envoy sends its copies of reads: each is asked of the parent and of the unit again, and the answers compared.

Envoy throws the answer to a copy away and cannot hand us the one that the user got, so the parent is asked once more:
that is the price, and `share` bounds it. Both sides are asked through a unix socket of Envoy's for calls from inside,
which sends what carries the shadow's header to clusters of its own: what is compared is counted nowhere as traffic of a
side, and what users sent goes to nobody who took a port.
One read is compared at a time, with a rest after it, so that the parent never has more than one request for it; what is
too much is not compared, and counted. Findings live in memory: after a
restart the comparison begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from aiohttp import web
from yarl import URL

from spinyard.core.observed import LookShadow, ShadowFound, Unknown
from spinyard.ports.clock import Clock
from spinyard.ports.reader import ReadLook
from spinyard.spinout.compare import BODY_BYTES_MAX, Answer, Findings, Rules, Sample, differing, fields_of, sample
from spinyard_sdk import wire

_log = structlog.get_logger(__name__)

LONGEST_BYTES_MAX = 16 << 20
WAITING_MAX = 16
ASK_SECONDS_MAX = 10.0
REST = 1.0
"""after each comparison nothing is asked for so many times as long as it took: a parent that is slow is asked less"""
BOUNDARIES_MAX = 100
TWICE_UNTIL = 30
"""so many reads are answered twice by the parent at first; then one in TWICE_EVERY"""
TWICE_EVERY = 10
SAFE = ("GET", "HEAD")
# Of one connection; and what would have no body compared, or one that only looks different.
_NOT_COPIED = frozenset(
    {
        *("connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "expect"),
        *("accept-encoding", "range", "if-range", "if-match", "if-none-match", "if-modified-since"),
        *("if-unmodified-since", wire.SHADOW_HEADER, wire.SIDE_HEADER),
    }
)
_NOT_ADDED = ("Accept-Encoding", "Accept", "User-Agent")


class _NoAnswer(Enum):
    NO_ANSWER = "no whole answer in time"


NO_ANSWER: Final = _NoAnswer.NO_ANSWER


@dataclass(frozen=True, slots=True)
class _Copy:
    boundary: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]


class Comparator:
    """A reader of LookShadow. `asked`: Envoy's socket for calls from inside. `rules(boundary)`: None when
    nobody knows that boundary (any more)."""

    def __init__(
        self,
        socket: Path,
        asked: Path,
        clock: Clock,
        rules: Callable[[str], Awaitable[Rules | None]],
        ask_seconds: float = ASK_SECONDS_MAX,
    ) -> None:
        self._socket, self._asked, self._clock, self._rules = socket, asked, clock, rules
        self._ask_seconds = ask_seconds
        self._findings: dict[str, Findings] = {}
        self._queue: asyncio.Queue[_Copy] = asyncio.Queue(WAITING_MAX)
        self._worker: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None
        self._turn = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises OSError when the socket cannot be had."""
        app = web.Application(client_max_size=1024)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        self._socket.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._socket)).start()
        os.chmod(self._socket, 0o600)
        timeout = aiohttp.ClientTimeout(total=self._ask_seconds)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._asked)),
            timeout=timeout,
            auto_decompress=False,
            # What one user's answer sets is not sent on with another one's request.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._worker = asyncio.create_task(self._work(), name="shadow")

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- what was found ------------------------------------------------------------------------------------------------

    async def read(self, look: ReadLook) -> ShadowFound | Unknown:
        if not isinstance(look, LookShadow):
            return Unknown("only copied reads are compared here")
        findings = self._findings.get(look.cluster)
        if findings is None or findings.begun_at < look.since:
            findings = self._begin(look.cluster)
        return findings.found()

    def samples(self, boundary: str) -> Sequence[Sample]:
        findings = self._findings.get(boundary)
        return tuple(findings.samples) if findings is not None else ()

    def found(self, boundary: str) -> ShadowFound | None:
        """As `read`, without beginning anew; None: nothing has been compared since this server began."""
        findings = self._findings.get(boundary)
        return findings.found() if findings is not None else None

    def _begin(self, boundary: str) -> Findings:
        while len(self._findings) >= BOUNDARIES_MAX:
            del self._findings[next(iter(self._findings))]
        findings = self._findings[boundary] = Findings(self._clock.now())
        return findings

    # -- copies --------------------------------------------------------------------------------------------------------

    async def _take(self, request: web.Request) -> web.Response:
        """Answered at once: nobody reads it."""
        findings = self._findings.get(request.headers.get(wire.SHADOW_HEADER, ""))
        if findings is not None and request.method in SAFE:
            headers = tuple((n, v) for n, v in request.headers.items() if n.lower() not in _NOT_COPIED)
            copy = _Copy(request.headers[wire.SHADOW_HEADER], request.method, request.raw_path, headers)
            try:
                self._queue.put_nowait(copy)
            except asyncio.QueueFull:
                findings.skipped += 1
        return web.Response(status=204)

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            began = self._clock.monotonic()
            try:
                await self._compare(copy)
            except Exception as error:  # noqa: BLE001  one strange answer must not end the comparing
                _log.warning("copy_not_compared", boundary=copy.boundary, error=type(error).__name__)
                if (findings := self._findings.get(copy.boundary)) is not None:
                    findings.skipped += 1
            await self._clock.sleep(REST * (self._clock.monotonic() - began))

    async def _compare(self, copy: _Copy) -> None:
        findings, rules = self._findings.get(copy.boundary), await self._rules(copy.boundary)
        if findings is None:
            return
        if rules is None:
            findings.skipped += 1
            return
        self._turn += 1
        is_twice = findings.noise_reads < TWICE_UNTIL or self._turn % TWICE_EVERY == 0
        old, new = await asyncio.gather(self._ask(copy, wire.PARENT), self._ask(copy, wire.UNIT))
        if not isinstance(old, Answer) or old.status >= 500 or new is None:
            findings.skipped += 1  # nothing to compare with, or we could not ask
            return
        expected = fields_of(old, rules)
        again = await self._ask(copy, wire.PARENT) if is_twice else None
        if isinstance(again, Answer) and again.status < 500:
            findings.note_noise(differing(expected, fields_of(again, rules)))
        if new is NO_ANSWER:
            findings.note(("no whole answer in time",), None, is_error=True)
            return
        assert isinstance(new, Answer)
        found = fields_of(new, rules)
        if new.status >= 500:
            wrong = sample(self._clock.now(), copy.method, copy.target, expected, found, rules)
            findings.note((f"status {new.status}",), wrong, is_error=True)
            return
        names = differing(expected, found)
        kept = sample(self._clock.now(), copy.method, copy.target, expected, found, rules) if names else None
        findings.note(names, kept)

    async def _ask(self, copy: _Copy, side: wire.Side) -> Answer | _NoAnswer | None:
        """None: it could not be asked; that says nothing of the side, for which Envoy would have answered."""
        assert self._client is not None
        headers = [*copy.headers, (wire.SHADOW_HEADER, copy.boundary), (wire.SIDE_HEADER, side)]
        url = URL(f"http://inside{copy.target}", encoded=True)
        try:
            async with self._client.request(
                copy.method, url, headers=headers, skip_auto_headers=_NOT_ADDED, allow_redirects=False
            ) as answer:
                return Answer(answer.status, tuple(answer.headers.items()), await _whole(answer))
        except (TimeoutError, aiohttp.ClientPayloadError):
            return NO_ANSWER
        except (aiohttp.ClientError, OSError):
            return None


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body; of a long one its beginning and the hash of the rest. Raises TimeoutError when it never ends."""
    body, rest, size = bytearray(), hashlib.sha256(), 0
    async for chunk in answer.content.iter_chunked(1 << 16):
        size += len(chunk)
        if size > LONGEST_BYTES_MAX:
            raise TimeoutError
        room = max(0, BODY_BYTES_MAX - len(body))
        body += chunk[:room]
        rest.update(chunk[room:])
    return bytes(body) + (rest.digest() if size > BODY_BYTES_MAX else b"")
