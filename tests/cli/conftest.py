from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spinyard.cli.app import main
from tests.cli.stub import Stub

MANIFEST = """\
apiVersion: spinyard.dev/v1
kind: Service
metadata: {name: web}
spec:
  owner: team
  replicas: 2
  route: {hosts: [web.localhost], pathPrefix: /}
  template:
    command: [sleep, "60"]
    ports: [{name: http}]
"""


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose server is the stub, and the only one that a command can find."""
    home = tmp_path / "home"
    stub.write_home(home)
    monkeypatch.setenv("SPINYARD_HOME", os.fspath(home))
    return home


@pytest.fixture
def run(home: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line in this process, with what it wrote."""

    def call(*words: str) -> Result:
        capfd.readouterr()
        try:
            code = main(list(words))
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capfd.readouterr()
        return Result(int(code), out, err)

    return call


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "web.yaml"
    path.write_text(MANIFEST)
    return str(path)
