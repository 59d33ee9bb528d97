"""The failpoints themselves: off they are nothing, each fires once in the life of a home."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from spinyard.engine.context import no_failpoint
from spinyard.failpoints import InjectedFailure, failpoints

PROGRAM = """
import sys
from pathlib import Path
from spinyard.failpoints import failpoints
at = failpoints(sys.argv[1], Path(sys.argv[2]))
for number in range(3):
    at("other")
    at("here")
    print(number, flush=True)
"""


def passes(text: str, folder: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, text, str(folder)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.split()


def test_off_it_is_the_function_that_does_nothing(tmp_path: Path) -> None:
    assert failpoints("", tmp_path) is no_failpoint


def test_it_kills_at_the_passing_asked_for_and_once_in_a_home(tmp_path: Path) -> None:
    assert passes("here@2", tmp_path) == (-9, ["0"])
    assert passes("here@2", tmp_path) == (0, ["0", "1", "2"])
    assert (tmp_path / "failpoints.fired").read_text() == "here@2\n"


def test_several_fire_one_after_the_other(tmp_path: Path) -> None:
    assert passes("here@3,other@2=kill", tmp_path) == (-9, ["0"])
    assert passes("here@3,other@2=kill", tmp_path) == (-9, ["0", "1"])
    assert passes("here@3,other@2=kill", tmp_path) == (0, ["0", "1", "2"])


def test_it_can_fail_or_stand_still_instead(tmp_path: Path) -> None:
    at = failpoints("here=raise,there@2=sleep:0.05", tmp_path)
    with pytest.raises(InjectedFailure, match="here"):
        at("here")
    at("here")
    at("there")
    began = time.monotonic()
    at("there")
    assert time.monotonic() - began >= 0.05


def test_a_run_can_list_what_it_passes(tmp_path: Path) -> None:
    at = failpoints("list", tmp_path)
    for place in ("a", "b", "a"):
        at(place)
    assert (tmp_path / "failpoints.seen").read_text() == "a\nb\na\n"


@pytest.mark.parametrize("text", ["here=explode", "@2", "here@0", "here@x", "here=sleep:x", "here,"])
def test_nonsense_is_refused_and_not_ignored(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        failpoints(text, tmp_path)
