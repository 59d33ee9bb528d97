"""Group commit: whatever is waiting when the writer is free goes into one transaction. That is where the speed is."""

from __future__ import annotations

import asyncio
from collections import deque

from spinyard.engine.context import Context, no_failpoint
from spinyard.ports.store import Commit, CommitResult, Committed, Refused, Stale


class Committer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[tuple[Commit, asyncio.Future[CommitResult]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def commit(self, commit: Commit) -> CommitResult:
        """Durable when it returns Committed. One batch is under way at a time."""
        future: asyncio.Future[CommitResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((commit, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="committer")
        return await future

    async def _drain(self) -> None:
        while self._waiting:
            take = min(len(self._waiting), self._context.settings.batch_max)
            batch = [self._waiting.popleft() for _ in range(take)]
            try:
                results = await self._write([commit for commit, _ in batch])
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _write(self, commits: list[Commit]) -> list[CommitResult]:
        context = self._context
        self._pass("before", commits)
        results = list(await context.write(lambda: context.store.commit(commits, now=context.clock.now())))
        self._pass("after", commits)
        newest = 0
        for result in results:
            match result:
                case Committed(commit_seq=seq):
                    context.figures.commits += 1
                    newest = max(newest, seq)
                case Stale():
                    context.figures.stale += 1
                case Refused():
                    context.figures.refused += 1
        if newest:
            context.committed(newest)
        return results

    def _pass(self, moment: str, commits: list[Commit]) -> None:
        failpoint = self._context.failpoint
        if failpoint is no_failpoint:
            return
        failpoint(f"commit:{moment}")
        for commit in commits:
            failpoint(f"commit:{moment}:{commit.row.kind}:{commit.plan.state}")
