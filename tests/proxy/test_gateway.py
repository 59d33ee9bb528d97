"""Requests through a real Envoy: who gets them, and what a caller is told when nobody does."""

from __future__ import annotations

import json

import pytest

from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointState, RouteWant
from tests.proxy.world import World

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.2, failure_threshold=1)


async def test_requests_reach_both_instances_of_a_route(world: World) -> None:
    a, b = await world.start_backend("a"), await world.start_backend("b")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=PROBE))
    await world.endpoint("a/endpoint", "s", a)
    await world.endpoint("b/endpoint", "s", b)
    answers = [await world.get() for _ in range(40)]
    assert {status for status, _ in answers} == {200}
    assert {text for _, text in answers} == {"a", "b"}


async def test_an_endpoint_is_acknowledged_and_healthy_soon(world: World) -> None:
    port = await world.start_backend("a")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=PROBE))
    took = await world.endpoint("a/endpoint", "s", port)
    assert took < 0.3
    assert await world.get() == (200, "a")
