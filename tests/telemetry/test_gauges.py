"""Figures from a Prometheus HTTP API. The server here is a stand-in that answers as its documentation says: the real
one is not among the wheels of this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from spinyard.clock import SystemClock
from spinyard.core.observed import GaugeSample, LookGauge, LookJoin, Unknown
from spinyard.telemetry.gauges import PrometheusGauges

pytestmark = pytest.mark.anyio


class Prometheus:
    def __init__(self) -> None:
        self.body, self.status, self.asked = b"", 200, list[str]()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.query["query"])
        return web.Response(body=self.body, status=self.status, content_type="application/json")

    def says(self, kind: str, result: object, status: str = "success") -> None:
        self.body = json.dumps({"status": status, "data": {"resultType": kind, "result": result}}).encode()


@pytest.fixture
async def prometheus() -> AsyncIterator[Prometheus]:
    one = Prometheus()
    app = web.Application()
    app.router.add_get("/api/v1/query", one.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture
async def gauges() -> AsyncIterator[PrometheusGauges]:
    one = PrometheusGauges(SystemClock())
    yield one
    await one.close()


async def test_one_sample_is_the_answer(prometheus: Prometheus, gauges: PrometheusGauges) -> None:
    prometheus.says("vector", [{"metric": {"a": "b"}, "value": [1700000000.5, "41.5"]}])
    assert await gauges.read(LookGauge(prometheus.url, 'max(x{a="b"})')) == GaugeSample(41.5, 1700000000.5)
    assert prometheus.asked == ['max(x{a="b"})']
    prometheus.says("scalar", [1700000001, "+Inf"])
    assert await gauges.read(LookGauge(prometheus.url, "scalar(x)")) == GaugeSample(float("inf"), 1700000001)


@pytest.mark.parametrize(
    ("kind", "result", "why"),
    [
        pytest.param("vector", [], "no sample", id="empty"),
        pytest.param("vector", [{"value": [1, "1"]}, {"value": [1, "2"]}], "2 samples", id="two"),
        pytest.param("vector", [{"value": [1, "NaN"]}], "NaN", id="not a number"),
        pytest.param("vector", [{"value": [1, "x"]}], "no number", id="a word"),
        pytest.param("matrix", [], "a matrix", id="a range"),
    ],
)
async def test_what_is_no_figure_is_unknown(
    prometheus: Prometheus, gauges: PrometheusGauges, kind: str, result: object, why: str
) -> None:
    prometheus.says(kind, result)
    answer = await gauges.read(LookGauge(prometheus.url, "x"))
    assert isinstance(answer, Unknown)
    assert why in answer.why


async def test_errors_strangers_and_silence_are_unknown(prometheus: Prometheus, gauges: PrometheusGauges) -> None:
    prometheus.status, prometheus.body = (
        400,
        b'{"status":"error","errorType":"bad_data","error":"parse error at char 3"}',
    )
    bad = await gauges.read(LookGauge(prometheus.url, "x("))
    assert isinstance(bad, Unknown)
    assert "parse error" in bad.why
    prometheus.status, prometheus.body = 200, b"<html>"
    strange = await gauges.read(LookGauge(prometheus.url, "y"))
    assert isinstance(strange, Unknown)
    assert "Prometheus" in strange.why
    away = await gauges.read(LookGauge("http://127.0.0.1:1", "x"))
    assert isinstance(away, Unknown)
    assert isinstance(await gauges.read(LookJoin("x", 0.0)), Unknown)


async def test_a_figure_is_asked_for_once_in_a_moment(prometheus: Prometheus, gauges: PrometheusGauges) -> None:
    prometheus.says("scalar", [1, "1"])
    for _ in range(5):
        await gauges.read(LookGauge(prometheus.url, "x"))
    assert len(prometheus.asked) == 1


async def test_an_answer_that_comes_in_parts_is_read_to_its_end_and_no_further_than_is_allowed(
    gauges: PrometheusGauges, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()
    whole = b'{"status":"success","data":{"resultType":"scalar","result":[1,"7"]}}'

    async def in_parts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(whole) + whole[:40])
        await writer.drain()
        asked.set()
        await released.wait()
        writer.write(whole[40:])
        writer.close()

    released = asyncio.Event()
    server = await asyncio.start_server(in_parts, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        reading = asyncio.ensure_future(gauges.read(LookGauge(url, "x")))
        await asked.wait()
        for _ in range(20):
            await asyncio.sleep(0)  # the first part is on its way through the loop
        released.set()
        assert await reading == GaugeSample(7.0, 1.0)
        monkeypatch.setattr("spinyard.telemetry.gauges.BODY_BYTES_MAX", len(whole) - 1)
        too_long = await gauges.read(LookGauge(url, "y"))
        assert isinstance(too_long, Unknown) and "bytes" in too_long.why
