"""The import contracts cannot name a module that does not exist yet; nothing may come to life behind their back."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LATER = sorted(set(re.findall(r"# later: (\S+)", (ROOT / "importlinter.ini").read_text())))


def test_there_are_names_left_for_later() -> None:
    assert LATER


@pytest.mark.parametrize("name", LATER)
def test_a_module_that_exists_is_named_in_its_contracts(name: str) -> None:
    path = ROOT / "src" / Path(*name.split("."))
    assert not path.exists() and not path.with_suffix(".py").exists(), (
        f"{name} exists: take away the '# later:' before it in importlinter.ini"
    )
