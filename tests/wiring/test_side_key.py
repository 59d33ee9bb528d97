"""The key of testers' tokens: one for a home, whoever asks first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest

from spinyard.wiring import side_key
from spinyard.wiring.side_key import SideKey


def test_two_who_ask_at_once_get_the_key_that_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2)
    made: list[str] = []

    def slow_key() -> str:
        """As if both were inside: whoever is alone goes on after a while."""
        with suppress(BrokenBarrierError):
            both.wait(0.2)
        made.append(f"key {len(made)}")
        return made[-1]

    monkeypatch.setattr(side_key, "new_key", slow_key)
    key = SideKey(tmp_path / "key.json")
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(key) for _ in range(2))
    assert first.result() == second.result() == SideKey(tmp_path / "key.json")() == "key 0"
    assert made == ["key 0"]


def test_a_file_that_others_may_read_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    first = SideKey(path)()
    assert path.stat().st_mode & 0o777 == 0o600
    assert SideKey(path)() == first
    path.chmod(0o644)
    assert SideKey(path)() != first
