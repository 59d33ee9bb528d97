"""Time and chance, passed in. Only `spinyard.clock` and the simulation implement it."""

from __future__ import annotations

from typing import Protocol

from spinyard.core.ids import Uid


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch, UTC. May jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; for time limits."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def new_uid(self) -> Uid:
        """A fresh, unguessable id of 20 characters."""
        ...
