"""Whatever a program starts, nothing of it is left when it counts as gone."""

from __future__ import annotations

import os
import signal
import sys
import time

from tests.keeper.driver import Keeper, is_alive, marked, until

KEY = "tree/process"

# Double fork with setsid, as daemons do; the daemon ignores SIGTERM and closes the output.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.closerange(0, 3)
        open(sys.argv[2], "w").write("up")
        time.sleep(300)
    os._exit(0)
{after}
"""


def daemonise(keeper: Keeper, mark: str, after: str, **fields: object) -> list[int]:
    """Returns the pids that carry the mark, once the daemon is up."""
    note = keeper.home / "daemon-up"
    keeper.begin(KEY, sys.executable, "-c", DAEMON.format(after=after), mark, str(note), **fields)
    until(note.exists)
    found = marked(mark)
    assert found
    return found


def test_a_daemon_is_gone_when_the_program_that_left_it_counts_as_exited(keeper: Keeper) -> None:
    mark = f"mark-{time.time_ns()}"
    after = "\nwhile not os.path.exists(sys.argv[2]): time.sleep(0.01)\nos._exit(5)"
    keeper.begin(KEY, sys.executable, "-c", DAEMON.format(after=after), mark, str(keeper.home / "daemon-up"))
    state = keeper.exited(KEY)
    assert marked(mark) == []
    assert state["exit_code"] == 5
    assert (keeper.home / "daemon-up").exists(), "the daemon did run"


def test_removing_ends_the_daemon_too(keeper: Keeper) -> None:
    mark = f"mark-{time.time_ns()}"
    assert len(daemonise(keeper, mark, "time.sleep(300)")) == 2
    keeper.remove(KEY)
    keeper.gone(KEY)
    assert marked(mark) == []


def test_sigterm_is_sent_first_and_its_answer_is_kept(keeper: Keeper) -> None:
    keeper.script(KEY, "trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.01; done", grace_seconds=20)
    until(lambda: keeper.log(KEY).exists())
    began = time.monotonic()
    keeper.remove(KEY)
    assert time.monotonic() - began < 0.5, "removing does not wait"
    keeper.gone(KEY)
    assert time.monotonic() - began < 5
    assert keeper.log(KEY).read_text() == "up\nbye\n"


def test_ignoring_sigterm_lasts_as_long_as_the_grace(keeper: Keeper) -> None:
    keeper.script(KEY, "trap '' TERM; echo up; while :; do sleep 1; done", grace_seconds=0.5)
    until(lambda: keeper.log(KEY).exists())
    began = time.monotonic()
    keeper.remove(KEY)
    time.sleep(0.2)
    assert keeper.observe(KEY) is not None
    keeper.gone(KEY)
    assert 0.4 < time.monotonic() - began < 3


def test_limits_longer_than_poll_can_wait_are_kept_and_end_nothing(keeper: Keeper) -> None:
    """poll() ends at 24.8 days; a Job may have ten years."""
    keeper.script(KEY, "trap '' TERM; echo up; sleep 0.3; exit 7", timeout_seconds=3e8)
    assert keeper.exited(KEY)["exit_code"] == 7
    stubborn = "tree/stubborn"
    keeper.script(stubborn, "trap '' TERM; echo up; while :; do sleep 0.01; done", grace_seconds=1e14)
    until(lambda: keeper.log(stubborn).exists())
    keeper.remove(stubborn)
    time.sleep(0.3)
    state = keeper.observe(stubborn)
    assert state is not None
    assert state["state"] == "running"
    assert keeper.ask("hello")["pid"] == keeper.pid
    keeper.remove(stubborn, now=True)
    keeper.gone(stubborn)


def test_now_means_without_grace(keeper: Keeper) -> None:
    pid = keeper.script(KEY, "trap '' TERM; while :; do sleep 1; done", grace_seconds=60)["pid"]
    keeper.remove(KEY)
    keeper.remove(KEY, now=True)
    keeper.gone(KEY, 3)
    assert not is_alive(pid)


def test_a_stopped_program_can_be_removed(keeper: Keeper) -> None:
    pid = keeper.begin(KEY, "sleep", "300", grace_seconds=30)["pid"]
    os.kill(pid, signal.SIGSTOP)
    keeper.remove(KEY)
    keeper.gone(KEY, 3)


def test_a_program_that_forks_without_end_is_ended(keeper: Keeper) -> None:
    mark = f"mark-{time.time_ns()}"
    forks = """
import os, time
for _ in range(40):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.02)
time.sleep(300)
"""
    keeper.begin(KEY, sys.executable, "-S", "-c", forks, mark)
    until(lambda: len(marked(mark)) > 10)
    keeper.remove(KEY, now=True)
    keeper.gone(KEY, 20)
    assert marked(mark) == []


def test_a_signal_that_ended_it_is_told(keeper: Keeper) -> None:
    state = keeper.begin(KEY, "sleep", "300")
    os.kill(state["pid"], signal.SIGSEGV)
    ended = keeper.exited(KEY)
    assert (ended["exit_code"], ended["exit_signal"]) == (None, signal.SIGSEGV)


def test_a_program_finds_signals_and_files_as_any_program_does(keeper: Keeper) -> None:
    keeper.script(KEY, "grep -E 'Sig(Ign|Blk)|NoNewPrivs' /proc/self/status; ls /proc/self/fd | wc -l; umask")
    keeper.exited(KEY)
    blocked, ignored, *rest = (line.split() for line in keeper.log(KEY).read_text().splitlines())
    assert blocked == ["SigBlk:", "0" * 16]
    # 32 and 33 belong to the C library, which lets nobody set them: whoever started us may have had them ignored.
    assert (ignored[0], int(ignored[1], 16) & ~(0b11 << 31)) == ("SigIgn:", 0)
    assert rest == [["NoNewPrivs:", "1"], ["4"], ["0022"]]


def test_output_is_bounded_and_its_end_is_kept(keeper: Keeper) -> None:
    keeper.script(KEY, "seq 1 200000; echo the end", log_bytes=65536)
    ended = keeper.exited(KEY)
    log = keeper.log(KEY)
    predecessor = log.with_name(log.name + ".1")
    assert ended["log_tail"].endswith("200000\nthe end\n")
    assert len(ended["log_tail"]) <= 2048
    assert 32768 <= log.stat().st_size + predecessor.stat().st_size <= 65536
    assert (predecessor.read_text() + log.read_text()).endswith("199999\n200000\nthe end\n")


def test_the_memory_of_all_processes_counts_and_shared_memory_once(keeper: Keeper) -> None:
    half = "import os, time; kept = bytearray(40_000_000); [os.fork() for _ in range(2)]; time.sleep({seconds})"
    keeper.begin(KEY, sys.executable, "-c", half.format(seconds=1.2), memory_bytes=100_000_000)
    assert keeper.exited(KEY)["error_class"] == "", "four processes share one 40 MB"
    other = "tree/other"
    grow = "import os, time; [os.fork() for _ in range(2)]; kept = bytearray(40_000_000); time.sleep(60)"
    keeper.begin(other, sys.executable, "-c", grow, memory_bytes=100_000_000)
    ended = keeper.exited(other)
    assert (ended["error_class"], ended["exit_signal"]) == ("OutOfMemory", signal.SIGKILL)
