"""Supervised programs are always there: after their own death, after the keeper's, and during a hot restart."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import pytest

from spinyard.keeper import supervise
from tests.keeper.driver import Keeper, environ_of, is_alive, until


def supervised(keeper: Keeper, name: str, *argv: str, restart: bool = True, hot: bool = False) -> dict[str, Any]:
    """The program's state once it has been executed."""
    answer = keeper.ask("supervise", name=name, argv=list(argv), env=[], cwd="/", restart=restart, hot=hot)
    assert answer["ok"], answer
    return until(lambda: executed(keeper, name))


def executed(keeper: Keeper, name: str, other_than: int = 0) -> dict[str, Any] | None:
    state = keeper.supervised(name)
    is_there = state["running"] and any(entry.startswith("SPINYARD_KEY=") for entry in environ_of(state["pid"]))
    return state if is_there and state["pid"] != other_than else None


def test_it_is_started_again_at_once(keeper: Keeper) -> None:
    first = supervised(keeper, "server", "sleep", "300")
    assert first["restarts"] == 0
    os.kill(first["pid"], signal.SIGKILL)
    began = time.monotonic()
    second = until(lambda: executed(keeper, "server", first["pid"]))
    assert time.monotonic() - began < 0.5
    assert second["restarts"] == 1


def test_one_that_keeps_dying_is_started_less_and_less_often(keeper: Keeper) -> None:
    note = keeper.home / "starts"
    keeper.ask(
        "supervise", name="server", argv=["sh", "-c", f"echo >> {note}"], env=[], cwd="/", restart=True, hot=False
    )
    time.sleep(2.0)
    # 0, 0.1, 0.2, 0.5, 1.0, 2.0 seconds apart
    assert 4 <= len(note.read_text()) <= 6


def test_it_outlives_the_keeper_and_is_not_started_twice(keeper: Keeper) -> None:
    before = supervised(keeper, "server", "sleep", "300")
    keeper.kill()
    assert is_alive(before["pid"])
    keeper.start()
    assert supervised(keeper, "server", "sleep", "300") == before


def test_what_died_while_there_was_no_keeper_is_started_by_the_next(keeper: Keeper) -> None:
    before = supervised(keeper, "server", "sleep", "300")
    keeper.kill()
    os.kill(before["pid"], signal.SIGKILL)
    keeper.start()
    assert until(lambda: executed(keeper, "server", before["pid"]))["running"]


def test_it_is_not_listed_among_the_instances(keeper: Keeper) -> None:
    supervised(keeper, "server", "sleep", "300")
    listed = keeper.ask("list")
    assert (listed["instances"], listed["strays"]) == ([], [])


def test_output_goes_to_a_log_of_its_name(keeper: Keeper) -> None:
    supervised(keeper, "server", "sh", "-c", "echo hello; exec sleep 300")
    log = keeper.home / "logs" / "server.log"
    assert until(lambda: log.exists() and log.read_text()) == "hello\n"


@pytest.mark.parametrize("restart", [True, False], ids=["restarted", "once"])
def test_a_changed_command_replaces_it(keeper: Keeper, restart: bool) -> None:
    first = supervised(keeper, "server", "sleep", "300", restart=restart)
    keeper.ask("supervise", name="server", argv=["sleep", "301"], env=[], cwd="/", restart=restart, hot=False)
    second = until(lambda: executed(keeper, "server", first["pid"]))
    assert not is_alive(first["pid"]) and is_alive(second["pid"])


@pytest.mark.parametrize("field", [{"signal": "SIGTERM", "grace_seconds": 0.3}, {"signal": "SIGKILL"}], ids=str)
def test_unsupervised_it_ends_and_stays_away(keeper: Keeper, field: dict[str, Any]) -> None:
    state = supervised(keeper, "server", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    assert keeper.ask("unsupervise", name="server", **field)["ok"]
    until(lambda: not keeper.ask("supervised")["supervised"])
    assert not is_alive(state["pid"])
    keeper.kill()
    keeper.start()
    assert keeper.ask("supervised")["supervised"] == []


def test_without_restart_it_runs_once(keeper: Keeper) -> None:
    state = supervised(keeper, "once", "sleep", "300", restart=False)
    os.kill(state["pid"], signal.SIGKILL)
    until(lambda: not keeper.supervised("once")["running"])
    time.sleep(0.3)
    assert keeper.supervised("once")["restarts"] == 0


def test_a_keeper_started_by_the_server_is_not_part_of_the_server(keeper: Keeper) -> None:
    """The server starts a new keeper when it finds none; that keeper must outlive the server."""
    script = (
        "import os, subprocess, sys, time\n"
        "while os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
        "subprocess.run([sys.executable, '-m', 'spinyard.keeper', '--home', sys.argv[2], '--detach'], check=True)\n"
        "time.sleep(300)\n"
    )
    gate = keeper.home / "gate"
    gate.touch()
    argv = [sys.executable, "-c", script, str(gate), str(keeper.home)]
    path = [{"name": "PYTHONPATH", "value": os.pathsep.join(part for part in sys.path if part)}]
    keeper.ask("supervise", name="server", argv=argv, env=path, cwd="/", restart=True, hot=False)
    server = until(lambda: executed(keeper, "server"))
    keeper.kill()
    gate.unlink()
    until((keeper.home / "run" / "keeper.sock").exists)
    new = until(lambda: _hello(keeper))
    assert new["pid"] != keeper.pid
    os.kill(server["pid"], signal.SIGKILL)
    until(lambda: executed(keeper, "server", server["pid"]))
    assert keeper.ask("hello")["pid"] == new["pid"]
    keeper.ask("stop", instances=True)
    until(lambda: not is_alive(new["pid"]))


def _hello(keeper: Keeper) -> dict[str, Any] | None:
    try:
        return keeper.ask("hello")
    except OSError:
        return None


# -- hot restart -------------------------------------------------------------------------------------------------------

ENVOY_LIKE = "echo {restart_epoch} >> %s; exec sleep 300"


def hot(keeper: Keeper, mark: str, script: str = ENVOY_LIKE) -> None:
    note = keeper.home / "epochs"
    argv = ["sh", "-c", script.replace("%s", str(note)), mark]
    assert keeper.ask("supervise", name="envoy", argv=argv, env=[], cwd="/", restart=True, hot=True)["ok"]


def epochs(keeper: Keeper) -> list[str]:
    note = keeper.home / "epochs"
    return note.read_text().split() if note.exists() else []


def test_a_hot_restart_starts_the_next_epoch_beside_the_old_one(keeper: Keeper) -> None:
    hot(keeper, "one")
    first = until(lambda: executed(keeper, "envoy"))
    until(lambda: epochs(keeper) == ["0"])
    hot(keeper, "two")
    second = until(lambda: executed(keeper, "envoy", first["pid"]))
    until(lambda: epochs(keeper) == ["0", "1"])
    assert is_alive(first["pid"]) and is_alive(second["pid"])
    os.kill(first["pid"], signal.SIGTERM)
    until(lambda: not is_alive(first["pid"]))
    time.sleep(0.2)
    assert keeper.supervised("envoy") == second, "the end of the old one is no reason to do anything"


def test_the_same_command_again_does_nothing(keeper: Keeper) -> None:
    hot(keeper, "one")
    first = until(lambda: executed(keeper, "envoy"))
    until(lambda: epochs(keeper) == ["0"])
    hot(keeper, "one")
    time.sleep(0.2)
    assert keeper.supervised("envoy") == first
    assert epochs(keeper) == ["0"]


def test_when_the_new_one_dies_soon_the_old_one_goes_on(keeper: Keeper) -> None:
    hot(keeper, "one")
    first = until(lambda: executed(keeper, "envoy"))
    until(lambda: epochs(keeper) == ["0"])
    hot(keeper, "two", "echo {restart_epoch} >> %s; exit 1")
    until(lambda: epochs(keeper) == ["0", "1"])
    until(lambda: keeper.supervised("envoy")["pid"] == first["pid"])
    time.sleep(0.3)
    assert is_alive(first["pid"]) and epochs(keeper) == ["0", "1"]
    hot(keeper, "three")
    until(lambda: executed(keeper, "envoy", first["pid"]))
    until(lambda: epochs(keeper) == ["0", "1", "1"])


def test_a_command_that_failed_is_not_what_is_started_after_a_crash(keeper: Keeper) -> None:
    hot(keeper, "one")
    first = until(lambda: executed(keeper, "envoy"))
    until(lambda: epochs(keeper) == ["0"])
    hot(keeper, "two", "echo bad >> %s; exit 1")
    until(lambda: epochs(keeper) == ["0", "bad"])
    until(lambda: keeper.supervised("envoy")["pid"] == first["pid"])
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: epochs(keeper) == ["0", "bad", "0"])


def test_when_none_is_left_it_begins_at_epoch_0(keeper: Keeper) -> None:
    hot(keeper, "one")
    first = until(lambda: executed(keeper, "envoy"))
    until(lambda: epochs(keeper) == ["0"])
    hot(keeper, "two")
    second = until(lambda: executed(keeper, "envoy", first["pid"]))
    until(lambda: epochs(keeper) == ["0", "1"])
    for state in (first, second):
        os.kill(state["pid"], signal.SIGKILL)
    until(lambda: epochs(keeper) == ["0", "1", "0"])


def test_the_bounds_are_as_the_data_plane_expects() -> None:
    assert supervise.BACKOFF_SECONDS[0] == 0.0
    assert supervise.HOT_SECONDS == 10.0
