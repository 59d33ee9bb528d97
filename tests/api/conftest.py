"""The real application under a real uvicorn, over the real store; what the engine does is done by hand in the tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import uvicorn

from spinyard.api.app import create_app
from spinyard.api.connection import BoundedConnection
from spinyard.api.deps import ApiDeps, ApiLimits, ExecPart, ExecResult, Figure, PreflightResult, Stray, Swept
from spinyard.api.notifier import CommitNotifier
from spinyard.api.streams import Streams
from spinyard.clock import SystemClock
from spinyard.core.ids import Uid
from spinyard.core.plan import Plan
from spinyard.errors import InvalidInput, ProviderFailure
from spinyard.ports.store import Commit
from spinyard.store import SqlStore

T = TypeVar("T")
TOKEN = "a-token-of-the-tests"
SERVICE = {
    "spec": {
        "replicas": 2,
        "template": {"command": ["sleep", "60"], "ports": [{"name": "http"}]},
    }
}


@dataclass
class World:
    """The server and what a test may do to it."""

    store: SqlStore
    deps: ApiDeps
    base: str
    session: aiohttp.ClientSession
    streams: Streams
    token: list[str]
    hints: list[int] = field(default_factory=list)
    swept: list[bool] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    """began and ended, of each streamed command"""

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {"Authorization": f"Bearer {self.token[0]}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        sent = {k: v for k, v in sent.items() if v}
        async with self.session.request(method, self.base + path, json=body, headers=sent) as response:
            text = await response.text()
            found = (
                await response.json(content_type=None)
                if response.content_type.endswith("json") and "nd" not in response.content_type
                else None
            )
            return Answer(response.status, found, text, response.headers)

    def drive(self, state: str, *, finished: bool = False, status: bytes = b"{}", reason: str = "Test") -> None:
        """One pass of an engine: every due object goes to that state."""
        now = self.deps.clock.now()
        rows = self.store.claim(holder="test", now=now, lease_seconds=5.0, limit=100)
        plans = [
            Plan(
                state=state,
                status=status.replace(b"GENERATION", str(row.generation).encode()),
                why=f"It is {state}.",
                reason=reason,
                wake_at=None,
                finished=finished,
            )
            for row in rows
        ]
        self.store.commit([Commit(r, p, release=True) for r, p in zip(rows, plans, strict=True)], now=now)


@dataclass(frozen=True)
class Answer:
    status: int
    json: Any
    text: str
    headers: Mapping[str, str]

    @property
    def code(self) -> tuple[int, str]:
        return self.status, self.json["code"]


@pytest.fixture
def limits() -> ApiLimits:
    return ApiLimits(poll_seconds=0.05, body_seconds=0.5, heartbeat_seconds=0.2)


@pytest.fixture
async def world(tmp_path: Path, limits: ApiLimits) -> AsyncIterator[World]:
    async with running(tmp_path, limits) as found:
        yield found


@pytest.fixture(scope="module")
async def still_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One for a whole module, for requests that change nothing."""
    async with running(tmp_path_factory.mktemp("still"), ApiLimits(body_seconds=0.5)) as found:
        yield found


@contextlib.asynccontextmanager
async def running(home: Path, limits: ApiLimits, **changes: Any) -> AsyncIterator[World]:
    clock = SystemClock()
    store = SqlStore(str(home / "test.db"), new_id=clock.new_uid)
    writer, readers = ThreadPoolExecutor(1), ThreadPoolExecutor(4)
    token, hints, swept = [TOKEN], [], []
    streamed: list[str] = []
    notifier = CommitNotifier()

    def hint() -> None:
        hints.append(1)
        notifier.notify(store.commit_seq())

    async def execute(uid: Uid, command: Any, timeout: float) -> ExecResult:
        return ExecResult(0, f"{uid} ran {' '.join(command)} within {timeout:g} s")

    async def stream(uid: Uid, command: Any, timeout: float) -> AsyncGenerator[ExecPart, None]:
        if command[0] == "missing":
            raise InvalidInput("missing: not found in PATH", code="command_not_found")
        yield ExecPart("started")
        streamed.append("began")
        try:
            for word in command:
                yield ExecPart("stdout", word.encode())
            if command[-1] == "for-ever":
                await asyncio.Event().wait()
            if command[-1] == "break":
                raise ProviderFailure("The keeper does not answer")
            yield ExecPart("exit", exit_code=3, why="")
        finally:
            streamed.append("ended")

    async def orphans() -> list[Stray]:
        return [Stray("k/process", "process", "pid 1", "its owner is gone")]

    async def sweep(dry_run: bool) -> list[Swept]:
        swept.append(dry_run)
        return [Swept("k/process", "process", "removed", "its owner is gone")]

    async def preflight(declared: Any) -> list[PreflightResult]:
        return [PreflightResult("command", "ok", d.id.path, "found") for d in declared]

    deps = ApiDeps(
        store=store,
        clock=clock,
        run_write=_runner(writer),
        run_read=_runner(readers),
        token=lambda: token[0],
        hint=hint,
        notifier=notifier,
        log_dir=lambda uid: home / "logs" / uid,
        execute=execute,
        stream=stream,
        orphans=orphans,
        sweep=sweep,
        info=lambda: {"version": "0.1.0", "home": str(home), "gateway": "127.0.0.1:8080", "store": "sqlite"},
        figures=lambda: [Figure("spinyard_engine_passes_total", 3.0, "Passes.", "counter")],
        preflight=(preflight,),
        limits=limits,
    )
    deps = replace(deps, **changes)
    app = create_app(deps)
    # With the protocol named, or asyncio leaves out TCP_NODELAY and each answer waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=BoundedConnection, log_level="warning", lifespan="off", timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    listener.listen()
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with aiohttp.ClientSession() as session:
        yield World(store, deps, base, session, app.state.streams, token, hints, swept, streamed)
    app.state.streams.close()
    server.should_exit = True
    await task
    writer.shutdown()
    readers.shutdown()
    store.close()


def _runner(pool: ThreadPoolExecutor) -> Any:
    async def run(work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    return run
