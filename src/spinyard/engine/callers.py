"""Callers first: while many of them wait at once for their changes to be written, the engine takes up little.

A burst of claims is answered at full speed, and what follows from them is done right after. For a while only: who has
been answered waits for that.
"""

from __future__ import annotations

MANY = 6
"""changes that wait at once: fewer are ordinary traffic"""
STILL_SECONDS = 0.05
"""how long they count after they were last seen: between two batches there are few for a moment"""
PRECEDENCE_SECONDS = 2.0
ROWS = 2
PAUSE_SECONDS = 0.01


class Callers:
    def __init__(self) -> None:
        self._since = self._until = float("-inf")

    def waiting(self, count: int, now: float) -> None:
        """`count` changes wait to be written, at `now`, monotonic."""
        if count < MANY:
            return
        if now > self._until:
            self._since = now
        self._until = now + STILL_SECONDS

    def come_first(self, now: float) -> bool:
        return now <= self._until and now - self._since <= PRECEDENCE_SECONDS
