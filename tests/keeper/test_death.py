"""Shims and keepers die, hosts reboot, pids change hands: everything of ours is found, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.keeper.driver import INSTALLATION, Keeper, environ_of, is_alive, marked, until
from tests.keeper.test_trees import daemonise

KEY = "tree/process"


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with us."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def test_a_killed_shim_takes_its_tree_along_and_the_instance_is_lost(keeper: Keeper) -> None:
    mark = f"mark-{time.time_ns()}"
    daemonise(keeper, mark, "time.sleep(300)")
    os.kill(keeper.shim_of(KEY), signal.SIGKILL)
    state = keeper.exited(KEY)
    assert marked(mark) == []
    assert (state["error_class"], state["exit_code"], state["exit_signal"]) == ("InstanceLost", None, None)
    keeper.remove(KEY)
    assert keeper.observe(KEY) is None


def test_a_new_keeper_finds_what_runs_and_what_ended_meanwhile(keeper: Keeper) -> None:
    before = keeper.begin("a/process", "sleep", "300")
    gate = keeper.home / "gate"
    keeper.script("b/process", f"while [ ! -e {gate} ]; do sleep 0.01; done; exit 4")
    keeper.kill()
    gate.touch()
    until(lambda: (keeper.home / "run/instances/b~process/exit.json").read_text().strip())
    keeper.start()
    assert keeper.observe("a/process") == before
    ended = keeper.observe("b/process")
    assert ended is not None and (ended["state"], ended["exit_code"]) == ("exited", 4)
    keeper.remove("a/process")
    keeper.gone("a/process")
    assert not is_alive(before["pid"])


def test_the_exit_of_an_adopted_instance_is_noticed(keeper: Keeper) -> None:
    pid = keeper.begin(KEY, "sleep", "300")["pid"]
    keeper.kill()
    keeper.start()
    with keeper.connect() as peer:
        peer.sendall(b'{"v":1,"id":1,"op":"subscribe"}\n')
        assert json.loads(peer.recv(4096))["ok"]
        os.kill(pid, signal.SIGTERM)
        assert json.loads(peer.recv(4096)) == {"event": "exit", "key": KEY}
    assert keeper.exited(KEY)["exit_signal"] == signal.SIGTERM


def test_a_removal_goes_on_when_the_keeper_dies(keeper: Keeper) -> None:
    keeper.script(KEY, "trap '' TERM; while :; do sleep 0.1; done", grace_seconds=0.5)
    keeper.remove(KEY)
    keeper.kill()
    keeper.start()
    keeper.gone(KEY)


def test_keeper_and_shim_killed_together_leave_nothing(keeper: Keeper) -> None:
    """The daemon is nobody's child then: only the token in its environment tells that it is ours."""
    mark = f"mark-{time.time_ns()}"
    daemonise(keeper, mark, "time.sleep(300)")
    shim = keeper.shim_of(KEY)
    os.kill(keeper.pid, signal.SIGSTOP)
    os.kill(shim, signal.SIGKILL)
    keeper.kill()
    until(lambda: not is_alive(shim))
    assert marked(mark), "the daemon outlived both"
    keeper.start()
    assert keeper.exited(KEY)["error_class"] == "InstanceLost"
    assert marked(mark) == []


@pytest.mark.parametrize("start_offset", [0, 1], ids=["same start time", "other start time"])
@pytest.mark.parametrize("boot", ["this boot", "earlier boot"])
def test_a_record_whose_pid_is_somebody_elses_harms_nobody(
    keeper: Keeper, innocent: subprocess.Popen[bytes], start_offset: int, boot: str
) -> None:
    """A pid reused by a stranger, even one whose start time agrees: the stranger does not hold the instance's lock."""
    keeper.begin(KEY, "sleep", "300")
    os.kill(keeper.pid, signal.SIGSTOP)
    os.kill(keeper.shim_of(KEY), signal.SIGKILL)
    keeper.kill()
    directory = keeper.home / "run/instances/tree~process"
    identity = json.loads((directory / "identity.json").read_text())
    start = int(Path(f"/proc/{innocent.pid}/stat").read_text().rpartition(")")[2].split()[19]) + start_offset
    identity.update(shim_pid=innocent.pid, shim_start=start, pid=innocent.pid, pid_start=start)
    if boot == "earlier boot":
        identity["boot_id"] = "00000000-0000-0000-0000-000000000000"
    (directory / "identity.json").write_text(json.dumps(identity))
    keeper.start()
    state = keeper.exited(KEY)
    assert state["error_class"] == "InstanceLost"
    assert ("rebooted" in state["error"]) == (boot == "earlier boot")
    keeper.remove(KEY, now=True)
    keeper.gone(KEY)
    assert innocent.poll() is None and is_alive(innocent.pid)


def tag_of(keeper: Keeper, key: str) -> dict[str, str]:
    """What a program of this keeper carries, taken from one."""
    pid = keeper.begin("sample/process", "sleep", "300")["pid"]
    entries = dict(entry.partition("=")[::2] for entry in environ_of(pid) if entry)
    keeper.remove("sample/process")
    keeper.gone("sample/process")
    return {**entries, "SPINYARD_KEY": key}


@pytest.mark.parametrize("changed", ["SPINYARD_INSTALLATION", "SPINYARD_KEEPER"])
def test_processes_of_another_installation_or_of_a_copied_home_are_not_ours(keeper: Keeper, changed: str) -> None:
    environment = {**tag_of(keeper, KEY), changed: "another"}
    stranger = subprocess.Popen(["sleep", "300"], env=environment)
    try:
        keeper.begin(KEY, "sleep", "300")
        os.kill(keeper.shim_of(KEY), signal.SIGKILL)
        assert keeper.exited(KEY)["error_class"] == "InstanceLost"
        assert keeper.ask("list")["strays"] == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_of_ours_without_a_record_is_listed_and_can_be_removed(keeper: Keeper) -> None:
    stray = subprocess.Popen(["sleep", "300"], env=tag_of(keeper, "lost/process"))
    try:
        assert until(lambda: keeper.ask("list")["strays"]) == [{"pid": stray.pid, "key": "lost/process"}]
        seen = keeper.observe("lost/process")
        assert seen is not None and seen["state"] == "running"
        keeper.remove("lost/process")
        assert stray.wait(5) == -signal.SIGKILL
        keeper.gone("lost/process")
    finally:
        stray.kill()
        stray.wait()


def test_a_start_that_was_cut_off_is_lost_and_never_begins_later(keeper: Keeper) -> None:
    """As a keeper killed just after its fork leaves it: a record without identity, and nobody at the lock."""
    keeper.kill()
    directory = keeper.home / "run/instances/cut~process"
    directory.mkdir()
    (directory / "exit.json").write_bytes(b" " * 4096)
    start = {"key": "cut/process", "log_name": "cut", "installation": INSTALLATION, "grace_seconds": 1.0}
    (directory / "start.json").write_text(json.dumps({**start, "started_at": 1.0, "supervised": "", "serial": 0}))
    keeper.start()
    assert keeper.exited("cut/process")["error_class"] == "InstanceLost"


def test_a_keeper_started_from_inside_a_program_does_not_carry_its_tags(home: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SPINYARD_KEY", KEY)
    monkeypatch.setenv("SPINYARD_INSTALLATION", INSTALLATION)
    keeper = Keeper(home)
    keeper.start()
    assert [entry for entry in environ_of(keeper.pid) if entry.startswith("SPINYARD_")] == []
    keeper.close()


def test_a_second_keeper_is_refused_with_a_clear_message(keeper: Keeper) -> None:
    for flags in ([], ["--detach"]):
        second = subprocess.run(
            [sys.executable, "-m", "spinyard.keeper", "--home", str(keeper.home), *flags],
            capture_output=True,
            text=True,
            timeout=10,
        )
        assert second.returncode == 8
        assert str(keeper.home) in second.stderr and str(keeper.pid) in second.stderr
    assert keeper.ask("hello")["pid"] == keeper.pid


def test_a_home_that_cannot_be_written_is_refused(home: Path) -> None:
    blocked = home / "file"
    blocked.write_text("not a directory")
    refused = subprocess.run(
        [sys.executable, "-m", "spinyard.keeper", "--home", str(blocked)], capture_output=True, text=True, timeout=10
    )
    assert refused.returncode == 4
    assert str(blocked) in refused.stderr


def test_a_keeper_ended_by_a_signal_leaves_everything_running(keeper: Keeper) -> None:
    before = keeper.begin(KEY, "sleep", "300")
    assert keeper.process is not None
    keeper.process.terminate()
    assert keeper.process.wait(10) == 0
    assert is_alive(before["pid"])
    keeper.start()
    assert keeper.observe(KEY) == before


def test_stop_with_instances_ends_after_all_of_them(keeper: Keeper) -> None:
    pid = keeper.begin(KEY, "sleep", "300")["pid"]
    assert keeper.ask("stop", instances=True)["ok"]
    assert keeper.process is not None and keeper.process.wait(10) == 0
    assert not is_alive(pid)


def test_stop_without_instances_leaves_them(keeper: Keeper) -> None:
    before = keeper.begin(KEY, "sleep", "300")
    assert keeper.ask("stop", instances=False)["ok"]
    assert keeper.process is not None and keeper.process.wait(10) == 0
    keeper.start()
    assert keeper.observe(KEY) == before


def test_garbage_in_the_home_does_not_stop_the_keeper(keeper: Keeper) -> None:
    before = keeper.begin(KEY, "sleep", "300")
    keeper.begin("ended/process", "true")
    keeper.exited("ended/process")
    keeper.kill()
    run = keeper.home / "run"
    for name, content in {"keeper.json": b"[1]", "supervised.json": b'{"envoy": {"spec": 3}}'}.items():
        (run / name).write_bytes(content)
    (run / "instances" / "plain file").write_text("x")
    for number, content in enumerate([b"", b"{", b"[]", b'"text"', b'{"key": 7}', b"\xff\x00", b"null"]):
        directory = run / "instances" / f"g{number}~process"
        directory.mkdir()
        for name in ("start.json", "identity.json", "exit.json"):
            (directory / name).write_bytes(content)
    for name in ("start.json", "identity.json"):
        (run / "instances" / "ended~process" / name).write_bytes(b"{}")
    keeper.start()
    assert keeper.observe(KEY) == before
    ended = keeper.exited("ended/process")
    assert (ended["exit_code"], ended["error_class"]) == (0, "")
    for number in range(7):
        assert keeper.exited(f"g{number}/process")["error_class"] == "InstanceLost"
    (run / "instances" / "plain file").unlink()


def test_a_socket_whose_name_was_taken_away_is_bound_again(keeper: Keeper) -> None:
    (keeper.home / "run" / "keeper.sock").unlink()
    until((keeper.home / "run" / "keeper.sock").exists)
    assert keeper.ask("hello")["pid"] == keeper.pid


def test_when_its_home_is_deleted_everything_ends(home: Path) -> None:
    keeper = Keeper(home / "deleted")
    keeper.start()
    pid = keeper.begin(KEY, "sleep", "300")["pid"]
    shutil.rmtree(keeper.home)
    assert keeper.process is not None
    _, said = keeper.process.communicate(timeout=20)
    assert "was deleted" in said and "Traceback" not in said
    assert not is_alive(pid)
