"""Periodic probes of instances that run: liveness, and the readiness that the data plane cannot check itself (exec).

In memory, and a source of hints only: what it says is a verdict on the present, it is gone with the process, and who
reads `unknown` must wait rather than act. One heap of due times and one loop for all keys; a slow probe holds a slot
and its own key, nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import structlog

from spinyard.core.ids import ResourceKey, Uid, fraction_of
from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import Probe
from spinyard.ports.clock import Clock
from spinyard.ports.prober import Prober

log = structlog.get_logger()


class WatchPurpose(StrEnum):
    LIVENESS = "liveness"
    READINESS = "readiness"


class Verdict(StrEnum):
    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """not probed yet, or not in this process, or no threshold reached, or the probes could not be made"""


class WatchKey(NamedTuple):
    uid: Uid
    purpose: WatchPurpose


@dataclass(frozen=True, slots=True)
class Watched:
    """What is probed. A change of any of it begins anew, with the verdict unknown."""

    process: ResourceKey
    address: str
    ports: tuple[tuple[str, int], ...]
    probe: Probe


@dataclass(slots=True, eq=False)
class _Entry:
    key: WatchKey
    watched: Watched
    verdict: Verdict = Verdict.UNKNOWN
    message: str = ""
    successes: int = 0
    failures: int = 0
    unknowns: int = 0
    due_at: float = 0.0
    removed: bool = False


class LivenessWatch:
    """`run()` in a task; `add` and `remove` from the same loop, as often as one likes. `on_change(uid)` is called when
    a verdict changes; it must neither block nor raise."""

    def __init__(
        self, prober: Prober, clock: Clock, on_change: Callable[[Uid], None], *, in_flight_max: int = 64
    ) -> None:
        self._prober = prober
        self._clock = clock
        self._on_change = on_change
        self._in_flight_max = in_flight_max
        self._entries: dict[WatchKey, _Entry] = {}
        self._heap: list[tuple[float, int, _Entry]] = []
        self._count = 0
        self._running: dict[WatchKey, asyncio.Task[None]] = {}
        self._held: dict[WatchKey, _Entry] = {}
        self._news = asyncio.Event()

    # -- the set -----------------------------------------------------------------------------------------------------

    def add(
        self,
        uid: Uid,
        purpose: WatchPurpose,
        process: ResourceKey,
        address: str,
        ports: tuple[tuple[str, int], ...],
        probe: Probe,
    ) -> None:
        """The same again changes nothing; anything else begins anew."""
        key = WatchKey(uid, purpose)
        watched = Watched(process, address, ports, probe)
        old = self._entries.get(key)
        if old is not None:
            if old.watched == watched:
                return
            old.removed = True
        entry = _Entry(key, watched)
        self._entries[key] = entry
        self._schedule(entry, self._clock.monotonic() + probe.initial_delay_seconds + _phase_seconds(entry))

    def remove(self, uid: Uid, purpose: WatchPurpose | None = None) -> None:
        """Of one purpose or all. A probe under way ends by itself, and is not heard."""
        for each in WatchPurpose if purpose is None else (purpose,):
            entry = self._entries.pop(WatchKey(uid, each), None)
            if entry is not None:
                entry.removed = True

    def keep_only(self, uids: frozenset[Uid]) -> None:
        """For the sweep: whatever is not in `uids` is removed."""
        for uid in {key.uid for key in self._entries} - uids:
            self.remove(uid)

    def verdict(self, uid: Uid, purpose: WatchPurpose) -> Verdict:
        entry = self._entries.get(WatchKey(uid, purpose))
        return entry.verdict if entry is not None else Verdict.UNKNOWN

    def message(self, uid: Uid, purpose: WatchPurpose) -> str:
        """What the last probe that was not ok said."""
        entry = self._entries.get(WatchKey(uid, purpose))
        return entry.message if entry is not None else ""

    def __len__(self) -> int:
        return len(self._entries)

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled; probes under way are cancelled with it."""
        try:
            while True:
                self._news.clear()
                wait_seconds = self._start_due()
                await self._wait(wait_seconds)
        finally:
            tasks = tuple(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start_due(self) -> float | None:
        """Starts what is due and has a slot; returns how long to the next, None: until something happens."""
        now = self._clock.monotonic()
        while self._heap:
            due_at, _, entry = self._heap[0]
            if entry.removed or entry.due_at != due_at:
                heapq.heappop(self._heap)
                continue
            if due_at > now:
                return due_at - now
            if len(self._running) >= self._in_flight_max:
                return None
            heapq.heappop(self._heap)
            if entry.key in self._running:
                # The same key was removed and added while its old probe goes on: never two at once.
                self._held[entry.key] = entry
            else:
                self._start(entry, due_at)
        return None

    def _start(self, entry: _Entry, due_at: float) -> None:
        task = asyncio.create_task(self._probe(entry, due_at))
        self._running[entry.key] = task
        task.add_done_callback(lambda _: self._finished(entry.key))

    async def _wait(self, seconds: float | None) -> None:
        if seconds is None:
            await self._news.wait()
            return
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait((sleep, news), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            news.cancel()

    def _finished(self, key: WatchKey) -> None:
        del self._running[key]
        held = self._held.pop(key, None)
        if held is not None and not held.removed:
            self._schedule(held, self._clock.monotonic())
        self._news.set()

    async def _probe(self, entry: _Entry, due_at: float) -> None:
        watched = entry.watched
        try:
            result = await self._prober.check(watched.process, watched.address, watched.ports, watched.probe)
        except Exception as error:
            if entry.unknowns == 0:  # once, not at each period
                log.exception("probe broke", spin_id=entry.key.uid, purpose=entry.key.purpose.value)
            result = ProbeResult(ProbeAnswer.UNKNOWN, f"the probe broke: {error!r}")
        if entry.removed:
            return
        period = watched.probe.period_seconds
        now = self._clock.monotonic()
        # In step with its phase; what was missed by a slow probe is left out, not made up for.
        missed = int((now - due_at) // period)
        self._schedule(entry, due_at + (missed + 1) * period)
        self._take(entry, result)

    def _schedule(self, entry: _Entry, due_at: float) -> None:
        entry.due_at = due_at
        self._count += 1
        if len(self._heap) > 2 * len(self._entries) + 64:
            self._heap = [item for item in self._heap if not item[2].removed and item[2].due_at == item[0]]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due_at, self._count, entry))
        self._news.set()

    def _take(self, entry: _Entry, result: ProbeResult) -> None:
        before = entry.verdict
        probe = entry.watched.probe
        match result.answer:
            case ProbeAnswer.OK:
                entry.successes, entry.failures, entry.unknowns = entry.successes + 1, 0, 0
                if entry.successes >= probe.success_threshold:
                    entry.verdict = Verdict.OK
            case ProbeAnswer.FAILED:
                entry.successes, entry.failures, entry.unknowns = 0, entry.failures + 1, 0
                entry.message = result.message
                if entry.failures >= probe.failure_threshold:
                    entry.verdict = Verdict.FAILED
            case ProbeAnswer.UNKNOWN:
                # Neither for nor against: counts stand. When nothing is heard for long, the verdict is out of date.
                entry.unknowns += 1
                entry.message = result.message
                if entry.unknowns >= probe.failure_threshold:
                    entry.verdict = Verdict.UNKNOWN
        if entry.verdict is not before:
            self._on_change(entry.key.uid)


def _phase_seconds(entry: _Entry) -> float:
    """Staggers the keys over a period; from the id, so that a replay does the same."""
    return fraction_of(f"{entry.key.uid}/{entry.key.purpose}") * entry.watched.probe.period_seconds
