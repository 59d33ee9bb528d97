"""The load generator against a small server whose delays and failures are known."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.testing.load import (
    Load,
    LoadProcess,
    LoadRefusedError,
    LoadResult,
    LoadSpec,
    Mix,
    MixEntry,
    read_mix,
    read_result,
    run_load,
)
from spinyard.testing.load_result import Histogram

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """/slow takes 200 ms, /fail answers 503, /cut closes in the middle, /gone without a byte, /bye after the answer,
    /hang never answers. Everything else is 200 and 'ok'."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                headers = {}
                while (field := await reader.readline()) not in (b"\r\n", b""):
                    name, _, value = field.decode().partition(":")
                    headers[name] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.seen.append((line.decode().strip(), headers, body))
                if not await self.answer(line.split()[1].decode(), writer):
                    return
        finally:
            writer.close()

    async def answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-gallery-instance: one\r\n"
        if path == "/gone":
            return False
        if path == "/hang":
            await asyncio.sleep(30)
        if path == "/slow":
            await asyncio.sleep(0.2)
        if path == "/fail":
            text = (
                "HTTP/1.1 503 No\r\ncontent-length: 300\r\nx-envoy-flags: UC\r\n\r\n" + "upstream reset. " + "z" * 284
            )
        elif path == "/cut":
            text = head.replace(": 2", ": 9") + "\r\nhal"
        elif path == "/bye":
            text = head + "connection: close\r\n\r\nok"
        elif path == "/chunks":
            text = (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            )
        else:
            text = head + "\r\nok"
        writer.write(text.encode())
        await writer.drain()
        return path not in ("/cut", "/bye")


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()


def against(work: Callable[[Server], Awaitable[LoadResult]]) -> tuple[LoadResult, Server]:
    async def main() -> tuple[LoadResult, Server]:
        async with serving() as server:
            return await work(server), server

    return asyncio.run(main())


def spec_for(server: Server, *entries: MixEntry, rate: float = 100, seconds: float = 0.3, **more: object) -> LoadSpec:
    mix = Mix(requests=list(entries) or [MixEntry(path="/")])
    return LoadSpec(f"http://127.0.0.1:{server.port}", rate, seconds, mix, **more)  # type: ignore[arg-type]


def test_all_requests_leave_at_their_rate_over_kept_connections() -> None:
    result, server = against(lambda server: run_load(spec_for(server, rate=400, seconds=0.25)))
    assert (result.totals.sent, result.totals.ok, result.totals.failed) == (100, 100, 0)
    assert 0.2 <= result.seconds < 3
    assert result.stopped_by == "all sent"
    assert result.statuses == {"200": 100}
    assert result.headers == {"x-gallery-instance": {"one": 100}}
    assert server.connections == result.generator.connections_opened < 50
    assert result.phases == {"start": result.totals}


def test_the_loop_is_open_slow_answers_do_not_hold_back_later_requests() -> None:
    result, _ = against(lambda server: run_load(spec_for(server, MixEntry(path="/slow"))))
    assert result.totals.ok == 30
    assert result.seconds < 3.0  # one after the other would take 6 s
    assert 195 <= result.totals.latency_ms.p50 < 1_000


def test_latency_counts_from_the_due_time_so_waiting_for_a_connection_is_paid() -> None:
    result, server = against(
        lambda server: run_load(spec_for(server, MixEntry(path="/slow"), rate=50, seconds=0.12, connections_max=2))
    )
    assert server.connections == 2
    assert result.totals.ok == 6
    assert result.totals.latency_ms.max > 450  # the last of 6, two at a time, 200 ms each, due after 100 ms
    assert result.generator.waiting_max >= 2


def test_a_stall_of_the_generator_itself_is_not_hidden() -> None:
    async def stalled(server: Server) -> LoadResult:
        running = asyncio.create_task(run_load(spec_for(server, rate=100, seconds=0.5)))
        await asyncio.sleep(0.1)
        time.sleep(0.3)  # noqa: ASYNC251 - the stall
        return await running

    result, _ = against(stalled)
    assert result.totals.ok == 50
    assert result.generator.late_max_ms > 200
    assert result.totals.latency_ms.max > 200


FAILURES = [
    pytest.param("/fail", 503, None, "upstream reset.", id="a status"),
    pytest.param("/cut", 200, "connection closed in the middle of the answer", "hal", id="cut off"),
    pytest.param("/gone", None, "connection closed before any answer", "", id="no answer"),
    pytest.param("/hang", None, "timeout after 0.2 s", "", id="too late"),
]


@pytest.mark.parametrize(("path", "status", "error", "body"), FAILURES)
def test_a_failure_is_kept_with_its_evidence_and_never_sent_again(
    path: str, status: int | None, error: str | None, body: str
) -> None:
    entries = [MixEntry(path=path, method="POST", name="post")]
    result, server = against(
        lambda server: run_load(spec_for(server, *entries, rate=50, seconds=0.1, timeout_seconds=0.2))
    )
    assert len(server.seen) == result.totals.sent == result.totals.failed == result.totals.failed_unsafe == 5
    assert len(result.failures) == 5
    failure = result.failures[0]
    assert (failure.status, failure.error, failure.method, failure.path) == (status, error, "POST", path)
    assert (failure.unsafe, failure.written, failure.name, failure.phase) == (True, True, "post", "start")
    assert failure.body.startswith(body)
    assert len(failure.body) <= 200
    if status == 503:
        assert failure.headers["x-envoy-flags"] == "UC"


def test_a_marked_error_is_set_apart_and_any_other_is_not() -> None:
    entries = [MixEntry(path="/fail", method="POST"), MixEntry(path="/gone"), MixEntry(path="/")]
    result, _ = against(lambda server: run_load(spec_for(server, *entries, apart_header="X-Envoy-Flags")))
    totals, apart = result.totals, [failure for failure in result.failures if failure.apart]
    assert (totals.apart, len(apart)) == (result.statuses["503"], result.statuses["503"])
    assert totals.failed == sum(failure.path == "/gone" for failure in result.failures) > 0
    assert {failure.path for failure in apart} == {"/fail"}
    assert (totals.failed_unsafe, totals.sent) == (0, totals.ok + totals.failed + totals.apart)
    assert result.failures_not_kept == 0


def test_the_first_and_last_time_of_a_value_are_those_of_its_requests() -> None:
    before = time.time()
    result, _ = against(lambda server: run_load(spec_for(server, timed_header="x-gallery-instance", seconds=0.5)))
    [(value, (first, last))] = result.times.items()
    assert value == "one"
    assert 0.4 < last - first < 0.6
    assert before <= first < last <= time.time()


def test_nobody_listening_is_a_failure_that_never_left() -> None:
    spec = LoadSpec("http://127.0.0.1:1", 50, 0.1)
    result = asyncio.run(run_load(spec))
    assert result.totals.failed == 5
    assert all(not failure.written and "Refused" in str(failure.error) for failure in result.failures)


@pytest.mark.parametrize("path", ["/bye", "/chunks"])
def test_closing_after_an_answer_chunks_and_interim_answers_are_no_failures(path: str) -> None:
    result, _ = against(lambda server: run_load(spec_for(server, MixEntry(path=path))))
    assert (result.totals.ok, result.totals.failed) == (30, 0)


def test_a_mix_is_sent_by_weight_with_keys_bodies_and_variables() -> None:
    mix = read_mix(
        json.dumps(
            {
                "requests": [
                    {"path": "/photos/{photo}", "weight": 3, "headers": {"X-A": "b"}},
                    {"path": "/c", "method": "POST", "name": "keyed", "json": {"n": "{n}"}, "idempotencyKey": True},
                    {"path": "/c", "method": "POST", "name": "bare", "body": "hi", "expect": [201]},
                ],
                "variables": {"photo": ["a", "b"]},
            }
        )
    )

    def work(server: Server) -> Awaitable[LoadResult]:
        url = f"http://127.0.0.1:{server.port}"
        return run_load(LoadSpec(url, 500, 0.4, mix, host="gallery.localhost"))

    result, server = against(work)
    keyed = [(headers, body) for _, headers, body in server.seen if "idempotency-key" in headers]
    assert result.totals.sent == len(server.seen) == 200
    assert {headers["host"] for _, headers, _ in server.seen} == {"gallery.localhost"}
    assert {line.split()[1] for line, headers, _ in server.seen if headers.get("x-a") == "b"} == {
        "/photos/a",
        "/photos/b",
    }
    assert len({headers["idempotency-key"] for headers, _ in keyed}) == len(keyed) == result.requests["keyed"].sent > 20
    assert len({body for _, body in keyed}) == len(keyed)
    assert keyed[0][0]["content-type"] == "application/json"
    assert result.requests["GET /photos/{photo}"].ok > 90
    bare = result.requests["bare"]
    assert bare.failed == bare.failed_unsafe == bare.sent == result.totals.failed  # 201 was expected, 200 came


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"url": "http://example.com"}, "not loopback", id="a name"),
        pytest.param({"url": "http://8.8.8.8:80"}, "not loopback", id="an address"),
        pytest.param({"url": "http://0.0.0.0:80"}, "not loopback", id="any address"),
        pytest.param({"url": "http://localhost.example.com"}, "not loopback", id="looks like localhost"),
        pytest.param({"url": "http://127.0.0.1@example.com"}, "not loopback", id="user part"),
        pytest.param({"url": "https://127.0.0.1"}, "http://HOST:PORT", id="https"),
        pytest.param({"url": "http://127.0.0.1:99999"}, "port", id="port"),
        pytest.param({"rate": 10_000}, "rate must be", id="rate"),
        pytest.param({"rate": float("nan")}, "rate must be", id="no number"),
        pytest.param({"seconds": 1e9}, "seconds must be", id="time"),
        pytest.param({"rate": 5_000, "seconds": 3_000}, "rate x seconds", id="count"),
        pytest.param({"mix": Mix(requests=[])}, "1 to 100", id="empty mix"),
        pytest.param({"mix": Mix(requests=[MixEntry(path="x")])}, "path begins", id="path"),
        pytest.param({"mix": Mix(requests=[MixEntry(path="/", method="HEAD")])}, "HEAD", id="method"),
        pytest.param({"mix": Mix(requests=[MixEntry(path="/", headers={"a": "b\r\nc"})])}, "headers", id="injection"),
        pytest.param({"mix": Mix(requests=[MixEntry(path="/", headers={"Idempotency-Key": "b"})])}, "idem", id="key"),
        pytest.param({"mix": Mix(requests=[MixEntry(path="/", body="a", json=1)])}, "only one of", id="bodies"),
        pytest.param({"host": "a\r\nb"}, "Host", id="host injection"),
    ],
)
def test_what_is_not_allowed_is_refused_with_a_reason(change: dict[str, object], says: str) -> None:
    asked = {"url": "http://127.0.0.1:1", "rate": 1.0, "seconds": 1.0} | change
    with pytest.raises(LoadRefusedError, match=says):
        Load(LoadSpec(**asked), lambda _: None)  # type: ignore[arg-type]


def test_a_misspelt_mix_is_refused_with_its_place() -> None:
    with pytest.raises(LoadRefusedError, match="wieght"):
        read_mix('[{"path": "/", "wieght": 3}]')


@given(st.lists(st.floats(0, 100), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_never_too_low_and_at_most_two_percent_too_high(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)] * 1000
    assert exact * 0.9999 - 0.001 <= histogram.quantile_ms(share) <= exact * 1.017 + 0.002


def test_a_process_of_its_own_obeys_and_reports(tmp_path: Path) -> None:
    events: queue.Queue[Mapping[str, object]] = queue.Queue()
    seen: set[object] = set()

    def wait_event(name: str) -> Mapping[str, object]:
        while (event := events.get(timeout=10))["event"] != name:
            seen.add(event["event"])
        seen.add(name)
        return event

    def drive(server: Server) -> LoadResult:
        entry = MixEntry(path="/", method="POST", json={"a": [1]})
        load = LoadProcess(spec_for(server, entry, rate=100, seconds=60), tmp_path / "r.json", events.put)
        try:
            assert wait_event("progress")["failed"] == 0
            load.set_phase("kill one")
            wait_event("phase")
            wait_event("progress")
            result = load.stop(10)
            wait_event("finished")
            return result
        finally:
            load.kill()

    result, server = against(lambda server: asyncio.to_thread(drive, server))
    assert result.stopped_by == "stop"
    assert set(result.phases) == {"start", "kill one"}
    assert result.phases["start"].sent + result.phases["kill one"].sent == result.totals.sent == result.totals.ok
    assert seen == {"started", "progress", "phase", "finished"}
    assert server.seen[0][2] == b'{"a":[1]}'


@pytest.mark.parametrize("way", ["SIGTERM", "stdin closed"])
def test_a_process_ends_with_its_result_when_told_or_when_its_parent_is_gone(way: str, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    command = [sys.executable, "-m", "spinyard.testing.load", "--url", "http://127.0.0.1:1", "--rate", "20"]
    process = subprocess.Popen(
        [*command, "--seconds", "60", "--out", str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert process.stdin and process.stdout
    assert msgspec.json.decode(process.stdout.readline())["event"] == "started"
    if way == "SIGTERM":
        process.send_signal(signal.SIGTERM)
    else:
        process.stdin.close()
    assert process.wait(10) in (0, 1)  # nobody listens there: what was sent has failed
    result = read_result(out)
    assert result.stopped_by == way
    assert result.totals.failed == result.totals.sent < 20
    process.stdout.close()
    process.stdin.close()


def test_a_wrong_argument_is_exit_code_2_and_a_sentence() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "spinyard.testing.load", "--url", "http://example.com", "--rate", "1", "--seconds", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        timeout=20,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("load: 'example.com' is not loopback")
