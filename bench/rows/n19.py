"""N19, the synchronous part: requests of a parent to its unit, by the gateway, whose trace goes on inside of the unit.

Both are Python programs with our SDK; the unit is replaced instance by instance meanwhile. No peer: without a context
that is passed on the share is 0.
"""

from __future__ import annotations

import http.client
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.home import ROOT, Home, host_of, running_home, service, wait_for
from bench.measured import Figures, Measured, Scale
from spinyard.core.trace import CLUSTER, Span
from spinyard.errors import NotFound
from spinyard.spinout.join import JoinRate, join_rate

REQUESTS = {Scale.QUICK: 300, Scale.NORMAL: 3_000, Scale.FULL: 20_000}
CHUNK = 500
"""read back before the server forgets it"""
PER_SECOND = 50.0
FLOOR_PERCENT, AIM_PERCENT = 99.0, 99.5
SETTLE_SECONDS = 3.0
PROGRAM = (sys.executable, str(ROOT / "tests" / "e2e" / "programs" / "traced.py"))


def measure(scale: Scale) -> Measured:
    found: list[JoinRate] = []
    failed = 0
    with running_home() as home:
        family = [
            service("unit", (*PROGRAM, "unit"), probe="/ready", replicas=2),
            service("parent", (*PROGRAM, "parent"), probe="/ready", env={"GATEWAY": home.gateway}),
        ]
        home.client.apply(family)
        wait_for("both serve", lambda: len(home.serving("unit")) == 2 and len(home.serving("parent")) == 1, 60)
        with ThreadPoolExecutor(8) as pool:
            for first in range(1, REQUESTS[scale], CHUNK):
                numbers = range(first, min(first + CHUNK, REQUESTS[scale] + 1))
                home.client.restart("default", "unit")
                asked = [pool.submit(_ask, home, number) for number in _paced(numbers)]
                failed += sum(one.result() != 200 for one in asked)
                time.sleep(SETTLE_SECONDS)
                found += [_joined(home, number) for number in numbers]
    joined, broken, missing = (sum(getattr(one, name) for one in found) for name in ("joined", "broken", "missing"))
    sent = REQUESTS[scale]
    whole = sum(bool(one.joined) and not (one.broken or one.missing) for one in found)
    share = round(whole / sent * 100, 3)
    return Measured(
        unit="% of requests whose trace is whole (synchronous calls)",
        ours=Figures(share, share, share, sent),
        peers={},
        floor=FLOOR_PERCENT,
        aim=AIM_PERCENT,
        ok=share >= FLOOR_PERCENT and failed == 0,
        notes={"whole": whole, "not_found": sum(one.requests == 0 for one in found), "joined": joined, "broken": broken,
               "missing": missing, "requests_failed": failed,
               "samples": [one for rate in found for one in (*rate.broken_samples, *rate.missing_samples)][:10]},
    )  # fmt: skip


def _paced(numbers: range) -> Any:
    began = time.perf_counter()
    for sent, number in enumerate(numbers):
        time.sleep(max(0.0, began + sent / PER_SECOND - time.perf_counter()))
        yield number


def _ask(home: Home, number: int) -> int:
    connection = http.client.HTTPConnection(home.gateway, timeout=20)
    try:
        headers = {"host": host_of("parent"), "traceparent": f"00-{number:032x}-00000000000000aa-01"}
        connection.request("GET", "/photos", headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def _joined(home: Home, number: int) -> JoinRate:
    try:
        trace = home.client.trace(f"{number:032x}")
    except NotFound:
        return JoinRate()
    spans = [
        Span(
            trace_id=trace["traceId"],
            span_id=one["spanId"],
            parent_id=one["parentSpanId"],
            name=one["name"],
            kind=one["kind"],
            service=one["service"],
            start_ns=0,
            end_ns=0,
            attributes=one["attributes"],
        )
        for one in trace["spans"]
    ]
    clusters = {str(span.attributes.get(CLUSTER)) for span in spans}
    of_unit = {name for name in clusters if name.startswith("default/unit/")}
    return join_rate([spans], unit="unit", clusters=of_unit, until_ns=1)
