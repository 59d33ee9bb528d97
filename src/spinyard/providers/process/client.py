"""The keeper's socket, for one event loop: requests are pipelined on one connection, made again when it breaks.

A keeper that is gone is started again (it finds everything that runs). A request whose connection broke is sent once
more: every operation but `run` may run twice. `run` has a connection of its own, so that giving up on it ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from spinyard.ports.clock import Clock
from spinyard.ports.keeper import PROTOCOL_VERSION, InstanceState

ANSWER_BYTES_MAX: Final = 32 << 20
RUNS_AT_ONCE_MAX: Final = 32
KEEPER_START_SECONDS: Final = 15.0
LISTEN_SECONDS: Final = 5.0
LISTEN_PAUSE_SECONDS: Final = 0.1
CALL_SECONDS: Final = 30.0
"""The keeper answers in milliseconds; longer means that it is stopped or the machine stands still."""
RECONNECT_SECONDS: Final = 0.5
KEEPER_EXIT_TAKEN: Final = 8
SOCKET_PATH_MAX: Final = 107

STREAM_LINE_BYTES_MAX: Final = 256 << 10
"""more than one piece of output in base64, and all that is buffered here of a stream"""

Json = dict[str, Any]
_Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class KeeperRefused(Exception):
    """The keeper's own words: error_class as in ports.keeper."""

    def __init__(self, error_class: str, message: str, *, retryable: bool) -> None:
        super().__init__(f"{error_class}: {message}")
        self.error_class = error_class
        self.message = message
        self.retryable = retryable


class KeeperUnreachable(Exception):
    """No answer: whether the request was carried out is unknown."""


class KeeperClient:
    def __init__(self, home: Path, clock: Clock, *, start_keeper: Callable[[], Awaitable[None]] | None = None) -> None:
        """`start_keeper`: called when nobody listens; see `starter`. None: being gone is an error."""
        self._home = home
        self._clock = clock
        self._start_keeper = start_keeper
        self._ids = itertools.count(1)
        self._lock = asyncio.Lock()
        self._connection: _Connection | None = None
        self._runs = asyncio.Semaphore(RUNS_AT_ONCE_MAX)

    async def call(self, op: str, **fields: object) -> Json:
        """Raises KeeperRefused or KeeperUnreachable."""
        for attempt in (1, 2):
            connection = await self._connected()
            try:
                return await asyncio.wait_for(connection.request(self._message(op, fields)), CALL_SECONDS)
            except TimeoutError as failed:
                raise KeeperUnreachable(f"the keeper did not answer {op} in {CALL_SECONDS:g} s") from failed
            except KeeperUnreachable:
                if attempt == 2:
                    raise
        raise AssertionError("the second attempt returns or raises")

    async def run(self, **fields: object) -> Json:
        """Op `run`. Cancelling ends the command."""
        async with self._runs:
            connection = await self._open()
            try:
                return await connection.request(self._message("run", fields))
            finally:
                connection.close()

    async def stream(self, **fields: object) -> AsyncGenerator[Json, None]:
        """Op `run`, its output as it comes; the last one is how it ended. Closing it ends the command. Who does not go
        on reading makes the command wait. Raises KeeperRefused or KeeperUnreachable."""
        reader, writer = await self._reach(STREAM_LINE_BYTES_MAX)
        try:
            writer.write(json.dumps(self._message("run", {**fields, "stream": True})).encode() + b"\n")
            while line := await reader.readline():
                answer = json.loads(line)
                raise_refused(answer)
                yield answer
                if "exit_code" in answer:
                    return
        except (OSError, ValueError) as failed:
            raise KeeperUnreachable(f"the connection to the keeper broke: {failed}") from failed
        finally:
            writer.close()
        raise KeeperUnreachable("the connection to the keeper broke")

    async def events(self) -> AsyncIterator[Json]:
        """For ever. What happened while there was no connection is not told; {"event": "connected"} marks such gaps."""
        while True:
            with contextlib.suppress(KeeperUnreachable):
                connection = await self._open()
                try:
                    await connection.request(self._message("subscribe", {}))
                    yield {"event": "connected"}
                    while True:
                        yield await connection.next_event()
                finally:
                    connection.close()
            await self._clock.sleep(RECONNECT_SECONDS)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- supervised programs, for whoever starts and stops the installation -------------------------------------------

    async def hello(self) -> Json:
        return await self.call("hello")

    async def claim_epoch(self, epoch: int) -> None:
        """Raises KeeperRefused("StaleEpoch") when a higher one was seen."""
        await self.call("claim_epoch", epoch=epoch)

    async def supervise(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        restart: bool = True,
        hot: bool = False,
    ) -> None:
        """`{restart_epoch}` in argv becomes Envoy's number. A changed argv replaces what runs: beside it when `hot`."""
        entries = [{"name": key, "value": value} for key, value in (env or {}).items()]
        await self.call("supervise", name=name, argv=list(argv), env=entries, cwd=cwd, restart=restart, hot=hot)

    async def supervised(self) -> list[Json]:
        """name, pid, started_at, restarts, running."""
        answer = await self.call("supervised")
        programs: list[Json] = answer["supervised"]
        return programs

    async def unsupervise(self, name: str, *, grace_seconds: float = 10.0) -> None:
        await self.call("unsupervise", name=name, signal="SIGTERM", grace_seconds=grace_seconds)

    async def capabilities(self) -> Json:
        answer = await self.call("capabilities")
        described: Json = answer["capabilities"]
        return described

    async def instances(self) -> tuple[list[InstanceState], list[Json]]:
        """All instances, and the strays."""
        answer = await self.call("list")
        return answer["instances"], answer["strays"]

    async def stop(self, *, instances: bool) -> None:
        """Ends the keeper and what it supervises; returns when it is gone."""
        connection = await self._open(start=False)
        try:
            await connection.request(self._message("stop", {"instances": instances}))
            await connection.ended()
        finally:
            connection.close()

    # -- connections ---------------------------------------------------------------------------------------------------

    def _message(self, op: str, fields: Mapping[str, object]) -> Json:
        return {**fields, "v": PROTOCOL_VERSION, "id": next(self._ids), "op": op}

    async def _connected(self) -> _Connection:
        if self._connection is not None and not self._connection.broken:
            return self._connection
        async with self._lock:
            if self._connection is None or self._connection.broken:
                self._connection = await self._open()
            return self._connection

    async def _open(self, *, start: bool = True) -> _Connection:
        return _Connection(*await self._reach(ANSWER_BYTES_MAX, start=start))

    async def _reach(self, line_bytes_max: int, *, start: bool = True) -> _Wire:
        try:
            return await _connect(self._home, line_bytes_max)
        except OSError as failed:
            if self._start_keeper is None or not start:
                raise KeeperUnreachable(f"no keeper answers for {self._home}: {failed}") from failed
        until = self._clock.monotonic() + LISTEN_SECONDS
        while True:
            await self._start_keeper()
            try:
                return await _connect(self._home, line_bytes_max)
            except OSError as failed:
                # One that somebody else just started may not listen yet, or it has been killed meanwhile.
                if self._clock.monotonic() >= until:
                    message = f"no keeper answers for {self._home}, though one was started: {failed}"
                    raise KeeperUnreachable(message) from failed
            await self._clock.sleep(LISTEN_PAUSE_SECONDS)


def starter(home: Path) -> Callable[[], Awaitable[None]]:
    """Starts a keeper in the background and waits until it answers. One that was started by somebody else meanwhile
    is as good."""

    async def start() -> None:
        # The caller may be supervised itself: its token must not become the keeper's.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SPINYARD_")}
        command = (sys.executable, "-m", "spinyard.keeper", "--home", str(home), "--detach")
        # To a file: of a pipe the end is seen only when nothing that was forked meanwhile holds it any more.
        with tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stderr=output
            )
            try:
                await asyncio.wait_for(process.wait(), KEEPER_START_SECONDS)
            except TimeoutError as failed:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise KeeperUnreachable(f"a keeper for {home} did not start in {KEEPER_START_SECONDS:g} s") from failed
            output.seek(0)
            said = output.read()
        if process.returncode not in (0, KEEPER_EXIT_TAKEN):
            text = said.decode(errors="replace").strip()
            raise KeeperUnreachable(f"the keeper could not be started (exit code {process.returncode}): {text}")

    return start


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._unsent: list[bytes] = []
        self._events: asyncio.Queue[Json | None] = asyncio.Queue()
        self._ended = asyncio.Event()
        self.broken = False
        self._task = asyncio.create_task(self._read())

    async def request(self, message: Json) -> Json:
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        request_id: int = message["id"]
        self._waiting[request_id] = future
        try:
            if self.broken:
                raise KeeperUnreachable("the connection to the keeper broke")
            self._send(json.dumps(message).encode() + b"\n")
            answer = await future
        finally:
            self._waiting.pop(request_id, None)
        raise_refused(answer)
        return answer

    def _send(self, line: bytes) -> None:
        """What is asked in one moment is one write."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(line)

    def _flush(self) -> None:
        lines, self._unsent = self._unsent, []
        if not self.broken:
            self._writer.write(b"".join(lines))

    async def next_event(self) -> Json:
        event = await self._events.get()
        if event is None:
            raise KeeperUnreachable("the connection to the keeper broke")
        return event

    async def ended(self) -> None:
        await self._ended.wait()

    def close(self) -> None:
        self._task.cancel()
        self._break()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                self._take(json.loads(line))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            self._break()
        finally:
            self._break()

    def _take(self, message: Json) -> None:
        if "event" in message:
            self._events.put_nowait(message)
            return
        future = self._waiting.get(message["id"])
        if future is not None and not future.done():
            future.set_result(message)

    def _break(self) -> None:
        self.broken = True
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(KeeperUnreachable("the connection to the keeper broke"))
        self._events.put_nowait(None)
        self._ended.set()


def raise_refused(answer: Json) -> None:
    if answer.get("ok"):
        return
    error = answer.get("error") or {}
    raise KeeperRefused(
        str(error.get("error_class", "Internal")), str(error.get("message", "")), retryable=bool(error.get("retryable"))
    )


async def _connect(home: Path, line_bytes_max: int) -> _Wire:
    path = str(home / "run" / "keeper.sock")
    if len(path) <= SOCKET_PATH_MAX:
        return await asyncio.open_unix_connection(path, limit=line_bytes_max)
    # The kernel's limit is for the name as given: a long home is reached through its open directory.
    directory = os.open(home / "run", os.O_PATH | os.O_DIRECTORY)
    try:
        short = f"/proc/self/fd/{directory}/keeper.sock"
        return await asyncio.open_unix_connection(short, limit=line_bytes_max)
    finally:
        os.close(directory)
