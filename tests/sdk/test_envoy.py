"""The SDK's calls through a real Envoy, to a unit that the SDK serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import BoundaryRule, EndpointState
from spinyard_sdk import boundary as sdk
from spinyard_sdk import exchange, sides
from spinyard_sdk.context import Request, within
from spinyard_sdk.unit import serve
from spinyard_sdk.wire import PARENT, UNIT, side_of
from tests.proxy.boundary_world import HOST, THUMBS, WEB, BoundaryWorld
from tests.proxy.world import World
from tests.sdk import thumbs
from tests.sdk.boundaries import serving, tell

pytestmark = pytest.mark.anyio
KEYS = [f"photo-{number}" for number in range(60)]
RULES = (BoundaryRule(path="/thumbs/*", method="GET", mirrored=True),)


class SdkWorld(BoundaryWorld):
    def __init__(self, unit: int) -> None:
        super().__init__()
        self.unit = unit

    async def start(self) -> None:
        await World.start(self)
        probe = Probe(http_get=HttpGet(path="/healthz"), period_seconds=0.5)
        parent = await self.start_backend("parent")
        for name, route, port in (("parent", WEB, parent), ("unit", replace(THUMBS, probe=probe), self.unit)):
            await self.route(f"{name}/route", route)
            await self.endpoint(f"{name}/endpoint", route.cluster, port)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def unit() -> Iterator[int]:
    app = serve(thumbs)
    for name in ("thumbs", "albums"):
        sides.state_of(name).is_served_here = False

    async def marked(scope: Any, receive: Any, send: Any) -> None:
        thumbs.PLACE[id(asyncio.get_running_loop())] = "unit"
        await app(scope, receive, send)

    with serving(marked) as port:
        yield port


@pytest.fixture(scope="module")
async def world(unit: int) -> AsyncIterator[SdkWorld]:
    world = SdkWorld(unit)
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SPINYARD_FLAGS", raising=False)
    sides._SOURCE.forget()
    sides.state_of("thumbs").counts = sides.Counts()
    exchange._LINES.forget()
    thumbs.RAN.clear()
    yield
    assert sdk.COMPARISONS.wait_idle(10)
    sides._SOURCE.forget()


async def where(world: SdkWorld, keys: list[str], believed: int, side: Any = None) -> list[str]:
    """What the SDK believes may be another weight than Envoy's."""
    tell("thumbs", world.inside_port, weight=believed, host=HOST)

    def calls() -> list[str]:
        with within(Request(side)):
            return [thumbs.render(key).where for key in keys]

    return await asyncio.to_thread(calls)


@pytest.mark.parametrize("weight", [100, 5_000, 10_000])
async def test_each_call_runs_where_envoy_says(world: SdkWorld, weight: int) -> None:
    await world.share(weight, rules=RULES)
    expected = [side_of(key, weight) for key in KEYS]
    assert await where(world, KEYS, weight) == expected
    # However old the weight that the SDK knows: Envoy has the last word.
    assert await where(world, KEYS, 10_000) == expected


async def test_at_weight_0_envoy_answers_local_whatever_the_sdk_believes(world: SdkWorld) -> None:
    await world.share(0, rules=RULES)
    assert set(await where(world, KEYS[:10], 10_000)) == {PARENT}
    assert set(await where(world, KEYS[:10], 10_000, UNIT)) == {PARENT}
    assert sdk.counts()["thumbs"].fell_back == {"told": 20}


async def test_what_the_first_hop_decided_holds_behind_envoy_too(world: SdkWorld) -> None:
    await world.share(5_000, rules=RULES)
    assert set(await where(world, KEYS[:10], 5_000, UNIT)) == {UNIT}
    assert set(await where(world, KEYS[:10], 5_000, PARENT)) == {PARENT}


async def test_a_parallel_run_reaches_the_unit_at_weight_0_and_is_not_counted(world: SdkWorld) -> None:
    await world.share(0, rules=RULES, mirror=10_000)
    before = await world.counted("new", "forced-new")
    tell("thumbs", world.inside_port, shadow=10_000, host=HOST)
    assert await asyncio.to_thread(lambda: [thumbs.where_it_ran(key) for key in KEYS[:10]]) == [PARENT] * 10
    assert await asyncio.to_thread(sdk.COMPARISONS.wait_idle, 10)
    counts = sdk.counts()["thumbs"]
    assert (counts.compared, counts.different, counts.not_compared) == (10, 10, {})
    after = await world.counted("new", "forced-new")
    assert (after["new"] - before["new"], after["forced-new"] - before["forced-new"]) == (0, 10)


async def test_without_copies_a_parallel_run_does_not_reach_the_unit(world: SdkWorld) -> None:
    await world.share(0, rules=RULES)
    tell("thumbs", world.inside_port, shadow=10_000, host=HOST)
    await asyncio.to_thread(lambda: [thumbs.where_it_ran(key) for key in KEYS[:3]])
    assert await asyncio.to_thread(sdk.COMPARISONS.wait_idle, 10)
    assert (sdk.counts()["thumbs"].not_compared, {one for one, _ in thumbs.RAN}) == ({"told": 3}, {PARENT})


async def test_a_unit_without_an_instance_costs_nobody_a_request(world: SdkWorld) -> None:
    await world.share(10_000, rules=RULES)
    await world.endpoint("unit/endpoint", THUMBS.cluster, world.unit, EndpointState.UNHEALTHY)
    try:
        tell("thumbs", world.inside_port, weight=10_000, host=HOST)
        assert await asyncio.to_thread(lambda: [thumbs.store(key) for key in KEYS[:5]]) == [PARENT] * 5
        assert sdk.counts()["thumbs"].fell_back == {"no_instance": 5}
    finally:
        await world.endpoint("unit/endpoint", THUMBS.cluster, world.unit)
