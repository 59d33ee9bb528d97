"""Importing little is a feature: a shell prompt that asks Spinyard must not feel it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.cli.conftest import Run
from tests.cli.stub import Stub

SECONDS_MAX = 0.6
"""of the best of five; the aim is 0.3, the rest is for busy machines"""
HEAVY = {"pydantic", "sqlalchemy", "fastapi", "aiohttp", "rich", "yaml", "grpc", "starlette", "uvicorn"}


@pytest.mark.parametrize("words", [["version"], ["get", "svc"]], ids=["version", "get"])
def test_a_command_starts_in_time(home: object, stub: Stub, words: list[str]) -> None:
    took = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "spinyard.cli", *words], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    assert min(took) < SECONDS_MAX


def test_get_imports_nothing_heavy(home: object, stub: Stub, run: Run) -> None:
    program = (
        "import sys; from spinyard.cli import main; code = main(['get', 'svc']);"
        f"print(code, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
