"""The engine's loops: claim what is due, keep leases, take hints, sweep, prune. A lost hint costs time, never truth:
the indexed poll on wake_at is what correctness rests on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

import structlog

from spinyard.core.ids import Uid, owner_of
from spinyard.core.row import ObjectRow
from spinyard.engine.bell import Bell
from spinyard.engine.callers import PAUSE_SECONDS, ROWS, Callers
from spinyard.engine.committer import Committer
from spinyard.engine.context import Context
from spinyard.engine.heartbeat import beat_forever
from spinyard.engine.reconcile import PUT_OFF_SECONDS, Flight, Reconciler
from spinyard.engine.sweep import Sweep
from spinyard.errors import StoreFailure
from spinyard.ports.provider import Provider
from spinyard.ports.store import Lease

log = structlog.get_logger()

HINT_SECONDS = 0.002
STORE_PAUSE_SECONDS = 0.5
SHORTEST_WAIT_SECONDS = 0.001
TOLD_MAX = 1000
CLOCK_LOOK_SECONDS = 5.0
CLOCK_BACK_SECONDS = 1.0
"""going back by less is only a little lateness"""


class Engine:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._due = Bell()
        self._committer = Committer(context)
        self._reconciler = Reconciler(context, self._committer, self.hint)
        self.sweep = Sweep(context)
        self.callers = Callers()
        self._hinted: set[Uid] = set()
        self._hint_came = asyncio.Event()
        self._told: dict[Uid, str] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._wall_ahead = context.clock.now() - context.clock.monotonic()

    async def run(self) -> None:
        """Until cancelled. Rows in hand keep their leases until those run out: whoever comes next takes them then."""
        loops = [
            self._patiently(self._claim_forever),
            self._patiently(lambda: beat_forever(self._context, self._reconciler)),
            self._patiently(self._hint_forever),
            self.sweep.run_forever(),
            self._patiently(self._prune_forever),
            self._patiently(self._mind_the_clock),
            *(self._listen_forever(provider) for provider in self._context.providers.values()),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for loop in loops:
                    group.create_task(loop)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def hint(self, uid: Uid | None = None) -> None:
        """Something may have changed: for one object, or (None) for whatever has become due."""
        if uid is None:
            self._due.set()
            return
        flight = self._reconciler.flights.get(uid)
        if flight is not None:
            flight.nudge.set()
        else:
            self._hinted.add(uid)
            self._hint_came.set()

    def callers_wait(self, count: int) -> None:
        """So many changes of callers wait to be written."""
        self.callers.waiting(count, self._context.clock.monotonic())

    @property
    def in_flight(self) -> int:
        return len(self._reconciler.flights)

    async def _patiently(self, loop: Callable[[], Coroutine[None, None, None]]) -> None:
        """A full disk or a locked database ends nothing: the loop begins again a little later."""
        while True:
            try:
                await loop()
            except StoreFailure as error:
                log.error("the store failed, going on in a moment", code=error.code, error=error.message)
            await self._context.clock.sleep(STORE_PAUSE_SECONDS)

    # -- claim -------------------------------------------------------------------------------------------------------

    async def _claim_forever(self) -> None:
        context = self._context
        while True:
            room = context.settings.in_flight_max - self.in_flight
            claimed: list[ObjectRow] = []
            wait = context.settings.poll_seconds
            if room > 0:
                due = await context.read(lambda: context.store.next_due(now=context.clock.now()))
                wait = wait if due is None else min(wait, due - context.clock.now())
                if wait <= 0 and self.callers.come_first(context.clock.monotonic()):
                    claimed = await self._claim(min(room, ROWS))
                    await context.clock.sleep(PAUSE_SECONDS)
                elif wait <= 0:
                    claimed = await self._claim(min(room, context.settings.batch_max))
            if not claimed:
                await self._due.wait(max(wait, SHORTEST_WAIT_SECONDS))
                self._due.clear()

    async def _claim(self, limit: int) -> list[ObjectRow]:
        context = self._context
        store, settings = context.store, context.settings
        now = context.clock.now()
        context.failpoint("claim:before")
        rows = await context.write(
            lambda: store.claim(holder=settings.holder, now=now, lease_seconds=settings.lease_seconds, limit=limit)
        )
        context.failpoint("claim:after")
        context.figures.claimed += len(rows)
        for row in rows:
            flight = Flight(Lease(row.uid, row.lease_token), row.lease_until)
            before = self._reconciler.flights.get(row.uid)
            self._reconciler.flights[row.uid] = flight
            task = asyncio.create_task(self._drive(row, flight, before), name=f"drive {row.uid}")
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)
        return list(rows)

    async def _drive(self, row: ObjectRow, flight: Flight, before: Flight | None) -> None:
        """One row must not take the engine down: a bug in its decision puts it off, loudly, and the others go on.

        `before`: it was in our own hands still, and its lease ran out (the clock jumped, or we stood still). What that
        flight asked for may be under way: nothing is decided anew until it has ended, which is soon."""
        again = False
        try:
            if before is not None:
                before.lost = True
                before.nudge.set()
                await before.ended.wait()
            again = await self._reconciler.drive(row, flight)
        except Exception as error:
            log.exception("a pass failed", uid=row.uid, kind=row.kind, name=row.name, error=repr(error))
            await self._put_off(row, flight)
            await self._tell(row, error)
        finally:
            flight.ended.set()
            if self._reconciler.flights.get(row.uid) is flight:
                del self._reconciler.flights[row.uid]
        if again:
            self.hint(row.uid)
        self._due.set()

    async def _put_off(self, row: ObjectRow, flight: Flight) -> None:
        now = self._context.clock.now()
        release = (flight.lease, row.wake_seq, now + PUT_OFF_SECONDS)
        try:
            await self._context.write(lambda: self._context.store.release([release], now=now))
        except StoreFailure as error:
            log.error("a lease could not be given back, it runs out by itself", uid=row.uid, error=error.message)

    async def _tell(self, row: ObjectRow, error: Exception) -> None:
        """A pass that cannot decide must not look like one that has nothing to do: once per object and error, an event.
        Not for the store's own failures, which would fail again here."""
        words = f"its pass failed, it is tried again every {PUT_OFF_SECONDS:g} s: {error!r}"[:500]
        if isinstance(error, StoreFailure) or self._told.get(row.uid) == words:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told[row.uid] = words
        store, now = self._context.store, self._context.clock.now()
        try:
            await self._context.write(
                lambda: store.transact(
                    lambda tx: tx.event(row.uid, "Warning", "Internal", words, actor="engine"), now=now
                )
            )
        except StoreFailure as failure:
            log.error("an event could not be written", uid=row.uid, error=failure.message)

    async def _mind_the_clock(self) -> None:
        """When the wall clock has gone back, what waits for a time waits for one that is far off, and so do the leases
        of those who are gone: everything is looked at once, as after a start."""
        context = self._context
        while True:
            ahead = context.clock.now() - context.clock.monotonic()
            if self._wall_ahead - ahead > CLOCK_BACK_SECONDS:
                log.warning("the clock went back, everything is looked at", seconds=self._wall_ahead - ahead)
                await context.write(lambda: context.store.catch_up(now=context.clock.now()))
                self._due.set()
            self._wall_ahead = ahead
            await context.clock.sleep(CLOCK_LOOK_SECONDS)

    # -- hints -------------------------------------------------------------------------------------------------------

    async def _hint_forever(self) -> None:
        """Hints become durable wakes, many in one write."""
        context = self._context
        while True:
            await self._hint_came.wait()
            await context.clock.sleep(HINT_SECONDS)
            self._hint_came.clear()
            uids, self._hinted = sorted(self._hinted), set()
            now = context.clock.now()
            context.failpoint("wake:before")
            try:
                await context.write(partial(context.store.wake, uids, now=now))
            except StoreFailure:
                self._hinted.update(uids)
                self._hint_came.set()
                raise
            context.failpoint("wake:after")
            self._due.set()

    async def _listen_forever(self, provider: Provider) -> None:
        while True:
            try:
                async for key in provider.changes():
                    self.hint(owner_of(key))
            except Exception as error:  # noqa: BLE001  hints may be lost; listening goes on
                log.warning("hints stopped, listening again", provider=provider.name, error=repr(error))
            await self._context.clock.sleep(1.0)

    # -- retention -----------------------------------------------------------------------------------------------------

    async def _prune_forever(self) -> None:
        context = self._context
        settings = context.settings
        while True:
            await context.clock.sleep(settings.prune_seconds)
            await context.write(
                lambda: context.store.prune(
                    now=context.clock.now(),
                    finished_keep_max=settings.finished_keep_max,
                    events_keep_max=settings.events_keep_max,
                    events_keep_seconds=settings.events_keep_seconds,
                )
            )
