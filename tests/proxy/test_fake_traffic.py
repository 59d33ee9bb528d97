"""The data plane of the simulation: routes with two sides, and counters that somebody else makes up."""

from __future__ import annotations

import pytest

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ClusterTraffic, Present, RouteFacts, Traffic, Unknown
from spinyard.core.want import RouteWant, Split
from spinyard.ports.traffic import TrafficReader
from spinyard.providers.fake.proxy import FakeProxy

pytestmark = pytest.mark.anyio


async def test_its_counters_are_those_of_the_hook_and_unknown_without_one() -> None:
    proxy = FakeProxy(SystemClock(), lambda key: True)
    reader: TrafficReader = proxy
    assert isinstance(await reader.read(["a", "b"]), Unknown)
    said = Traffic(epoch="1", at=0.0, clusters={"a": ClusterTraffic(requests=1)})
    asked: list[tuple[str, ...]] = []

    def traffic_of(clusters: tuple[str, ...]) -> Traffic:
        asked.append(clusters)
        return said

    proxy.traffic_of = traffic_of
    assert await reader.read(["a", "b"]) == said
    assert asked == [("a", "b")]
    proxy.up = False
    assert isinstance(await reader.read(["a"]), Unknown)


async def test_it_keeps_the_split_of_a_route_as_it_was_last_wished() -> None:
    proxy = FakeProxy(SystemClock(), lambda key: True)
    for weight in (0, 5000):
        want = RouteWant(cluster="old", split=Split(cluster="new", weight=weight))
        await proxy.ensure(ResourceKey("s/route"), want)
        assert await proxy.observe(ResourceKey("s/route")) == Present(RouteFacts(acknowledged=True, want=want))
