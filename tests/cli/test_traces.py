"""Traces at the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.stub import Stub

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN: dict[str, Any] = {
    "spanId": "00f067aa0ba902b7",
    "parentSpanId": "",
    "service": "spinyard-gateway",
    "name": "GET /photos",
    "kind": "server",
    "side": "unit",
    "startTimeUnixNano": "1700000000000000000",
    "offsetSeconds": 0.0,
    "seconds": 0.25,
    "error": False,
    "message": "",
    "attributes": {"http.status_code": "200"},
}
ONE = {
    "kind": "Trace",
    "traceId": TRACE,
    "startedAt": "2026-01-01T00:00:00.000Z",
    "seconds": 0.25,
    "spans": [SPAN],
}
SUMMARY = {
    "traceId": TRACE,
    "name": "GET /photos",
    "service": "spinyard-gateway",
    "startedAt": "2026-01-01T00:00:00.000Z",
    "seconds": 0.25,
    "spans": 6,
    "failed": 1,
    "services": ["spinyard-gateway", "thumbnails"],
    "sides": ["unit"],
}


def listed(*items: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"apiVersion": "spinyard.dev/v1", "kind": "List", "items": list(items), "metadata": {}}


@pytest.mark.parametrize("text", [TRACE, TRACE.upper(), f"00-{TRACE}-00f067aa0ba902b7-01", f" {TRACE} "])
def test_a_trace_is_drawn_by_its_id_or_its_traceparent(text: str, run: Run, stub: Stub) -> None:
    stub.answers["GET", f"/v1/traces/{TRACE}"] = (200, ONE)
    found = run("trace", text)
    assert found.code == 0, found.err
    assert found.out.splitlines()[:2] == [f"trace {TRACE}  2026-01-01T00:00:00.000Z", "250 ms, 1 span of 1 service"]
    assert "spinyard-gateway  GET /photos  unit  200     250 ms" in found.out
    assert json.loads(run("trace", text, "-o", "json").out) == ONE


def test_a_list_has_a_line_for_each(run: Run, stub: Stub) -> None:
    stub.answers["GET", "/v1/traces"] = listed(SUMMARY)
    lines = run("trace", "ls").out.splitlines()
    assert lines[0].split() == ["TRACE", "AGE", "TOOK", "SPANS", "FAILED", "SIDES", "SERVICES", "NAME"]
    assert lines[1].startswith(TRACE) and lines[1].endswith("unit    spinyard-gateway,thumbnails   GET /photos")
    assert json.loads(run("trace", "ls", "-o", "json").out)["items"] == [SUMMARY]
    assert run("trace", "ls", "-o", "name").out == f"{TRACE}\n"


def test_what_is_asked_for_reaches_the_server(run: Run, stub: Stub) -> None:
    stub.answers["GET", "/v1/traces"] = listed()
    options = ["--service", "unit", "--side", "unit", "--failed", "--slower-than", "200ms", "--slowest", "--limit", "7"]
    found = run("trace", "ls", *options)
    assert (found.code, found.out) == (0, "no traces; which requests are recorded: docs/traces.md\n")
    assert stub.requests[-1][2] == {
        "service": "unit",
        "side": "unit",
        "failed": "true",
        "slowerThan": "0.2",
        "order": "slowest",
        "limit": "7",
    }


@pytest.mark.parametrize("words", [["nonsense"], [TRACE[:-1]], [TRACE, "--failed"], ["ls", "--slower-than", "soon"]])
def test_what_makes_no_sense_is_said_before_anybody_is_asked(words: list[str], run: Run, stub: Stub) -> None:
    found = run("trace", *words)
    assert found.code == 2 and "next:" in found.err
    assert stub.requests == []
