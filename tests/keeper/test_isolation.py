"""Isolation by namespaces, where the machine allows it (this suite's machines do): own processes, own /tmp."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.keeper.driver import Keeper, is_alive, marked, until

KEY = "isolated/process"


@pytest.fixture(autouse=True)
def isolation_works(keeper: Keeper) -> None:
    described = keeper.ask("capabilities")["capabilities"]["namespaces"]
    assert described["enforced"], described["how"]


def test_it_sees_only_its_own_processes_and_files_in_tmp(keeper: Keeper) -> None:
    script = "ls /tmp; echo mine > /tmp/isolated-file; cat /tmp/isolated-file; ls -d /proc/[0-9]* | wc -l; exit 3"
    keeper.run(KEY, "sh", "-c", script, isolation="namespaces")
    state = keeper.exited(KEY)
    assert (state["exit_code"], state["error"]) == (3, "")
    lines = keeper.log(KEY).read_text().split()
    assert lines[:2] == [keeper.home.name, "mine"], "the home is under /tmp, and only its data is in sight"
    assert int(lines[2]) <= 5
    assert not os.path.exists("/tmp/isolated-file")


def test_data_directories_stay_in_sight(keeper: Keeper) -> None:
    path = Path(keeper.ask("mkdir", key="isolated/dir/a", epoch=1)["path"])
    keeper.run(KEY, "sh", "-c", f"echo kept > {path}/file; pwd", isolation="namespaces", cwd=str(path))
    keeper.exited(KEY)
    assert (path / "file").read_text() == "kept\n"
    assert keeper.log(KEY).read_text() == f"{path}\n"
    keeper.ask("rmdir", key="isolated/dir/a", epoch=1)
    until(lambda: keeper.ask("dirs")["dirs"] == [])


def test_a_signal_that_ended_it_is_told(keeper: Keeper) -> None:
    keeper.run(KEY, "sh", "-c", "kill -SEGV $$", isolation="namespaces")
    state = keeper.exited(KEY)
    assert (state["exit_code"], state["exit_signal"]) == (None, signal.SIGSEGV)


def test_what_cannot_be_executed_is_told(keeper: Keeper) -> None:
    keeper.run(KEY, "spinyard-no-such-command", isolation="namespaces")
    assert keeper.exited(KEY)["error_class"] == "CommandNotFound"


def test_sigterm_reaches_a_program_that_does_not_handle_it(keeper: Keeper) -> None:
    """As pid 1 of its namespace it would be immune."""
    keeper.run(KEY, "sleep", "300", isolation="namespaces", grace_seconds=60)
    until(lambda: _program(keeper))
    keeper.remove(KEY)
    keeper.gone(KEY, 5)


def test_everything_in_it_ends_with_it(keeper: Keeper) -> None:
    daemonise = "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(300)\n os._exit(0)\n"
    script = f"import os, time\n{daemonise}time.sleep(300)"
    mark = f"mark-{keeper.pid}"
    # Not by a path in /tmp, where a checkout may lie: it has a /tmp of its own.
    python = os.path.realpath(sys.executable)
    keeper.run(KEY, python, "-I", "-S", "-c", script, mark, isolation="namespaces", grace_seconds=60)
    until(lambda: len(marked(mark)) == 2)
    keeper.remove(KEY)
    keeper.gone(KEY)
    assert marked(mark) == []


def test_a_killed_shim_takes_it_along(keeper: Keeper) -> None:
    keeper.run(KEY, "sleep", "300", isolation="namespaces")
    program = until(lambda: _program(keeper))
    os.kill(keeper.shim_of(KEY), signal.SIGKILL)
    assert keeper.exited(KEY)["error_class"] == "InstanceLost"
    assert not is_alive(program)


def test_a_command_beside_it_sees_its_files_and_environment(keeper: Keeper) -> None:
    env = [{"name": "COLOUR", "value": "blue"}]
    keeper.run(KEY, "sh", "-c", "echo inside > /tmp/f; exec sleep 300", isolation="namespaces", env=env)
    until(lambda: _program(keeper))
    fields = {"key": KEY, "env": [], "merge_env": True, "timeout_seconds": 5}
    answer = until(lambda: _ok(keeper.ask("run", argv=["sh", "-c", "cat /tmp/f; echo $COLOUR"], **fields)))
    assert answer["output"] == "inside\nblue\n", answer


def _ok(answer: dict[str, object]) -> dict[str, object] | None:
    return answer if answer["ok"] else None


def _program(keeper: Keeper) -> int | None:
    """The pid of `sleep`, below the init."""
    state = keeper.observe(KEY)
    if state is None or not state["pid"]:
        return None
    found = subprocess.run(["pgrep", "-P", str(state["pid"]), "sleep"], capture_output=True, text=True).stdout.split()
    return int(found[0]) if found else None
