"""The receiver as it listens: over HTTP, on the socket in the home and on loopback, whatever is sent."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import stat
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spinyard.api.otlp import OtlpApp, OtlpDeps, OtlpLimits, unpacked
from spinyard.clock import SystemClock
from spinyard.errors import InvalidInput, SystemFailure, TooLarge
from spinyard.settings import Settings
from spinyard.telemetry.receive import JSON, PROTOBUF, Receiver, answer, refusal
from spinyard.wiring.traces import Traces, open_traces
from tests.telemetry.exports import TRACE, as_json, as_protobuf, export, identity, json_span

ONE = export(json_span())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "run").mkdir()
    return Settings(tmp_path)


Open = Callable[[Settings], Awaitable[Traces]]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    stopping = asyncio.Event()
    running: list[tuple[Traces, asyncio.Task[None]]] = []

    async def open_(settings: Settings, limits: OtlpLimits | None = None) -> Traces:
        traces = open_traces(settings, SystemClock())
        if limits is not None:
            deps = OtlpDeps(Receiver(traces.store), answer, refusal, SystemClock(), limits)
            traces = replace(traces, app=OtlpApp(deps))
        running.append((traces, asyncio.create_task(traces.serve(stopping))))
        return traces

    yield open_
    stopping.set()
    for traces, task in running:
        await task
        traces.close()


async def post(
    traces: Traces, body: Any, media_type: str = JSON, path: str = "/v1/traces", method: str = "POST", **headers: str
) -> tuple[int, bytes, Any]:
    sent = {"content-type": media_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, traces.address + path, data=body, headers=sent) as response,
    ):
        return response.status, await response.read(), response.headers


async def test_both_encodings_are_taken_also_compressed(settings: Settings, opened: Open) -> None:
    traces = await opened(settings)
    second = as_protobuf(export(json_span(spanId=identity(5))))
    assert (await post(traces, as_json(ONE)))[:2] == (200, b"{}")
    assert (await post(traces, gzip.compress(second), PROTOBUF, content_encoding="gzip"))[:2] == (200, b"")
    assert [span.span_id for span in traces.store.find(TRACE)] == [identity(1), identity(5)]


async def test_envoys_socket_is_the_owners_alone_and_takes_the_same(settings: Settings, opened: Open) -> None:
    traces = await opened(settings)
    assert stat.S_IMODE(settings.otlp_socket.stat().st_mode) == 0o600
    connector = aiohttp.UnixConnector(str(settings.otlp_socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://spinyard-otlp/v1/traces", data=as_json(ONE), headers={"content-type": JSON}) as response,
    ):
        assert response.status == 200
    assert len(traces.store) == 1


async def test_a_part_that_is_rejected_is_said_as_the_protocol_wants(settings: Settings, opened: Open) -> None:
    traces = await opened(settings)
    body = as_protobuf(export(json_span(), json_span(traceId="00" * 16)))
    status, text, headers = await post(traces, body, PROTOBUF)
    assert status == 200 and headers["content-type"] == PROTOBUF
    assert ExportTraceServiceResponse.FromString(text).partial_success.rejected_spans == 1


REFUSED = [
    pytest.param({"body": b"nonsense"}, 400, id="broken JSON"),
    pytest.param({"body": b"nonsense", "media_type": PROTOBUF}, 400, id="broken protobuf"),
    pytest.param({"body": b"[" * 100_000}, 400, id="deep"),
    pytest.param({"body": b"x" * (3 << 20)}, 413, id="large"),
    pytest.param({"body": b"x", "content_encoding": "gzip"}, 400, id="broken gzip"),
    pytest.param({"body": gzip.compress(as_json(ONE))[:-12], "content_encoding": "gzip"}, 400, id="half of a gzip"),
    pytest.param({"body": gzip.compress(b" " * (50 << 20)), "content_encoding": "gzip"}, 413, id="bomb"),
    pytest.param({"body": b"x", "content_encoding": "br"}, 415, id="another encoding"),
    pytest.param({"body": as_json(ONE), "media_type": "text/plain"}, 415, id="what a web page can send"),
    pytest.param({"body": as_json(ONE), "media_type": ""}, 415, id="no media type"),
    pytest.param({"body": as_json(ONE), "host": "evil.example"}, 421, id="another host name"),
    pytest.param({"body": as_json(ONE), "path": "/v1/metrics"}, 404, id="metrics"),
    pytest.param({"body": None, "method": "GET"}, 405, id="reading"),
]


@pytest.mark.parametrize(("request_", "expected"), REFUSED)
async def test_what_cannot_be_taken_is_refused_with_a_status(
    request_: dict[str, Any], expected: int, settings: Settings, opened: Open
) -> None:
    traces = await opened(settings)
    status, text, _ = await post(traces, **request_)
    assert status == expected
    if request_.get("media_type", JSON) == JSON:
        assert b'"message"' in text and b'"code":3' in text
    else:
        found = Status.FromString(text)
        assert found.code == 3 and found.message
    assert len(traces.store) == 0 and traces.app.refused == 1
    assert (await post(traces, as_json(ONE)))[0] == 200


async def test_a_body_that_does_not_come_is_not_waited_for(settings: Settings, opened: Any) -> None:
    traces = await opened(settings, OtlpLimits(body_seconds=0.2))
    host, port = traces.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: 100\r\n\r\n{")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_an_endless_body_is_read_to_the_limit_only(settings: Settings, opened: Any) -> None:
    traces = await opened(settings, OtlpLimits(body_bytes_max=100_000))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 10_000

    # The answer comes, and the connection is closed, while we are still sending.
    with contextlib.suppress(aiohttp.ClientError):
        assert (await post(traces, endless()))[0] == 413
    assert traces.app.refused == 1


async def test_more_than_can_be_read_is_to_be_sent_later(settings: Settings, opened: Any) -> None:
    body = as_json(ONE)
    traces = await opened(settings, OtlpLimits(bytes_per_second=1, burst_bytes_max=len(body) * 2.5))
    answers = [await post(traces, body) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][2]["retry-after"] == "1" and b'"code":14' in answers[2][1]


async def test_the_real_exporter_of_opentelemetry_is_understood(settings: Settings, opened: Open) -> None:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    traces = await opened(settings)
    exporter = OTLPSpanExporter(endpoint=f"{traces.address}/v1/traces", compression=Compression.Gzip)
    provider = TracerProvider(resource=Resource.create({"service.name": "theirs"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    def work() -> str:
        tracer = provider.get_tracer("x")
        about = {"tags": ["a", "b"], "n": 1}
        with tracer.start_as_current_span("outer", attributes=about) as outer, tracer.start_as_current_span("inner"):
            pass
        return f"{outer.get_span_context().trace_id:032x}"

    outer, inner = traces.store.find(await asyncio.to_thread(work))
    assert (outer.name, outer.service, outer.attributes["tags"]) == ("outer", "theirs", "[a, b]")
    assert inner.parent_id == outer.span_id


async def test_the_port_is_the_same_after_a_restart(settings: Settings) -> None:
    first = open_traces(settings, SystemClock())
    first.close()
    second = open_traces(settings, SystemClock())
    try:
        assert second.address == first.address
        # Somebody else has it: instances of before are told nothing, new ones get another.
        third = open_traces(settings, SystemClock())
        third.close()
        assert third.address not in ("", first.address)
    finally:
        second.close()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:4318", "localhost:4318", "[::]:0"])
def test_only_loopback_takes_spans(address: str, settings: Settings) -> None:
    with pytest.raises(SystemFailure) as raised:
        open_traces(replace(settings, otlp=address), SystemClock())
    assert (raised.value.code, raised.value.fault) == ("otlp_not_loopback", "user")


def test_instances_need_not_be_offered_anything(settings: Settings) -> None:
    traces = open_traces(replace(settings, otlp=""), SystemClock())
    traces.close()
    assert traces.address == "" and len(traces.listeners) == 1


def test_a_taken_port_is_said(settings: Settings, tmp_path: Path) -> None:
    first = open_traces(settings, SystemClock())
    try:
        with pytest.raises(SystemFailure) as raised:
            open_traces(replace(settings, otlp=first.address.removeprefix("http://")), SystemClock())
        assert raised.value.code == "otlp_port_taken"
    finally:
        first.close()


def test_gzip_is_unpacked_to_the_limit_and_no_further() -> None:
    assert unpacked(gzip.compress(b"x" * 1000), 1000) == b"x" * 1000
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(b"x" * 1001), 1000)
    with pytest.raises(InvalidInput):
        unpacked(zlib.compress(b"x"), 1000)
