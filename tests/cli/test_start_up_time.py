"""Importing little is a feature: a shell prompt that asks Spinyard must not feel it."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tests.cli.conftest import Run
from tests.cli.stub import Stub

CPU_SECONDS_MAX = 0.6
"""of the best of five. CPU time, for the machine of the tests may be busy; on an idle one it is the time that a user
waits, and the aim is 0.3."""
HEAVY = {"pydantic", "sqlalchemy", "fastapi", "aiohttp", "rich", "yaml", "grpc", "starlette", "uvicorn"}


@pytest.mark.parametrize("words", [["version"], ["get", "svc"]], ids=["version", "get"])
def test_a_command_starts_in_time(home: object, stub: Stub, words: list[str]) -> None:
    took = []
    for _ in range(5):
        before = cpu_seconds_of_children()
        subprocess.run([sys.executable, "-m", "spinyard.cli", *words], check=True, stdout=subprocess.DEVNULL)
        took.append(cpu_seconds_of_children() - before)
    assert min(took) < CPU_SECONDS_MAX


def cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_get_imports_nothing_heavy(home: object, stub: Stub, run: Run) -> None:
    program = (
        "import sys; from spinyard.cli import main; code = main(['get', 'svc']);"
        f"print(code, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
