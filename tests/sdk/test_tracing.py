from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from spinyard_sdk import tracing, tracing_export
from spinyard_sdk.tracing import TraceContext, child, current, extract, inject, parse

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


class Receiver:
    """A receiver that answers what it is told to."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        self.requests = 0
        self.answer = 200
        self.may_answer = threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.requests += 1
                outer.may_answer.wait(10)
                if outer.answer == 200:
                    found = json.loads(body)["resourceSpans"]
                    outer.spans += [span for part in found for span in part["scopeSpans"][0]["spans"]]
                self.send_response(outer.answer)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    tracing_export.configure(receiver.url, "tests")
    yield receiver
    receiver.may_answer.set()
    tracing_export.configure("")
    receiver.close()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(SAMPLED, TraceContext(TRACE, SPAN, True), id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", TraceContext(TRACE, SPAN, False), id="not sampled"),
        pytest.param(f" {SAMPLED}\t", TraceContext(TRACE, SPAN, True), id="spaces around it"),
        pytest.param(f"cc-{TRACE}-{SPAN}-03-of-a-later-version", TraceContext(TRACE, SPAN, True), id="later version"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", None, id="more than version 00 has"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="version ff"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no span"),
        pytest.param(SAMPLED.upper(), None, id="upper case"),
        pytest.param(f"00-{TRACE[:-1]}-{SPAN}-01", None, id="short trace id"),
        pytest.param("", None, id="empty"),
        pytest.param("x" * 100_000, None, id="long"),
    ],
)
def test_a_traceparent_is_read_as_the_standard_says(header: str, expected: TraceContext | None) -> None:
    assert parse(header) == expected


@pytest.mark.parametrize("state", ["a=1\r\nset-cookie: x", "x" * 513, "ä=1"])
def test_a_tracestate_that_may_not_be_sent_on_is_left_out(state: str) -> None:
    assert parse(SAMPLED, state) == TraceContext(TRACE, SPAN, True)


def test_what_is_injected_is_a_child_of_what_was_extracted() -> None:
    came = extract({"traceparent": SAMPLED, "tracestate": "vendor=1"})
    headers: dict[str, str] = {}
    with child("work", parent=came) as span:
        inject(headers)
    sent = extract(headers)
    assert sent == TraceContext(TRACE, span.context.span_id, True, "vendor=1")
    assert sent.span_id != SPAN


def test_outside_of_every_trace_nothing_is_injected() -> None:
    headers: dict[str, str] = {}
    inject(headers)
    assert headers == {} and current() is None


def test_children_are_inside_of_each_other_and_what_is_around_comes_back() -> None:
    with child("outer") as outer:
        with child("inner") as inner:
            assert current() == inner.context
        assert inner.context.trace_id == outer.context.trace_id
        assert current() == outer.context
    assert current() is None


async def test_tasks_at_the_same_time_do_not_see_each_others_spans() -> None:
    both = asyncio.Barrier(2)

    async def work(name: str) -> tuple[str, str]:
        with child(name) as span:
            await both.wait()
            found = current()
            assert found is not None
            return span.context.span_id, found.span_id

    for mine, seen in await asyncio.gather(work("a"), work("b")):
        assert mine == seen


def test_a_span_left_by_an_exception_is_sent_as_failed_without_its_message(receiver: Receiver) -> None:
    with pytest.raises(ValueError), child("work", parent=parse(SAMPLED), kind="client", attributes={"n": 1}) as span:
        span.set("of", "somebody")
        raise ValueError("a secret")
    assert tracing_export.flush(5)
    (sent,) = receiver.spans
    assert (sent["traceId"], sent["parentSpanId"], sent["spanId"]) == (TRACE, SPAN, span.context.span_id)
    assert (sent["name"], sent["kind"], sent["status"]) == ("work", 3, {"code": 2, "message": "ValueError"})
    assert {"key": "n", "value": {"intValue": "1"}} in sent["attributes"]
    assert "secret" not in json.dumps(sent)
    assert int(sent["endTimeUnixNano"]) >= int(sent["startTimeUnixNano"]) > 0


def test_what_is_not_sampled_is_not_sent(receiver: Receiver) -> None:
    with child("work", parent=parse(f"00-{TRACE}-{SPAN}-00")):
        pass
    with child("other", parent=parse(SAMPLED)):
        pass
    assert tracing_export.flush(5)
    assert [span["name"] for span in receiver.spans] == ["other"]


@pytest.mark.parametrize(("share", "recorded"), [("0", False), ("1", True), ("nonsense", False)])
def test_a_trace_that_begins_here_is_recorded_by_share(
    share: str, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINYARD_TRACE_SHARE", share)
    monkeypatch.setattr(tracing._RANDOM, "random", lambda: 0.5)
    with child("root") as span:
        assert span.context.sampled is recorded


def test_a_full_queue_drops_and_counts_and_nobody_waits(receiver: Receiver) -> None:
    receiver.may_answer.clear()
    for _ in range(tracing_export.QUEUE_MAX + 3 * tracing_export.BATCH_MAX):
        with child("work", parent=parse(SAMPLED)):
            pass
    assert not tracing_export.flush(0.01)
    receiver.may_answer.set()
    assert tracing_export.flush(10)
    counted = tracing_export.counts()
    assert counted.dropped >= 2 * tracing_export.BATCH_MAX and counted.why == "the queue is full"
    assert counted.sent + counted.dropped == tracing_export.QUEUE_MAX + 3 * tracing_export.BATCH_MAX
    assert counted.sent == len(receiver.spans)


@pytest.mark.parametrize(("answer", "tries"), [(503, 2), (400, 1)])
def test_what_the_receiver_refuses_is_tried_again_only_where_that_helps(
    receiver: Receiver, answer: int, tries: int
) -> None:
    receiver.answer = answer
    with child("work", parent=parse(SAMPLED)):
        pass
    assert tracing_export.flush(5)
    assert receiver.requests == tries
    assert tracing_export.counts() == tracing_export.Counts(0, 1, f"the receiver answered {answer}")


def test_without_a_receiver_spans_cost_nothing_but_themselves() -> None:
    tracing_export.configure("http://127.0.0.1:1", "tests")
    try:
        with child("work", parent=parse(SAMPLED)):
            pass
        assert tracing_export.flush(5)
        assert tracing_export.counts().dropped == 1
    finally:
        tracing_export.configure("")


def test_what_was_recorded_last_is_sent_at_the_end_of_the_program(receiver: Receiver) -> None:
    program = f"from spinyard_sdk.tracing import *\nwith child('last', parent=parse({SAMPLED!r})): pass"
    environment = {**os.environ, "SPINYARD_OTLP": receiver.url}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=30)
    assert [span["name"] for span in receiver.spans] == ["last"]


def test_a_forked_process_sends_its_own_spans_with_ids_of_its_own(receiver: Receiver) -> None:
    program = f"""
import os
import subprocess
from spinyard_sdk.tracing import *
with child('before', parent=parse({SAMPLED!r})): pass
pid = os.fork()
with child('after', parent=parse({SAMPLED!r})): pass
if pid: os.waitpid(pid, 0)
"""
    environment = {**os.environ, "SPINYARD_OTLP": receiver.url}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, env=environment, timeout=30)
    assert sorted(span["name"] for span in receiver.spans) == ["after", "after", "before"]
    assert len({span["spanId"] for span in receiver.spans}) == 3
