"""Open-loop load: requests leave when they are due, whatever became of the earlier ones.

    python -m spinyard.testing.load --url http://127.0.0.1:8080 --host gallery.localhost --rate 100 --seconds 30 \
        --mix '[{"path": "/"}, {"method": "POST", "path": "/x", "json": {"n": 1}, "idempotencyKey": true}]' --out r.json

What makes it honest: latency counts from the moment a request was due (so a stall of the service, or of this program,
is paid by every request that was due meanwhile); nothing is ever sent twice; each failure is kept with its evidence.
HTTP is spoken here, on httptools, because aiohttp repeats idempotent requests by itself when a kept connection breaks,
and costs several times the CPU. It never talks to anything but loopback.

A request is *unsafe* when nobody may repeat it: POST or PATCH without Idempotency-Key.

The parent writes lines to stdin: `phase NAME` labels what is due from now on, `stop` (or the end of a pipe) ends the
run; SIGTERM does too, a second one at once. One JSON object per line comes out on stdout: started, phase, progress
each half second, finished. The result goes to --out. Exit code 0, 1 when a request failed, 2 for wrong arguments.

This module reads the real clock, unlike the rest of Spinyard: real time is what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import os
import queue
import random
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import msgspec

RATE_MAX = 5_000.0
SECONDS_MAX = 3_600.0
REQUESTS_MAX = 1_000_000
CONNECTIONS_MAX = 1_024
TIMEOUT_SECONDS_MAX = 120.0
MIX_MAX = 100
BODY_BYTES_MAX = 16 * 1024 * 1024
FAILURES_KEPT_MAX = 1_000
VALUES_COUNTED_MAX = 1_000
EVIDENCE_BYTES = 200
COMMAND_BYTES_MAX = 4_096
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})  # no HEAD: the parser would wait for its body
RESERVED_HEADERS = frozenset({"connection", "content-length", "idempotency-key", "transfer-encoding"})
REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
COUNTED_HEADERS = ("x-gallery-instance", "x-gallery-version", "x-gallery-not-ready")
# epoll sleeps whole milliseconds, rounded up. Aiming this much early keeps requests within half a millisecond of their
# time; one that left early is counted from when it left, so latency is never understated.
EARLY_SECONDS = 0.0005
PROGRESS_SECONDS = 0.5
SWEEP_SECONDS = 0.05


class LoadRefusedError(ValueError):
    """What was asked for is not allowed or not understood; the text says what is."""


# -- what is asked


class MixEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """One kind of request. `{n}` in path and body is the request's number; `{name}` in the path a variable's value."""

    path: str
    method: str = "GET"
    name: str = ""
    weight: float = 1.0
    headers: dict[str, str] = {}
    body: str | None = None
    body_file: str | None = None
    json: object | msgspec.UnsetType = msgspec.UNSET
    idempotency_key: bool = False
    expect: list[int] = []  # statuses that count as success; empty means 200-399


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    requests: list[MixEntry]
    variables: dict[str, list[str]] = {}


@dataclass(frozen=True, slots=True)
class LoadSpec:
    url: str
    rate: float
    seconds: float
    mix: Mix = field(default_factory=lambda: Mix(requests=[MixEntry(path="/")]))
    host: str = ""
    connections_max: int = 256
    timeout_seconds: float = 10.0
    seed: int = 1
    counted_headers: tuple[str, ...] = COUNTED_HEADERS


# -- what is answered


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the due time to the last byte, of successful requests; percentiles at most 1.6 % too high."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean: float


@dataclass(frozen=True, slots=True)
class Totals:
    sent: int
    ok: int
    failed: int
    failed_unsafe: int
    latency_ms: Latency


@dataclass(frozen=True, slots=True)
class Failure:
    at_seconds: float  # since the start, when it failed
    due_seconds: float
    unix_time: float
    phase: str  # when it was due
    phase_at_end: str
    name: str
    method: str
    path: str
    unsafe: bool
    idempotency_key: str | None
    status: int | None
    error: str | None
    written: bool  # false: it never left this program, so it cannot have had an effect
    earlier_on_connection: int  # requests answered before on the same connection
    latency_ms: float
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class GeneratorReport:
    """How far the figures can be trusted: with `late` large, this program was the bottleneck, not the service."""

    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    connections_opened: int
    waiting_max: int  # requests that waited for a free connection at the same time
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    target: str
    host: str
    rate: float
    seconds_asked: float
    seconds: float
    started_unix: float
    stopped_by: str
    totals: Totals
    phases: dict[str, Totals]
    requests: dict[str, Totals]
    statuses: dict[str, int]
    headers: dict[str, dict[str, int]]
    failures: list[Failure]
    failures_not_kept: int
    generator: GeneratorReport


def read_mix(text: str) -> Mix:
    """JSON itself, or the name of a file with it: a list of requests, or {"requests": […], "variables": {…}}."""
    try:
        data = text.encode() if text.lstrip()[:1] in ("[", "{") else Path(text).read_bytes()
        if data.lstrip()[:1] == b"[":
            return Mix(requests=msgspec.json.decode(data, type=list[MixEntry]))
        return msgspec.json.decode(data, type=Mix)
    except (OSError, msgspec.MsgspecError, UnicodeError) as wrong:
        raise LoadRefusedError(f"the mix cannot be read: {wrong}") from wrong


def read_result(path: Path) -> LoadResult:
    return msgspec.json.decode(path.read_bytes(), type=LoadResult)


async def run_load(spec: LoadSpec, *, say: Callable[[Mapping[str, object]], None] | None = None) -> LoadResult:
    """The whole run in the caller's loop. Raises LoadRefusedError. For an own process: LoadProcess."""
    load = Load(spec, say or (lambda _: None))
    return await load.run()


class Load:
    """One run. `set_phase` and `stop` may be called while `run` is awaited, from the same thread."""

    def __init__(self, spec: LoadSpec, say: Callable[[Mapping[str, object]], None]) -> None:
        _check(spec)
        self._spec, self._say = spec, say
        self._target = _loopback(spec.url)
        self._host = spec.host or self._target.name
        self._shots = [_shot(entry, index, self._host) for index, entry in enumerate(spec.mix.requests)]
        self._weights = _running_sum([entry.weight for entry in spec.mix.requests])
        self._random = random.Random(spec.seed)
        self._key_prefix = secrets.token_hex(8)
        self._count = max(1, round(spec.rate * spec.seconds))
        self._phase, self._stopped_by, self._is_hurried = "start", "", False
        self._next = 0
        self._total, self._window, self._late = Tally(), Histogram(), Histogram()
        self._phases: dict[str, Tally] = {}
        self._by_name: dict[str, Tally] = {}
        self._statuses: Counter[str] = Counter()
        self._values: dict[str, Counter[str]] = {name.lower(): Counter() for name in spec.counted_headers}
        self._failures: list[Failure] = []
        self._idle: list[Connection] = []  # the most recently used is taken first
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._by_deadline: deque[Request] = deque()
        self._opened = self._waiting_max = 0
        self._now: Callable[[], float] = time.monotonic
        self._start = self._now()
        self._wake = asyncio.Event()

    def set_phase(self, name: str) -> None:
        self._phase = name[:64]
        self._say({"event": "phase", "phase": self._phase, "t": round(self._now() - self._start, 3)})

    def stop(self, reason: str) -> None:
        """Nothing new is sent; what is in flight is waited for, unless it is called a second time."""
        self._is_hurried = bool(self._stopped_by)
        self._stopped_by = self._stopped_by or reason
        self._wake.set()

    async def run(self) -> LoadResult:
        loop = asyncio.get_running_loop()
        self._now = loop.time
        self._start, started_unix, cpu = loop.time() + 0.01, time.time(), time.process_time()
        self._say({"event": "started", "target": self._target.label, "count": self._count, "rate": self._spec.rate})
        timers = [asyncio.create_task(self._sweep()), asyncio.create_task(self._report())]
        self._tick()
        try:
            while not self._is_done():
                self._wake.clear()
                await self._wake.wait()
        finally:
            for timer in timers:
                timer.cancel()
            self._close()
        seconds = loop.time() - self._start
        return self._result(started_unix, seconds, time.process_time() - cpu)

    # -- sending

    def _tick(self) -> None:
        """Sends all that is due and comes back for the next."""
        now = self._now()
        while self._next < self._count and not self._stopped_by:
            due = self._start + self._next / self._spec.rate
            if due > now + EARLY_SECONDS:
                asyncio.get_running_loop().call_at(due - EARLY_SECONDS, self._tick)
                return
            self._send(due)
            now = self._now()
        self._stopped_by = self._stopped_by or "all sent"
        self._wake.set()

    def _send(self, due: float) -> None:
        self._next += 1
        point = self._random.random() * self._weights[-1]
        shot = self._shots[next(i for i, edge in enumerate(self._weights) if point < edge)]
        request = self._make(shot, due)
        for tally in self._tallies(request):
            tally.sent += 1
        self._late.add(max(0.0, self._now() - due))
        self._by_deadline.append(request)
        if self._idle:
            self._idle.pop().send(request)
            return
        self._waiting.append(request)
        self._waiting_max = max(self._waiting_max, len(self._waiting))
        self._open_another()

    def _make(self, shot: Shot, due: float) -> Request:
        number = str(self._next)
        path, body = shot.entry.path, shot.body
        if "{" in path:
            path = path.replace("{n}", number)
            for name, values in self._spec.mix.variables.items():
                path = path.replace("{" + name + "}", self._random.choice(values))
        if b"{n}" in body:
            body = body.replace(b"{n}", number.encode())
        key = f"{self._key_prefix}-{number}" if shot.entry.idempotency_key else None
        head = f"{shot.entry.method} {path} HTTP/1.1\r\n{shot.head}"
        if key:
            head += f"idempotency-key: {key}\r\n"
        if body or shot.entry.method != "GET":
            head += f"content-length: {len(body)}\r\n"
        payload = head.encode() + b"\r\n" + body
        return Request(shot, path, key, payload, due, min(due, self._now()), self._phase)

    def _open_another(self) -> None:
        is_wanted = len(self._waiting) > len(self._opening)
        if is_wanted and len(self._connections) + len(self._opening) < self._spec.connections_max:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._spec.timeout_seconds):
                await loop.create_connection(lambda: Connection(self), self._target.address, self._target.port)
        except (OSError, TimeoutError) as refused:
            waiting = self._take_waiting()
            if waiting:
                self.finish(waiting, error=f"connect: {type(refused).__name__}: {refused}")

    # -- what connections report

    def connected(self, connection: Connection) -> None:
        self._opened += 1
        self._connections.add(connection)
        self.released(connection)

    def released(self, connection: Connection) -> None:
        request = self._take_waiting()
        if request:
            connection.send(request)
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._open_another()  # its place may be wanted

    def finish(self, request: Request, *, answer: Answer | None = None, error: str | None = None) -> None:
        if request.is_done:
            return
        request.is_done = True
        latency = self._now() - request.counted_from
        if answer:
            self._statuses[str(answer.status)] += 1
            for name, value in answer.headers:
                if name in self._values:
                    _count(self._values[name], value)
        is_ok = answer is not None and error is None and request.shot.is_expected(answer.status)
        for tally in self._tallies(request):
            tally.finish(is_ok, request.is_unsafe, latency)
        self._window.add(latency)
        if not is_ok:
            self._keep(request, answer, error, latency)
        if self._stopped_by:
            self._wake.set()

    def _keep(self, request: Request, answer: Answer | None, error: str | None, latency: float) -> None:
        if len(self._failures) >= FAILURES_KEPT_MAX:
            return
        self._failures.append(
            Failure(
                at_seconds=round(self._now() - self._start, 4),
                due_seconds=round(request.due - self._start, 4),
                unix_time=time.time(),
                phase=request.phase,
                phase_at_end=self._phase,
                name=request.shot.name,
                method=request.shot.entry.method,
                path=request.path,
                unsafe=request.is_unsafe,
                idempotency_key=request.key,
                status=answer.status if answer else None,
                error=error,
                written=request.is_written,
                earlier_on_connection=request.earlier_on_connection,
                latency_ms=round(latency * 1000, 3),
                headers=dict(answer.headers[:40]) if answer else {},
                body=bytes(answer.body[:EVIDENCE_BYTES]).decode("utf-8", "replace") if answer else "",
            )
        )

    # -- below: bookkeeping

    def _tallies(self, request: Request) -> tuple[Tally, Tally, Tally]:
        phase = self._phases.setdefault(request.phase, Tally())
        return self._total, phase, self._by_name.setdefault(request.shot.name, Tally())

    def _take_waiting(self) -> Request | None:
        while self._waiting:
            request = self._waiting.popleft()
            if not request.is_done:
                return request
        return None

    def _in_flight(self) -> int:
        return self._total.sent - self._total.ok - self._total.failed

    def _is_done(self) -> bool:
        return bool(self._stopped_by) and (self._is_hurried or not self._in_flight())

    async def _sweep(self) -> None:
        """All requests have the same time limit, so the oldest is always in front."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            oldest = self._now() - self._spec.timeout_seconds
            while self._by_deadline and (self._by_deadline[0].is_done or self._by_deadline[0].counted_from < oldest):
                request = self._by_deadline.popleft()
                if not request.is_done:
                    self.finish(request, error=f"timeout after {self._spec.timeout_seconds:g} s")
                    if request.connection:
                        request.connection.abort()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._say(self._progress())
            self._window = Histogram()

    def _progress(self) -> dict[str, object]:
        """Counts since the start; rate and percentiles of the last half second, failures included."""
        return {
            "event": "progress",
            "t": round(self._now() - self._start, 3),
            "phase": self._phase,
            "sent": self._total.sent,
            "ok": self._total.ok,
            "failed": self._total.failed,
            "failed_unsafe": self._total.failed_unsafe,
            "in_flight": self._in_flight(),
            "answered_per_second": round(self._window.count / PROGRESS_SECONDS, 1),
            "p50_ms": self._window.quantile_ms(0.50),
            "p99_ms": self._window.quantile_ms(0.99),
            "max_ms": round(self._window.largest * 1000, 3),
        }

    def _close(self) -> None:
        for task in tuple(self._opening):
            task.cancel()
        for request in tuple(self._by_deadline):
            self.finish(request, error="the run was stopped in a hurry")
        for connection in tuple(self._connections):
            connection.abort()

    def _result(self, started_unix: float, seconds: float, cpu_seconds: float) -> LoadResult:
        return LoadResult(
            target=self._target.label,
            host=self._host,
            rate=self._spec.rate,
            seconds_asked=self._spec.seconds,
            seconds=round(seconds, 3),
            started_unix=started_unix,
            stopped_by=self._stopped_by,
            totals=self._total.totals(),
            phases={name: tally.totals() for name, tally in self._phases.items()},
            requests={name: tally.totals() for name, tally in self._by_name.items()},
            statuses=dict(sorted(self._statuses.items())),
            headers={name: dict(values) for name, values in self._values.items() if values},
            failures=self._failures,
            failures_not_kept=self._total.failed - len(self._failures),
            generator=GeneratorReport(
                late_p50_ms=self._late.quantile_ms(0.5),
                late_p99_ms=self._late.quantile_ms(0.99),
                late_max_ms=round(self._late.largest * 1000, 3),
                connections_opened=self._opened,
                waiting_max=self._waiting_max,
                cpu_seconds=round(cpu_seconds, 3),
            ),
        )


# -- one request and one connection


@dataclass(frozen=True, slots=True)
class Shot:
    """A mix entry made ready: what does not change from one request to the next."""

    entry: MixEntry
    name: str
    head: str
    body: bytes
    expect: frozenset[int]

    def is_expected(self, status: int) -> bool:
        return status in self.expect if self.expect else 200 <= status < 400


@dataclass(slots=True, eq=False)
class Request:
    shot: Shot
    path: str
    key: str | None
    payload: bytes
    due: float
    counted_from: float
    phase: str
    is_done: bool = False
    is_written: bool = False
    earlier_on_connection: int = 0
    connection: Connection | None = None

    @property
    def is_unsafe(self) -> bool:
        return self.key is None and self.shot.entry.method not in REPEATABLE


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)


class Connection(asyncio.Protocol):
    """A kept connection with at most one request on it. Its methods `on_*` are called by httptools."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._answer = Answer()
        self._answered = 0

    def send(self, request: Request) -> None:
        assert self._transport is not None and self._request is None
        self._request, request.connection = request, self
        request.earlier_on_connection, request.is_written = self._answered, True
        self._answer = Answer()
        self._transport.write(request.payload)

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._load.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as wrong:
            self._fail(f"answer not understood: {wrong}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)
        got = "in the middle of the answer" if self._answer.status else "before any answer"
        self._fail(f"connection lost {got}: {type(exc).__name__}: {exc}" if exc else f"connection closed {got}")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")[:EVIDENCE_BYTES]))

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if len(self._answer.body) < EVIDENCE_BYTES:
            self._answer.body += body[:EVIDENCE_BYTES]

    def on_message_complete(self) -> None:
        if 100 <= self._answer.status < 200:  # an interim answer: the real one follows
            self._answer = Answer()
            return
        request, self._request = self._request, None
        if request is None:  # an answer nobody asked for, such as a 408 on an idle connection
            self.abort()
            return
        self._answered += 1
        self._load.finish(request, answer=self._answer)
        if self._parser.should_keep_alive():
            self._load.released(self)
        elif self._transport:
            self._transport.close()

    def _fail(self, error: str) -> None:
        request, self._request = self._request, None
        if request:
            self._load.finish(request, answer=self._answer if self._answer.status else None, error=error)


# -- counting


class Histogram:
    """Microseconds in buckets that are 1/64 wide relative to their value (as in HdrHistogram), exact below 128."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count, self.sum, self.largest = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        micros = int(seconds * 1e6)
        shift = max(0, micros.bit_length() - 7)
        bucket = (shift << 6) + (micros >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        self.sum += seconds
        self.largest = max(self.largest, seconds)

    def quantile_ms(self, share: float) -> float:
        """The upper edge of the bucket the quantile falls into; 0 when empty."""
        rest = share * self.count
        for bucket in sorted(self._buckets):
            rest -= self._buckets[bucket]
            if rest <= 0:
                shift = max(0, (bucket >> 6) - 1)
                edge = (((bucket - (shift << 6)) + 1) << shift) / 1000
                return round(min(edge, self.largest * 1000), 3)
        return round(self.largest * 1000, 3)


class Tally:
    def __init__(self) -> None:
        self.sent = self.ok = self.failed = self.failed_unsafe = 0
        self._latency = Histogram()

    def finish(self, is_ok: bool, is_unsafe: bool, seconds: float) -> None:
        if is_ok:
            self.ok += 1
            self._latency.add(seconds)
        else:
            self.failed += 1
            self.failed_unsafe += is_unsafe

    def totals(self) -> Totals:
        seen = self._latency
        p50, p90, p99, p999 = (seen.quantile_ms(share) for share in (0.5, 0.9, 0.99, 0.999))
        mean = round(seen.sum / seen.count * 1000, 3) if seen.count else 0.0
        latency = Latency(p50, p90, p99, p999, round(seen.largest * 1000, 3), mean)
        return Totals(self.sent, self.ok, self.failed, self.failed_unsafe, latency)


def _count(values: Counter[str], value: str) -> None:
    values[value if value in values or len(values) < VALUES_COUNTED_MAX else "(other)"] += 1


# -- checking what was asked


@dataclass(frozen=True, slots=True)
class Target:
    address: str
    port: int
    name: str  # for the Host header, unless another is given

    @property
    def label(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{address}:{self.port}"


def _loopback(url: str) -> Target:
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError as wrong:
        raise LoadRefusedError(f"{url!r} has no valid port") from wrong
    name = parts.hostname or ""
    if parts.scheme != "http" or not name or parts.path not in ("", "/") or parts.query:
        raise LoadRefusedError(f"{url!r}: the target is written http://HOST:PORT, paths belong into the mix")
    # Names are not looked up: only what is loopback by definition (RFC 6761) is loopback here.
    address = "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else name
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise LoadRefusedError(f"{name!r} is not loopback: load goes to 127.0.0.0/8, ::1 or localhost only")
    return Target(address, port, parts.netloc)


def _check(spec: LoadSpec) -> None:
    for name, value, most in (
        ("rate", spec.rate, RATE_MAX),
        ("seconds", spec.seconds, SECONDS_MAX),
        ("rate x seconds", spec.rate * spec.seconds, REQUESTS_MAX),
        ("connections", spec.connections_max, CONNECTIONS_MAX),
        ("timeout", spec.timeout_seconds, TIMEOUT_SECONDS_MAX),
    ):
        if not 0 < value <= most:
            raise LoadRefusedError(f"{name} must be more than 0 and at most {most:g}, it is {value:g}")
    if not 1 <= len(spec.mix.requests) <= MIX_MAX:
        raise LoadRefusedError(f"a mix has 1 to {MIX_MAX} requests, this one has {len(spec.mix.requests)}")
    if not all(spec.mix.variables.values()):
        raise LoadRefusedError("every variable of the mix needs at least one value")
    if _unclean(spec.host):
        raise LoadRefusedError("the Host header holds a control character")


def _shot(entry: MixEntry, index: int, host: str) -> Shot:
    name = entry.name or f"{entry.method} {entry.path}"
    bodies = [body for body in (entry.body, entry.body_file, entry.json) if body not in (None, msgspec.UNSET)]
    texts = (entry.path, *entry.headers, *entry.headers.values())
    if entry.method not in METHODS:
        raise LoadRefusedError(f"request {index}: method {entry.method!r} is not one of {', '.join(sorted(METHODS))}")
    if not entry.path.startswith("/") or " " in entry.path or any(_unclean(text) for text in texts):
        raise LoadRefusedError(f"request {index}: path begins with / and has no spaces; headers are printable ASCII")
    if not 0 < entry.weight < float("inf") or len(bodies) > 1:
        raise LoadRefusedError(f"request {index}: weight is more than 0, and only one of body, bodyFile, json is given")
    own = {key.lower(): value for key, value in entry.headers.items()}
    if taken := RESERVED_HEADERS & own.keys():
        raise LoadRefusedError(f"request {index}: the header {min(taken)} is written by the generator")
    headers = {"host": host, "user-agent": "spinyard-load", "accept": "*/*"}
    if entry.json is not msgspec.UNSET:
        headers["content-type"] = "application/json"
    headers |= own
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return Shot(entry, name, head, _body(entry, index), frozenset(entry.expect))


def _body(entry: MixEntry, index: int) -> bytes:
    if entry.body_file is not None:
        try:
            body = Path(entry.body_file).read_bytes()
        except OSError as missing:
            raise LoadRefusedError(f"request {index}: {missing}") from missing
    elif entry.json is not msgspec.UNSET:
        body = msgspec.json.encode(entry.json)
    else:
        body = (entry.body or "").encode()
    if len(body) > BODY_BYTES_MAX:
        raise LoadRefusedError(f"request {index}: a body has at most {BODY_BYTES_MAX} bytes")
    return body


def _unclean(text: str) -> bool:
    return not (text.isascii() and (text.isprintable() or not text))


def _running_sum(weights: Sequence[float]) -> list[float]:
    return [sum(weights[: index + 1]) for index in range(len(weights))]


# -- a process of its own: the parent's side


class LoadProcess:
    """The load in another process, so that the parent's work does not delay it.

    `on_event` is called in a thread with each object the process prints; `latest` is the last progress.
    """

    def __init__(
        self, spec: LoadSpec, out: Path, on_event: Callable[[Mapping[str, object]], None] | None = None
    ) -> None:
        Load(spec, lambda _: None)  # refuses here, with a reason, what the child would refuse
        self.out, self.latest = out, dict[str, object]()
        self._on_event = on_event
        mix = out.with_name(out.name + ".mix")
        mix.write_bytes(msgspec.json.encode(spec.mix))
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "spinyard.testing.load", "--url", spec.url, "--rate", str(spec.rate)]
        command += ["--seconds", str(spec.seconds), "--mix", str(mix), "--out", str(out), "--seed", str(spec.seed)]
        command += ["--connections", str(spec.connections_max), "--timeout", str(spec.timeout_seconds)]
        command += ["--host", spec.host] if spec.host else []
        for header in spec.counted_headers:
            command += ["--count-header", header]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, name="load-events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def set_phase(self, name: str) -> None:
        self._tell(f"phase {name}")

    def stop(self, timeout_seconds: float = 30.0) -> LoadResult:
        """Sends nothing more, waits for what is in flight. Raises RuntimeError when the process left no result."""
        self._tell("stop")
        return self.wait(timeout_seconds)

    def wait(self, timeout_seconds: float) -> LoadResult:
        """Until all was sent. After the time limit the process is killed, and RuntimeError says so."""
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as late:
            self.kill()
            raise RuntimeError(f"the load did not end within {timeout_seconds:g} s") from late
        self._reader.join(2)
        if not self.out.exists():
            raise RuntimeError(f"the load left no result (exit code {code})")
        return read_result(self.out)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.write(line.replace("\n", " ").encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = msgspec.json.decode(line, type=dict[str, object])
            if event.get("event") == "progress":
                self.latest = event
            if self._on_event:
                self._on_event(event)


# -- a process of its own: the child's side


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    voice = Voice()
    try:
        mix = read_mix(options.mix) if options.mix else Mix(requests=[MixEntry(path="/")])
        spec = LoadSpec(
            url=options.url,
            rate=options.rate,
            seconds=options.seconds,
            mix=mix,
            host=options.host,
            connections_max=options.connections,
            timeout_seconds=options.timeout,
            seed=options.seed,
            counted_headers=tuple(options.count_header or COUNTED_HEADERS),
        )
        load = Load(spec, voice.say)
    except LoadRefusedError as refused:
        print(f"load: {refused}", file=sys.stderr)
        return 2
    result = asyncio.run(_obey(load))
    if options.out:
        aside = options.out.with_name(options.out.name + ".part")
        aside.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
        aside.replace(options.out)
    voice.say({"event": "finished", "stopped_by": result.stopped_by, **msgspec.to_builtins(result.totals)})
    voice.end()
    return 1 if result.totals.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spinyard.testing.load", description="Open-loop load on loopback.")
    parser.add_argument("--url", required=True, help="http://127.0.0.1:PORT")
    parser.add_argument("--host", default="", help="Host header, when it differs from the URL's")
    parser.add_argument("--rate", type=float, required=True, help=f"requests per second, at most {RATE_MAX:g}")
    parser.add_argument("--seconds", type=float, required=True, help=f"at most {SECONDS_MAX:g}")
    parser.add_argument("--mix", help="JSON, or a file with it; default: GET /")
    parser.add_argument("--out", type=Path, help="where the result goes")
    parser.add_argument("--connections", type=int, default=256, help="at once, at most")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds from a request's due time")
    parser.add_argument("--seed", type=int, default=1, help="of the choice between requests")
    parser.add_argument("--count-header", action="append", help="response header whose values are counted; repeatable")
    return parser


async def _obey(load: Load) -> LoadResult:
    """Runs the load and does what signals and stdin say."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.stop, signal.Signals(number).name)
    # A terminal or /dev/null gives no orders; the end of a pipe means that the parent is gone.
    kind = os.fstat(0).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        threading.Thread(target=_listen, args=(load, loop), name="load-orders", daemon=True).start()
    return await load.run()


def _listen(load: Load, loop: asyncio.AbstractEventLoop) -> None:
    # os.read, not sys.stdin: a thread that holds stdin's lock at exit takes the interpreter down.
    rest = b""
    while data := os.read(0, COMMAND_BYTES_MAX):
        *lines, rest = (rest + data)[-2 * COMMAND_BYTES_MAX :].split(b"\n")
        for line in lines:
            word, _, name = line.decode("utf-8", "replace").strip().partition(" ")
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
                if word == "phase":
                    loop.call_soon_threadsafe(load.set_phase, name.strip() or "unnamed")
                elif word == "stop":
                    loop.call_soon_threadsafe(load.stop, "stop")
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(load.stop, "stdin closed")


class Voice:
    """Prints events from a thread: a parent that does not read must not hold up the load. What piles up is dropped."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=100)
        self._thread = threading.Thread(target=self._speak, name="load-voice", daemon=True)
        self._thread.start()

    def say(self, event: Mapping[str, object]) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(msgspec.json.encode(event) + b"\n")

    def end(self) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(1)

    def _speak(self) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            while (line := self._lines.get()) is not None:
                os.write(1, line)


if __name__ == "__main__":
    sys.exit(main())
