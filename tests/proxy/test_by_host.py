"""Claims: each endpoint of a `by_host` route gets exactly the requests for its own host name."""

from __future__ import annotations

import json

import pytest

from spinyard.core.ids import ResourceKey
from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointState, EndpointWant, RouteWant
from tests.proxy.world import World, until

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.2)
POOL = RouteWant(cluster="pool", hosts=("*.box.localhost",), probe=PROBE, by_host=True)


def claimed(port: int, host: str, state: EndpointState = EndpointState.ACTIVE) -> EndpointWant:
    return EndpointWant(cluster="pool", address="127.0.0.1", port=port, host=host, state=state)


async def claim(world: World, key: str, want: EndpointWant) -> float:
    await world.provider.ensure(ResourceKey(key), want)

    async def answers() -> bool:
        return (await world.get(host=want.host))[0] == 200

    return await until(answers, f"{want.host} answers")


async def test_each_claim_gets_the_requests_for_its_own_name_and_nobody_elses(world: World) -> None:
    a, b = await world.start_backend("a"), await world.start_backend("b")
    await world.route("p/route", POOL)
    assert await claim(world, "a/endpoint", claimed(a, "c1.box.localhost")) < 0.5
    await claim(world, "b/endpoint", claimed(b, "c2.box.localhost"))
    for _ in range(10):
        assert await world.get(host="c1.box.localhost") == (200, "a")
        assert await world.get(host="c2.box.localhost:8080") == (200, "b")


async def test_a_name_that_nobody_claimed_is_a_503_that_says_so(world: World) -> None:
    port = await world.start_backend("a")
    await world.route("p/route", POOL)
    await claim(world, "a/endpoint", claimed(port, "c1.box.localhost"))
    status, text = await world.get(host="c9.box.localhost")
    assert (status, json.loads(text)["code"]) == (503, "no_instance")


async def test_a_released_claim_gets_nothing_and_its_name_can_be_claimed_again(world: World) -> None:
    a, b = await world.start_backend("a"), await world.start_backend("b")
    await world.route("p/route", POOL)
    await claim(world, "a/endpoint", claimed(a, "c1.box.localhost"))
    await world.provider.ensure(ResourceKey("a/endpoint"), claimed(a, "c1.box.localhost", EndpointState.DRAINING))
    await world.idle("a/endpoint")
    await world.removed("a/endpoint")
    assert (await world.get(host="c1.box.localhost"))[0] == 503
    await claim(world, "b/endpoint", claimed(b, "c1.box.localhost"))
    assert await world.get(host="c1.box.localhost") == (200, "b")


async def test_who_drains_or_is_not_ready_leaves_its_name_to_the_next_one_until_it_is_back(world: World) -> None:
    a, b = await world.start_backend("a"), await world.start_backend("b")
    await world.route("p/route", POOL)
    host = "c1.box.localhost"
    await claim(world, "a/endpoint", claimed(a, host))
    for state in (EndpointState.UNHEALTHY, EndpointState.DRAINING):
        await world.provider.ensure(ResourceKey("a/endpoint"), claimed(a, host, state))
        await until(lambda: _answer(world, host, 503), "nobody has the name")
        await claim(world, "b/endpoint", claimed(b, host))
        assert await world.get(host=host) == (200, "b")
        await world.provider.ensure(ResourceKey("b/endpoint"), claimed(b, host, EndpointState.UNHEALTHY))
        await until(lambda: _answer(world, host, 503), "nobody has the name again")
        await claim(world, "a/endpoint", claimed(a, host))
        assert await world.get(host=host) == (200, "a")


async def _answer(world: World, host: str, status: int) -> bool:
    return (await world.get(host=host))[0] == status
