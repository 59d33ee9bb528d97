"""The systemd unit that `spinyard install` writes."""

from __future__ import annotations

import configparser
import subprocess
from pathlib import Path

import pytest

from tests.e2e.house import House

pytestmark = [pytest.mark.system]


def test_systemd_understands_the_whole_unit(empty_house: House, tmp_path: Path) -> None:
    unit = tmp_path / "spinyard.service"
    unit.write_text(empty_house.cli("install", "--print"))
    (tmp_path / "run").mkdir(mode=0o700)
    said = verify(unit)
    assert "spinyard.service" not in said, said
    unit.write_text(unit.read_text().replace("KillMode=process", "KillMode=nonsense"))
    assert "kill mode" in verify(unit), "it would have said what is wrong"


def test_a_restart_of_the_unit_ends_the_keeper_only(empty_house: House) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(empty_house.cli("install", "--print"))
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["Restart"] == "always"
    assert str(empty_house.home) in unit["Service"]["ExecStart"]


def verify(unit: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(unit.parent / "run"), "HOME": str(unit.parent)},
        check=False,
    )
    return done.stdout + done.stderr
