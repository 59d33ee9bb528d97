"""An event loop whose time passes only when nothing else can happen: hours in milliseconds, each time the same."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

from spinyard.core.ids import Uid, short_hash

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START = 1_800_000_000.0


class Deadlock(AssertionError):
    """Nothing is scheduled and nothing is due: the program waits for ever."""


class _Call(asyncio.TimerHandle):
    """What will be called, once: asyncio's own without the debug mode, which would be most of it."""

    __slots__ = ("arguments", "at", "callback", "is_cancelled", "run")

    def __init__(self, at: float, callback: Callable[..., object], arguments: Any, context: Context | None) -> None:
        self.at = at
        self.callback = callback
        self.arguments = arguments
        self.run = (copy_context() if context is None else context).run
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled

    def when(self) -> float:
        return self.at


class VirtualLoop(asyncio.BaseEventLoop):
    """No I/O and no threads: everything that runs on it must be inline. What is due at the same time runs in the order
    in which it was asked for. It has queues of its own, for asyncio's cost more than most of what is simulated."""

    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._soon: deque[_Call] = deque()
        self._later: list[tuple[float, int, _Call]] = []
        self._asked = 0

    def time(self) -> float:
        return self._now

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None) -> _Call:
        call = _Call(self._now, callback, args, context)
        self._soon.append(call)
        return call

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> _Call:
        call = _Call(when, callback, args, context)
        self._asked += 1
        heappush(self._later, (when, self._asked, call))
        return call

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> _Call:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: Any = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context, **options)

    def _run_once(self) -> None:
        """One round of run_forever: all that is ready now, and not yet what that makes ready."""
        soon, later = self._soon, self._later
        while later and later[0][2].is_cancelled:
            heappop(later)
        if not soon and not self._stopping:
            if not later:
                raise Deadlock("nothing will ever happen again")
            self._now = max(self._now, later[0][0])
        while later and later[0][0] <= self._now:
            soon.append(heappop(later)[2])
        for _ in range(len(soon)):
            call = soon.popleft()
            if call.is_cancelled:
                continue
            try:
                call.run(call.callback, *call.arguments)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001  as asyncio does: it ends nothing else
                self.call_exception_handler({"message": "a callback failed", "exception": error})


class VirtualClock:
    """`jump` moves the wall clock only; time limits and sleeps follow the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._offset = START
        self._made = 0

    def now(self) -> float:
        return self._offset + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_uid(self) -> Uid:
        self._made += 1
        return Uid(short_hash(f"virtual-{self._made}", 20))

    def jump(self, seconds: float) -> None:
        self._offset += seconds


def run_virtual(loop: VirtualLoop, main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` to its end, then cancels and awaits whatever it left behind."""
    try:
        return loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()
