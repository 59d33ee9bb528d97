"""HTTP/2, gRPC, WebSocket, server-sent events and TLS pass through a real Envoy, and drain."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
from grpc import aio

from spinyard.core.spec import Grpc, HttpGet, Probe
from spinyard.core.want import EndpointState, RouteWant
from tests.proxy.world import World, free_port

pytestmark = pytest.mark.anyio

ROUTE = RouteWant(cluster="s", hosts=("shop",), probe=Probe(http_get=HttpGet(path="/health"), period_seconds=0.5))


async def test_a_websocket_passes_and_keeps_its_draining_instance_busy(world: World) -> None:
    port = await world.start_backend("a")
    await world.route("s/route", ROUTE)
    await world.endpoint("a/endpoint", "s", port)
    async with world.session.ws_connect(world.url("/ws"), headers={"Host": "shop"}) as ws:
        await ws.send_str("hello")
        assert (await ws.receive_str(timeout=5)) == "hello"
        await world.endpoint("a/endpoint", "s", port, EndpointState.DRAINING)
        await asyncio.sleep(0.2)
        facts = await world.facts("a/endpoint")
        assert getattr(facts, "active_requests", None) == 1
        await ws.send_str("still here")
        assert (await ws.receive_str(timeout=5)) == "still here"
    await world.idle("a/endpoint")


async def test_server_sent_events_arrive_one_by_one(world: World) -> None:
    port = await world.start_backend("a")
    await world.route("s/route", ROUTE)
    await world.endpoint("a/endpoint", "s", port)
    loop = asyncio.get_running_loop()
    arrived: list[float] = []
    async with world.session.get(world.url("/sse?n=5&s=0.1"), headers={"Host": "shop"}) as answer:
        async for line in answer.content:
            if line.startswith(b"data:"):
                arrived.append(loop.time())
    assert len(arrived) == 5
    assert arrived[-1] - arrived[0] > 0.3


class _Chat(grpc.GenericRpcHandler):
    """Echoes bytes: unary, and a stream both ways; and says that it serves, as grpc.health.v1."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self._health)
        if details.method == "/chat.Chat/Say":
            return grpc.unary_unary_rpc_method_handler(self._say)
        if details.method == "/chat.Chat/Talk":
            return grpc.stream_stream_rpc_method_handler(self._talk)
        return None

    async def _health(self, request: bytes, context: object) -> bytes:
        return b"\x08\x01"

    async def _say(self, request: bytes, context: object) -> bytes:
        return request

    async def _talk(self, requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


@pytest.mark.parametrize("probe", [None, Probe(grpc=Grpc(), period_seconds=0.2)], ids=["no probe", "grpc probe"])
async def test_grpc_passes_both_ways_and_drains(world: World, probe: Probe | None) -> None:
    port = free_port()
    server = aio.server()
    server.add_generic_rpc_handlers((_Chat(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await world.route("s/route", RouteWant(cluster="s", hosts=("chat",), http2=True, probe=probe))
    await world.endpoint("a/endpoint", "s", port)
    async with aio.insecure_channel(f"127.0.0.1:{world.port}", [("grpc.default_authority", "chat")]) as channel:
        assert await channel.unary_unary("/chat.Chat/Say")(b"hi", timeout=5) == b"hi"
        call = channel.stream_stream("/chat.Chat/Talk")(timeout=20)
        await call.write(b"one")
        assert await call.read() == b"one"
        await world.endpoint("a/endpoint", "s", port, EndpointState.DRAINING)
        await asyncio.sleep(0.1)
        assert getattr(await world.facts("a/endpoint"), "active_requests", None) == 1
        await call.write(b"two")
        assert await call.read() == b"two"
        await call.done_writing()
        await world.idle("a/endpoint")
        with pytest.raises(aio.AioRpcError) as caught:
            await channel.unary_unary("/chat.Chat/Say")(b"hi", timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await server.stop(0)


TLS = Path(__file__).parent / "tls"
"""a certificate for `shop`, signed by itself, for a hundred years"""


@pytest.fixture
async def tls_world() -> AsyncIterator[World]:
    world = World(certificate=str(TLS / "crt.pem"), key=str(TLS / "key.pem"))
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


async def test_the_gateway_speaks_tls_with_the_given_files(tls_world: World) -> None:
    world = tls_world
    await world.route("s/route", ROUTE)
    await world.endpoint("a/endpoint", "s", await world.start_backend("a"))
    trust = ssl.create_default_context(cafile=world.gateway.certificate_file)
    url = f"https://127.0.0.1:{world.port}/"
    async with world.session.get(url, headers={"Host": "shop"}, ssl=trust, server_hostname="shop") as answer:
        assert (answer.status, await answer.text()) == (200, "a")
    with pytest.raises(aiohttp.ClientError):
        await world.get()


async def test_missing_tls_files_are_the_reason_a_route_is_not_acknowledged() -> None:
    world = World(certificate="/nowhere/crt.pem", key="/nowhere/key.pem")
    try:
        await world.provider.start()
        world.start_envoy()
        await world.rejected("s/route", RouteWant(cluster="s", hosts=("shop",)), "/nowhere/key.pem")
    finally:
        await world.stop()
