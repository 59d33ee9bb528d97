"""Traces over HTTP: what is asked for, what there is no more, and what may not be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spinyard.api.deps import ApiLimits
from spinyard.ports.traces import TraceFilter, TraceSummary
from tests.api.conftest import World, running
from tests.telemetry.exports import START, TRACE, span

pytestmark = pytest.mark.anyio


class Traces:
    steady_since = 0.0

    def __init__(self) -> None:
        self.asked: list[tuple[TraceFilter, int, bool]] = []

    def find(self, trace_id: str) -> list[Any]:
        attributes = {"size": 400, "ratio": float("nan")}
        return [span(1), span(2, 1, at=1.5, for_ms=2, attributes=attributes)] if trace_id.lower() == TRACE else []

    def recent(self, wanted: TraceFilter, limit: int, *, slowest: bool = False) -> list[TraceSummary]:
        self.asked.append((wanted, limit, slowest))
        return [TraceSummary(TRACE, "GET /", "web", START, START + 10**9, 2, 1, ("web",), ("unit",))]

    def since(self, at: float) -> list[Any]:
        return []


@pytest.fixture
def traces() -> Traces:
    return Traces()


@pytest.fixture
async def world(tmp_path: Path, limits: ApiLimits, traces: Traces) -> AsyncIterator[World]:
    async with running(tmp_path, limits, traces=traces) as found:
        yield found


async def test_a_trace_has_its_spans_with_their_place_in_time(world: World) -> None:
    found = (await world.call("GET", f"/v1/traces/{TRACE.upper()}")).json
    assert (found["kind"], found["traceId"], found["seconds"]) == ("Trace", TRACE, 0.0035)
    first, second = found["spans"]
    assert (second["parentSpanId"], second["offsetSeconds"], second["seconds"]) == (first["spanId"], 0.0015, 0.002)
    assert second["attributes"] == {"size": 400, "ratio": "nan"}


async def test_recent_ones_are_asked_for_as_said(world: World, traces: Traces) -> None:
    query = "service=web&side=unit&failed=true&slowerThan=0.2&order=slowest&limit=7"
    (one,) = (await world.call("GET", f"/v1/traces?{query}")).json["items"]
    assert traces.asked == [(TraceFilter("web", "unit", True, 0.2), 7, True)]
    assert (one["traceId"], one["seconds"], one["spans"], one["failed"]) == (TRACE, 1.0, 2, 1)
    assert one["startedAt"] == "2023-11-14T22:13:20.000Z"
    await world.call("GET", "/v1/traces")
    assert traces.asked[-1] == (TraceFilter(), 50, False)


async def test_what_is_no_more_is_not_found_and_what_is_no_id_is_refused(world: World) -> None:
    gone = await world.call("GET", f"/v1/traces/{'1' * 32}")
    assert (gone.status, gone.json["code"]) == (404, "not_found")
    for path in ("nonsense", "1" * 33, "0" * 31 + "g"):
        assert (await world.call("GET", f"/v1/traces/{path}")).status == 422
    for query in ("limit=0", "limit=201", "slowerThan=-1", "slowerThan=nan", "order=oldest", "failed=perhaps"):
        assert (await world.call("GET", f"/v1/traces?{query}")).status == 422


async def test_nobody_reads_traces_without_the_token(world: World) -> None:
    for path in ("/v1/traces", f"/v1/traces/{TRACE}"):
        assert (await world.call("GET", path, Authorization="")).status == 401
