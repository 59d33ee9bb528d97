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
    before = set(Path("/tmp").glob("spinyard-demo-*"))
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.gallery.demo", "--gateway", "127.0.0.1:0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
        start_new_session=True,
    )
    homes: set[Path] = set()
    said: list[str] = []
    assert demo.stdout is not None
    try:
        for told in demo.stdout:
            said.append(told)
            if line in told:
                homes = set(Path("/tmp").glob("spinyard-demo-*")) - before
                os.killpg(demo.pid, signal.SIGINT)
                break
        rest = demo.stdout.read()
        assert demo.wait(120) == 130, "".join(said) + rest
    finally:
        demo.kill()
    assert homes, "".join(said)
    assert "had to be killed" not in rest
    assert re.search(r"^stopped$", rest, re.MULTILINE), rest
    assert [home for home in homes if home.exists() or running_in(home)] == []
    assert list(tmp_path.iterdir()) == []
