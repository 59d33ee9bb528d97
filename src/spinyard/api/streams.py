"""Long answers: how many there may be at once, and their end when the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from spinyard.errors import TooMany


class Streams:
    def __init__(self, streams_max: int) -> None:
        self._max = streams_max
        self._closing = asyncio.Event()
        self.open = 0

    def close(self) -> None:
        """Every stream ends soon, with its last complete message; clients go on elsewhere with their token."""
        self._closing.set()

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    def take(self) -> None:
        """Raises TooMany. Who took gives back, by iterating `given_back` to its end or closing it."""
        if self.open >= self._max:
            raise TooMany(
                f"There are {self._max} streams already.",
                next_step="Close a watch, or ask without watch.",
                retryable=True,
                retry_after_seconds=5.0,
            )
        self.open += 1

    async def given_back(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for part in parts:
                yield part
                if self.is_closing:
                    return
        finally:
            self.open -= 1
