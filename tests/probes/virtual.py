"""Time that moves only when a test says so."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter

from spinyard.core.ids import ResourceKey, Uid
from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import Probe

SETTLE_TURNS = 30


class VirtualClock:
    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, self._count, future))
        await future

    def new_uid(self) -> Uid:
        raise NotImplementedError("nothing here makes ids")

    async def advance(self, seconds: float) -> None:
        """To each sleeper's time in turn; everything that can run has run after it."""
        until = self.time + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due_at, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                self.time = max(self.time, due_at)
                future.set_result(None)
                await settle()
        self.time = until
        await settle()


async def settle() -> None:
    for _ in range(SETTLE_TURNS):
        await asyncio.sleep(0)


class ScriptedProber:
    """Answers as `answers` says by process; takes `seconds` of virtual time; keeps count of who is asked when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.answers: dict[str, ProbeAnswer | Exception] = {}
        self.seconds: dict[str, float] = {}
        self.asked_at: dict[str, list[float]] = {}
        self.under_way: Counter[str] = Counter()
        self.most_under_way = 0
        self.most_of_one = 0

    async def check(
        self, process: ResourceKey, address: str, ports: tuple[tuple[str, int], ...], probe: Probe
    ) -> ProbeResult:
        self.asked_at.setdefault(process, []).append(self.clock.time)
        self.under_way[process] += 1
        self.most_under_way = max(self.most_under_way, self.under_way.total())
        self.most_of_one = max(self.most_of_one, self.under_way[process])
        try:
            if seconds := self.seconds.get(process, 0.0):
                await self.clock.sleep(seconds)
        finally:
            self.under_way[process] -= 1
        answer = self.answers.get(process, ProbeAnswer.OK)
        if isinstance(answer, Exception):
            raise answer
        return ProbeResult(answer, f"said {answer.value}")
