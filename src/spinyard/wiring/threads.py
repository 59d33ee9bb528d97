"""Where the store's work runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Threads:
    """One writer, a few readers. `inline`, for in-memory stores and simulations, runs where it is called."""

    writer: ThreadPoolExecutor
    readers: ThreadPoolExecutor

    async def write(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.writer, work)

    async def read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.readers, work)


def make_threads() -> Threads:
    return Threads(ThreadPoolExecutor(1, "store-writer"), ThreadPoolExecutor(2, "store-reader"))
