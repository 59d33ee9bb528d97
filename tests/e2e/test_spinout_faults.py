"""More faults of a Spinout with real processes than `make test` has room for: figures that are missing, a parent that
goes away, both sides failing, small and late badness, abort from every phase that lasts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.e2e.house import House, Json, free_port
from tests.e2e.moves import PROGRAM, Move, answered
from tests.e2e.test_spinouts import move as move

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


class Prometheus:
    """A stand-in: it speaks the API of an instant query, and its one sample is whatever a test wants."""

    def __init__(self) -> None:
        prometheus = self
        self.port = free_port()
        self.answer: Callable[[], object] = lambda: self.vector(1.0)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = json.dumps(prometheus.answer()).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._handler = Handler
        self.begin()

    def begin(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @staticmethod
    def vector(*values: float | str, age: float = 0.0) -> Json:
        series = [{"metric": {}, "value": [time.time() - age, str(value)]} for value in values]
        return {"status": "success", "data": {"resultType": "vector", "result": series}}


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    one = Prometheus()
    yield one
    one.end()


def test_a_figure_that_is_away_stale_empty_or_none_holds_and_says_so(
    move: Callable[[str], Move], prometheus: Prometheus
) -> None:
    it = move("figure")
    source = {"url": f"http://127.0.0.1:{prometheus.port}", "query": "queue"}
    gates = {
        "success": {"margin": 10},
        "thresholds": [{"name": "queue", "prometheus": source, "max": 5, "stale": "60s"}],
    }
    it.apply(gates=gates, steps=[{"weight": 50}, {"weight": 100, "pause": True}])
    it.ready()
    prometheus.end()
    it.load(100)
    it.start()
    it.until_it_says("did not answer", 30)
    prometheus.begin()
    missing = {
        "older than 60 s": lambda: prometheus.vector(1, age=120),
        "no sample": prometheus.vector,
        "NaN": lambda: prometheus.vector("NaN"),
        "2 samples": lambda: prometheus.vector(1, 2),
        "refused the query": lambda: {"status": "error", "error": "parse error"},
        "not as a Prometheus": lambda: ["?"],
    }
    for words, answer in missing.items():
        prometheus.answer = answer
        status = it.until_it_says(words)
        assert (status["state"], status["shownWeight"]) == ("ramping", 5000), words
    prometheus.answer = lambda: prometheus.vector(3)
    it.until_weight(100, 30)
    prometheus.answer = lambda: prometheus.vector(6)
    back = it.until("rolled_back")
    assert back["stopped"].startswith("queue")
    assert it.stop_load().totals.failed == 0


def test_an_external_parent_that_goes_away_holds_it_and_its_return_lets_it_go_on(
    house: House, move: Callable[[str], Move]
) -> None:
    it = move("away")
    port = free_port()
    environment = {"PORT": str(port), "SIDE": "parent", "BAD": str(it.bad_parent), "PATH": os.environ["PATH"]}

    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-I", "-S", str(PROGRAM)], env=environment)

    parent = begin()
    try:
        probe = {"httpGet": {"path": "/ready"}, "periodSeconds": 0.2}
        it.apply(external={"endpoints": [{"address": "127.0.0.1", "port": port}], "readinessProbe": probe})
        it.ready()
        it.load()
        it.start()
        it.until_weight(50)
        it.sees_requests(40)
        parent.kill()
        parent.wait()
        held = it.until("held")
        assert held["shownWeight"] == 5000, "where half of them still has an answer"
        assert "in traffic" in held["heldWhy"]
        parent = begin()
        it.until_goes_on("ramping")
        it.say("abort", "--why", "seen")
        it.until("rolled_back")
    finally:
        parent.kill()
        parent.wait()
    assert answered(it.stop_load(), "unit") > 40


def test_both_sides_failing_alike_is_no_word_against_the_unit(move: Callable[[str], Move]) -> None:
    it = move("both")
    it.apply()
    it.ready()
    it.load(100)
    it.start()
    it.until_weight(50)
    for bad in (it.bad_parent, it.bad_unit):
        bad.write_text("fail=0.3")
    it.sees_requests(400, 40)
    assert (it.state, it.status["shownWeight"]) == ("ramping", 5000)
    result = it.stop_load()
    assert result.totals.failed == 0
    assert result.totals.apart > 100


@pytest.mark.parametrize(
    ("rate", "margin", "back"), [(0.01, 5, False), (0.05, 1, True), (0.2, 5, True), (1.0, 5, True)]
)
def test_errors_by_their_share_and_the_margin(
    move: Callable[[str], Move], rate: float, margin: float, back: bool
) -> None:
    it = move(f"errs{int(rate * 100)}")
    it.apply(gates={"success": {"margin": margin}}, steps=[{"weight": 50}, {"weight": 100, "pause": True}])
    it.ready()
    it.bad_unit.write_text(f"fail={rate}")
    it.load(120)
    it.start()
    if back:
        assert it.until("rolled_back", 60)["stopped"].startswith("success rate")
    else:
        it.until_weight(100, 60)
    assert it.stop_load().totals.failed == 0


def test_a_unit_that_is_late_is_back_by_its_latency(move: Callable[[str], Move]) -> None:
    it = move("late")
    it.apply(gates={"success": {"margin": 5}, "latency": [{"quantile": 0.95, "maxRatio": 2, "plus": "100ms"}]})
    it.ready()
    it.bad_unit.write_text("late=0.4")
    it.load(60)
    it.start()
    assert "latency" in it.until("rolled_back", 40)["stopped"]
    assert it.stop_load().totals.failed == 0


def test_abort_is_taken_in_every_phase_that_lasts(move: Callable[[str], Move]) -> None:
    it = move("stop")
    shadow = {"minCompared": 10, "ignore": ["x-answered-by"]}
    waits = [{"weight": 50, "pause": True}, {"weight": 100, "pause": True}]
    reached: list[str] = []
    for wanted in ("instrumented", "shadowing", "ramping", "soaking"):
        many = 10_000 if wanted in ("instrumented", "shadowing") else 10
        shadow["minCompared"] = many if wanted == "shadowing" else 10
        baseline = {"duration": "0.5s", "minRequests": many if wanted == "instrumented" else 20}
        it.apply(shadow=dict(shadow), steps=waits, baseline=baseline)
        it.ready()
        if not reached:
            it.load(80)
        it.start()
        if wanted == "soaking":
            it.until_weight(50)
            it.say("promote", "--full", "--evidence", "a test")
        it.until_goes_on(wanted, 40)
        reached.append(wanted)
        it.say("abort", "--why", f"in {wanted}")
        assert it.until("rolled_back")["stopped"] == f"aborted: in {wanted}"
    assert len(reached) == 4
    assert it.stop_load().totals.failed == 0
    assert "whole" in it.say("verify")
