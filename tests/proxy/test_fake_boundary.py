"""The data plane of the simulation: boundaries, as the real one tells of them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, BoundaryFacts, Present, Unknown
from spinyard.core.want import BoundaryRule, BoundaryWant, RouteWant
from spinyard.providers.fake.proxy import FakeProxy, Told

pytestmark = pytest.mark.anyio

KEY = ResourceKey("b/boundary")
WANT = BoundaryWant(
    cluster="b", parent="default/web", unit="default/thumbs", rules=(BoundaryRule(path="/thumbs/*"),), weight=1000
)


class HandClock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        return None


async def with_services(proxy: FakeProxy) -> None:
    for service in ("default/web", "default/thumbs"):
        await proxy.ensure(ResourceKey(f"{service}/route"), RouteWant(cluster=service, service=service))


async def facts(proxy: FakeProxy) -> BoundaryFacts:
    seen = await proxy.observe(KEY)
    assert isinstance(seen, Present)
    assert isinstance(seen.facts, BoundaryFacts)
    return seen.facts


async def test_a_boundary_is_not_in_force_while_a_service_is_missing() -> None:
    proxy = FakeProxy(HandClock(), lambda key: True)
    await proxy.ensure(KEY, WANT)
    assert (await facts(proxy)).missing == ("default/web", "default/thumbs")
    assert proxy.in_force(KEY) is None
    await with_services(proxy)
    assert await facts(proxy) == BoundaryFacts(acknowledged=True, want=WANT)
    assert proxy.in_force(KEY) == WANT
    await proxy.remove(ResourceKey("default/thumbs/route"))
    assert (await facts(proxy)).missing == ("default/thumbs",)
    assert proxy.in_force(KEY) is None


async def test_it_acknowledges_late_and_anew_when_a_service_changes_its_cluster() -> None:
    clock = HandClock()
    proxy = FakeProxy(clock, lambda key: True, acknowledge_seconds=5.0)
    await with_services(proxy)
    await proxy.ensure(KEY, WANT)
    assert not (await facts(proxy)).acknowledged
    clock.time += 5.0
    assert (await facts(proxy)).acknowledged
    await proxy.ensure(KEY, replace(WANT, weight=0))
    assert await facts(proxy) == BoundaryFacts(acknowledged=False, want=replace(WANT, weight=0))
    clock.time += 5.0
    await proxy.ensure(ResourceKey("default/web/route"), RouteWant(cluster="web-2", service="default/web"))
    assert not (await facts(proxy)).acknowledged
    clock.time += 5.0
    assert (await facts(proxy)).acknowledged


async def test_it_can_reject_go_silent_and_lose_everything() -> None:
    def refusal(want: Told) -> str:
        return "bad weight" if isinstance(want, BoundaryWant) and want.weight == 13 else ""

    proxy = FakeProxy(HandClock(), lambda key: True, refusal_of=refusal)
    await with_services(proxy)
    await proxy.ensure(KEY, replace(WANT, weight=13))
    assert await facts(proxy) == BoundaryFacts(acknowledged=False, rejected="bad weight", want=replace(WANT, weight=13))
    assert proxy.in_force(KEY) is None
    proxy.up = False
    assert isinstance(await proxy.observe(KEY), Unknown)
    proxy.up = True
    proxy.restore([(KEY, WANT)])
    assert (await facts(proxy)).missing == ("default/web", "default/thumbs")
    await proxy.remove(KEY)
    assert isinstance(await proxy.observe(KEY), Absent)
