"""The README's promise: git, make and a Python are enough, and after the first time not even a network is needed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import ROOT
from tests.system.test_other_user import running_in

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

WITHOUT_NETWORK = [
    "unshare",
    "--net",
    "bash",
    "-c",
    'ip link set lo up && ! ip route get 192.0.2.1 && exec "$@"',
    "bash",
]


@pytest.fixture
def place() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="sy-clone-", dir="/tmp"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


def test_make_demo_works_in_a_fresh_clone_and_then_without_a_network(place: Path) -> None:
    clone, home = place / "spinyard", place / "home"
    home.mkdir()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, timeout=60)
    first = make_demo(clone, home)
    assert (first.returncode, "every promise kept" in first.stdout) == (0, True), first.stdout + first.stderr
    assert list(home.iterdir()) == [], "nothing is written outside the checkout"
    second = make_demo(clone, home, *WITHOUT_NETWORK)
    assert (second.returncode, "every promise kept" in second.stdout) == (0, True), second.stdout + second.stderr
    assert running_in(place) == []
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert changed.stdout == "", "what it makes is ignored by git"


def make_demo(clone: Path, home: Path, *inside: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", f"HOME={home}", *inside, "make", "demo"],
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
