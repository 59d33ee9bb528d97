"""Commands on members of a pool: Jobs and `spinyard run`, with parts of Spinyard killed under them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import ROOT, House, Json, kill
from tests.e2e.objects import named, template

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def pool(house: House) -> Iterator[str]:
    house.apply(named("WarmPool", "box", {"min": 1, "max": 3, "template": template()}))
    house.wait("a member is warm", lambda: house.get("WarmPool", "box")["status"]["state"] == "ready")
    yield "box"


def job(name: str, script: str, **more: object) -> Json:
    return named("Job", name, {"pool": "box", "command": ["sh", "-c", script], **more})


def ended(house: House, name: str, *, seconds: float = 40.0) -> Json:
    def over() -> bool:
        return house.get("Job", name)["status"]["state"] in ("succeeded", "failed")

    house.wait(f"{name} has ended", over, seconds)
    status: Json = house.get("Job", name)["status"]
    return status


def spins_of(house: House, name: str, finished: str = "false") -> list[Json]:
    uid = house.get("Job", name)["metadata"]["uid"]
    return list(house.client.list("Spin", "default", owner=uid, finished=finished)["items"])


def test_a_job_runs_on_a_member_with_what_it_brings_and_its_log_can_be_read(house: House, pool: str) -> None:
    script = "echo I am $WHO; cat $SPINYARD_CLAIM_DIR/note; echo bad >&2"
    house.apply(job("load", script, env={"WHO": "me"}, files=[{"name": "note", "content": "a note\n"}]))
    assert ended(house, "load")["outcome"] == "Succeeded"
    assert sorted(house.cli("logs", "load").splitlines()) == ["I am me", "a note", "bad"]
    house.wait("its member is gone", lambda: not spins_of(house, "load"))
    [used] = spins_of(house, "load", "true")
    assert used["status"]["exit"]["code"] == 0
    assert house.keyed().get(f"{used['metadata']['uid']}/process") is None


def test_a_failed_command_is_run_again_on_another_member(house: House, pool: str) -> None:
    house.apply(job("flaky", "echo $SPINYARD_SPIN; echo no luck >&2; exit 3", retries=1))
    status = ended(house, "flaky")
    assert status["outcome"] == "Failed"
    assert "after 2 attempts: its command exited with code 3: no luck" in status["message"]
    assert len({one["metadata"]["name"] for one in spins_of(house, "flaky", "true")}) == 2
    assert "no luck" in house.cli("explain", "job", "flaky")
    house.wait("the pool has its minimum again", lambda: house.get("WarmPool", "box")["status"]["state"] == "ready")


@pytest.mark.parametrize(
    ("name", "spec", "cause"),
    [
        ("missing", {"command": ["spinyard-no-such-program"]}, "CommandNotFound"),
        ("slow", {"command": ["sleep", "60"], "timeoutSeconds": 0.5}, "Timeout"),
    ],
)
def test_how_else_a_command_fails(house: House, pool: str, name: str, spec: Json, cause: str) -> None:
    house.apply(named("Job", name, {"pool": "box", **spec}))
    status = ended(house, name)
    assert (status["outcome"], status["lastErrorClass"]) == ("Failed", cause)


def test_it_runs_once_though_server_and_keeper_are_killed_under_it(house: House, pool: str, tmp_path: Path) -> None:
    note = tmp_path / "ran"
    house.apply(job("once", f"echo began >> {note}; sleep 4; echo ended >> {note}", retries=3))
    house.wait("it runs", note.exists)
    server = house.server_pid()
    kill(server)
    house.wait("the server is back", lambda: house.server_pid() not in (0, server) and house.client.is_ready())
    keeper = house.keeper_pid()
    kill(keeper)
    house.wait("the keeper is back", lambda: house.keeper_pid() not in (0, keeper))
    assert ended(house, "once")["outcome"] == "Succeeded"
    assert note.read_text().splitlines() == ["began", "ended"]


def test_a_deleted_job_takes_its_command_along(house: House, pool: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    house.apply(job("gone", f"echo $$$$ > {note}.new; mv {note}.new {note}; sleep 60"))
    house.wait("it runs", note.exists)
    pid = int(note.read_text())
    house.delete("Job", "gone")
    assert not Path(f"/proc/{pid}").exists()


def test_run_shows_the_output_while_it_comes_and_ends_with_ctrl_c(house: House, pool: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"echo $$ > {note}; echo first; echo wrong >&2; sleep 60"
    words = [sys.executable, "-m", "spinyard.cli", "run", "box", "--", "sh", "-c", script]
    running = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=house.environment(), cwd=ROOT, text=True
    )
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == "first\n"
    assert running.stderr.readline() == "wrong\n"
    pid = int(note.read_text())
    assert Path(f"/proc/{pid}").exists(), "it is still running"
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 3
    running.stdout.close()
    running.stderr.close()
    house.wait("the command is ended", lambda: not Path(f"/proc/{pid}").exists(), 10)
    house.wait("the claim is gone", lambda: not house.client.list("Claim", "default")["items"])


def test_run_gives_back_the_bytes_and_the_exit_code(house: House, pool: str) -> None:
    words = [sys.executable, "-m", "spinyard.cli", "run", "box", "--", "sh", "-c", "printf '\\377\\0x'; exit 9"]
    done = subprocess.run(words, capture_output=True, env=house.environment(), cwd=ROOT, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (9, b"\xff\0x")
    missing = house.run("run", "box", "--", "spinyard-no-such-program")
    assert missing.returncode == 2
    assert "command_not_found" in missing.stderr


def test_a_flood_of_output_costs_no_memory_and_is_complete(house: House, pool: str) -> None:
    words = [sys.executable, "-m", "spinyard.cli", "run", "box", "--", "sh", "-c", "yes 0123456789 | head -c 50000000"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, env=house.environment(), cwd=ROOT)
    assert running.stdout is not None
    first = running.stdout.read(1)
    before = rss_kib(house.server_pid())
    time.sleep(1.0)  # nobody reads: what comes must wait where it is made
    assert rss_kib(house.server_pid()) - before < 16 << 10
    size = len(first)
    while data := running.stdout.read(1 << 20):
        size += len(data)
    running.stdout.close()
    assert (running.wait(30), size) == (0, 50_000_000)


def test_jobs_wait_for_room_and_a_pool_in_use_goes_only_by_force(house: House) -> None:
    house.apply(named("WarmPool", "small", {"min": 0, "max": 1, "template": template()}))
    house.apply(named("Job", "first", {"pool": "small", "command": ["sleep", "60"]}))
    house.wait("it runs", lambda: [s for s in spins_of(house, "first") if s["status"]["state"] == "ready"])
    house.apply(named("Job", "second", {"pool": "small", "command": ["true"]}))
    house.wait("it waits", lambda: "maximum of 1" in house.get("Job", "second")["status"]["message"])
    refused = house.run("delete", "pool", "small")
    assert refused.returncode == 8
    assert "used by Job first, Job second" in refused.stderr
    house.cli("delete", "pool", "small", "--force")
    for name in ("first", "second"):
        assert "the pool small is gone" in ended(house, name)["message"]
        assert not spins_of(house, name)
    assert house.find("WarmPool", "small") is None


def test_a_pool_that_does_not_exist_is_an_error_of_the_file(house: House, pool: str) -> None:
    done = house.run("apply", "-f", "-", text=json.dumps(named("Job", "lost", {"pool": "bix", "command": ["true"]})))
    assert done.returncode == 2
    assert "box" in done.stderr
    assert house.find("Job", "lost") is None


def rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
