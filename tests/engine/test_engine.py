"""The engine's own rules, on the production store and the fake provider, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pytest

from spinyard.core.actions import Ensure
from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.machine import Machine, edges
from spinyard.core.observed import Absent, Look, Seen
from spinyard.core.plan import EndRollout, Plan, Reserve, SetRollout
from spinyard.core.row import ObjectRow
from spinyard.core.spec import JobSpec, Kind, RolloutPart
from spinyard.core.want import DirectoryWant
from spinyard.engine.committer import Committer
from spinyard.engine.context import Context, EngineSettings
from spinyard.engine.loop import Engine
from spinyard.errors import StoreFailure
from spinyard.ports.store import Commit, Committed, NewObject, Refused, Stale
from spinyard.providers.fake.prober import FakeProber
from spinyard.providers.fake.provider import FakeProvider
from spinyard.providers.fake.world import World
from spinyard.store import SqlStore
from spinyard.testing.virtual import VirtualClock, VirtualLoop, run_virtual

Decide = Callable[[ObjectRow, Seen, float], Plan]


MACHINE = Machine("Scripted", "pending", frozenset({"done"}), edges({"pending": ["done"], "done": []}))


@dataclass
class Scripted:
    """A kind whose decisions are a test's own."""

    kind: Kind
    script: Decide
    machine: Machine = MACHINE

    def looks(self, row: ObjectRow, now: float) -> tuple[Look, ...]:
        return ()

    def decide(self, row: ObjectRow, seen: Seen, now: float) -> Plan:
        return self.script(row, seen, now)


def stay(row: ObjectRow, now: float, *, wake_in: float | None, status: bytes = b"{}", **more: Any) -> Plan:
    wake_at = None if wake_in is None else now + wake_in
    return Plan(row.state, status, "so", "So", wake_at, **more)


class Bench:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.clock = VirtualClock(self.loop)
        self.store = SqlStore(":memory:", new_id=lambda: "home-1")
        self.world = World()
        self.commits: list[int] = []
        self.script: Decide = lambda row, seen, now: stay(row, now, wake_in=None)
        provider = FakeProvider(self.world, self.clock)
        self.context = Context(
            store=self.store,
            providers={"fake": provider},
            domains={Kind.JOB: Scripted(Kind.JOB, lambda row, seen, now: self.script(row, seen, now))},
            prober=FakeProber(self.world, self.clock),
            clock=self.clock,
            write=self._inline,
            read=self._inline,
            settings=EngineSettings("engine-1"),
            committed=self.commits.append,
        )

    async def _inline(self, work: Callable[[], Any]) -> Any:
        return work()

    def insert(self, name: str) -> Uid:
        uid = Uid(f"uid-{name}")
        new = NewObject(uid, Kind.JOB, "default", name, JobSpec(), "pending", b"{}")
        self.store.transact(lambda tx: tx.insert(new, actor="test", why="created"), now=self.clock.now())
        return uid

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        run_virtual(self.loop, work)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.store.close()


def test_what_waits_together_is_committed_together(bench: Bench) -> None:
    for number in range(20):
        bench.insert(f"job-{number}")

    async def work() -> None:
        rows = bench.store.claim(holder="engine-1", now=bench.clock.now(), lease_seconds=15.0, limit=20)
        committer = Committer(bench.context)
        plans = [Commit(row, stay(row, 1.0, wake_in=1.0, status=b'{"n":1}'), release=True) for row in rows]
        results = await asyncio.gather(*(committer.commit(plan) for plan in plans))
        assert len({result.commit_seq for result in results if isinstance(result, Committed)}) == 1
        assert len(results) == 20

    bench.run(work())
    assert len(bench.commits) == 1


def test_a_commit_over_a_change_is_stale_and_a_refused_one_says_why(bench: Bench) -> None:
    uid = bench.insert("job")

    async def work() -> None:
        (row,) = bench.store.claim(holder="engine-1", now=bench.clock.now(), lease_seconds=15.0, limit=1)
        committer = Committer(bench.context)
        full = Reserve("quota", "one", amount=2, limit=1)
        refused = await committer.commit(Commit(row, stay(row, 1.0, wake_in=1.0, requires=(full,)), release=False))
        assert isinstance(refused, Refused) and "quota" in refused.why
        bench.store.transact(lambda tx: tx.update(uid, actor="t", why="d", reason="D", delete=True), now=2.0)
        assert await committer.commit(Commit(row, stay(row, 1.0, wake_in=1.0), release=False)) == Stale()

    bench.run(work())


def test_a_lost_lease_stops_its_row_and_the_next_holder_goes_on(bench: Bench) -> None:
    uid = bench.insert("job")
    held: list[int] = []

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        held.append(row.lease_token)
        return stay(row, now, wake_in=0.5)

    bench.script = script

    async def work() -> None:
        task = asyncio.ensure_future(Engine(bench.context).run())
        await asyncio.sleep(3.0)
        until = bench.clock.now() + 1000.0
        (row,) = bench.store.claim(holder="thief", now=until, lease_seconds=15.0, limit=1)
        seen = len(held)
        await asyncio.sleep(3.0)
        assert len(held) <= seen + 1, "it went on without its lease"
        assert row.uid == uid
        task.cancel()

    bench.run(work())


def test_a_nudge_while_the_commit_is_under_way_is_not_lost(bench: Bench) -> None:
    uid = bench.insert("job")
    passes: list[float] = []
    engines: list[Engine] = []

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        passes.append(now)
        engines[0].hint(uid)  # somebody asks after the decision was made and before it is durable
        status = b'{"n":1}' if len(passes) < 3 else row.status
        return stay(row, now, wake_in=None, status=status)

    bench.script = script

    async def work() -> None:
        engines.append(Engine(bench.context))
        task = asyncio.ensure_future(engines[0].run())
        await asyncio.sleep(1.0)
        task.cancel()

    bench.run(work())
    assert len(passes) > 3


@pytest.mark.parametrize(
    "told",
    [
        lambda uid: SetRollout(uid, Digest("old"), RolloutPart("r", "r", Digest("new"), "side", 1, 1, 0)),
        lambda uid: EndRollout(uid, Uid("r"), promote=True),
    ],
    ids=["its part", "its end"],
)
def test_a_service_in_our_hands_looks_at_once_when_its_rollout_has_written_to_it(
    bench: Bench, told: Callable[[Uid], SetRollout | EndRollout]
) -> None:
    service = bench.insert("service")
    looked: list[float] = []
    said: list[float] = []

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        if row.uid == service:
            looked.append(now)
            return stay(row, now, wake_in=0.9)
        if said:
            return stay(row, now, wake_in=None)
        said.append(now)
        return stay(row, now, wake_in=None, children=(told(service),))

    bench.script = script

    async def work() -> None:
        task = asyncio.ensure_future(Engine(bench.context).run())
        await asyncio.sleep(1.3)
        bench.insert("rollout")
        await asyncio.sleep(3.0)
        task.cancel()

    bench.run(work())
    assert any(0 <= at - said[0] < 0.05 for at in looked)


def test_an_absence_seen_before_the_creation_says_nothing_of_what_arrives_late(bench: Bench) -> None:
    key = ResourceKey("owner/dir/x")
    uid = bench.insert("job")
    absences = bench.context.absences

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        if row.status == b"{}":
            absences.told("fake", key, Absent(), bench.clock.monotonic())
            return stay(
                row, now, wake_in=None, status=b'{"n":1}', actions=(Ensure("fake", key, DirectoryWant(name="x")),)
            )
        return stay(row, now, wake_in=None, status=row.status)

    bench.script = script

    async def work() -> None:
        task = asyncio.ensure_future(Engine(bench.context).run())
        await asyncio.sleep(30.0)
        task.cancel()

    bench.run(work())
    assert uid and key in bench.world.things
    assert absences.told("fake", key, Absent(), bench.clock.monotonic()) == Absent(0.0)


def test_a_hint_that_the_store_could_not_take_is_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = bench.insert("job")
    looked: list[float] = []
    failures = [StoreFailure("the disk is full", code="disk_full", retryable=True)]

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        looked.append(bench.clock.monotonic())
        return stay(row, now, wake_in=None)

    wake = bench.store.wake

    def full(uids: Sequence[Uid], *, now: float) -> None:
        if failures:
            raise failures.pop()
        wake(uids, now=now)

    bench.script = script
    monkeypatch.setattr(bench.store, "wake", full)

    async def work() -> None:
        engine = Engine(bench.context)
        task = asyncio.ensure_future(engine.run())
        await asyncio.sleep(5.0)
        engine.hint(uid)
        await asyncio.sleep(5.0)
        task.cancel()

    bench.run(work())
    assert not failures
    assert [at for at in looked if at > 4.0], "it was hinted at while the disk was full"


def test_a_row_that_waits_a_little_keeps_its_lease(bench: Bench) -> None:
    bench.insert("job")
    tokens: list[int] = []

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        tokens.append(row.lease_token)
        return stay(row, now, wake_in=0.5 if len(tokens) < 6 else 5.0)

    bench.script = script

    async def work() -> None:
        task = asyncio.ensure_future(Engine(bench.context).run())
        await asyncio.sleep(12.0)
        task.cancel()

    bench.run(work())
    assert tokens[:6] == [1] * 6
    assert tokens[6] == 2, "a long wait gives the lease back"


def test_a_decision_that_raises_puts_off_its_row_alone(bench: Bench) -> None:
    bad, good = bench.insert("bad"), bench.insert("good")
    passes: dict[str, int] = {bad: 0, good: 0}

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        passes[row.uid] += 1
        if row.uid == bad:
            raise ValueError("a bug")
        return replace(stay(row, now, wake_in=None), state="done", finished=True)

    bench.script = script

    async def work() -> None:
        task = asyncio.ensure_future(Engine(bench.context).run())
        await asyncio.sleep(10.0)
        assert not task.done()
        task.cancel()

    bench.run(work())
    assert passes[good] == 1
    assert 5 <= passes[bad] <= 12, "about once a second, neither given up nor in circles"


def test_a_plan_that_is_refused_each_time_does_not_turn_in_circles(bench: Bench) -> None:
    bench.insert("job")
    passes: list[float] = []

    def script(row: ObjectRow, seen: Seen, now: float) -> Plan:
        passes.append(now)
        return stay(row, now, wake_in=0.0, requires=(Reserve("quota", "one", amount=2, limit=1),))

    bench.script = script

    async def work() -> None:
        task = asyncio.ensure_future(Engine(bench.context).run())
        await asyncio.sleep(10.0)
        task.cancel()

    bench.run(work())
    assert 5 <= len(passes) <= 30


def test_the_sweep_removes_only_what_nobody_wants_and_only_after_its_grace(bench: Bench) -> None:
    stray = ResourceKey("stray/dir/a")
    bench.world.create(stray, DirectoryWant(name="a"), bench.clock.now())

    async def work() -> None:
        sweep = Engine(bench.context).sweep
        (first,) = await sweep.sweep()
        assert (first.key, first.removed) == (stray, False)
        await asyncio.sleep(59.0)
        assert [orphan.removed for orphan in await sweep.sweep()] == [False]
        await asyncio.sleep(2.0)
        assert [orphan.removed for orphan in await sweep.sweep(dry_run=True)] == [False]
        assert [orphan.removed for orphan in await sweep.sweep()] == [True]
        assert await sweep.sweep() == []

    bench.run(work())
    assert bench.world.things == {}


def test_what_waits_is_looked_at_soon_after_the_clock_went_back(bench: Bench) -> None:
    """A wait of ten seconds must not become one of an hour, nor one in our own hands."""
    bench.insert("job")
    seen: list[float] = []

    def script(row: ObjectRow, seen_now: Seen, now: float) -> Plan:
        seen.append(bench.clock.monotonic())
        return stay(row, now, wake_in=10.0)

    bench.script = script

    async def work() -> None:
        engine = asyncio.create_task(Engine(bench.context).run())
        await bench.clock.sleep(5.0)
        bench.clock.jump(-3600.0)
        await bench.clock.sleep(60.0)
        engine.cancel()

    bench.run(work())
    assert len(seen) >= 4
    assert max(after - before for before, after in pairwise(seen)) < 11.0


def test_a_jump_of_the_clock_is_not_taken_for_the_grace_of_an_orphan(bench: Bench) -> None:
    bench.world.create("stranger/dir/x", DirectoryWant(name="x"), bench.clock.now())

    async def work() -> None:
        sweep = Engine(bench.context).sweep
        await sweep.sweep()
        bench.clock.jump(3600.0)
        assert [orphan.removed for orphan in await sweep.sweep()] == [False]
        await bench.clock.sleep(61.0)
        assert [orphan.removed for orphan in await sweep.sweep()] == [True]

    bench.run(work())


def test_an_orphan_that_cannot_be_removed_does_not_keep_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a/dir/x", "b/dir/x"):
        bench.world.create(key, DirectoryWant(name="x"), bench.clock.now())
    provider = bench.context.providers["fake"]
    remove = provider.remove

    async def stubborn(key: ResourceKey, *, now: bool = False) -> None:
        if key.startswith("a/"):
            await bench.clock.sleep(3600.0)
        await remove(key, now=now)

    monkeypatch.setattr(provider, "remove", stubborn)

    async def work() -> None:
        found = await Engine(bench.context).sweep.sweep(grace_seconds=0.0)
        assert {orphan.key: orphan.removed for orphan in found} == {"a/dir/x": False, "b/dir/x": True}

    bench.run(work())
