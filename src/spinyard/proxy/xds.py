"""The delta ADS server: a gRPC service on a unix socket, around the pure `Stream`.

What one Envoy must confirm is decided in xds_stream; here several Envoys (two during a hot restart) become one answer:
confirmed means confirmed by every one that is connected, and none connected means that nothing is known. A stream that
breaks takes what it confirmed with it; Envoy itself keeps serving what it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc import aio

from spinyard.ports.clock import Clock
from spinyard.proxy import proto
from spinyard.proxy.xds_stream import Catalogue, Change, Confirmed, Request, Stream, Update

_log = structlog.get_logger(__name__)

METHOD_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
METHOD = "DeltaAggregatedResources"
REQUEST = "envoy.service.discovery.v3.DeltaDiscoveryRequest"
RESPONSE = "envoy.service.discovery.v3.DeltaDiscoveryResponse"
MESSAGE_BYTES_MAX = 16 << 20
STREAMS_MAX = 4

News = Callable[[set[tuple[str, str]]], None]


class _Connection:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.wake = asyncio.Event()
        self.ending = False


class XdsServer:
    """`node_cluster`: what an Envoy of ours calls itself; others are refused. `on_news` is told the (kind, name)s whose
    confirmation moved, and an empty set when an Envoy came or went."""

    def __init__(self, socket: Path, node_cluster: str, clock: Clock, first_version: int, on_news: News) -> None:
        self.catalogue = Catalogue(first_version)
        self._socket = socket
        self._node_cluster = node_cluster
        self._clock = clock
        self._on_news = on_news
        self._connections: dict[str, _Connection] = {}
        self._server: aio.Server | None = None

    async def start(self) -> None:
        server = aio.server(
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                # Envoy pings every 5 s on a quiet stream, to notice a server that stands still. By default gRPC takes
                # that for abuse and ends the connection after the fourth.
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ]
        )
        handler: Any = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=proto.message_class(REQUEST).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD_SERVICE, {METHOD: handler}),))
        server.add_insecure_port(f"unix:{self._socket}")
        await server.start()
        os.chmod(self._socket, 0o600)
        self._server = server

    async def stop(self) -> None:
        for connection in self._connections.values():
            connection.ending = True
            connection.wake.set()
        if self._server is not None:
            await self._server.stop(0.5)
            self._server = None

    # -- asked by the provider -------------------------------------------------------------------------------------

    @property
    def connected(self) -> int:
        return len(self._connections)

    def publish(self, changes: Iterable[Change], *, again: bool = False) -> None:
        real = self.catalogue.publish(changes, again=again)
        for connection in self._connections.values() if real else ():
            connection.stream.changed(real)
            connection.wake.set()

    def confirmed(self, kind: str, name: str) -> Confirmed | None:
        """The lowest version every connected Envoy has, and when the last of them said so."""
        seen = [connection.stream.confirmed(kind, name) for connection in self._connections.values()]
        known = [confirmed for confirmed in seen if confirmed is not None]
        if not known or len(known) < len(seen):
            return None
        lowest = min(known, key=lambda confirmed: confirmed.version)
        return Confirmed(lowest.version, lowest.digest, max(confirmed.at for confirmed in known))

    def refusal(self, kind: str, name: str) -> str:
        texts = (connection.stream.refusal(kind, name) for connection in self._connections.values())
        return next((text for text in texts if text), "")

    def holds(self, kind: str, name: str) -> bool:
        return any(connection.stream.holds(kind, name) for connection in self._connections.values())

    def is_settled(self, version: int) -> bool:
        streams = [connection.stream for connection in self._connections.values()]
        return bool(streams) and all(stream.is_settled(version) for stream in streams)

    # -- one stream ------------------------------------------------------------------------------------------------

    async def _serve(self, requests: AsyncIterator[Any], context: aio.ServicerContext[Any, Any]) -> None:
        first = await anext(requests, None)
        if first is None:
            return
        node = await self._admit(first.node, context)
        connection = _Connection(Stream(self.catalogue, node))
        older = self._connections.pop(node, None)
        if older is not None:
            older.ending = True
            older.wake.set()
        self._connections[node] = connection
        self._receive(connection, first)
        reader = asyncio.ensure_future(self._read(requests, connection))
        reader.add_done_callback(lambda _: connection.wake.set())
        _log.info("envoy_connected", node=node, envoys=len(self._connections))
        self._on_news(set())
        try:
            while not reader.done() and not connection.ending:
                connection.wake.clear()
                for update in connection.stream.take():
                    await context.write(_response(update))
                await connection.wake.wait()
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, aio.AioRpcError, grpc.RpcError):
                await reader
            if self._connections.get(node) is connection:
                del self._connections[node]
            _log.info("envoy_disconnected", node=node, envoys=len(self._connections))
            self._on_news(set())

    async def _admit(self, node: Any, context: aio.ServicerContext[Any, Any]) -> str:
        if node.cluster != self._node_cluster or not node.id:
            _log.warning("envoy_refused", node=node.id[:80], cluster=node.cluster[:80])
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not an Envoy of this installation")
        if node.id not in self._connections and len(self._connections) >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{STREAMS_MAX} Envoys are connected already")
        return str(node.id)

    async def _read(self, requests: AsyncIterator[Any], connection: _Connection) -> None:
        async for message in requests:
            self._receive(connection, message)

    def _receive(self, connection: _Connection, message: Any) -> None:
        request = _request(message)
        if request.error:
            _log.warning("envoy_rejected", kind=request.kind, why=request.error[:500])
        connection.stream.receive(request, self._clock.monotonic())
        connection.wake.set()
        news, connection.stream.news = set(connection.stream.news), []
        if news:
            self._on_news(news)


def _request(message: Any) -> Request:
    error = _useful(message.error_detail.message) if message.HasField("error_detail") else ""
    return Request(
        kind=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=tuple(sorted(message.initial_resource_versions.items())),
        nonce=message.response_nonce,
        error=error,
    )


def _response(update: Update) -> Any:
    message = proto.message_class(RESPONSE)()
    message.type_url = update.kind
    message.nonce = update.nonce
    message.system_version_info = str(update.version)
    message.removed_resources.extend(update.removed)
    for resource in update.resources:
        entry = message.resources.add()
        entry.name = resource.name
        entry.version = resource.version_text
        entry.resource.type_url = update.kind
        entry.resource.value = resource.body
    return message


def _useful(text: str) -> str:
    """Protobuf prefixes its texts with lines that only point to its own documentation."""
    lines = [line.strip() for line in text.splitlines()]
    return " ".join(line for line in lines if line and "goo.gle/" not in line) or "rejected without a text"
