"""Group commit: whatever is waiting when the writer is free goes into one transaction. That is where the speed is.

Leases that are given back without a commit go the same way: one at a time, they would cost more than the commits."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

from spinyard.engine.context import Context, no_failpoint
from spinyard.ports.store import Commit, CommitResult, Committed, Lease, Refused, Stale

Release = tuple[Lease, int, float | None]
"""lease, wake_seq as observed, wake_at"""

T = TypeVar("T")


class Committer:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: deque[tuple[Commit, asyncio.Future[CommitResult]]] = deque()
        self._releasing: deque[tuple[Release, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def commit(self, commit: Commit) -> CommitResult:
        """Durable when it returns Committed. One batch is under way at a time."""
        future: asyncio.Future[CommitResult] = asyncio.get_running_loop().create_future()
        self._waiting.append((commit, future))
        self._begin()
        return await future

    async def release(self, release: Release) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._releasing.append((release, future))
        self._begin()
        await future

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="committer")

    async def _drain(self) -> None:
        while self._waiting or self._releasing:
            batch = _take(self._waiting, self._context.settings.batch_max)
            releases = _take(self._releasing, self._context.settings.batch_max)
            futures: list[asyncio.Future[Any]] = [*(one[1] for one in batch), *(one[1] for one in releases)]
            try:
                results = await self._write([commit for commit, _ in batch], [release for release, _ in releases])
            except BaseException as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                if not isinstance(error, Exception):
                    raise
                continue
            for future, result in zip(futures, (*results, *(None for _ in releases)), strict=True):
                if not future.done():
                    future.set_result(result)

    async def _write(self, commits: list[Commit], releases: list[Release]) -> list[CommitResult]:
        context = self._context
        if releases:
            context.failpoint("release:before")
        self._pass("before", commits)
        results = await context.write(lambda: self._apply(commits, releases))
        self._pass("after", commits)
        if releases:
            context.failpoint("release:after")
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

    def _apply(self, commits: list[Commit], releases: list[Release]) -> list[CommitResult]:
        store = self._context.store
        results = list(store.commit(commits, now=self._context.clock.now())) if commits else []
        if releases:
            store.release(releases, now=self._context.clock.now())
        return results

    def _pass(self, moment: str, commits: list[Commit]) -> None:
        failpoint = self._context.failpoint
        if failpoint is no_failpoint or not commits:
            return
        failpoint(f"commit:{moment}")
        for commit in commits:
            failpoint(f"commit:{moment}:{commit.row.kind}:{commit.plan.state}")


def _take(queue: deque[T], limit: int) -> list[T]:
    return [queue.popleft() for _ in range(min(len(queue), limit))]
