"""Open-loop load: requests leave when they are due, whatever became of the earlier ones.

    python -m spinyard.testing.load --url http://127.0.0.1:8080 --host gallery.localhost --rate 100 --seconds 30 \
        --mix '[{"path": "/"}, {"method": "POST", "path": "/x", "json": {"n": 1}, "idempotencyKey": true}]' --out r.json

What makes it honest: latency counts from the moment a request was due (so a stall of the service, or of this program,
is paid by every request that was due meanwhile); nothing is ever sent twice; each failure is kept with its evidence.
HTTP is spoken here, on httptools, because aiohttp repeats idempotent requests by itself when a kept connection breaks.
It costs 0.15 ms of CPU a request, counting included (aiohttp alone 0.26). It talks to nothing but loopback.

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
import os
import queue
import random
import secrets
import signal
import stat
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from spinyard.testing.load_connection import EVIDENCE_BYTES, Answer, Connection, Request
from spinyard.testing.load_mix import (
    COUNTED_HEADERS,
    RATE_MAX,
    SECONDS_MAX,
    LoadRefusedError,
    LoadSpec,
    Mix,
    MixEntry,
    Shot,
    check_spec,
    make_shot,
    read_mix,
    read_target,
    running_sum,
)
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import Failure, GeneratorReport, Histogram, LoadResult, Tally, read_result

__all__ = [
    "Load",
    "LoadProcess",
    "LoadRefusedError",
    "LoadResult",
    "LoadSpec",
    "Mix",
    "MixEntry",
    "read_mix",
    "read_result",
    "run_load",
]

FAILURES_KEPT_MAX = 1_000
VALUES_COUNTED_MAX = 1_000
COMMAND_BYTES_MAX = 4_096
# epoll sleeps whole milliseconds, rounded up. Aiming this much early keeps requests within half a millisecond of their
# time; one that left early is counted from when it left, so latency is never understated.
EARLY_SECONDS = 0.0005
PROGRESS_SECONDS = 0.5
SWEEP_SECONDS = 0.05


async def run_load(spec: LoadSpec, *, say: Callable[[Mapping[str, object]], None] | None = None) -> LoadResult:
    """The whole run in the caller's loop. Raises LoadRefusedError. For an own process: LoadProcess."""
    load = Load(spec, say or (lambda _: None))
    return await load.run()


class Load:
    """One run. `set_phase` and `stop` may be called while `run` is awaited, from the same thread."""

    def __init__(self, spec: LoadSpec, say: Callable[[Mapping[str, object]], None]) -> None:
        check_spec(spec)
        self._spec, self._say = spec, say
        self._target = read_target(spec.url)
        self._host = spec.host or self._target.name
        self._shots = [make_shot(entry, index, self._host) for index, entry in enumerate(spec.mix.requests)]
        self._weights = running_sum([entry.weight for entry in spec.mix.requests])
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
        self._apart_header, self._timed_header = spec.apart_header.lower(), spec.timed_header.lower()
        self._times: dict[str, tuple[float, float]] = {}
        self._idle: list[Connection] = []  # the most recently used is taken first
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[Request] = deque()
        self._by_deadline: deque[Request] = deque()
        self._opened = self._waiting_max = 0
        self._now: Callable[[], float] = time.monotonic
        self._start = self._now()
        self._unix_offset = 0.0
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
        self._unix_offset = started_unix - loop.time()
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
                if name == self._timed_header:
                    self._note_time(value, request.counted_from)
        is_ok = answer is not None and error is None and request.shot.is_expected(answer.status)
        is_apart = not is_ok and error is None and answer is not None and self._is_marked(answer)
        for tally in self._tallies(request):
            tally.finish(is_ok, request.is_unsafe, latency, is_apart=is_apart)
        self._window.add(latency)
        if not is_ok:
            self._keep(request, answer, error, latency, is_apart=is_apart)
        if self._stopped_by:
            self._wake.set()

    def _is_marked(self, answer: Answer) -> bool:
        return any(name == self._apart_header for name, _ in answer.headers)

    def _note_time(self, value: str, at: float) -> None:
        if value in self._times or len(self._times) < VALUES_COUNTED_MAX:
            first, last = self._times.get(value, (at, at))
            self._times[value] = (min(first, at), max(last, at))

    def _keep(
        self, request: Request, answer: Answer | None, error: str | None, latency: float, *, is_apart: bool
    ) -> None:
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
                apart=is_apart,
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
        return self._total.sent - self._total.ok - self._total.failed - self._total.apart

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
            "apart": self._total.apart,
            "times": self._unix_times(),
            "in_flight": self._in_flight(),
            "answered_per_second": round(self._window.count / PROGRESS_SECONDS, 1),
            "p50_ms": self._window.quantile_ms(0.50),
            "p99_ms": self._window.quantile_ms(0.99),
            "max_ms": round(self._window.largest * 1000, 3),
        }

    def _unix_times(self) -> dict[str, tuple[float, float]]:
        offset = self._unix_offset
        return {value: (first + offset, last + offset) for value, (first, last) in self._times.items()}

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
            failures_not_kept=self._total.failed + self._total.apart - len(self._failures),
            generator=GeneratorReport(
                late_p50_ms=self._late.quantile_ms(0.5),
                late_p99_ms=self._late.quantile_ms(0.99),
                late_max_ms=round(self._late.largest * 1000, 3),
                connections_opened=self._opened,
                waiting_max=self._waiting_max,
                cpu_seconds=round(cpu_seconds, 3),
            ),
            times=self._unix_times(),
        )


def _count(values: Counter[str], value: str) -> None:
    values[value if value in values or len(values) < VALUES_COUNTED_MAX else "(other)"] += 1


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
            apart_header=options.apart_header,
            timed_header=options.time_header,
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
    parser.add_argument("--apart-header", default="", help="a bad status with it was wanted: neither ok nor failed")
    parser.add_argument("--time-header", default="", help="response header of whose values the times are kept")
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
