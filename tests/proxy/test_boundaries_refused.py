"""Boundaries that Envoy, or the machine, cannot serve as they are wished: told in words, harming nobody else."""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import BoundaryFacts
from spinyard.core.shift import Sticky
from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointWant, RouteWant
from spinyard.proxy import doors, translate_routes
from spinyard_sdk import wire
from tests.proxy.boundary_world import HOST, KEY, THUMBS, WANT, WEB, BoundaryWorld
from tests.proxy.world import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world() -> AsyncIterator[BoundaryWorld]:
    world = BoundaryWorld()
    try:
        yield world
    finally:
        await world.stop()


async def _rejected(world: BoundaryWorld, text: str) -> None:
    async def is_so() -> bool:
        facts = await world.facts(KEY)
        return isinstance(facts, BoundaryFacts) and text in facts.rejected and not facts.acknowledged

    await until(is_so, f"rejected for {text}")


async def test_a_taken_port_for_calls_from_inside_stops_neither_the_gateway_nor_the_way_back(
    world: BoundaryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LASTING_SECONDS", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", world.inside_port))
        taken.listen()
        await world.start()
        await world.provider.ensure(ResourceKey(KEY), replace(WANT, weight=10_000, sticky=Sticky()))
        await _rejected(world, "in use")

        async def is_shared() -> bool:
            return await world.who("/thumbs/1") == "unit"

        await until(is_shared, "the unit answers by the gateway")
        await world.share(0, sticky=Sticky())
        assert await world.who("/thumbs/1") == "parent"
    await world.share(10_000, sticky=Sticky())
    assert await world.who("/thumbs/1", inside=True) == "unit", "it is tried again"


async def test_a_boundary_that_follows_its_unit_is_not_acknowledged_before_envoy_has_the_new_cluster(
    world: BoundaryWorld,
) -> None:
    """Its instance does not answer the first health check: until that is over, Envoy holds the cluster back."""
    await world.start()
    await world.share(10_000, sticky=Sticky())
    await world.start_backend("stuck")
    world.backends["stuck"].send_signal(signal.SIGSTOP)
    probe = Probe(http_get=HttpGet(path="/health"), timeout_seconds=0.8)
    moved = replace(THUMBS, cluster="default/thumbs/2", probe=probe)
    want = EndpointWant(cluster=moved.cluster, address="127.0.0.1", port=world.ports["stuck"])
    await world.provider.ensure(ResourceKey("stuck/endpoint"), want)
    await world.provider.ensure(ResourceKey("unit/route"), moved)
    seen = Counter[str]()

    async def is_acknowledged() -> bool:
        seen[(await world.call("/thumbs/1"))[1]] += 1
        return (await world.boundary()).acknowledged

    assert await until(is_acknowledged, "the boundary is acknowledged anew") > 0.4
    assert seen["unit"] > 5, "until then it is as it was"


async def test_a_unit_that_envoy_refuses_is_told_and_does_not_hold_up_the_way_back(world: BoundaryWorld) -> None:
    await world.start()
    await world.share(5000, sticky=Sticky())
    bad = Probe(http_get=HttpGet(path="/", host="a\nb"))
    await world.rejected("unit/route", replace(THUMBS, cluster="default/thumbs/2", probe=bad), "does not match regex")
    await _rejected(world, "does not match regex")
    await world.share(0, sticky=Sticky())
    assert {await world.who("/thumbs/1") for _ in range(20)} == {"parent"}
    assert (await world.boundary()).rejected == ""


async def test_a_call_from_inside_for_a_boundary_that_is_away_runs_where_it_is(world: BoundaryWorld) -> None:
    """Whatever Service takes all hosts, or that very one: its answer would be taken for the unit's."""
    await world.start()
    port = await world.start_backend("any")
    elsewhere = ("*", "lost.default.boundary.internal", "*.other.boundary.internal")
    await world.route("any/route", RouteWant(cluster="default/any/1", hosts=elsewhere, service="default/any"))
    await world.endpoint("any/endpoint", "default/any/1", port)
    await world.share(10_000, sticky=Sticky())
    assert await world.who("/thumbs/f", {wire.KEY_HEADER: "k"}, "POST", host=HOST, inside=True) == "unit"
    await world.removed(KEY)

    async def asked(host: str) -> tuple[int, str | None]:
        status, _, answered = await world.call("/thumbs/f", {wire.KEY_HEADER: "k"}, "POST", host=host, inside=True)
        return status, answered.get(wire.SIDE_HEADER)

    async def is_local() -> bool:
        return await asked(HOST) == (421, wire.PARENT)

    await until(is_local, "it runs here")
    for host in ("never.default.boundary.internal", "lost.default.boundary.internal", "a.other.boundary.internal:80"):
        assert await asked(host) == (421, wire.PARENT), host
    assert await world.who("/thumbs/f", method="POST", host=HOST) == "any", "from outside it is a host like others"
    assert await world.who("/", host="elsewhere", inside=True) == "any"


async def test_a_port_that_is_busy_while_envoy_is_replaced_speaks_against_no_boundary(world: BoundaryWorld) -> None:
    await world.start()
    await world.share(5000, sticky=Sticky())
    world.envoys[0].kill()
    world.envoys[0].wait()
    with socket.socket() as taken, socket.socket() as inside:
        for one, port in ((taken, world.port), (inside, world.inside_port)):
            one.bind(("127.0.0.1", port))
            one.listen()
        world.start_envoy()

        async def is_refused() -> bool:
            return "in use" in world.provider.listener_problem()

        await until(is_refused, "Envoy cannot listen")
        facts = await world.boundary()
        assert (facts.rejected, facts.acknowledged) == ("", False)
    await world.acknowledged(KEY)


async def test_what_spoke_against_a_listener_of_an_envoy_that_has_gone_speaks_against_no_other(
    world: BoundaryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LASTING_SECONDS", 0.0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", world.inside_port))
        taken.listen()
        await world.start()
        await world.provider.ensure(ResourceKey(KEY), replace(WANT, weight=10_000, sticky=Sticky()))
        await _rejected(world, "in use")
    world.envoys[0].kill()
    world.envoys[0].wait()

    async def is_forgotten() -> bool:
        return not world.provider._doors.lasting_inside_problem()

    await until(is_forgotten, "it is forgotten while no Envoy is there")


async def test_a_host_that_another_service_has_is_no_fault_of_the_boundary(world: BoundaryWorld) -> None:
    await world.start()
    await world.route("other/route", RouteWant(cluster="default/other/1", hosts=("www.shop",), service="default/other"))
    await world.share(5000, sticky=Sticky())
    lost = replace(WEB, hosts=("shop", "www.shop"))
    await world.rejected("parent/route", lost, "host www.shop and path prefix / belong to default/other already")
    await world.acknowledged(KEY)
    assert (await world.boundary()).rejected == ""
    await world.share(0, sticky=Sticky())
    assert {await world.who("/thumbs/1") for _ in range(20)} == {"parent"}
    none_left = replace(WEB, hosts=("www.shop",))
    await world.provider.ensure(ResourceKey("parent/route"), none_left)
    await world.share(0, sticky=Sticky())
    await world.provider.ensure(ResourceKey(KEY), replace(WANT, weight=5000, sticky=Sticky()))
    await _rejected(world, "belong to default/other")


async def test_a_weight_follows_in_a_host_whose_other_routes_envoy_refuses(
    world: BoundaryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own check would refuse them first: switched off, to see Envoy's."""
    monkeypatch.setattr(translate_routes, "prefix_problem", lambda prefix: "")
    await world.start()
    await world.share(10_000, sticky=Sticky())
    bad = RouteWant(cluster="default/bad/1", hosts=("shop",), path_prefix="/a?b", service="default/bad")
    await world.rejected("bad/route", bad, "path_separated_prefix")
    facts = await world.boundary()
    assert (facts.rejected, facts.acknowledged) == ("", True), "it is in force as before"
    await world.share(0, sticky=Sticky())
    assert {await world.who("/thumbs/1") for _ in range(20)} == {"parent"}
    await world.share(10_000, sticky=Sticky())
    assert {await world.who("/thumbs/1") for _ in range(20)} == {"unit"}
    await world.rejected("bad/route", bad, "path_separated_prefix")


async def test_the_way_back_waits_for_no_cluster_that_has_nothing_to_do_with_it(world: BoundaryWorld) -> None:
    """Envoy confirms a cluster, and all that were sent with it, when their endpoints have answered a first check."""
    await world.start()
    await world.share(10_000, sticky=Sticky())
    slow = RouteWant(cluster="default/slow/1", hosts=("slow",), probe=Probe(http_get=HttpGet(path="/health")))
    await world.route("slow/route", slow)
    await world.endpoint("slow/endpoint", slow.cluster, await world.start_backend("slow"))
    world.backends["slow"].send_signal(signal.SIGSTOP)
    changed = replace(slow, probe=Probe(http_get=HttpGet(path="/health"), failure_threshold=2))
    await world.provider.ensure(ResourceKey("slow/route"), changed)

    async def is_warming() -> bool:
        return (await world.counters("cluster_manager.warming_clusters")).get("cluster_manager.warming_clusters") == 1

    await until(is_warming, "Envoy waits for it")
    await world.share(0, sticky=Sticky())
    assert await is_warming(), "it still does"
    assert {await world.who("/thumbs/1") for _ in range(20)} == {"parent"}
    await world.acknowledged("slow/route")
