"""Waiting for whichever comes first, a call or a time, without a task for either: the engine does it in every pass."""

from __future__ import annotations

import asyncio


class Bell:
    """Like asyncio.Event, for a single waiter, who does not wait for ever."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._rung

    def set(self) -> None:
        self._rung = True
        if self._waiter is not None:
            _wake(self._waiter)

    def clear(self) -> None:
        self._rung = False

    async def wait(self, seconds: float) -> None:
        """Until it is set, or so many seconds of the loop have passed: `is_set` tells which."""
        if self._rung:
            return
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, _wake, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
