"""Ctrl-C in the middle of the demo's acts: nothing runs afterwards, and nothing lies in /tmp."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.house import ROOT
from tests.system.test_other_user import running_in

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("claim from an empty pool", id="one claim, and a pool that fills"),
        pytest.param("claim from the warm pool", id="claims are given back"),
        pytest.param("10 % of the requests on the new version", id="a rollout runs"),
        pytest.param("version 3: 20 % errors", id="the second rollout begins"),
    ],
)
def test_stopped_in_an_act_it_leaves_nothing(line: str, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.gallery.demo"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
        start_new_session=True,
    )
    home: Path | None = None
    said: list[str] = []
    assert demo.stdout is not None
    try:
        for told in demo.stdout:
            said.append(told)
            if line in told:
                home = home_of(demo.pid)
                os.killpg(demo.pid, signal.SIGINT)
                break
        rest = demo.stdout.read()
        assert demo.wait(120) == 130, "".join(said) + rest
    finally:
        demo.kill()
    assert home is not None, "".join(said)
    assert "had to be killed" not in rest
    assert re.search(r"^stopped$", rest, re.MULTILINE), rest
    assert (home.exists(), running_in(home)) == (False, [])
    assert list(tmp_path.iterdir()) == []


def home_of(demo: int) -> Path:
    """Where the demo lives, as its load is told."""
    for child in Path(f"/proc/{demo}/task/{demo}/children").read_text().split():
        found = re.search(r"/tmp/spinyard-demo-[^/\0]+", Path(f"/proc/{child}/cmdline").read_text())
        if found:
            return Path(found[0])
    raise AssertionError("the demo has no load")
