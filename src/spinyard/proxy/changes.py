"""Keys that may have changed, for whoever listens: each key waits at most once, so nothing grows without bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from spinyard.core.ids import ResourceKey


class _Listener:
    def __init__(self) -> None:
        self.keys: dict[ResourceKey, None] = {}
        self.filled = asyncio.Event()


class Changes:
    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._closed = False

    def emit(self, keys: Iterable[ResourceKey]) -> None:
        keys = list(keys)
        for listener in self._listeners if keys else ():
            listener.keys.update(dict.fromkeys(keys))
            listener.filled.set()

    def close(self) -> None:
        """Ends every stream."""
        self._closed = True
        for listener in self._listeners:
            listener.filled.set()

    def subscribe(self) -> AsyncIterator[ResourceKey]:
        """Hears from now on, also before the first key is asked for."""
        listener = _Listener()
        self._listeners.add(listener)
        return self._stream(listener)

    async def _stream(self, listener: _Listener) -> AsyncIterator[ResourceKey]:
        try:
            while not self._closed:
                await listener.filled.wait()
                listener.filled.clear()
                keys, listener.keys = listener.keys, {}
                for key in keys:
                    yield key
        finally:
            self._listeners.discard(listener)
