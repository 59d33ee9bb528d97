"""Liveness over virtual time: at each period, in its own phase, by thresholds, and told only when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from spinyard.core.ids import ResourceKey, Uid
from spinyard.core.observed import ProbeAnswer
from spinyard.core.spec import Probe, TcpSocket
from spinyard.probes import LivenessWatch, Verdict, WatchPurpose
from tests.probes.virtual import ScriptedProber, VirtualClock, settle

pytestmark = pytest.mark.anyio

LIVENESS = WatchPurpose.LIVENESS
PROBE = Probe(tcp_socket=TcpSocket(), period_seconds=10.0, failure_threshold=3)


@dataclass
class World:
    clock: VirtualClock
    prober: ScriptedProber
    watch: LivenessWatch
    changes: list[Uid]
    task: asyncio.Task[None]

    def add(self, name: str, probe: Probe = PROBE, purpose: WatchPurpose = LIVENESS) -> None:
        self.watch.add(Uid(name), purpose, ResourceKey(name), "127.0.0.1", (("http", 80),), probe)

    def verdict(self, name: str, purpose: WatchPurpose = LIVENESS) -> Verdict:
        return self.watch.verdict(Uid(name), purpose)

    def asked(self, name: str) -> list[float]:
        return self.prober.asked_at.get(name, [])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = VirtualClock()
    prober = ScriptedProber(clock)
    changes: list[Uid] = []
    watch = LivenessWatch(prober, clock, changes.append, in_flight_max=4)
    task = asyncio.create_task(watch.run())
    yield World(clock, prober, watch, changes, task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert prober.under_way.total() == 0, "a stopped watch leaves no probe behind"


async def test_each_key_is_probed_once_a_period_in_its_own_phase(world: World) -> None:
    names = [f"spin{index}" for index in range(20)]
    for name in names:
        world.add(name)
    await world.clock.advance(99.99)
    for name in names:
        asked = world.asked(name)
        assert len(asked) == 10
        assert {round(after - before, 6) for before, after in pairwise(asked)} == {10.0}
    assert len({world.asked(name)[0] for name in names}) == 20, "not all at once"
    assert world.prober.most_under_way < 4


async def test_the_first_probe_waits_for_the_initial_delay(world: World) -> None:
    world.add("a", Probe(tcp_socket=TcpSocket(), initial_delay_seconds=50.0))
    await world.clock.advance(49.9)
    assert world.asked("a") == []
    await world.clock.advance(10.1)
    assert len(world.asked("a")) == 1


async def test_a_verdict_needs_its_threshold_and_is_told_once(world: World) -> None:
    world.add("a")
    assert world.verdict("a") is Verdict.UNKNOWN
    await world.clock.advance(30)
    assert (world.verdict("a"), world.changes) == (Verdict.OK, ["a"])
    world.prober.answers["a"] = ProbeAnswer.FAILED
    await world.clock.advance(20)
    assert (world.verdict("a"), world.changes) == (Verdict.OK, ["a"]), "two failures are not three"
    await world.clock.advance(10)
    assert (world.verdict("a"), world.changes) == (Verdict.FAILED, ["a", "a"])
    assert world.watch.message(Uid("a"), LIVENESS) == "said failed"
    await world.clock.advance(100)
    assert world.changes == ["a", "a"], "the same verdict again is no change"
    world.prober.answers["a"] = ProbeAnswer.OK
    await world.clock.advance(10)
    assert (world.verdict("a"), world.changes) == (Verdict.OK, ["a", "a", "a"])


async def test_one_success_between_failures_begins_the_count_anew(world: World) -> None:
    world.add("a")
    for answer in (ProbeAnswer.OK, *(ProbeAnswer.FAILED,) * 2, ProbeAnswer.OK, *(ProbeAnswer.FAILED,) * 2):
        world.prober.answers["a"] = answer
        await world.clock.advance(10)
    assert world.verdict("a") is Verdict.OK


async def test_readiness_may_need_several_successes(world: World) -> None:
    world.add("a", Probe(tcp_socket=TcpSocket(), period_seconds=1.0, success_threshold=3), WatchPurpose.READINESS)
    await world.clock.advance(2.0)
    assert world.verdict("a", WatchPurpose.READINESS) is Verdict.UNKNOWN
    await world.clock.advance(1.0)
    assert world.verdict("a", WatchPurpose.READINESS) is Verdict.OK
    assert world.verdict("a", LIVENESS) is Verdict.UNKNOWN


async def test_a_probe_that_cannot_be_made_never_fails_an_instance(world: World) -> None:
    world.add("a")
    await world.clock.advance(10)
    world.prober.answers["a"] = ProbeAnswer.UNKNOWN
    await world.clock.advance(20)
    assert world.verdict("a") is Verdict.OK, "a hiccup of ours does not change what is known"
    await world.clock.advance(500)
    assert world.verdict("a") is Verdict.UNKNOWN
    world.prober.answers["a"] = RuntimeError("a bug of ours")
    await world.clock.advance(100)
    assert world.verdict("a") is Verdict.UNKNOWN
    world.prober.answers["a"] = ProbeAnswer.OK
    await world.clock.advance(10)
    assert world.verdict("a") is Verdict.OK, "and the watch goes on"


async def test_failures_count_across_probes_that_could_not_be_made(world: World) -> None:
    world.add("a")
    for answer in (ProbeAnswer.FAILED, ProbeAnswer.FAILED, ProbeAnswer.UNKNOWN, ProbeAnswer.FAILED):
        world.prober.answers["a"] = answer
        await world.clock.advance(10)
    assert world.verdict("a") is Verdict.FAILED


async def test_a_slow_probe_holds_up_only_itself(world: World) -> None:
    world.prober.seconds["slow"] = 35.0
    world.add("slow")
    world.add("quick")
    await world.clock.advance(200)
    assert world.prober.most_of_one == 1
    assert len(world.asked("quick")) == 20
    asked = world.asked("slow")
    assert [after - before for before, after in pairwise(asked)] == pytest.approx([40.0] * 4)


async def test_no_more_run_at_once_than_may(world: World) -> None:
    for index in range(30):
        world.prober.seconds[f"s{index}"] = 3.0
        world.add(f"s{index}")
    await world.clock.advance(300)
    assert world.prober.most_under_way == 4
    assert all(len(world.asked(f"s{index}")) >= 5 for index in range(30)), "nobody is forgotten"


async def test_adding_the_same_again_changes_nothing(world: World) -> None:
    world.add("a")
    await world.clock.advance(15)
    before = list(world.asked("a"))
    for _ in range(5):
        world.add("a")
    assert world.verdict("a") is Verdict.OK
    await world.clock.advance(10)
    assert len(world.asked("a")) == len(before) + 1
    assert len(world.watch) == 1


async def test_another_probe_begins_anew(world: World) -> None:
    world.add("a")
    await world.clock.advance(15)
    world.add("a", Probe(tcp_socket=TcpSocket(), period_seconds=1.0))
    assert world.verdict("a") is Verdict.UNKNOWN
    await world.clock.advance(1)
    assert world.verdict("a") is Verdict.OK


async def test_what_is_removed_is_not_probed_and_not_heard(world: World) -> None:
    world.prober.seconds["a"] = 5.0
    world.add("a")
    world.add("a", purpose=WatchPurpose.READINESS)
    while not world.asked("a"):
        await world.clock.advance(1)
    world.watch.remove(Uid("a"))
    world.watch.remove(Uid("a"))
    count = len(world.asked("a"))
    await world.clock.advance(100)
    assert len(world.asked("a")) == count
    assert (world.changes, world.verdict("a"), len(world.watch)) == ([], Verdict.UNKNOWN, 0)


async def test_removed_and_added_again_while_under_way_is_never_two_at_once(world: World) -> None:
    world.prober.seconds["a"] = 25.0
    world.add("a")
    while not world.asked("a"):
        await world.clock.advance(1)
    world.watch.remove(Uid("a"))
    world.add("a")
    await world.clock.advance(20)
    assert len(world.asked("a")) == 1
    await world.clock.advance(40)
    assert len(world.asked("a")) >= 2
    assert world.prober.most_of_one == 1
    assert world.verdict("a") is Verdict.OK


async def test_only_what_is_named_is_kept(world: World) -> None:
    for name in ("a", "b", "c"):
        world.add(name)
    world.watch.keep_only(frozenset({Uid("b")}))
    await world.clock.advance(20)
    assert sorted(world.prober.asked_at) == ["b"]


async def test_coming_and_going_leaves_no_trail(world: World) -> None:
    for index in range(5000):
        world.add(f"s{index}", Probe(tcp_socket=TcpSocket(), initial_delay_seconds=86400.0))
        world.watch.remove(Uid(f"s{index}"))
    assert len(world.watch) == 0
    assert len(world.watch._heap) < 200


async def test_stopping_stops_probes_under_way(world: World) -> None:
    world.prober.seconds["a"] = 1e6
    world.add("a")
    await world.clock.advance(10)
    assert world.prober.under_way.total() == 1
    world.task.cancel()
    await settle()
    assert world.task.cancelled()
