"""A token that somebody prepared in a home is not taken for ours."""

from __future__ import annotations

from pathlib import Path

from spinyard.settings import Settings
from spinyard.wiring.token import is_own_token, rotate_token


def test_a_token_we_made_is_ours(tmp_path: Path) -> None:
    rotate_token(Settings(tmp_path))
    assert is_own_token(tmp_path / "token")


def test_a_link_an_open_file_a_directory_and_nothing_are_not_ours(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("known\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "open").write_text("known\n")
    (tmp_path / "open").chmod(0o644)
    (tmp_path / "directory").mkdir(mode=0o700)
    assert not any(is_own_token(tmp_path / name) for name in ("link", "open", "directory", "nothing"))
