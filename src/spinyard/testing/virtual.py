"""An event loop whose time passes only when nothing else can happen: hours in milliseconds, each time the same."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from spinyard.core.ids import Uid, short_hash

T = TypeVar("T")

START = 1_800_000_000.0


class Deadlock(AssertionError):
    """Nothing is scheduled and nothing is due: the program waits for ever."""


class _Selector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("nothing will ever happen again")
        self.time += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """No real I/O and no threads: everything that runs on it must be inline."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.time


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
