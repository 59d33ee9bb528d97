"""The embedded default: programs and directories on this machine. The keeper does it; this speaks with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, Observed, Present, Unknown
from spinyard.core.want import DirectoryWant, FileWant, ProcessWant, Want
from spinyard.errors import ErrorClass, ProviderFailure
from spinyard.ports.clock import Clock
from spinyard.ports.provider import Capabilities, Owned
from spinyard.providers.process import files, translate
from spinyard.providers.process.client import KeeperClient, KeeperRefused, KeeperUnreachable, starter
from spinyard.providers.process.failures import failure_of

OUTPUT_BYTES_DEFAULT: Final = 64 << 10
OUTPUT_BYTES_OLD_KEEPER: Final = 4 << 20
KEEPER_FAILURES: Final = (KeeperRefused, KeeperUnreachable)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """`error_class` is set when it could not be started; `error` is "timeout" when it was killed for its time."""

    exit_code: int | None
    exit_signal: int | None
    output: str
    error_class: str = ""
    error: str = ""

    @property
    def timed_out(self) -> bool:
        return self.error == "timeout"


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """`stream`: stdout, stderr, or started, which has no data and comes first, once the program runs."""

    stream: str
    data: bytes


class ProcessProvider:
    """`epoch` is the lease epoch of this server in its scope: the keeper refuses what comes with a lower one."""

    def __init__(
        self, home: Path, *, installation: str, scope: str, clock: Clock, epoch: int, start_keeper: bool = True
    ) -> None:
        self.keeper = KeeperClient(home, clock, start_keeper=starter(home) if start_keeper else None)
        self._home = home
        self._installation = installation
        self._epoch = epoch
        # The keeper answers in order and from its own children, and finishes what a broken connection sent before it
        # serves the next one: nothing arrives late, nothing is listed late.
        self._capabilities = Capabilities(scope=scope, kinds=frozenset({"process", "directory"}))

    @property
    def name(self) -> str:
        return "process"

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        if isinstance(want, ProcessWant):
            paths = await self._paths(want)
            fields = translate.start_fields(key, want, epoch=self._epoch, installation=self._installation, paths=paths)
            await self._change("start", **fields)
        elif isinstance(want, DirectoryWant):
            await self._change("mkdir", key=key, name=want.name, epoch=self._epoch)
        elif isinstance(want, FileWant):
            path = (await self._paths_of([want.directory]))[want.directory]
            try:
                await asyncio.to_thread(files.write, Path(path), want.name, want.content)
            except OSError as failed:
                raise files.failure(path, want.name, failed) from failed
        else:
            raise ProviderFailure(
                f"{key}: the process provider makes processes and directories, not {type(want).__name__}",
                error_class=ErrorClass.INTERNAL,
                retryable=False,
            )

    async def observe(self, key: ResourceKey) -> Observed:
        try:
            if translate.is_directory(key):
                found = (await self.keeper.call("dirs", key=key))["dirs"]
                if not found:
                    return Absent()
                path: str = found[0]["path"]
                facts = files.facts_at_once(path)
                return Present(await asyncio.to_thread(files.facts, path) if facts is None else facts)
            instance = (await self.keeper.call("observe", key=key))["instance"]
            return Absent() if instance is None else Present(translate.process_facts(instance))
        except KEEPER_FAILURES as failed:
            return Unknown(f"keeper: {failed}")

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        if translate.is_directory(key):
            await self._change("rmdir", key=key, epoch=self._epoch)
        else:
            # How it ended is read before the record goes; what is ended by force has nobody left who asks.
            await self._change("remove", key=key, now=now, keep=not now, epoch=self._epoch)

    async def owned(self) -> Sequence[Owned]:
        try:
            instances, strays = await self.keeper.instances()
            directories = (await self.keeper.call("dirs"))["dirs"]
        except KEEPER_FAILURES as failed:
            raise failure_of(failed) from failed
        found: dict[str, tuple[str, bool]] = {
            state["key"]: (f"process {state['pid']}, {state['state']}", state["state"] == "running")
            for state in instances
        }
        found.update({stray["key"]: (f"stray process {stray['pid']}", False) for stray in strays})
        found.update({directory["key"]: (directory["path"], True) for directory in directories})
        return [Owned(ResourceKey(key), description, up) for key, (description, up) in found.items()]

    async def changes(self) -> AsyncIterator[ResourceKey]:
        async for event in self.keeper.events():
            if event["event"] == "exit":
                yield ResourceKey(event["key"])

    async def run_command(
        self,
        key: ResourceKey,
        command: Sequence[str],
        *,
        timeout_seconds: float,
        output_bytes: int = OUTPUT_BYTES_DEFAULT,
    ) -> CommandResult:
        """Beside the running instance `key`: with its environment, in its directory. Cancelling ends it. Raises
        ProviderFailure when it could not be tried; a command that is not there is a result with error_class."""
        try:
            ended = await self.keeper.run(
                key=key,
                argv=list(command),
                env=[],
                merge_env=True,
                timeout_seconds=timeout_seconds,
                output_bytes=output_bytes,
            )
        except KEEPER_FAILURES as failed:
            raise failure_of(failed) from failed
        return CommandResult(
            ended["exit_code"], ended["exit_signal"], ended["output"], ended["error_class"], ended["error"]
        )

    async def stream_command(
        self, key: ResourceKey, command: Sequence[str], *, timeout_seconds: float
    ) -> AsyncGenerator[CommandOutput | CommandResult, None]:
        """As `run_command`, its output as it comes, and how it ended as the last one (its `output` empty). Closing it
        ends the command; who does not go on reading makes it wait."""
        asked = self.keeper.stream(
            key=key,
            argv=list(command),
            env=[],
            merge_env=True,
            timeout_seconds=timeout_seconds,
            output_bytes=OUTPUT_BYTES_OLD_KEEPER,
        )
        try:
            async with contextlib.aclosing(asked) as answers:
                async for answer in answers:
                    if "exit_code" not in answer:
                        yield CommandOutput(answer["output"], base64.b64decode(answer["data"]))
                        continue
                    if answer.get("output"):  # of a keeper that does not know how to stream: all of it, at the end
                        yield CommandOutput("stdout", answer["output"].encode())
                    yield CommandResult(
                        answer["exit_code"], answer["exit_signal"], "", answer["error_class"], answer["error"]
                    )
        except KEEPER_FAILURES as failed:
            raise failure_of(failed) from failed

    def log_directory(self, log_name: str) -> Path:
        """One file per process of the name, `<part of the key>.log`, and its predecessor `.log.1`."""
        return self._home / "logs" / log_name

    async def close(self) -> None:
        await self.keeper.close()

    async def _paths(self, want: ProcessWant) -> dict[str, str]:
        return await self._paths_of({*want.directories, *(key for _, key in want.directory_env)})

    async def _paths_of(self, keys: Iterable[str]) -> dict[str, str]:
        paths: dict[str, str] = {}
        for key in keys:
            try:
                found = (await self.keeper.call("dirs", key=key))["dirs"]
            except KEEPER_FAILURES as failed:
                raise failure_of(failed) from failed
            if not found:
                raise ProviderFailure(
                    f"the directory {key} does not exist yet", error_class=ErrorClass.DEPENDENCY_FAILED, retryable=True
                )
            paths[key] = found[0]["path"]
        return paths

    async def _change(self, op: str, **fields: Any) -> None:
        try:
            await self.keeper.call(op, **fields)
        except KEEPER_FAILURES as failed:
            raise failure_of(failed) from failed
