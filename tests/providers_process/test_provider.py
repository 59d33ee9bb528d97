"""The process provider against a real keeper: four verbs, their answers, and what a gone keeper means."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, DirectoryFacts, Observed, Present, ProcessFacts, Unknown
from spinyard.core.spec import EnvVar, Isolation, Limits
from spinyard.core.want import DirectoryWant, ProcessWant, RouteWant
from spinyard.errors import ErrorClass, ProviderFailure
from spinyard.providers.process import client
from spinyard.providers.process.provider import CommandOutput, CommandResult, ProcessProvider

pytestmark = pytest.mark.anyio

KEY = ResourceKey("abc/process")
DIRECTORY = ResourceKey("abc/dir/files")


def program(script: str, **fields: object) -> ProcessWant:
    return ProcessWant(argv=("sh", "-c", script), grace_seconds=1.0, log_name="abc", **fields)  # type: ignore[arg-type]


async def until(
    provider: ProcessProvider, key: ResourceKey, holds: Callable[[Observed], bool], seconds: float = 10.0
) -> Observed:
    deadline = time.monotonic() + seconds
    while True:
        seen = await provider.observe(key)
        if holds(seen):
            return seen
        assert time.monotonic() < deadline, f"still {seen}"
        await asyncio.sleep(0.01)


async def exited(provider: ProcessProvider, key: ResourceKey = KEY) -> ProcessFacts:
    def ended(seen: Observed) -> bool:
        return isinstance(seen, Present) and isinstance(seen.facts, ProcessFacts) and not seen.facts.running

    seen = await until(provider, key, ended)
    assert isinstance(seen, Present) and isinstance(seen.facts, ProcessFacts)
    return seen.facts


def is_running(seen: Observed) -> bool:
    return (
        isinstance(seen, Present) and isinstance(seen.facts, ProcessFacts) and seen.facts.running and seen.facts.pid > 0
    )


def fill(directory: str) -> None:
    Path(directory, "content").write_text("something")


def exists(path: str) -> bool:
    return os.path.exists(path)


async def test_what_was_never_made_is_absent(provider: ProcessProvider) -> None:
    assert await provider.observe(KEY) == Absent()
    assert await provider.observe(DIRECTORY) == Absent()


async def test_a_program_runs_is_seen_and_removed(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    seen = await until(provider, KEY, is_running)
    await provider.ensure(KEY, program("exec sleep 60"))
    assert await provider.observe(KEY) == seen, "the same key twice is one thing"
    assert [owned.key for owned in await provider.owned()] == [KEY]
    await provider.remove(KEY)
    facts = await exited(provider)
    assert (facts.exit_code, facts.exit_signal) == (None, 15), "how it ended can be read before the record goes"
    await provider.remove(KEY)
    await until(provider, KEY, lambda seen: seen == Absent())
    await provider.remove(KEY)
    assert await provider.owned() == []


async def test_how_it_ended_is_kept_with_the_end_of_its_output(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("echo one; echo two >&2; exit 7"))
    facts = await exited(provider)
    assert (facts.exit_code, facts.exit_signal, facts.error_class) == (7, None, "")
    assert facts.log_tail == "one\ntwo\n"
    assert facts.cpu_seconds > 0 and facts.peak_memory_bytes > 0
    assert facts.exited_at is not None and facts.exited_at >= facts.started_at


async def test_only_the_declared_environment_reaches_the_program(
    provider: ProcessProvider, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("from the secret\n")
    (tmp_path / "plain").write_text("from the file")
    variables = (
        EnvVar("PLAIN", value="as it is"),
        EnvVar("COPY", from_variable="PLAIN"),
        EnvVar("SECRET", secret_file=str(tmp_path / "secret")),
        EnvVar("TEXT", from_file=str(tmp_path / "plain")),
    )
    await provider.ensure(DIRECTORY, DirectoryWant(name="files"))
    want = program("env", env=variables, directories=(DIRECTORY,), directory_env=(("DATA_DIR", DIRECTORY),))
    await provider.ensure(KEY, want)
    facts = await exited(provider)
    environment = dict(line.partition("=")[::2] for line in facts.log_tail.splitlines())
    assert environment.pop("SPINYARD_KEEPER")
    for name in ("PATH", "HOME", "LANG", "PWD", "_", "SHLVL", "OLDPWD"):
        environment.pop(name, None)
    assert environment == {
        "PLAIN": "as it is",
        "COPY": "as it is",
        "SECRET": "from the secret",
        "TEXT": "from the file",
        "DATA_DIR": f"{home}/data/abc~dir~files",
        "SPINYARD_KEY": KEY,
        "SPINYARD_INSTALLATION": "provider-tests",
    }


async def test_a_directory_must_exist_before_the_program_that_uses_it(provider: ProcessProvider) -> None:
    with pytest.raises(ProviderFailure) as failed:
        await provider.ensure(KEY, program("true", directories=(DIRECTORY,)))
    assert failed.value.error_class is ErrorClass.DEPENDENCY_FAILED
    assert await provider.observe(KEY) == Absent()


async def test_a_directory_is_made_found_and_deleted(provider: ProcessProvider) -> None:
    await provider.ensure(DIRECTORY, DirectoryWant(name="files"))
    await provider.ensure(DIRECTORY, DirectoryWant(name="files"))
    seen = await provider.observe(DIRECTORY)
    assert isinstance(seen, Present) and isinstance(seen.facts, DirectoryFacts)
    fill(seen.facts.path)
    assert [owned.key for owned in await provider.owned()] == [DIRECTORY]
    await provider.remove(DIRECTORY)
    await until(provider, DIRECTORY, lambda seen: seen == Absent())
    assert not exists(seen.facts.path)


@pytest.mark.parametrize(
    ("argv", "error_class"),
    [
        pytest.param(("spinyard-no-such-command",), ErrorClass.COMMAND_NOT_FOUND, id="not in PATH"),
        pytest.param(("/nowhere/at/all",), ErrorClass.COMMAND_NOT_FOUND, id="no such file"),
        pytest.param(("/etc/hostname",), ErrorClass.COMMAND_NOT_EXECUTABLE, id="not executable"),
        pytest.param(("/",), ErrorClass.COMMAND_NOT_EXECUTABLE, id="a directory"),
    ],
)
async def test_what_cannot_be_executed_has_exited_with_its_class(
    provider: ProcessProvider, argv: tuple[str, ...], error_class: ErrorClass
) -> None:
    await provider.ensure(KEY, ProcessWant(argv=argv))
    facts = await exited(provider)
    assert (facts.error_class, facts.exit_code) == (error_class.value, None)
    assert argv[0] in facts.error


async def test_a_missing_secret_is_denied(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("true", env=(EnvVar("KEY", secret_file="/nowhere/secret"),)))
    facts = await exited(provider)
    assert facts.error_class == ErrorClass.SECRET_DENIED.value
    assert "/nowhere/secret" in facts.error


async def test_a_taken_port_is_refused_before_anything_starts(provider: ProcessProvider) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProviderFailure) as failed:
            await provider.ensure(KEY, program("true", ports=(("http", port),)))
    assert failed.value.error_class is ErrorClass.PORT_UNAVAILABLE
    assert str(port) in failed.value.message
    assert await provider.observe(KEY) == Absent()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"limits": Limits(cpu=0.5)}, id="cpu"),
        pytest.param({"isolation": Isolation.NAMESPACES}, id="isolation"),
        pytest.param({"limits": Limits(processes=5000)}, id="processes"),
    ],
)
async def test_a_limit_is_in_force_or_refused(
    provider: ProcessProvider, fields: dict[str, object], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    enforced = (await provider.keeper.capabilities())["namespaces" if name == "isolation" else name]["enforced"]
    try:
        await provider.ensure(KEY, program("true", **fields))
    except ProviderFailure as failed:
        assert not enforced
        assert failed.error_class is ErrorClass.CANNOT_ENFORCE
        assert await provider.observe(KEY) == Absent()
    else:
        assert enforced
        assert (await exited(provider)).exit_code == 0


async def test_wants_of_other_providers_are_refused(provider: ProcessProvider) -> None:
    with pytest.raises(ProviderFailure):
        await provider.ensure(KEY, RouteWant(cluster="x"))


async def test_too_much_memory_is_out_of_memory(provider: ProcessProvider) -> None:
    hungry = "import time; kept = bytearray(120_000_000); time.sleep(60)"
    want = ProcessWant(argv=("python3", "-c", hungry), limits=Limits(memory_bytes=60_000_000))
    await provider.ensure(KEY, want)
    facts = await exited(provider)
    assert (facts.error_class, facts.exit_signal) == (ErrorClass.OUT_OF_MEMORY.value, signal.SIGKILL)
    assert facts.peak_memory_bytes > 60_000_000


async def test_past_its_time_it_is_killed(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("sleep 60 & sleep 60", timeout_seconds=0.3))
    facts = await exited(provider)
    assert (facts.error, facts.exit_signal) == ("timeout", signal.SIGKILL)


async def test_a_command_runs_beside_the_instance(provider: ProcessProvider, tmp_path: Path) -> None:
    want = program("exec sleep 60", env=(EnvVar("COLOUR", value="blue"),), working_dir=str(tmp_path))
    await provider.ensure(KEY, want)
    await until(provider, KEY, is_running)
    result = await provider.run_command(KEY, ("sh", "-c", "echo $COLOUR; pwd; exit 3"), timeout_seconds=5)
    assert (result.exit_code, result.output) == (3, f"blue\n{tmp_path}\n")
    missing = await provider.run_command(KEY, ("spinyard-no-such-command",), timeout_seconds=5)
    assert missing.error_class == ErrorClass.COMMAND_NOT_FOUND.value
    slow = await provider.run_command(KEY, ("sleep", "60"), timeout_seconds=0.2)
    assert slow.timed_out
    chatty = await provider.run_command(KEY, ("seq", "100000"), timeout_seconds=5, output_bytes=10)
    assert chatty.output == "1\n2\n3\n4\n5\n"


async def test_commands_do_not_wait_for_each_other(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    await until(provider, KEY, is_running)
    began = time.monotonic()
    slow = asyncio.gather(*(provider.run_command(KEY, ("sleep", "2"), timeout_seconds=20) for _ in range(5)))
    await asyncio.sleep(0.3)
    assert is_running(await provider.observe(KEY))
    assert not slow.done()
    await slow
    assert time.monotonic() - began < 8, "one after the other would take 10 s"


async def test_giving_up_on_a_command_ends_it(provider: ProcessProvider, tmp_path: Path) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    await until(provider, KEY, is_running)
    note = tmp_path / "pid"
    task = asyncio.create_task(
        provider.run_command(
            KEY, ("sh", "-c", f"echo $$ > {note}.new; mv {note}.new {note}; sleep 60"), timeout_seconds=60
        )
    )
    deadline = time.monotonic() + 5
    while not note.exists():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    pid = int(note.read_text())
    while exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def pieces_of(stream: AsyncIterator[CommandOutput | CommandResult]) -> list[CommandOutput | CommandResult]:
    return [piece async for piece in stream]


def text_of(pieces: list[CommandOutput | CommandResult], stream: str) -> str:
    return b"".join(p.data for p in pieces if isinstance(p, CommandOutput) and p.stream == stream).decode()


async def test_the_output_of_a_command_comes_while_it_runs_and_its_errors_apart(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    await until(provider, KEY, is_running)
    script = "echo one; echo bad >&2; sleep 60"
    stream = provider.stream_command(KEY, ("sh", "-c", script), timeout_seconds=60)
    seen: list[CommandOutput | CommandResult] = []
    while not (text_of(seen, "stdout") and text_of(seen, "stderr")):
        seen.append(await asyncio.wait_for(anext(stream), 10))
    assert (text_of(seen, "stdout"), text_of(seen, "stderr")) == ("one\n", "bad\n")
    await stream.aclose()
    whole = await pieces_of(provider.stream_command(KEY, ("sh", "-c", "seq 50000; exit 7"), timeout_seconds=20))
    assert text_of(whole, "stdout") == "".join(f"{n}\n" for n in range(1, 50001))
    assert whole[-1] == CommandResult(7, None, "")


async def test_how_a_streamed_command_may_end(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    await until(provider, KEY, is_running)
    [missing] = await pieces_of(provider.stream_command(KEY, ("spinyard-no-such-command",), timeout_seconds=5))
    assert isinstance(missing, CommandResult) and missing.error_class == ErrorClass.COMMAND_NOT_FOUND
    slow = (await pieces_of(provider.stream_command(KEY, ("sleep", "60"), timeout_seconds=0.2)))[-1]
    assert isinstance(slow, CommandResult) and slow.timed_out
    forever = provider.stream_command(KEY, ("sleep", "60"), timeout_seconds=60)
    await anext(forever)
    await provider.remove(KEY, now=True)
    last = (await asyncio.wait_for(pieces_of(forever), 10))[-1]
    assert isinstance(last, CommandResult) and last.error == "its instance has ended"


async def test_a_command_waits_for_who_does_not_read_and_ends_with_them(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    await until(provider, KEY, is_running)
    keeper = (await provider.keeper.hello())["pid"]
    stream = provider.stream_command(KEY, ("yes", "a line of a flood"), timeout_seconds=60)
    await anext(stream)
    before = resident_kib(keeper)
    deadline = time.monotonic() + 10
    [writer] = [pid for pid in pids_of(b"a line of a flood") if pid != os.getpid()]
    while cpu_ticks(writer) != await later(writer):
        assert time.monotonic() < deadline, "it is never made to wait"
    assert resident_kib(keeper) - before < 8 << 10
    assert is_running(await asyncio.wait_for(provider.observe(KEY), 5)), "others are served"
    await stream.aclose()
    while pids_of(b"a line of a flood"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def later(pid: int) -> int:
    await asyncio.sleep(0.1)
    return cpu_ticks(pid)


def pids_of(words: bytes) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if words in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def cpu_ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return 0


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def test_no_instance_no_command(provider: ProcessProvider) -> None:
    with pytest.raises(ProviderFailure):
        await provider.run_command(KEY, ("true",), timeout_seconds=1)


async def test_exits_are_hinted(provider: ProcessProvider) -> None:
    changes = provider.changes()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.2)
    await provider.ensure(KEY, program("exit 0"))
    assert await asyncio.wait_for(first, 5) == KEY
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_gone_keeper_is_unknown_never_absent(home: Path) -> None:
    alone = ProcessProvider(home, installation="x", scope="host:test", clock=SystemClock(), epoch=1, start_keeper=False)
    seen = await alone.observe(KEY)
    assert isinstance(seen, Unknown)
    with pytest.raises(ProviderFailure) as failed:
        await alone.ensure(KEY, program("true"))
    assert failed.value.retryable


async def test_a_keeper_that_somebody_else_just_started_is_waited_for(home: Path) -> None:
    """It has the lock, so ours ends at once; it does not listen yet. A starting server that gave up here was gone for
    good when the keeper before had been killed."""
    (home / "run").mkdir()
    listening: list[asyncio.Server] = []
    asked: list[bool] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for = json.loads(await reader.readline())
        writer.write(json.dumps({"id": asked_for["id"], "ok": True, "epoch": 7}).encode() + b"\n")

    async def start() -> None:
        asked.append(True)
        if len(asked) == 3:
            listening.append(await asyncio.start_unix_server(answer, home / "run" / "keeper.sock"))

    link = client.KeeperClient(home, SystemClock(), start_keeper=start)
    try:
        assert (await asyncio.wait_for(link.hello(), 5))["epoch"] == 7
    finally:
        await link.close()
        for server in listening:
            server.close()


async def test_a_start_of_a_keeper_ends_with_its_command_whoever_holds_its_output(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = home / "python"
    program.write_text("#!/bin/sh\nsleep 2 &\nexit 0\n")
    program.chmod(0o700)
    monkeypatch.setattr(client.sys, "executable", str(program))
    monkeypatch.setattr(client, "KEEPER_START_SECONDS", 1.0)
    await client.starter(home)()


async def test_a_stopped_keeper_is_unknown_never_absent(
    provider: ProcessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CALL_SECONDS", 0.2)
    pid = (await provider.keeper.hello())["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        assert isinstance(await provider.observe(KEY), Unknown)
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(provider, KEY, lambda seen: seen == Absent())


async def test_a_killed_keeper_is_started_again_and_knows_everything(provider: ProcessProvider) -> None:
    await provider.ensure(KEY, program("exec sleep 60"))
    before = await until(provider, KEY, is_running)
    os.kill((await provider.keeper.hello())["pid"], signal.SIGKILL)
    assert await provider.observe(KEY) == before
    await provider.remove(KEY, now=True)
    await until(provider, KEY, lambda seen: seen == Absent())


async def test_a_replaced_server_changes_nothing(provider: ProcessProvider) -> None:
    await provider.keeper.claim_epoch(5)
    with pytest.raises(ProviderFailure) as failed:
        await provider.ensure(KEY, program("true"))
    assert not failed.value.retryable
    assert await provider.observe(KEY) == Absent()
