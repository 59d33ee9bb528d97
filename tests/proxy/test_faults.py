"""What Envoy refuses, and what happens when one of the two is not there."""

from __future__ import annotations

import asyncio
import signal
import socket

import grpc
import pytest
from grpc import aio

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, Unknown
from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Want
from spinyard.errors import SystemFailure
from spinyard.proxy import bootstrap, proto, translate_routes
from spinyard.proxy.stats import Admin
from spinyard.proxy.xds import METHOD, METHOD_SERVICE, REQUEST, RESPONSE
from tests.proxy.world import World, until

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.5)
ROUTE = RouteWant(cluster="s", hosts=("shop",), probe=PROBE)


async def _one(world: World) -> int:
    port = await world.start_backend("a")
    await world.route("s/route", ROUTE)
    await world.endpoint("a/endpoint", "s", port)
    return port


async def test_without_envoy_nothing_is_known(bare_world: World) -> None:
    await bare_world.provider.start()
    await bare_world.provider.ensure(ResourceKey("s/route"), ROUTE)
    assert isinstance(await bare_world.observe("s/route"), Unknown)
    assert isinstance(await bare_world.observe("never/there"), Unknown)
    await bare_world.provider.remove(ResourceKey("s/route"))
    assert isinstance(await bare_world.observe("s/route"), Unknown)
    assert await bare_world.provider.owned() == []


async def test_absent_is_said_only_when_envoy_confirmed_the_removal(world: World) -> None:
    await _one(world)
    assert isinstance(await world.observe("never/there"), Absent)
    world.envoys[0].send_signal(signal.SIGSTOP)
    await world.provider.remove(ResourceKey("a/endpoint"))
    await asyncio.sleep(0.2)
    assert isinstance(await world.observe("a/endpoint"), Unknown)
    world.envoys[0].send_signal(signal.SIGCONT)
    await world.removed("a/endpoint")
    await world.removed("s/route")
    assert (await world.get())[0] == 404
    assert await world.provider.owned() == []


async def test_an_endpoint_stays_drainable_after_its_route_was_removed(world: World) -> None:
    port = await _one(world)
    request = asyncio.create_task(world.get("/slow?s=0.5"))
    await asyncio.sleep(0.1)
    await world.removed("s/route")
    assert (await world.get())[0] == 404
    await world.endpoint("a/endpoint", "s", port, EndpointState.DRAINING)
    await world.idle("a/endpoint")
    assert await request == (200, "a")
    await world.removed("a/endpoint")


async def test_a_taken_port_is_the_reason_until_it_is_free(bare_world: World) -> None:
    world = bare_world
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", world.port))
        taken.listen()
        await world.provider.start()
        world.start_envoy()
        await world.rejected("s/route", ROUTE, "Address already in use")
        assert not world.provider.is_serving()
    await world.acknowledged("s/route")
    assert world.provider.listener_problem() == ""


async def test_one_refused_cluster_blocks_no_other(world: World) -> None:
    """A host name with a line break in the probe: Envoy alone looks at it."""
    bad = Probe(http_get=HttpGet(path="/", host="a\nb"))
    wants = {f"{n}/route": RouteWant(cluster=f"c{n}", hosts=(f"h{n}",)) for n in range(9)}
    wants["4/route"] = RouteWant(cluster="c4", hosts=("h4",), probe=bad)
    port = await world.start_backend("a")
    for key, want in wants.items():
        await world.provider.ensure(ResourceKey(key), want)
        endpoint = EndpointWant(cluster=want.cluster, address="127.0.0.1", port=port)
        await world.provider.ensure(ResourceKey(key.replace("route", "endpoint")), endpoint)
    for key in wants:
        if key != "4/route":
            await world.acknowledged(key)
            assert await world.get(host=wants[key].hosts[0]) == (200, "a")
    await world.rejected("4/route", wants["4/route"], "does not match regex")
    await world.rejected(
        "4/endpoint", EndpointWant(cluster="c4", address="127.0.0.1", port=port), "does not match regex"
    )
    await world.route("4/route", RouteWant(cluster="c4", hosts=("h4",)))
    assert await world.get(host="h4") == (200, "a")


async def test_a_refused_change_leaves_what_was_confirmed(world: World) -> None:
    port = await _one(world)
    bad = Probe(http_get=HttpGet(path="/", host="a\nb"))
    await world.rejected("s/route", RouteWant(cluster="s", hosts=("shop",), probe=bad), "does not match regex")
    assert await world.get() == (200, "a")
    await world.endpoint("b/endpoint", "s", await world.start_backend("b"))
    await world.endpoint("a/endpoint", "s", port, EndpointState.DRAINING)
    await world.idle("a/endpoint")
    assert await world.get() == (200, "b")


async def test_one_refused_virtual_host_blocks_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own check would refuse it first: switched off, to see Envoy's."""
    monkeypatch.setattr(translate_routes, "host_problem", lambda host: "")
    wants = {f"{n}/route": RouteWant(cluster=f"c{n}", hosts=(f"h{n}",)) for n in range(9)}
    wants["4/route"] = RouteWant(cluster="c4", hosts=("two words\n",))
    for key, want in wants.items():
        await world.provider.ensure(ResourceKey(key), want)
    for key in wants:
        if key != "4/route":
            await world.acknowledged(key)
    await world.rejected("4/route", wants["4/route"], "domain")
    await world.route("9/route", RouteWant(cluster="c9", hosts=("h9",)))


async def test_a_changed_probe_makes_a_new_cluster_without_losing_requests(world: World) -> None:
    """Envoy warms it, and does not ask for its endpoints again."""
    await _one(world)
    for period in (0.3, 0.4, 0.6):
        probe = Probe(http_get=HttpGet(path="/health"), period_seconds=period)
        took = await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=probe))
        assert took < 1
        assert await world.get() == (200, "a")
    assert (await world.facts("a/endpoint")) is not None


async def test_a_killed_envoy_comes_back_with_everything(world: World) -> None:
    await _one(world)
    world.envoys[0].send_signal(signal.SIGKILL)
    world.envoys[0].wait()

    async def is_unknown() -> bool:
        return isinstance(await world.observe("a/endpoint"), Unknown)

    await until(is_unknown, "the loss is noticed", 1)
    world.start_envoy()

    async def answers() -> bool:
        try:
            return await world.get() == (200, "a")
        except OSError:
            return False

    took = await until(answers, "traffic flows again")
    assert took < 1
    await world.acknowledged("s/route")


async def test_a_restarted_control_plane_costs_no_request_and_sends_nothing_twice(world: World) -> None:
    port = await _one(world)
    wants: list[tuple[ResourceKey, Want]] = [
        (ResourceKey("s/route"), ROUTE),
        (ResourceKey("a/endpoint"), EndpointWant(cluster="s", address="127.0.0.1", port=port)),
    ]
    before = await world.counters("cluster_manager.cluster_|listener_manager.lds.update_success")
    await world.provider.stop()
    assert [await world.get() for _ in range(20)] == [(200, "a")] * 20
    world.provider = world.new_provider()
    world.provider.restore(wants)
    await world.provider.start()
    took = await world.serving()
    assert took < 1.5
    await world.acknowledged("s/route")
    await world.acknowledged("a/endpoint")
    after = await world.counters("cluster_manager.cluster_|listener_manager.lds.update_success")
    assert after["cluster_manager.cluster_added"] == before["cluster_manager.cluster_added"]
    assert after["cluster_manager.cluster_modified"] == before["cluster_manager.cluster_modified"]


async def test_what_was_removed_while_we_were_away_is_removed_at_the_next_contact(world: World) -> None:
    port = await _one(world)
    await world.provider.stop()
    world.provider = world.new_provider()
    world.provider.restore([(ResourceKey("s/route"), ROUTE)])
    await world.provider.start()
    assert not isinstance(await world.observe("a/endpoint"), Absent)

    async def is_absent() -> bool:
        return isinstance(await world.observe("a/endpoint"), Absent)

    await until(is_absent, "the endpoint is gone")
    assert (await world.get())[0] == 503
    assert port


async def test_an_envoy_of_another_installation_is_refused(world: World) -> None:
    async with aio.insecure_channel(f"unix:{world.home}/xds.sock") as channel:
        call = channel.stream_stream(
            f"/{METHOD_SERVICE}/{METHOD}",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=proto.message_class(RESPONSE).FromString,
        )(timeout=5)
        request = proto.message_class(REQUEST)()
        request.node.id, request.node.cluster = "x", "somebody else"
        await call.write(request)
        with pytest.raises(aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert world.provider.connected_envoys == 1


async def test_a_hot_restart_loses_nothing_and_both_envoys_must_confirm(world: World) -> None:
    port = await _one(world)
    stop, failed, done = asyncio.Event(), [], 0

    async def load() -> None:
        nonlocal done
        while not stop.is_set():
            status, text = await world.get("/slow?s=0.01")
            done += 1
            if status != 200:
                failed.append(text)

    clients = [asyncio.create_task(load()) for _ in range(6)]
    await asyncio.sleep(0.2)
    world.start_envoy(epoch=1)

    async def are_two() -> bool:
        return world.provider.connected_envoys == 2

    await until(are_two, "both are connected")
    await world.endpoint("b/endpoint", "s", await world.start_backend("b"))
    await world.provider.ensure(
        ResourceKey("a/endpoint"),
        EndpointWant(cluster="s", address="127.0.0.1", port=port, state=EndpointState.DRAINING),
    )
    seen = []

    async def is_unknown_or_alone() -> bool:
        seen.append(await world.observe("a/endpoint"))
        return isinstance(seen[-1], Unknown) or world.provider.connected_envoys == 1

    await until(is_unknown_or_alone, "the old one's requests cannot be counted")
    await asyncio.sleep(1)
    world.envoys[0].send_signal(signal.SIGTERM)  # instead of waiting for the end of its drain time
    await world.idle("a/endpoint")
    stop.set()
    await asyncio.gather(*clients)
    assert failed == []
    assert done > 100
    assert await world.get() == (200, "b")


async def test_changes_tell_of_confirmation_health_and_removal(world: World) -> None:
    heard: set[str] = set()

    async def listen() -> None:
        async for key in world.provider.changes():
            heard.add(key)

    listener = asyncio.create_task(listen())
    port = await world.start_backend("a", "unready")
    await world.provider.ensure(ResourceKey("s/route"), ROUTE)
    await world.provider.ensure(ResourceKey("a/endpoint"), EndpointWant(cluster="s", address="127.0.0.1", port=port))

    async def hears(*keys: str) -> None:
        async def is_so() -> bool:
            return heard >= set(keys)

        await until(is_so, f"{keys} are told", 3)
        heard.clear()

    await hears("s/route", "a/endpoint")
    await asyncio.sleep(0.3)
    heard.clear()
    async with world.session.post(f"http://127.0.0.1:{port}/ready"):
        await hears("a/endpoint")
    await world.provider.remove(ResourceKey("a/endpoint"))
    await hears("a/endpoint")
    await world.provider.stop()
    await asyncio.wait_for(listener, 2)


async def test_a_missing_envoy_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemFailure) as caught:
        bootstrap.find_envoy()
    assert caught.value.code == "envoy_missing"
    assert "pip install" in caught.value.next_step


async def test_a_silent_admin_is_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await _one(world)
    monkeypatch.setattr(world.provider, "_admin", Admin(world.home / "nobody.sock", SystemClock()))
    seen = await world.observe("a/endpoint")
    assert isinstance(seen, Unknown)
    assert "does not answer" in seen.why
