"""Changes that are written together: what becomes of them when the common write fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest

from spinyard.api.deps import ApiDeps
from spinyard.api.together import Together
from spinyard.clock import SystemClock
from spinyard.core.spec import Kind
from spinyard.core.spinout import BoundaryRoute, SpinoutSpec
from spinyard.errors import Conflict, StoreFailure
from spinyard.ports.store import NewObject, Transaction
from spinyard.store import SqlStore

pytestmark = pytest.mark.anyio

T = TypeVar("T")
CLOCK = SystemClock()
SPEC = SpinoutSpec(parent="a", unit="b", routes=(BoundaryRoute("/"),))


class AnswerLost(SqlStore):
    """A database that has written several changes, and whose word of it is lost on the way."""

    def transact_many(self, works: Sequence[Callable[[Transaction], T]], *, now: float) -> Sequence[T]:
        results = super().transact_many(works, now=now)
        if len(works) > 1:
            raise StoreFailure("the connection was lost", retryable=True)
        return results


def insert(name: str) -> Callable[[Transaction], str]:
    def work(tx: Transaction) -> str:
        tx.insert(
            NewObject(CLOCK.new_uid(), Kind.SPINOUT, "default", name, SPEC, "proposed", b"{}"), actor="t", why="t"
        )
        return name

    return work


def refused(tx: Transaction) -> str:
    raise Conflict("no")


async def written(store: SqlStore, works: Sequence[Callable[[Transaction], Any]]) -> tuple[list[Any], list[str]]:
    """What each was answered, and what is there. All but the first come while that one is being written."""
    with ThreadPoolExecutor(1) as thread:

        async def run_write(work: Callable[[], Any]) -> Any:
            return await asyncio.get_running_loop().run_in_executor(thread, work)

        deps = SimpleNamespace(store=store, run_write=run_write, clock=CLOCK, waiting=lambda count: None)
        together = Together(cast(ApiDeps, deps))
        answers = await asyncio.gather(*(together.change(work) for work in works), return_exceptions=True)
    rows = store.read(lambda tx: [found.row.name for found in tx.select(Kind.SPINOUT)], now=CLOCK.now())
    return list(answers), sorted(rows)


async def test_what_may_have_been_written_is_not_written_again(tmp_path: Path) -> None:
    """Two names that are the same would be refused: so each has one of its own, made anew by each try."""
    count = iter(range(100))

    def another(tx: Transaction) -> str:
        return insert(f"name-{next(count)}")(tx)

    store = AnswerLost(str(tmp_path / "s.db"), new_id=CLOCK.new_uid)
    answers, names = await written(store, [another, another, another])
    assert len(names) == 3, "each was done once"
    assert sum(isinstance(answer, StoreFailure) for answer in answers) >= 2, "and nobody was told that it was not"


async def test_who_is_refused_spoils_it_for_nobody(tmp_path: Path) -> None:
    store = SqlStore(str(tmp_path / "s.db"), new_id=CLOCK.new_uid)
    answers, names = await written(store, [insert("a"), refused, insert("b")])
    assert (answers[0], answers[2], names) == ("a", "b", ["a", "b"])
    assert isinstance(answers[1], Conflict)
