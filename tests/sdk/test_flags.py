"""Where a process has its weights from, and what holds when nobody says anything."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from spinyard_sdk import flags as flags_module
from spinyard_sdk.flags import Flag, Reader, _flag

ROOT = Path(__file__).resolve().parents[2]


class ControlPlane:
    """OFREP as far as the SDK uses it. `streams` False: it has none, so it must be polled."""

    def __init__(self) -> None:
        self.weight = 0
        self.streams = True
        self.broken = b""
        self.asked = 0
        self.turn = threading.Condition()
        self.etag = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                outer.asked += 1
                etag = f'"{outer.etag}"'
                if self.headers.get("if-none-match") == etag:
                    self.send_response(304)
                    self.end_headers()
                    return
                body = outer.broken or outer.body()
                self.send_response(200)
                self.send_header("etag", etag)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                seen = outer.etag
                self.wfile.write(b": here\n\n")
                with outer.turn:
                    while not outer.closing:
                        outer.turn.wait(0.2)
                        if outer.etag != seen:
                            seen = outer.etag
                            self.wfile.write(b'event: message\ndata: {"type": "refetchEvaluation"}\n\n')

            def log_message(self, format: str, *args: Any) -> None: ...

        self._handler = Handler
        self.closing = False

    def body(self) -> bytes:
        about = {"weight": self.weight, "shadow": 7, "gateway": "127.0.0.1:9", "host": "h"}
        flag = {"key": "thumbs", "value": False, "reason": "SPLIT", "variant": "parent", "metadata": about}
        streams = [{"type": "sse", "endpoint": {"requestUri": "/ofrep/v1/stream"}}] if self.streams else []
        return json.dumps({"flags": [flag], "eventStreams": streams}).encode()

    def set(self, weight: int, broken: bytes = b"") -> None:
        with self.turn:
            self.weight, self.broken = weight, broken
            self.etag += 1
            self.turn.notify_all()

    @contextlib.contextmanager
    def serving(self, port: int = 0) -> Iterator[int]:
        server = ThreadingHTTPServer(("127.0.0.1", port), self._handler)
        server.daemon_threads = True
        self.closing = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            with self.turn:
                self.closing = True
                self.turn.notify_all()
            server.shutdown()
            server.server_close()
            thread.join(5)


@pytest.fixture
def plane() -> ControlPlane:
    return ControlPlane()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags_module, "PAUSE_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(flags_module, "POLL_SECONDS", 0.02)


class Heard:
    def __init__(self) -> None:
        self.weights: list[int] = []
        self.moved = threading.Condition()

    def __call__(self, flags: Any) -> None:
        with self.moved:
            self.weights.append(flags["thumbs"].weight)
            self.moved.notify_all()

    def wait(self, weight: int) -> None:
        with self.moved:
            assert self.moved.wait_for(lambda: self.weights and self.weights[-1] == weight, 5), self.weights


@contextlib.contextmanager
def reading(port: int) -> Iterator[tuple[Reader, Heard]]:
    heard = Heard()
    reader = Reader(f"http://127.0.0.1:{port}", heard)
    reader.thread.start()
    try:
        yield reader, heard
    finally:
        reader.stop()


def wait(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_change_is_heard_over_the_stream_without_asking_all_the_time(plane: ControlPlane) -> None:
    plane.set(100)
    with plane.serving() as port, reading(port) as (_, heard):
        heard.wait(100)
        asked = plane.asked
        plane.set(500)
        heard.wait(500)
        assert plane.asked <= asked + 2


def test_without_a_stream_it_is_polled(plane: ControlPlane) -> None:
    plane.streams = False
    plane.set(100)
    with plane.serving() as port, reading(port) as (_, heard):
        heard.wait(100)
        plane.set(500)
        heard.wait(500)


def test_the_last_weight_holds_while_the_control_plane_is_away_and_a_new_one_counts_when_it_is_back(
    plane: ControlPlane,
) -> None:
    plane.set(100)
    with plane.serving() as port:
        pass
    with reading(port) as (reader, heard):
        with plane.serving(port):
            heard.wait(100)
        time.sleep(0.1)
        assert heard.weights == [100], "silence is no news"
        plane.set(800)
        with plane.serving(port):
            heard.wait(800)
        assert reader.thread.is_alive()


@pytest.mark.parametrize(
    "broken",
    [
        b"<html>",
        b"[]",
        b'{"flags": 7}',
        b'{"flags": [], "eventStreams": 7}',
        b'{"flags": [{"key": "thumbs", "errorCode": "GENERAL"}]}',
        b"x" * (5 << 20),
    ],
    ids=["html", "list", "number", "streams", "flag with an error", "endless"],
)
def test_an_answer_that_is_none_changes_nothing(plane: ControlPlane, broken: bytes) -> None:
    plane.set(100)
    with plane.serving() as port, reading(port) as (_, heard):
        heard.wait(100)
        asked = plane.asked
        plane.set(100, broken)
        wait(lambda: plane.asked > asked)
        assert heard.weights == [100]
        plane.set(300)
        heard.wait(300)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"weight": 10_000, "gateway": "127.0.0.1:1", "host": "h"}, Flag(10_000, 0, "127.0.0.1:1", "h")),
        ({"weight": 5, "shadow": -1, "gateway": "nowhere"}, Flag(5, 0, "", "")),
        ({"weight": 10_001}, None),
        ({"weight": "5"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_only_what_makes_sense_is_taken(about: Any, expected: Flag | None) -> None:
    found = _flag({"key": "a", "metadata": about})
    assert (found and found[1]) == expected


FORKED = """
import os, sys, threading
from spinyard_sdk.boundary import boundary, wait_ready
from spinyard_sdk import sides

@boundary("thumbs", key=lambda photo: photo)
def render(photo: str) -> str:
    return "here"

assert threading.active_count() == 1
render("a")
assert wait_ready(10)
state = sides.state_of("thumbs")
assert state.flag.weight == 100, state.flag
child = os.fork()
if child == 0:
    assert [t.name for t in threading.enumerate()] == ["MainThread"]
    assert state.flag.weight == 100, "what was known is known in the child"
    render("a")
    names = [t.name for t in threading.enumerate()]
    os._exit(0 if "spinyard-flags" in names and wait_ready(10) else 7)
assert os.waitpid(child, 0)[1] == 0, "the child"
print("fine")
"""


def test_a_forked_worker_reads_for_itself(plane: ControlPlane) -> None:
    plane.set(100)
    with plane.serving() as port:
        environment = {**os.environ, "SPINYARD_FLAGS": f"http://127.0.0.1:{port}"}
        environment["PYTHONPATH"] = f"{ROOT / 'sdk' / 'src'}"
        found = subprocess.run(
            [sys.executable, "-c", FORKED], env=environment, capture_output=True, text=True, timeout=30, check=False
        )
    assert (found.stdout.strip(), found.stderr) == ("fine", "")
