"""Wakes who waits for a commit. Only a hint: everybody who waits also polls."""

from __future__ import annotations

import asyncio


class CommitNotifier:
    """Lives in one event loop; `notify` may be called from any thread once somebody has waited."""

    def __init__(self) -> None:
        self._newest = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._moved: asyncio.Event | None = None

    def notify(self, commit_seq: int) -> None:
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        loop.call_soon_threadsafe(self._move, commit_seq)

    async def wait(self, after: int, timeout: float) -> None:
        if self._moved is None:
            self._loop = asyncio.get_running_loop()
            self._moved = asyncio.Event()
        if self._newest > after:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._moved.wait()
        except TimeoutError:
            return

    def _move(self, commit_seq: int) -> None:
        """All who wait now are woken; who comes later waits on a new event."""
        self._newest = max(self._newest, commit_seq)
        if self._moved is not None:
            self._moved.set()
            self._moved = asyncio.Event()
