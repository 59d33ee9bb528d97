"""Logs that nobody writes any more are kept within bounds."""

from __future__ import annotations

import os
from pathlib import Path

from spinyard.keeper.retention import prune


def log_of(root: Path, name: str, age: float, size: int = 10) -> None:
    (root / name).mkdir()
    for file in ("process.log", "process.log.1"):
        (root / name / file).write_bytes(b"x" * size)
        os.utime(root / name / file, (1e9 - age, 1e9 - age))


def test_the_oldest_go_first_and_those_in_use_stay(tmp_path: Path) -> None:
    for age in range(6):
        log_of(tmp_path, f"spin{age}", age)
    (tmp_path / "server.log").write_text("not a directory")
    assert prune(str(tmp_path), {"spin5"}, directories_max=2) == ["spin2", "spin3", "spin4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log", "spin0", "spin1", "spin5"]


def test_bytes_count_too(tmp_path: Path) -> None:
    for age in range(4):
        log_of(tmp_path, f"spin{age}", age, size=100)
    assert prune(str(tmp_path), set(), bytes_max=500) == ["spin2", "spin3"]


def test_what_is_within_the_bounds_stays(tmp_path: Path) -> None:
    log_of(tmp_path, "spin", 0)
    assert prune(str(tmp_path), set()) == []
