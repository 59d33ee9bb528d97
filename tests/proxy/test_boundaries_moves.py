"""A boundary while things move: promotions, drains, restarts of the control plane and of Envoy. No request is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import BoundaryFacts, EndpointFacts, Traffic
from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule, EndpointState, EndpointWant, RouteWant, boundary_cluster
from spinyard.proxy.aliases import LEFT_SECONDS_MIN
from spinyard_sdk import wire
from tests.proxy.boundary_world import CLUSTER, HOST, KEY, KEYS, THUMBS, WANT, WEB, BoundaryWorld
from tests.proxy.world import until

pytestmark = pytest.mark.anyio

RULES = (BoundaryRule(path="/slow"), BoundaryRule(path="/thumbs/*"), BoundaryRule(path="/drop"))


@pytest.fixture
async def world() -> AsyncIterator[BoundaryWorld]:
    world = BoundaryWorld()
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


class Load:
    """Unsafe requests, each of a key of its own, until it is stopped."""

    def __init__(self, world: BoundaryWorld, seconds: tuple[float, ...]) -> None:
        self.statuses: Counter[int] = Counter()
        self.answered: Counter[str] = Counter()
        self.wrong_sides: list[tuple[str, str]] = []
        self.weight = 5000
        self._world = world
        self._stop = asyncio.Event()
        self._numbers = itertools.count()
        self._clients = [asyncio.create_task(self._client(f"/slow?s={pause}")) for pause in seconds]

    async def _client(self, path: str) -> None:
        while not self._stop.is_set():
            key = f"k{next(self._numbers)}"
            status, text, headers = await self._world.call(path, {"x-user": key}, "POST")
            self.statuses[status] += 1
            self.answered[headers.get("x-instance", text)] += 1
            name = headers.get("x-instance", "")
            if wire.side_of(key, self.weight) != name.split("-")[0]:
                self.wrong_sides.append((key, name))

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._clients)


def endpoint(world: BoundaryWorld, name: str, cluster: str, state: EndpointState) -> EndpointWant:
    return EndpointWant(cluster=cluster, address="127.0.0.1", port=world.ports[name], state=state)


async def test_promotions_of_both_services_under_load_lose_nothing_and_no_key_changes_its_side(
    world: BoundaryWorld,
) -> None:
    await world.share(5000, rules=RULES)
    load = Load(world, (0.005,) * 8 + (0.3,) * 4)
    current = {"parent": ("parent", WEB), "unit": ("unit", THUMBS)}
    instances = {"parent", "unit"}
    for turn, role in enumerate(["parent", "unit", "parent", "unit"]):
        (old, route), name = current[role], f"{role}-{turn}"
        cluster = f"{route.cluster}+"
        instances.add(name)
        await world.provider.ensure(ResourceKey(f"{name}/hold"), RouteWant(cluster=cluster, probe=route.probe))
        await world.endpoint(f"{name}/endpoint", cluster, await world.start_backend(name))
        new = replace(route, cluster=cluster)
        # All at once, as the engine may: nothing may drain before the routes without it are in force.
        await world.provider.ensure(ResourceKey(f"{role}/route"), new)
        draining = endpoint(world, old, route.cluster, EndpointState.DRAINING)
        await world.provider.ensure(ResourceKey(f"{old}/endpoint"), draining)
        await world.acknowledged(KEY)
        await world.idle(f"{old}/endpoint")
        world.kill(old)
        await world.removed(f"{old}/endpoint")
        await world.provider.remove(ResourceKey(f"{name}/hold"))
        current[role] = (name, new)
        await asyncio.sleep(0.15)
    await load.end()
    assert set(load.statuses) == {200}, load.statuses
    assert load.answered.keys() == instances
    assert load.wrong_sides == []
    assert load.statuses[200] > 100
    counted = await world.counted("old", "new")
    assert sum(counted.values()) == load.statuses[200], "the counters of a side go on through promotions"


async def test_what_is_under_way_through_a_boundary_keeps_its_instance_from_being_idle(world: BoundaryWorld) -> None:
    await world.start_backend("unit-2")
    await world.share(10_000, rules=RULES, sticky=Sticky())
    # Longer than it takes to forget what nothing is under way in.
    long = asyncio.create_task(world.call(f"/slow?s={LEFT_SECONDS_MIN + 2.5}", method="POST"))
    await asyncio.sleep(0.1)
    await world.provider.ensure(ResourceKey("unit/route"), replace(THUMBS, cluster="default/thumbs/2"))
    await world.endpoint("unit-2/endpoint", "default/thumbs/2", world.ports["unit-2"])
    await world.endpoint("unit/endpoint", THUMBS.cluster, world.ports["unit"], EndpointState.DRAINING)
    facts = await world.facts("unit/endpoint")
    assert isinstance(facts, EndpointFacts)
    assert facts.active_requests == 1
    assert await world.who("/thumbs/1") == "unit-2"
    await asyncio.sleep(LEFT_SECONDS_MIN + 0.5)
    assert not long.done()
    await world.idle("unit/endpoint")
    assert long.done()
    assert (await long)[0] == 200


async def test_an_instance_is_healthy_only_when_it_can_be_reached_through_the_boundary_too(
    world: BoundaryWorld,
) -> None:
    await world.share(10_000, rules=RULES, sticky=Sticky())
    await world.removed("unit/endpoint")
    for number in range(4):
        name = f"unit-{number}"
        port = await world.start_backend(name, "unready")
        await world.provider.ensure(
            ResourceKey("unit/endpoint"), endpoint(world, name, THUMBS.cluster, EndpointState.ACTIVE)
        )
        await asyncio.sleep(0.05 * number)
        async with world.session.post(f"http://127.0.0.1:{port}/ready") as answered:
            assert answered.status == 200
        await world.endpoint("unit/endpoint", THUMBS.cluster, port)
        assert {await world.who("/thumbs/1", method="POST") for _ in range(5)} == {name}
        world.kill(name)


async def restarted(world: BoundaryWorld, wants: list[tuple[str, Any]]) -> None:
    await world.provider.stop()
    world.provider = world.new_provider()
    world.provider.restore([(ResourceKey(key), want) for key, want in wants])
    await world.provider.start()


def ledger(world: BoundaryWorld, boundary: Any) -> list[tuple[str, Any]]:
    return [
        # A boundary may be older than what its Services have now.
        (KEY, boundary),
        ("parent/route", WEB),
        ("unit/route", THUMBS),
        ("parent/endpoint", endpoint(world, "parent", WEB.cluster, EndpointState.ACTIVE)),
        ("unit/endpoint", endpoint(world, "unit", THUMBS.cluster, EndpointState.ACTIVE)),
    ]


async def test_a_restart_of_the_control_plane_changes_nothing_and_loses_nothing(world: BoundaryWorld) -> None:
    want = replace(WANT, weight=5000, rules=RULES)
    await world.share(5000, rules=RULES)
    load = Load(world, (0.005,) * 6)
    before = await world.counters("^cluster_manager.cluster_(added|modified|removed)$|update_success$")
    await restarted(world, ledger(world, want))
    await world.serving()
    await world.acknowledged(KEY)
    assert await world.boundary() == BoundaryFacts(True, "", want)
    served = load.statuses[200]

    async def goes_on() -> bool:
        return load.statuses[200] > served + 30

    await until(goes_on, "requests go on")
    await load.end()
    assert set(load.statuses) == {200}
    assert load.wrong_sides == []
    after = await world.counters("^cluster_manager.cluster_(added|modified|removed)$")
    assert after == {name: count for name, count in before.items() if name in after}, "Envoy had it all already"


async def test_an_envoy_that_starts_anew_has_the_boundary_with_its_first_request(world: BoundaryWorld) -> None:
    want = replace(WANT, weight=10_000, sticky=Sticky(), rules=RULES)
    await restarted(world, ledger(world, want))
    world.envoys[-1].kill()
    world.envoys[-1].wait()
    world.start_envoy()
    answered: list[str] = []

    async def answers() -> bool:
        try:
            status, _, headers = await world.call("/thumbs/1")
        except OSError:
            return False
        answered.append(headers.get("x-instance", str(status)))
        return status == 200

    await until(answers, "the first answer")
    assert answered[-1] == "unit"
    assert "parent" not in answered, answered
    assert (await world.call("/x", {"x-spinyard-key": "k"}, host=HOST, inside=True))[0] == 200


async def test_a_hot_restart_of_envoy_keeps_both_doors_open(world: BoundaryWorld) -> None:
    await world.share(5000, rules=RULES)
    load, stop, seen = Load(world, (0.005,) * 4), asyncio.Event(), Counter[tuple[int, str]]()

    async def sdk() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            key = f"k{number}"
            # A connection of its own: the newer Envoy gets it.
            headers = {wire.KEY_HEADER: key, "connection": "close"}
            status, text, _ = await world.call("/call", headers, "POST", host=HOST, inside=True)
            seen[status, text] += 1
            assert (status == 200) == (wire.side_of(key, 5000) == "unit")

    calling = asyncio.create_task(sdk())
    world.start_envoy(epoch=1)

    async def are_two() -> bool:
        return world.provider.connected_envoys == 2

    await until(are_two, "the new one is there")
    before = sum(seen.values()), load.statuses[200]

    async def go_on() -> bool:
        return sum(seen.values()) > before[0] + 60 and load.statuses[200] > before[1] + 60

    await until(go_on, "both doors are used")
    stop.set()
    await calling
    await load.end()
    assert seen.keys() == {(200, "unit"), (421, "local")}
    assert set(load.statuses) == {200}
    assert load.wrong_sides == []


async def test_back_to_0_is_at_once_and_proved_by_a_counter_that_stands_still(world: BoundaryWorld) -> None:
    await world.share(10_000, rules=RULES)
    load = Load(world, (0.002,) * 8)
    load.weight = 0

    async def is_used() -> bool:
        return load.answered["unit"] > 50

    await until(is_used, "the unit answers")
    await world.share(0, rules=RULES)
    unit = await world.provider.traffic.read([boundary_cluster(CLUSTER, "new")])
    assert isinstance(unit, Traffic)
    active = unit.clusters[boundary_cluster(CLUSTER, "new")].active
    first = (await world.counted("new"))["new"]
    parent = load.answered["parent"]

    async def goes_on() -> bool:
        return load.answered["parent"] > parent + 50

    await until(goes_on, "the parent answers")
    assert (await world.counted("new"))["new"] <= first + active
    await load.end()
    assert set(load.statuses) == {200}


async def test_a_unit_that_is_gone_is_a_503_of_its_own_keys_only(world: BoundaryWorld) -> None:
    await world.share(5000, rules=RULES)
    sides = await world.sides(KEYS)
    world.kill("unit")
    for key, side in sides.items():
        status, _, headers = await world.call("/thumbs/1", {"x-user": key}, "POST")
        assert (status, headers.get("x-instance")) == ((200, "parent") if side == "parent" else (503, None))
    assert (await world.counted("new"))["new"] > 0
    assert {await world.who("/", {"x-user": key}) for key in KEYS[:20]} == {"parent"}


async def test_an_interrupted_request_is_repeated_on_its_own_side(world: BoundaryWorld) -> None:
    await world.share(5000, rules=RULES)
    for key in KEYS[:20]:
        answered = await world.who(f"/drop?n=1&key={key}", {"x-user": key})
        assert answered == wire.side_of(key, 5000)
