"""The picture of a trace, and the join that is answered from the same spans."""

from __future__ import annotations

from typing import Any

import pytest

from spinyard.api.traces import trace_json
from spinyard.cli.waterfall import LINES_MAX, took, waterfall_lines
from spinyard.clock import SystemClock
from spinyard.core.observed import LookGauge, LookJoin, TraceJoin, Unknown
from spinyard.core.trace import GATEWAY_SERVICE, Span
from spinyard.telemetry.store import TraceStore
from spinyard.wiring.joins import JoinReader, service_of
from tests.telemetry.exports import identity, span

CLUSTER = "default/thumbnails/ab12~new"


def gateway(number: int, parent: int, **more: Any) -> Span:
    return span(number, parent, service=GATEWAY_SERVICE, **more)


PHOTO = [
    gateway(1, 0, name="GET /photos/7", kind="server", side="parent", for_ms=100,
            attributes={"http.status_code": "200"}),
    gateway(2, 1, name="to default/gallery/x", kind="client", at=1, for_ms=98, attributes={"http.status_code": "200"}),
    span(3, 2, service="gallery", name="GET /photos/7", kind="server", at=2, for_ms=96,
         attributes={"http.response.status_code": 200}),
    span(4, 3, service="gallery", name="boundary thumbnails", kind="client", at=10, for_ms=60),
    gateway(5, 4, name="POST /thumbnails", kind="server", side="unit", at=12, for_ms=56,
            attributes={"http.status_code": "503"}, error=True),
    gateway(6, 5, name="to default/thumbnails/y", kind="client", side="unit", at=13, for_ms=54,
            attributes={"http.status_code": "503"}, error=True),
    span(7, 6, service="thumbnails", name="POST /thumbnails", kind="server", side="unit", at=14, for_ms=52,
         attributes={"http.response.status_code": 503}, error=True, message="ValueError"),
    span(8, 7, service="thumbnails", name="render", at=20, for_ms=40),
    span(9, 3, service="gallery", name="query", at=80, for_ms=0.04),
]  # fmt: skip

EXPECTED = """\
trace 4bf92f3577b34da6a3ce929d0e0e4736  2023-11-14T22:13:20.000Z
100 ms, 9 spans of 3 services, 3 failed

SERVICE, SPAN                                        SIDE    STATUS     TOOK  |0                         100 ms|
spinyard-gateway  GET /photos/7                      parent  200      100 ms  ██████████████████████████████████
└ spinyard-gateway  to default/gallery/x             parent  200     98.0 ms  █████████████████████████████████
  └ gallery  GET /photos/7                           parent  200     96.0 ms  █████████████████████████████████
    ├ gallery  boundary thumbnails                   parent  -       60.0 ms     ████████████████████
    │ └ spinyard-gateway  POST /thumbnails           unit    503     56.0 ms      ███████████████████
    │   └ spinyard-gateway  to default/thumbnails/y  unit    503     54.0 ms      ██████████████████
    │     └ thumbnails  POST /thumbnails             unit    503     52.0 ms      ██████████████████
    │       └ thumbnails  render                     unit    -       40.0 ms        ██████████████
    └ gallery  query                                 parent  -         40 us                             █

thumbnails  POST /thumbnails: ValueError"""


def test_parent_gateway_and_unit_are_one_picture() -> None:
    assert "\n".join(waterfall_lines(trace_json(PHOTO), width=112)) == EXPECTED


def test_no_line_is_longer_than_the_terminal_unless_that_is_very_narrow() -> None:
    for width in (100, 120, 200):
        lines = waterfall_lines(trace_json(PHOTO), width=width)
        assert max(len(line) for line in lines) == width


def test_all_spans_are_drawn_whatever_they_hang_on() -> None:
    ring = [span(1, 2), span(2, 1), span(3, 3), span(4, 99), span(5, at=-50, for_ms=0)]
    lines = waterfall_lines(trace_json(ring))
    for number in range(1, 6):
        assert sum(f"span {number} " in line for line in lines) == 1


def test_a_deep_and_a_wide_trace_are_cut_and_it_is_said() -> None:
    deep = [span(number + 1, number) for number in range(300)]
    lines = waterfall_lines(trace_json(deep), width=120)
    assert len(lines) == LINES_MAX + 5
    assert lines[-1] == "… and 100 spans more: all of them with -o json"
    assert max(len(line) for line in lines) <= 120


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 us"), (0.000087, "87 us"), (0.00431, "4.31 ms"), (0.0431, "43.1 ms"), (0.214, "214 ms"), (3.2, "3.20 s")],
)
def test_times_have_three_figures(seconds: float, text: str) -> None:
    assert took(seconds) == text


async def test_the_engine_is_told_which_traces_are_whole() -> None:
    clock = SystemClock()
    store = TraceStore(clock)
    store.steady_since = 0.0
    now_ms = (clock.now() - 60) * 1000 - 1_700_000_000_000

    def request(number: int, *, whole: bool, cluster: str = CLUSTER, at: float = now_ms) -> list[Span]:
        about = {"spinyard.service": cluster}
        trace = identity(number, 32)
        entry = gateway(1, 0, trace=trace, kind="server", at=at, attributes=about)
        return [entry, span(2, 1 if whole else 0, trace=trace, service="thumbnails", at=at)]

    for number in range(1, 10):
        store.add(request(number, whole=number != 9))
    store.add(request(20, whole=True, cluster="default/gallery/x"))
    store.add(request(21, whole=False, at=now_ms + 60_000))
    reader = JoinReader(store, clock)
    assert await reader.read(LookJoin(CLUSTER, clock.now() - 300)) == TraceJoin(8, 1, (identity(9, 32),))
    assert await reader.read(LookJoin(CLUSTER, clock.now() - 300, "thumbnails")) == TraceJoin(8, 1, (identity(9, 32),))
    assert await reader.read(LookJoin(CLUSTER, clock.now() - 300, "others")) == TraceJoin(
        0, 9, tuple(identity(number, 32) for number in range(1, 6))
    )
    assert await reader.read(LookJoin(CLUSTER, clock.now() - 30)) == TraceJoin(0, 0)
    store.steady_since = clock.now() - 10
    assert await reader.read(LookJoin(CLUSTER, clock.now() - 300)) == TraceJoin(0, 0)
    assert isinstance(await reader.read(LookGauge("http://x", "y")), Unknown)


async def test_a_caller_from_outside_who_uses_one_trace_for_all_its_requests_fails_no_gate() -> None:
    clock = SystemClock()
    store = TraceStore(clock)
    store.steady_since = 0.0
    now_ms = (clock.now() - 60) * 1000 - 1_700_000_000_000
    about = {"spinyard.service": CLUSTER}
    for trace, requests in ((identity(1, 32), 3), (identity(2, 32), 5_000)):
        entries = [
            gateway(number, 0, trace=trace, kind="server", at=now_ms, attributes=about)
            for number in range(1, requests + 1)
        ]
        store.add(entries)
        store.add(
            span(10_000 + one, one, trace=trace, service="thumbnails", at=now_ms) for one in range(1, requests + 1)
        )
    found = await JoinReader(store, clock).read(LookJoin(CLUSTER, clock.now() - 300))
    assert found == TraceJoin(3, 0)


async def test_whoever_asks_again_in_a_moment_is_not_given_another_count() -> None:
    class HandClock(SystemClock):
        at = 100.0

        def monotonic(self) -> float:
            return self.at

    clock = HandClock()
    store = TraceStore(clock)
    store.steady_since = 0.0
    now_ms = (clock.now() - 60) * 1000 - 1_700_000_000_000
    about = {"spinyard.service": CLUSTER}

    def request(number: int) -> None:
        trace = identity(number, 32)
        store.add([gateway(1, 0, trace=trace, kind="server", at=now_ms, attributes=about)])

    reader, look = JoinReader(store, clock), LookJoin(CLUSTER, clock.now() - 300)
    found = []
    for number, seconds in enumerate((0.0, 0.5, 2.4, 0.2), start=1):
        clock.at += seconds
        request(number)
        answer = await reader.read(look)
        assert isinstance(answer, TraceJoin)
        found.append(answer.broken)
    assert found == [1, 1, 1, 4]
    assert await reader.read(LookJoin(CLUSTER, look.since + 1)) == await reader.read(look)


@pytest.mark.parametrize(("cluster", "service"), [(CLUSTER, "thumbnails"), ("default/web/ab", "web"), ("odd", "odd")])
def test_the_service_of_a_cluster_is_known_by_its_name(cluster: str, service: str) -> None:
    assert service_of(cluster) == service
