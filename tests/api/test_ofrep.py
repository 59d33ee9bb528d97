"""The flag over OFREP: a real server over the real store, asked by the real openfeature-sdk and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import uvicorn
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from spinyard.api.notifier import CommitNotifier
from spinyard.api.ofrep import OfrepApp, OfrepDeps, OfrepLimits
from spinyard.clock import SystemClock
from spinyard.core.ids import Uid
from spinyard.core.plan import Plan
from spinyard.core.shift import Sticky
from spinyard.core.spec import Kind
from spinyard.core.spinout import BoundaryRoute, SpinoutSpec
from spinyard.ports.store import Commit, NewObject
from spinyard.spinout.status import SpinoutStatus
from spinyard.store import SqlStore
from spinyard.usecases.flags import read_flags
from spinyard_sdk.wire import UNIT, side_of

SPEC = SpinoutSpec(
    parent="shop", unit="thumbs", routes=(BoundaryRoute("/thumb/*", "GET"),), key=Sticky(header="x-user")
)
KEYS = [f"user-{number}" for number in range(300)]


@dataclass
class Flags:
    """The server, and Spinouts whose weights a test sets as an engine would."""

    store: SqlStore
    app: OfrepApp
    base: str
    session: aiohttp.ClientSession
    notifier: CommitNotifier

    def make(self, name: str, namespace: str = "default", spec: SpinoutSpec = SPEC) -> Uid:
        uid = SystemClock().new_uid()
        new = NewObject(uid, Kind.SPINOUT, namespace, name, spec, "proposed", b"{}")
        self.store.transact(lambda tx: tx.insert(new, actor="test", why="made"), now=SystemClock().now())
        return uid

    def set(
        self, state: str, weight: int = 0, shown: int | None = None, *, finished: bool = False, **more: Any
    ) -> None:
        """All of them go there."""
        now = SystemClock().now()
        status = SpinoutStatus(weight=weight, shown_weight=weight if shown is None else shown, **more)
        uids = self.store.read(lambda tx: [one.row.uid for one in tx.select(Kind.SPINOUT)], now=now)
        self.store.wake(uids, now=now)
        rows = self.store.claim(holder="test", now=now, lease_seconds=5.0, limit=100)
        plan = Plan(
            state=state, status=msgspec.json.encode(status), why="t", reason="Test", wake_at=None, finished=finished
        )
        done = self.store.commit([Commit(row, plan, release=True) for row in rows], now=now)
        assert rows and len(done) == len(rows)
        self.notifier.notify(self.store.commit_seq())

    async def move(self, state: str, weight: int = 0, shown: int | None = None, **more: Any) -> None:
        """And the board has seen it by itself."""
        self.set(state, weight, shown, **more)
        expected = self.store.read(read_flags, now=SystemClock().now())
        async with asyncio.timeout(5):
            while self.app.board.flags != expected:
                await self.app.board.wait_after(self.app.board.turn, 5.0)

    async def post(self, path: str = "", body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        sent = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        async with self.session.post(f"{self.base}/ofrep/v1/evaluate/flags{path}", data=data, headers=sent) as answer:
            return answer.status, await answer.json() if answer.status != 304 else None, answer.headers


@contextlib.asynccontextmanager
async def serving(home: Path, limits: OfrepLimits) -> AsyncIterator[Flags]:
    clock = SystemClock()
    store = SqlStore(str(home / "flags.db"), new_id=clock.new_uid)
    readers = ThreadPoolExecutor(2)

    async def run_read(work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(readers, work)

    notifier = CommitNotifier()
    app = OfrepApp(OfrepDeps(store, run_read, notifier, clock, lambda: "127.0.0.1:8081", limits))
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server: Any = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None
    tasks = [asyncio.create_task(server.serve(sockets=[listener])), asyncio.create_task(app.board.follow())]
    listener.listen()
    async with aiohttp.ClientSession() as session:
        yield Flags(store, app, f"http://127.0.0.1:{listener.getsockname()[1]}", session, notifier)
    app.streams.close()
    server.should_exit = True
    await tasks[0]
    tasks[1].cancel()
    await asyncio.wait(tasks)
    readers.shutdown()
    store.close()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be copied: making one takes half a second."""
    path = tmp_path_factory.mktemp("empty") / "flags.db"
    SqlStore(str(path), new_id=SystemClock().new_uid).close()
    return path


@pytest.fixture
def home(empty_store: Path, tmp_path: Path) -> Path:
    shutil.copy(empty_store, tmp_path)
    return tmp_path


@pytest.fixture
async def flags(home: Path) -> AsyncIterator[Flags]:
    async with serving(home, OfrepLimits(heartbeat_seconds=0.2, poll_seconds=0.05)) as found:
        yield found


@pytest.fixture
def openfeature() -> Any:
    """A client of the real SDK; its calls block, so they go to a thread."""

    def connect(base: str) -> OpenFeatureClient:
        api.set_provider(OFREPProvider(base))
        return api.get_client()

    yield connect
    api.clear_providers()


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


# -- one flag, by the real SDK -----------------------------------------------------------------------------------------


async def test_the_openfeature_sdk_gets_the_side_that_envoy_would_choose(flags: Flags, openfeature: Any) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", 2_500)
    client = openfeature(flags.base)

    def sides() -> dict[str, Any]:
        return {key: client.get_boolean_details("thumbnails", False, EvaluationContext(key)) for key in KEYS}

    found = await in_thread(sides)
    assert {one.error_message for one in found.values()} == {None}
    assert {key: one.value for key, one in found.items()} == {key: side_of(key, 2_500) == UNIT for key in KEYS}
    assert {one.value for one in found.values()} == {True, False}
    assert {(one.variant, one.value) for one in found.values()} == {("unit", True), ("parent", False)}
    one = found[KEYS[0]]
    assert one.reason == Reason.SPLIT
    assert one.flag_metadata["weight"] == 2_500
    assert one.flag_metadata["host"] == "thumbnails.default.boundary.internal"
    assert one.flag_metadata["gateway"] == "127.0.0.1:8081"


async def test_a_spinout_of_another_namespace_is_asked_for_with_it(flags: Flags, openfeature: Any) -> None:
    flags.make("thumbnails", "shop")
    await flags.move("ramping", 10_000)
    client = openfeature(flags.base)
    found = await in_thread(lambda: client.get_boolean_details("shop/thumbnails", False, EvaluationContext("a")))
    assert (found.value, found.reason) == (True, Reason.STATIC)


async def test_an_unknown_flag_gives_the_programs_own_default(flags: Flags, openfeature: Any) -> None:
    client = openfeature(flags.base)
    found = await in_thread(lambda: client.get_boolean_details("nothing", True, EvaluationContext("a")))
    assert (found.value, found.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)


async def test_without_a_key_the_parent_answers_or_the_default_where_there_is_no_rule(
    flags: Flags, openfeature: Any
) -> None:
    flags.make("ruled")
    flags.make("open", spec=replace(SPEC, key=Sticky(header="x-user", no_key_old=False)))
    await flags.move("ramping", 5_000)
    client = openfeature(flags.base)
    ruled = await in_thread(lambda: client.get_boolean_details("ruled", True))
    assert (ruled.value, ruled.reason, ruled.error_code) == (False, Reason.STATIC, None)
    unruled = await in_thread(lambda: client.get_boolean_details("open", True))
    assert (unruled.value, unruled.error_code) == (True, ErrorCode.TARGETING_KEY_MISSING)


@pytest.mark.parametrize("key", ["Jörg", " a", "a\nb", 7, True])
async def test_a_key_that_no_header_could_carry_is_told_so(flags: Flags, key: object) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", 5_000)
    status, body, _ = await flags.post("/thumbnails", {"context": {"targetingKey": key}})
    assert (status, body["errorCode"], body["key"]) == (400, "INVALID_CONTEXT", "thumbnails")


# -- what counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "confirmed", "counts"),
    [
        pytest.param(5_000, 1_000, 1_000, id="on the way up it follows Envoy"),
        pytest.param(0, 5_000, 0, id="on the way down it goes before Envoy"),
        pytest.param(5_000, 5_000, 5_000, id="at rest both are one"),
    ],
)
async def test_the_lower_of_asked_and_confirmed_weight_counts(
    flags: Flags, asked: int, confirmed: int, counts: int
) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", asked, confirmed)
    _, body, _ = await flags.post("/thumbnails", {"context": {"targetingKey": "a"}})
    assert body["metadata"]["weight"] == counts


@pytest.mark.parametrize(
    ("state", "weight", "finished", "expected"),
    [
        ("rolled_back", 5_000, False, (False, "DISABLED")),
        ("contracted", 5_000, False, (False, "DISABLED")),
        ("shadowing", 0, False, (False, "STATIC")),
        ("soaking", 10_000, False, (True, "STATIC")),
        ("completed", 0, True, (True, "STATIC")),
        ("abandoned", 5_000, True, (False, "DISABLED")),
    ],
)
async def test_phases_without_a_split_say_so(
    flags: Flags, state: str, weight: int, finished: bool, expected: tuple[bool, str]
) -> None:
    flags.make("thumbnails")
    await flags.move(state, weight, finished=finished)
    _, body, _ = await flags.post("/thumbnails", {"context": {"targetingKey": "a"}})
    assert (body["value"], body["reason"]) == expected


async def test_a_spinout_that_only_newer_code_can_read_takes_no_other_flag_away(flags: Flags) -> None:
    flags.make("a")
    await flags.move("ramping", 5_000)
    flags.make("newer")
    now = SystemClock().now()
    (row,) = flags.store.claim(holder="newer", now=now, lease_seconds=5.0, limit=10)
    assert row.name == "newer"
    plan = Plan(state="ramping", status=b'{"weight":{"percent":50}}', why="t", reason="Test", wake_at=None)
    flags.store.commit([Commit(row, plan, release=True)], now=now)
    await flags.app.board.refresh()
    assert set(flags.app.board.flags) == {"a"}
    assert (await flags.post("/a", {"context": {"targetingKey": "x"}}))[0] == 200
    assert (await flags.post("/newer", {"context": {"targetingKey": "x"}}))[0] == 404


# -- all flags, and their changes --------------------------------------------------------------------------------------


async def test_all_flags_come_with_an_etag_and_are_not_sent_twice(flags: Flags) -> None:
    flags.make("a")
    flags.make("b")
    await flags.move("ramping", 5_000)
    context = {"context": {"targetingKey": "someone"}}
    status, body, headers = await flags.post("", context)
    assert (status, [one["key"] for one in body["flags"]]) == (200, ["a", "b"])
    assert body["eventStreams"] == [{"type": "sse", "endpoint": {"requestUri": "/ofrep/v1/stream"}}]
    assert (await flags.post("", context, if_none_match=headers["etag"]))[0] == 304
    here = side_of("someone", 5_000)
    beside = next(key for key in KEYS if side_of(key, 5_000) == here)
    other = next(key for key in KEYS if side_of(key, 5_000) != here)
    known = headers["etag"]
    assert (await flags.post("", {"context": {"targetingKey": beside}}, if_none_match=known))[0] == 304
    assert (await flags.post("", {"context": {"targetingKey": other}}, if_none_match=known))[0] == 200
    await flags.move("ramping", 10_000)
    assert (await flags.post("", context, if_none_match=headers["etag"]))[0] == 200


async def test_the_stream_says_when_to_evaluate_again(flags: Flags) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", 100)
    async with flags.session.get(f"{flags.base}/ofrep/v1/stream") as stream:
        assert stream.content_type == "text/event-stream"
        assert (await stream.content.readline()).startswith(b":")
        await flags.move("ramping", 500)
        lines = [await stream.content.readline() for _ in range(8)]
    told = b"".join(line for line in lines if not line.startswith(b":")).decode().strip().split("\n")
    event = dict(line.split(": ", 1) for line in told if line)
    assert event["event"] == "message"
    assert json.loads(event["data"])["type"] == "refetchEvaluation"
    assert json.loads(event["data"])["etag"] == flags.app.board.etag
    assert event["id"] == flags.app.board.etag.strip('"')


async def test_a_change_that_was_missed_is_told_to_who_comes_back(flags: Flags) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", 100)
    known = flags.app.board.etag.strip('"')
    await flags.move("ramping", 500)
    async with flags.session.get(f"{flags.base}/ofrep/v1/stream", headers={"last-event-id": known}) as stream:
        lines = [await stream.content.readline() for _ in range(5)]
    assert any(b"refetchEvaluation" in line for line in lines)


async def test_figures_that_change_with_every_pass_are_no_change_of_the_flag(flags: Flags) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", 100)
    turn = flags.app.board.turn
    for blind in range(5):
        flags.set("ramping", 100, blind_since=float(blind))
    await flags.app.board.refresh()
    assert flags.app.board.turn == turn


# -- who may ask, and how much -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "PARSE_ERROR"),
        (b"[]", 400, "PARSE_ERROR"),
        (b'{"context": 7}', 400, "PARSE_ERROR"),
        (b"[" * 30_000, 400, "PARSE_ERROR"),
        (b'{"context":{"a":"' + b"x" * 70_000 + b'"}}', 413, "PARSE_ERROR"),
        (b"\xff\xfe", 400, "PARSE_ERROR"),
    ],
    ids=["cut", "list", "context", "deep", "long", "not text"],
)
async def test_a_body_that_is_no_context_is_refused(flags: Flags, body: bytes, status: int, code: str) -> None:
    found = await flags.post("/thumbnails", body)
    assert (found[0], found[1]["errorCode"]) == (status, code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"content_type": "text/plain"}, 415),
    ],
)
async def test_a_page_in_a_browser_gets_nothing(flags: Flags, headers: dict[str, str], status: int) -> None:
    flags.make("thumbnails")
    found = await flags.post("/thumbnails", {}, **headers)
    assert found[0] == status
    assert "metadata" not in found[1]


async def test_too_many_are_told_when_to_come_again(home: Path, openfeature: Any) -> None:
    async with serving(home, OfrepLimits(requests_per_second=0.001, burst_max=3)) as flags:
        found = [await flags.post("/nothing") for _ in range(4)]
        assert [one[0] for one in found] == [404, 404, 404, 429]
        assert found[3][2]["retry-after"] == "1"
        client = openfeature(flags.base)
        limited = await in_thread(lambda: client.get_boolean_details("nothing", True, EvaluationContext("a")))
        assert (limited.value, limited.error_code) == (True, ErrorCode.GENERAL)


async def test_who_sends_slowly_takes_no_place_from_who_sends_at_once(home: Path) -> None:
    async with serving(home, OfrepLimits(in_flight_max=2)) as flags:
        place = flags.base.removeprefix("http://").split(":")
        head = f"POST /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: {place[0]}\r\nContent-Length: 2\r\n\r\n{{"
        slow = [await asyncio.open_connection(*place) for _ in range(5)]
        for _, writer in slow:
            writer.write(head.encode())
            await writer.drain()
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in slow]
        async with asyncio.timeout(3):
            for _, answer in zip(range(3), asyncio.as_completed(answers), strict=False):
                assert (await answer).split()[1] == b"408", "two may wait"
        for _ in range(5):
            assert (await flags.post("/nothing"))[0] == 404
        for _, writer in slow:
            writer.close()
        await asyncio.gather(*answers)


async def test_streams_have_a_bound(home: Path) -> None:
    async with serving(home, OfrepLimits(streams_max=1)) as flags:
        first = await flags.session.get(f"{flags.base}/ofrep/v1/stream")
        await first.content.readline()
        second = await flags.session.get(f"{flags.base}/ofrep/v1/stream")
        assert (first.status, second.status) == (200, 429)
        first.close()


async def test_evaluations_never_wait_for_the_store(flags: Flags) -> None:
    flags.make("thumbnails")
    await flags.move("ramping", 5_000)
    held, let_go = threading.Event(), threading.Event()

    def hold(tx: Any) -> None:
        held.set()
        let_go.wait(10)

    writing = asyncio.create_task(asyncio.to_thread(flags.store.transact, hold, now=SystemClock().now()))
    await asyncio.to_thread(held.wait, 5)
    try:
        for _ in range(20):
            assert (await flags.post("/thumbnails", {"context": {"targetingKey": "a"}}))[0] == 200
    finally:
        let_go.set()
        await writing
