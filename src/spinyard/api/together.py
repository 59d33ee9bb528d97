"""Changes that come while others are being written are written together: one durable commit for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from spinyard.api.deps import ApiDeps
from spinyard.errors import StoreFailure
from spinyard.ports.store import Transaction

TOGETHER_MAX = 64

Work = Callable[[Transaction], Any]


class Together:
    """`change` answers with what `work` returns in its transaction, or raises what it raises. A work may run twice:
    when one of those it was put together with fails, all are rolled back, and each is done alone. When the store
    fails, what was written is not known, and nothing is done again."""

    def __init__(self, deps: ApiDeps) -> None:
        self._deps = deps
        self._queue: list[tuple[Work, asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._in_hand = 0

    async def change(self, work: Work) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append((work, future))
        self._deps.waiting(len(self._queue) + self._in_hand)
        if self._writing is None:
            # A task of its own: who asked first may leave before all is written.
            self._writing = asyncio.create_task(self._write_all())
        return await future

    async def _write_all(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue[:TOGETHER_MAX], self._queue[TOGETHER_MAX:]
                self._in_hand = len(batch)
                results = await self._write([work for work, _ in batch])
                self._in_hand = 0
                for (_, future), result in zip(batch, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._writing = None

    async def _write(self, works: Sequence[Work]) -> Sequence[Any]:
        store, run, now = self._deps.store, self._deps.run_write, self._deps.clock.now()
        if len(works) > 1:
            together = run(lambda: store.transact_many(works, now=now))
            results: tuple[Sequence[Any] | BaseException] = await asyncio.gather(together, return_exceptions=True)
            if isinstance(results[0], StoreFailure):
                return [results[0]] * len(works)
            if not isinstance(results[0], BaseException):
                return results[0]
        alone = [run(partial(store.transact, work, now=now)) for work in works]
        return await asyncio.gather(*alone, return_exceptions=True)
