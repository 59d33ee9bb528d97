"""Instances come and go under load, by the proven order and by kill -9."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointState, RouteWant
from tests.proxy.world import World

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.5)
ROUTE = RouteWant(cluster="s", hosts=("shop",), probe=PROBE)


async def _load(world: World, stop: asyncio.Event, seen: Counter[object], path: str = "/slow?s=0.02") -> None:
    while not stop.is_set():
        async with world.session.post(world.url(path), headers={"Host": "shop"}, data=b"x") as answer:
            seen[answer.status] += 1
            seen[await answer.text() if answer.status == 200 else "failed"] += 1


async def test_drained_swaps_by_kill_9_lose_no_unsafe_request(world: World) -> None:
    """Every other swap has nothing new beside the old: workers hear of a mere change of health at once, too."""
    await world.route("s/route", ROUTE)
    await world.endpoint("keep/endpoint", "s", await world.start_backend("keep"))
    old = await world.start_backend("0")
    await world.endpoint("0/endpoint", "s", old)
    stop, seen = asyncio.Event(), Counter[object]()
    clients = [asyncio.create_task(_load(world, stop, seen)) for _ in range(8)]
    clients += [asyncio.create_task(_load(world, stop, seen, "/slow?s=0.3")) for _ in range(3)]
    for number in range(1, 9):
        new = await world.start_backend(str(number))
        if number % 2:
            await world.endpoint(f"{number}/endpoint", "s", new)
        await world.endpoint(f"{number - 1}/endpoint", "s", old, EndpointState.DRAINING)
        await world.idle(f"{number - 1}/endpoint")
        world.kill(str(number - 1))
        await world.removed(f"{number - 1}/endpoint")
        await world.endpoint(f"{number}/endpoint", "s", new)
        old = new
    stop.set()
    await asyncio.gather(*clients)
    instances = {"keep", *(str(number) for number in range(9))}
    assert seen.keys() <= {200, *instances}, seen
    assert seen.keys() >= instances - {"8"}, "all but the last, which only just came, had requests"
    assert seen[200] > 300


async def test_a_draining_endpoint_is_not_idle_before_its_last_request_ended(world: World) -> None:
    await world.route("s/route", ROUTE)
    a = await world.start_backend("a")
    await world.endpoint("a/endpoint", "s", a)
    b = await world.start_backend("b")
    request = asyncio.create_task(world.get("/slow?s=1.2"))
    await asyncio.sleep(0.2)
    await world.endpoint("b/endpoint", "s", b)
    await world.endpoint("a/endpoint", "s", a, EndpointState.DRAINING)
    assert {(await world.get())[1] for _ in range(20)} == {"b"}
    assert not request.done()
    await world.idle("a/endpoint")
    assert request.done()
    assert await request == (200, "a")


async def test_a_long_answer_is_not_cut_and_counts_as_active_until_its_end(world: World) -> None:
    await world.route("s/route", ROUTE)
    a = await world.start_backend("a")
    await world.endpoint("a/endpoint", "s", a)
    events = asyncio.create_task(world.get("/sse?n=20&s=0.05"))
    await asyncio.sleep(0.1)
    await world.endpoint("a/endpoint", "s", a, EndpointState.DRAINING)
    await world.idle("a/endpoint")
    assert events.done()
    status, text = await events
    assert (status, text.count("data:")) == (200, 20)


async def _two(world: World) -> tuple[int, int]:
    await world.route("s/route", ROUTE)
    a, b = await world.start_backend("a"), await world.start_backend("b")
    await world.endpoint("a/endpoint", "s", a)
    await world.endpoint("b/endpoint", "s", b)
    return a, b


async def test_safe_requests_survive_the_kill_of_an_instance(world: World) -> None:
    """In flight, and by connect failures until its endpoint is taken away."""
    await _two(world)
    in_flight = [asyncio.create_task(world.get("/slow?s=0.4")) for _ in range(20)]
    await asyncio.sleep(0.2)
    world.kill("a")
    assert {status for status, _ in await asyncio.gather(*in_flight)} == {200}
    assert {await world.get() for _ in range(50)} == {(200, "b")}


async def test_unsafe_requests_after_the_kill_go_to_the_other_instance(world: World) -> None:
    """Nothing of them was sent when the connection was refused."""
    await _two(world)
    world.kill("a")
    for size in (10, 500_000):
        for _ in range(30):
            headers = {"Host": "shop"}
            async with world.session.post(world.url("/echo"), headers=headers, data=b"x" * size) as answer:
                assert answer.status == 200
                assert json.loads(await answer.text())["body_bytes"] == size


@pytest.mark.parametrize(
    ("method", "headers", "is_repeated"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("POST", {"Idempotency-Key": "k"}, True),
        ("POST", {}, False),
        ("DELETE", {}, False),
        ("PUT", {}, False),
    ],
    ids=["GET", "HEAD", "POST with a key", "POST", "DELETE", "PUT"],
)
async def test_only_what_is_safe_is_sent_again_after_an_instance_had_it(
    world: World, method: str, headers: dict[str, str], is_repeated: bool
) -> None:
    """The instance that dies is known to have had the whole request."""
    await _two(world)
    victim = world.backends["a"]
    for _ in range(60):
        sent = {"Host": "shop", **headers}
        async with world.session.request(method, world.url("/die?who=a"), headers=sent) as answer:
            body = await answer.text()
        if answer.status != 200 or victim.poll() is not None:
            break
    assert victim.wait(5) == 9, "a never got a request"
    if is_repeated:
        assert answer.status == 200
    else:
        assert (answer.status, json.loads(body)["code"]) == (503, "connection_lost")
        assert "retry-after" not in answer.headers
