"""One trace over parent, gateway and unit, with real Envoy and real programs."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
from pathlib import Path

import pytest

from spinyard.core.trace import CLUSTER, Span
from spinyard.errors import NotFound
from spinyard.spinout.join import join_rate
from tests.e2e.house import House, Json, kill
from tests.e2e.objects import named

pytestmark = pytest.mark.timeout(120)
PROGRAM = Path(__file__).with_name("programs") / "traced.py"


@pytest.fixture(scope="module")
def family(house: House) -> House:
    for name in ("unit", "parent"):
        template: Json = {
            "command": [sys.executable, str(PROGRAM), name],
            "env": [{"name": "GATEWAY", "value": house.gateway}],
            "ports": [{"name": "http"}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 0.1},
        }
        house.apply(named("Service", name, {"template": template, "route": {"hosts": [f"{name}.localhost"]}}))
    house.serve("unit", 1)
    house.serve("parent", 1)
    return house


def ask(house: House, number: int, *, sampled: bool = True, path: str = "/photos?token=hunter2") -> tuple[str, int]:
    """The id of the request's trace, and the status."""
    trace = f"{number:032x}"
    connection = http.client.HTTPConnection(house.gateway, timeout=10)
    try:
        headers = {"host": "parent.localhost", "traceparent": f"00-{trace}-00000000000000aa-0{int(sampled)}"}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return trace, answer.status
    finally:
        connection.close()


def spans_of(house: House, trace: str) -> list[Json]:
    try:
        spans: list[Json] = house.client.trace(trace)["spans"]
    except NotFound:
        return []
    return spans


def wait_for_all(house: House, trace: str) -> None:
    house.wait("all spans are there", lambda: len(spans_of(house, trace)) == 8)


def as_spans(trace: str, found: list[Json]) -> list[Span]:
    return [
        Span(
            trace_id=trace,
            span_id=one["spanId"],
            parent_id=one["parentSpanId"],
            name=one["name"],
            kind=one["kind"],
            service=one["service"],
            start_ns=int(one["startTimeUnixNano"]),
            end_ns=int(one["startTimeUnixNano"]) + int(one["seconds"] * 1e9),
            attributes=one["attributes"],
        )
        for one in found
    ]


def test_one_trace_goes_through_parent_gateway_and_unit(family: House) -> None:
    trace, status = ask(family, 1)
    assert status == 200
    wait_for_all(family, trace)
    text = family.cli("trace", trace)
    drawn = [line.lstrip(" └│├") for line in text.splitlines()[4:]]
    assert [" ".join(line.split()[:3]) for line in drawn] == [
        "spinyard-gateway GET /photos",
        "spinyard-gateway to default/parent/" + cluster_tail(family, "parent"),
        "parent GET /photos",
        "parent ask the",
        "spinyard-gateway GET /photos",
        "spinyard-gateway to default/unit/" + cluster_tail(family, "unit"),
        "unit GET /photos",
        "unit render -",
    ]
    assert "hunter2" not in family.cli("trace", trace, "-o", "json")


def cluster_tail(house: House, name: str) -> str:
    return str(house.get("Service", name)["metadata"]["uid"])[:8]


def test_what_says_it_is_not_sampled_is_not_recorded_by_anyone(family: House) -> None:
    ask(family, 2, sampled=False)
    after, _ = ask(family, 3)
    wait_for_all(family, after)
    assert spans_of(family, f"{2:032x}") == []


def test_a_failure_and_a_slow_one_are_found(family: House) -> None:
    trace, status = ask(family, 4, path="/broken")
    assert status == 500
    wait_for_all(family, trace)
    found = json.loads(family.cli("trace", "ls", "--failed", "--service", "unit", "-o", "json"))["items"]
    assert [one["traceId"] for one in found] == [trace]
    (slowest,) = family.client.traces(slowest=True, limit=1)["items"]
    assert slowest["seconds"] == max(one["seconds"] for one in family.client.traces()["items"])
    assert "no traces" in family.cli("trace", "ls", "--slower-than", "10m")


def test_every_request_is_joined_also_while_the_server_is_away(family: House) -> None:
    """Envoy and the instances serve on; what they recorded meanwhile is lost, what comes later arrives again, at the
    address that the instances were told when they began."""
    first = [ask(family, number)[0] for number in range(100, 140)]
    for trace in first:
        wait_for_all(family, trace)
    assert [rate(family, trace) for trace in first] == [1.0] * 40
    old, instances = family.server_pid(), family.instance_pids()
    kill(old)
    assert {ask(family, number)[1] for number in range(200, 220)} == {200}
    family.wait("it is back", lambda: family.server_pid() not in (0, old) and family.client.is_ready())
    numbers = iter(range(300, 400))
    family.wait("spans arrive again", lambda: len(spans_of(family, asked_and_settled(family, next(numbers)))) == 8)
    assert instances == family.instance_pids()


def asked_and_settled(house: House, number: int) -> str:
    """As long as exporters wait after a failure, and no longer."""
    trace, status = ask(house, number)
    assert status == 200
    with contextlib.suppress(AssertionError):
        house.wait("its spans are there", lambda: len(spans_of(house, trace)) == 8, 2.0)
    return trace


def rate(house: House, trace: str) -> float | None:
    spans = as_spans(trace, spans_of(house, trace))
    clusters = {str(span.attributes[CLUSTER]) for span in spans if CLUSTER in span.attributes}
    of_unit = {name for name in clusters if name.startswith("default/unit/")}
    return join_rate([spans], unit="unit", clusters=of_unit, until_ns=2**62).share
