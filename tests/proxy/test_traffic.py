"""What Envoy counted against what the client saw, and what is said when it cannot be known."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
from grpc import aio
from msgspec.structs import replace

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ClusterTraffic, Traffic, Unknown
from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import RouteWant, Split
from spinyard.proxy import bootstrap, latency, traffic
from spinyard.proxy.traffic import EnvoyTraffic, stat_name
from tests.proxy.world import World, free_port, until

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.1)
ROUTE = RouteWant(cluster="ns/s:1", hosts=("shop",), timeout_seconds=0.5)


async def one(world: World, want: RouteWant = ROUTE) -> None:
    await world.route("s/route", want)
    await world.endpoint("a/endpoint", want.cluster, await world.start_backend("a"))


async def reading(world: World, *clusters: str) -> Traffic:
    seen = await world.provider.traffic.read(clusters or (ROUTE.cluster,))
    assert isinstance(seen, Traffic), seen
    return seen


async def counted(world: World) -> ClusterTraffic:
    """Envoy counts an answer in the moment it passes it on: the client may have it first."""
    await asyncio.sleep(0.02)
    return (await reading(world)).clusters[ROUTE.cluster]


async def ask(world: World, path: str, count: int = 1, method: str = "GET") -> Counter[int]:
    seen = Counter[int]()
    for number in range(count):
        url = world.url(path.replace("{}", str(number)))
        async with world.session.request(method, url, headers={"Host": "shop"}) as answer:
            seen[answer.status] += 1
    return seen


def took(seen: ClusterTraffic) -> int:
    return seen.latency[-1][1] if seen.latency else 0


async def test_each_answer_of_an_instance_counts_once_and_those_of_5xx_as_failures(world: World) -> None:
    await one(world, replace(ROUTE, probe=PROBE))
    for status, count in ((200, 7), (201, 2), (404, 5), (500, 3), (503, 2)):
        assert await ask(world, f"/status/{status}", count) == {status: count}
        await ask(world, f"/status/{status}", count, "POST")
    await asyncio.sleep(0.3)
    seen = await counted(world)
    assert (seen.requests, seen.failures, seen.active) == (38, 10, 0), "health checks are not requests"
    assert took(seen) == 38


async def test_a_request_that_was_repeated_counts_once_by_its_last_answer(world: World) -> None:
    await one(world)
    assert await ask(world, "/drop?n=2&k={}", 5) == {200: 5}
    retries = await world.counters("^cluster.ns/s_1.upstream_rq_(retry|total)$")
    assert retries == {"cluster.ns/s_1.upstream_rq_retry": 10, "cluster.ns/s_1.upstream_rq_total": 15}
    seen = await counted(world)
    assert (seen.requests, seen.failures, took(seen)) == (5, 0, 5)


async def test_a_request_that_was_repeated_in_vain_is_one_failure(world: World) -> None:
    await one(world)
    assert await ask(world, "/drop?n=9&k={}", 4) == {503: 4}
    assert await ask(world, "/drop?n=1&post={}", 3, "POST") == {503: 3}
    seen = await counted(world)
    assert (seen.requests, seen.failures) == (7, 7)


async def test_what_envoy_itself_answers_for_the_cluster_is_a_failure(world: World) -> None:
    await world.route("s/route", ROUTE)
    assert await ask(world, "/", 3) == {503: 3}, "no instance"
    assert (await counted(world)).failures == 3
    await one(world)
    assert await ask(world, "/slow?s=2", 2) == {504: 2}, "timeout"
    assert (await counted(world)).failures == 5
    world.kill("a")
    assert await ask(world, "/", 4) == {503: 4}, "connection refused"
    seen = await counted(world)
    assert (seen.requests, seen.failures) == (9, 9)
    assert took(seen) == 0, "no instance answered"


class _Grpc(grpc.GenericRpcHandler):
    """/x/Say answers with the status that it is sent, /x/Tell too, after a first message; -1 is too late."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        if details.method == "/x/Say":
            return grpc.unary_unary_rpc_method_handler(self._say)
        return grpc.unary_stream_rpc_method_handler(self._tell)

    async def _say(self, request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        if int(request) < 0:
            await asyncio.sleep(2)
        await _end(context, int(request))
        return b"ok"

    async def _tell(self, request: bytes, context: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        yield b"first"
        await _end(context, int(request))


async def _end(context: aio.ServicerContext[bytes, bytes], status: int) -> None:
    if status:
        await context.abort(next(code for code in grpc.StatusCode if code.value[0] == status), "as you wished")


async def _call(channel: aio.Channel, method: str, status: int) -> int:
    try:
        if method == "Say":
            await channel.unary_unary("/x/Say")(str(status).encode(), timeout=5)
        else:
            assert [part async for part in channel.unary_stream("/x/Tell")(str(status).encode(), timeout=5)] == [
                b"first"
            ]
    except aio.AioRpcError as error:
        return int(error.code().value[0])
    return 0


async def test_a_grpc_call_fails_by_its_status_if_that_is_not_the_callers_fault(world: World) -> None:
    server, port = aio.server(), free_port()
    server.add_generic_rpc_handlers((_Grpc(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await world.route("s/route", replace(ROUTE, http2=True))
    await world.endpoint("a/endpoint", ROUTE.cluster, port)
    async with aio.insecure_channel(f"127.0.0.1:{world.port}", [("grpc.default_authority", "shop")]) as channel:
        for method in ("Say", "Tell"):
            assert [await _call(channel, method, status) for status in range(17)] == list(range(17))
        seen = await counted(world)
        assert (seen.requests, seen.failures) == (34, 12), "2, 4, 12, 13, 14 and 15, each twice"
        assert await _call(channel, "Say", -1) == 14, "timeout of the route"
        await server.stop(0)
        assert await _call(channel, "Say", 0) == 14, "connection refused"
    seen = await counted(world)
    assert (seen.requests, seen.failures) == (36, 14)


async def test_a_request_is_active_until_it_is_answered(world: World) -> None:
    await one(world, replace(ROUTE, timeout_seconds=0))
    requests = [asyncio.create_task(ask(world, "/slow?s=0.6")) for _ in range(3)]
    await asyncio.sleep(0.3)
    seen = await counted(world)
    assert (seen.requests, seen.active) == (0, 3)
    await asyncio.gather(*requests)
    seen = await counted(world)
    assert (seen.requests, seen.active) == (3, 0)


async def test_what_is_not_counted_as_a_failure(world: World) -> None:
    """An answer that breaks off counts by its status, and a client that goes away before the answer not at all."""
    await one(world)
    with pytest.raises(aiohttp.ClientPayloadError):
        await world.get("/cut")
    seen = await counted(world)
    assert (seen.requests, seen.failures) == (1, 0)
    with pytest.raises(TimeoutError):
        await world.get("/slow?s=0.4", timeout=aiohttp.ClientTimeout(total=0.1))
    await asyncio.sleep(0.6)
    assert (await counted(world)).requests == 1


async def test_latency_is_counted_below_its_true_bounds(world: World) -> None:
    await one(world, replace(ROUTE, timeout_seconds=5))
    assert (await reading(world)).clusters == {}, "none before the first answer"
    await ask(world, "/")
    times = (0.0, 0.015, 0.04, 0.105, 0.31)
    for seconds in times:
        before = dict((await counted(world)).latency)
        start = SystemClock().monotonic()
        await ask(world, f"/slow?s={seconds}")
        client = SystemClock().monotonic() - start
        new = [bound for bound, count in (await counted(world)).latency if count > before[bound]]
        bounds = [0.0, *before]
        assert new == list(before)[list(before).index(new[0]) :], "cumulative"
        # It took longer than the bound below (what it slept), and less than this one (what the client saw).
        assert seconds <= new[0]
        assert bounds[bounds.index(new[0]) - 1] <= client
    assert [bound for bound, _ in (await counted(world)).latency] == [ms / 1000 for ms in latency.BOUNDS_MS]


def test_the_bounds_of_an_envoy_that_was_configured_by_an_older_version_are_true_too() -> None:
    defaults = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 3_600_000]
    true = [latency.seconds(bound) for bound in defaults]
    assert true[:7] == [0.001, 0.002, 0.006, 0.011, 0.026, 0.051, 0.11]
    assert true == sorted(set(true))
    assert [latency.seconds(bound) for bound in latency.envoy_bounds()] == [ms / 1000 for ms in latency.BOUNDS_MS]


async def test_each_side_is_counted_by_itself_and_only_what_is_asked_for(world: World) -> None:
    split = Split(cluster="ns/s:2", weight=0)
    await one(world, replace(ROUTE, split=split))
    await world.endpoint("b/endpoint", "ns/s:2", await world.start_backend("b"))
    await world.route("o/route", RouteWant(cluster="ns/s", hosts=("other",)))
    await ask(world, "/", 5)
    await world.route("s/route", replace(ROUTE, split=replace(split, weight=10_000)))
    await asyncio.sleep(0.02)
    await ask(world, "/status/500", 3)
    await world.get(host="other")
    seen = await reading(world, "ns/s:1", "ns/s:2", "never/there")
    assert {name: (one.requests, one.failures) for name, one in seen.clusters.items()} == {
        "ns/s:1": (5, 0),
        "ns/s:2": (3, 3),
    }
    assert abs(seen.at - SystemClock().now()) < 5


async def test_those_who_ask_at_once_share_a_reading_and_each_gets_his_own(world: World) -> None:
    names = [f"c{number}" for number in range(45)]
    for name in names:
        await world.provider.ensure(ResourceKey(f"{name}/route"), RouteWant(cluster=name, hosts=(name,)))
    for name in names:
        await world.acknowledged(f"{name}/route")
    await world.get(host="c7")
    seen = await asyncio.gather(*(world.provider.traffic.read([name, "c7"]) for name in names))
    assert [set(one.clusters) for one in seen if isinstance(one, Traffic)] == [{"c7"}] * 45
    assert len({one.at for one in seen if isinstance(one, Traffic)}) == 1
    for name in names:
        await world.get(host=name)
    seen = await asyncio.gather(*(world.provider.traffic.read([name]) for name in names))
    assert [one.clusters for one in seen if isinstance(one, Traffic)] == [
        {name: ClusterTraffic(1 + (name == "c7"), 1 + (name == "c7"))} for name in names
    ]


async def test_no_reading_is_given_to_somebody_who_asked_after_it_began(world: World) -> None:
    await one(world)
    first = asyncio.create_task(world.provider.traffic.read([ROUTE.cluster]))
    await asyncio.sleep(0.005)
    await ask(world, "/", 5)
    second = await world.provider.traffic.read([ROUTE.cluster])
    assert isinstance(second, Traffic) and second.clusters[ROUTE.cluster].requests == 5
    before = await first
    assert isinstance(before, Traffic) and before.at < second.at


@pytest.mark.parametrize("name", ["plain", "a.b/c", "ns/x:9", "http://x", "a|b", "a(b", "a+b", "a\\b", "ä"])
async def test_any_name_of_a_cluster_is_found_and_nobody_elses(world: World, name: str) -> None:
    await world.route("x/route", RouteWant(cluster=name, hosts=("x",)))
    await world.route("y/route", RouteWant(cluster=f"{name}y", hosts=("y",)))
    await world.get(host="x")
    assert {key: one.requests for key, one in (await reading(world, name)).clusters.items()} == {name: 1}


async def test_the_epoch_is_the_same_until_envoy_is_another_process(world: World) -> None:
    await one(world)
    await ask(world, "/", 3)
    first, again = await reading(world), await reading(world)
    assert first.epoch == again.epoch
    world.envoys[0].send_signal(signal.SIGKILL)
    world.envoys[0].wait()
    assert isinstance(await world.provider.traffic.read([ROUTE.cluster]), Unknown)

    async def is_alone() -> bool:
        return world.provider.connected_envoys == 0

    await until(is_alone, "the loss is noticed")
    world.start_envoy()
    await world.acknowledged("s/route")
    after = await reading(world)
    assert after.epoch != first.epoch
    assert after.clusters == {}, "nothing was counted yet"


async def test_a_restarted_control_plane_finds_the_same_epoch_and_the_same_counters(world: World) -> None:
    await one(world)
    await ask(world, "/", 3)
    before = await counted(world), (await reading(world)).epoch
    await world.provider.stop()
    await ask(world, "/", 4)
    world.provider = world.new_provider()
    world.provider.restore([(ResourceKey("s/route"), ROUTE)])
    await world.provider.start()
    await world.serving()
    after = await counted(world), (await reading(world)).epoch
    assert after[1] == before[1]
    assert after[0].requests == before[0].requests + 4


async def test_while_an_envoy_is_replaced_nothing_is_known_then_the_epoch_is_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "DRAIN_SECONDS", 1)
    monkeypatch.setattr(bootstrap, "PARENT_SHUTDOWN_SECONDS", 2)
    await one(world)
    await ask(world, "/", 3)
    before = await reading(world)
    world.start_envoy(epoch=1)

    async def are_two() -> bool:
        return world.provider.connected_envoys == 2

    await until(are_two, "both are connected")
    seen = await world.provider.traffic.read([ROUTE.cluster])
    assert isinstance(seen, Unknown) and "replaced" in seen.why

    async def is_one() -> bool:
        return world.provider.connected_envoys == 1

    await until(is_one, "the old one is gone")
    seen = await world.provider.traffic.read([ROUTE.cluster])
    assert isinstance(seen, Unknown) and "just replaced" in seen.why

    async def is_known() -> bool:
        return isinstance(await world.provider.traffic.read([ROUTE.cluster]), Traffic)

    await until(is_known, "the counters are known again")
    assert (await reading(world)).epoch != before.epoch


async def test_asking_for_counters_does_not_harm_an_envoy_whose_predecessor_was_killed(world: World) -> None:
    """Asked too early it would wait for the dead one's counters, and end ten seconds later."""
    await one(world)
    successor = world.start_envoy(epoch=1)

    async def are_two() -> bool:
        return world.provider.connected_envoys == 2

    await until(are_two, "both are connected")
    await asyncio.sleep(1)  # it has the listener by now; a death before that is its end whatever we do
    world.envoys[0].kill()
    world.envoys[0].wait()

    async def is_one() -> bool:
        return world.provider.connected_envoys == 1

    await until(is_one, "the loss is noticed")
    for _ in range(20):
        assert isinstance(await world.provider.traffic.read([ROUTE.cluster]), Unknown)
    assert await world.provider.admin.is_ready(), "its main thread answers"
    assert successor.poll() is None
    assert await ask(world, "/") == {200: 1}


async def test_without_envoy_nothing_is_known(bare_world: World) -> None:
    await bare_world.provider.start()
    assert isinstance(await bare_world.provider.traffic.read(["s"]), Unknown)


async def test_an_envoy_that_stands_still_is_unknown_in_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "CALL_TIMEOUT_SECONDS", 0.3)
    world.envoys[0].send_signal(signal.SIGSTOP)
    try:
        seen = await asyncio.wait_for(world.provider.traffic.read(["s"]), 1)
    finally:
        world.envoys[0].send_signal(signal.SIGCONT)
    assert isinstance(seen, Unknown) and "within 0.3 s" in seen.why


GARBAGE = {
    "not json": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnope",
    "not http": b"hello\r\n\r\n",
    "error": b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}",
    "cut": b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{",
    "closed": b"",
    "endless": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n" + b"x" * (traffic.BODY_BYTES_MAX + 1),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_makes_no_sense_is_unknown(tmp_path: Path, answer: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    path = tmp_path / "admin.sock"
    async with await asyncio.start_unix_server(say, path):
        assert isinstance(await EnvoyTraffic(path, SystemClock(), lambda: 1).read(["s"]), Unknown)
    assert isinstance(await EnvoyTraffic(tmp_path / "nobody", SystemClock(), lambda: 1).read(["s"]), Unknown)


async def test_the_epoch_names_the_process_and_its_start(tmp_path: Path) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{"stats":[]}')

    path = tmp_path / "admin.sock"
    async with await asyncio.start_unix_server(say, path):
        seen = await EnvoyTraffic(path, SystemClock(), lambda: 1).read(["s"])
    assert isinstance(seen, Traffic)
    boot, pid, started = seen.epoch.split(".")
    assert (len(boot), int(pid)) == (8, os.getpid())
    assert int(started) > 0
    assert seen.clusters == {}


def test_a_name_is_written_as_envoy_writes_it() -> None:
    assert [stat_name(name) for name in ("a:b", "http://a:1", "a/b.c")] == ["a_b", "http_a_1", "a/b.c"]
