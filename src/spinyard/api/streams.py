"""Long answers: how many there may be at once, and their end when the server or the client ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from spinyard.errors import TooMany

Parts = AsyncGenerator[bytes, None]


class Streams:
    def __init__(self, streams_max: int) -> None:
        self._max = streams_max
        self._closing = asyncio.Event()
        self.open = 0

    def close(self) -> None:
        """Every stream ends now, after a complete message; clients go on elsewhere with their token."""
        self._closing.set()

    def respond(self, parts: Parts, *, media_type: str) -> StreamingResponse:
        """Raises TooMany."""
        self.raise_if_full()
        self.open += 1
        return _Stream(self, parts, media_type)

    def raise_if_full(self) -> None:
        """For who must begin something before it can answer."""
        if self.open >= self._max:
            raise TooMany(
                f"There are {self._max} streams already.",
                next_step="Close a watch, or ask without watch.",
                retryable=True,
                retry_after_seconds=5.0,
            )

    async def until_closing(self, parts: Parts) -> Parts:
        closing = asyncio.create_task(self._closing.wait())
        try:
            while not self._closing.is_set():
                part = asyncio.create_task(_next(parts))
                try:
                    await asyncio.wait({part, closing}, return_when=asyncio.FIRST_COMPLETED)
                    if not part.done():
                        return
                    found = part.result()
                finally:
                    await _end(part)
                if found is None:
                    return
                yield found
        finally:
            await _end(closing)
            await parts.aclose()


class _Stream(StreamingResponse):
    """Gives its place back also when the client is gone before the first part was asked for."""

    def __init__(self, streams: Streams, parts: Parts, media_type: str) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        self._streams = streams
        self._parts = streams.until_closing(parts)
        super().__init__(self._parts, media_type=media_type, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1
            await self._parts.aclose()


async def _next(parts: Parts) -> bytes | None:
    return await anext(parts, None)


async def _end(task: asyncio.Task[bytes | None] | asyncio.Task[bool]) -> None:
    """Cancelled and over, so that nobody else touches what it used."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
