"""server, up and down with a real keeper. The server it runs is a stand-in (standin_server.py): the real one has its
end-to-end tests elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spinyard.cli import start
from spinyard.cli.keeper_link import KeeperLink
from spinyard.cli.settings_file import make_home
from spinyard.cli.start import process_exists
from spinyard.settings import Settings
from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]


STARTING_KEEPER = """
import sys, time
from spinyard.keeper import __main__ as keeper
lock = keeper._lock(sys.argv[1])
print("it has the lock", flush=True)
time.sleep(1)
keeper._lock = lambda home: lock
keeper.main(["--home", sys.argv[1], "--detach"])
"""


def standin_argv(home: Path) -> list[str]:
    return [sys.executable, "-m", "tests.cli.standin_server", str(home)]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, run_down: Callable[[Path], None]) -> Iterator[Path]:
    """Not there yet, and short enough for unix sockets. What a test leaves running is stopped."""
    parent = Path(tempfile.mkdtemp(prefix="sy-", dir="/tmp"))
    home = parent / "home"
    monkeypatch.setenv("SPINYARD_HOME", os.fspath(home))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    monkeypatch.setattr(start, "server_argv", standin_argv)
    yield home
    run_down(home)
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def run_down() -> Callable[[Path], None]:
    def call(home: Path) -> None:
        command = [sys.executable, "-m", "spinyard.cli", "down", "--home", str(home)]
        try:
            subprocess.run(command, check=True, timeout=30, stdout=subprocess.DEVNULL)
        finally:
            # A `down` that fails is a failed test, and leaves nothing either.
            for pid in of_home(home):
                os.kill(pid, signal.SIGKILL)

    return call


def of_home(home: Path) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # gone meanwhile
        if str(home) in words:
            found.append(int(folder.name))
    return found


def server_pid(home: Path) -> int:
    return int(json.loads((home / "run" / "server.json").read_text())["pid"])


def keeper_pid(home: Path) -> int:
    return int(KeeperLink(home / "run" / "keeper.sock").ask("hello")["pid"])


def until(check: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_up_starts_what_does_not_run_says_so_and_down_stops_it(run: Run, home: Path, manifest: str) -> None:
    result = run("up", "-f", manifest)
    assert result.code == 0, result.err
    assert "started keeper and server in the background" in result.err
    assert "http://web.localhost:8080/" in result.out
    assert home.stat().st_mode & 0o777 == 0o700
    keeper, server = keeper_pid(home), server_pid(home)
    again = run("up", "-f", manifest)
    assert "started" not in again.err
    assert server_pid(home) == server
    down = run("down")
    assert (down.code, down.out.splitlines()[0]) == (0, "stopped server, keeper")
    assert not process_exists(keeper) and not process_exists(server)
    assert "nothing runs" in run("down").out


def test_up_as_json_prints_the_objects_and_nothing_else(run: Run, home: Path, manifest: str) -> None:
    result = run("up", "-f", manifest, "-o", "json")
    assert result.err == ""
    assert json.loads(result.out)["items"][0]["status"]["state"] == "available"


def test_a_second_server_is_refused_and_the_first_is_named(run: Run, home: Path, manifest: str) -> None:
    run("up", "-f", manifest, "--no-wait")
    result = run("server", "-o", "json")
    assert result.code == 8
    told = json.loads(result.out)
    assert told["code"] == "server_already_running"
    assert told["details"]["pid"] == server_pid(home)
    assert told["details"]["url"] in result.err


def test_a_start_that_fails_tells_why_and_leaves_nothing(run: Run, home: Path, manifest: str) -> None:
    result = run("server", "--gateway", "127.0.0.1:1")
    assert result.code == 4
    assert result.err.splitlines()[0] == "spinyard: the gateway port 1 is taken"
    assert "fault: the request or the file" in result.err
    assert not (home / "settings.json").exists()
    assert not KeeperLink(home / "run" / "keeper.sock").is_alive()
    assert run("up", "-f", manifest).code == 0


def test_a_server_that_crashes_at_its_start_shows_the_end_of_its_log(run: Run, home: Path) -> None:
    result = run("server", "--gateway", "127.0.0.1:2")
    assert result.code == 4
    assert "RuntimeError: boom" in result.err
    assert "server.log" in result.err


def test_a_server_that_was_killed_is_back_and_commands_find_it(run: Run, home: Path, manifest: str) -> None:
    run("up", "-f", manifest, "--no-wait")
    before = server_pid(home)
    os.kill(before, signal.SIGKILL)
    assert run("get", "svc").code == 0, "a command waits while the keeper starts it again"
    assert server_pid(home) != before


def test_down_stops_the_server_also_when_the_keeper_was_killed(run: Run, home: Path, manifest: str) -> None:
    run("up", "-f", manifest, "--no-wait")
    server, keeper = server_pid(home), keeper_pid(home)
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not process_exists(keeper))
    assert run("down").code == 0
    assert not process_exists(server)


def test_a_keeper_that_somebody_else_is_just_starting_is_waited_for(home: Path) -> None:
    settings = Settings(home=home)
    make_home(home)
    other = subprocess.Popen([sys.executable, "-c", STARTING_KEEPER, str(home)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"it has the lock\n"
        assert start.ensure_keeper(settings) is False
        assert keeper_pid(home)
        start.stop_keeper(KeeperLink(settings.keeper_socket), instances=False)
    finally:
        other.wait()


def test_what_has_ended_is_gone_even_when_nobody_reaps_it() -> None:
    """As in a container whose first process does not: `down` must not wait for a keeper that has ended."""
    child = subprocess.Popen(["/bin/true"])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process_exists(child.pid)
    finally:
        child.wait()


def test_down_with_delete_removes_every_object_first(run: Run, home: Path, manifest: str) -> None:
    run("up", "-f", manifest)
    result = run("down", "--delete")
    assert result.code == 0
    assert result.out.splitlines()[-1] == "nothing is left"


def test_options_are_kept_for_later_starts(run: Run, home: Path, manifest: str) -> None:
    assert run("server", "--gateway", "9191", "--port-range", "21000-21999", "-o", "json").code == 0
    kept = json.loads((home / "settings.json").read_text())
    assert (kept["gateway"], kept["port_range"]) == ("127.0.0.1:9191", [21000, 21999])
    run("down")
    assert "http://web.localhost:9191/" in run("up", "-f", manifest).out


def test_ctrl_c_leaves_the_server_running_and_says_how_to_stop_it(run: Run, home: Path) -> None:
    program = (
        "import sys; from spinyard.cli import start, main; from tests.cli.test_start_and_stop import standin_argv;"
        "start.server_argv = standin_argv; sys.exit(main(['server']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as attached:
        assert attached.stdout is not None
        first = attached.stdout.readline()
        while "Ctrl-C" not in attached.stdout.readline():
            assert attached.poll() is None
        attached.send_signal(signal.SIGINT)
        _, err = attached.communicate(timeout=10)
    assert first.startswith("spinyard 0.1.0 is ready")
    assert attached.returncode == 0
    assert "go on" in err and "spinyard down" in err
    assert process_exists(server_pid(home))


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        pytest.param(["--home", "/proc/nothing"], 4, "home_not_writable", id="home that cannot be"),
        pytest.param(["--home", "/tmp/" + "x" * 100], 4, "home_path_too_long", id="home with a long path"),
        pytest.param(["--gateway", "nowhere"], 2, "usage", id="gateway without a port"),
        pytest.param(["--gateway", "127.0.0.1:0"], 2, "usage", id="a gateway that nobody could name"),
        pytest.param(["--port-range", "9-5"], 2, "usage", id="range the wrong way round"),
        pytest.param(["--tls-cert", "/etc/hostname"], 2, "usage", id="certificate without a key"),
    ],
)
def test_a_start_that_cannot_be_is_refused_at_once(
    run: Run, home: Path, words: list[str], code: int, error: str
) -> None:
    result = run("server", *words)
    assert (result.code, f"code:  {error}" in result.err) == (code, True), result.err
