"""The command line against everything real: keeper, server, Envoy and a small web program."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[2]

WEB = """\
apiVersion: spinyard.dev/v1
kind: Service
metadata: {{name: web}}
spec:
  owner: team
  replicas: 2
  route: {{hosts: [web.localhost]}}
  template:
    command: [{python}, -m, http.server, "${{PORT}}", --bind, 127.0.0.1]
    workingDir: {directory}
    ports: [{{name: http}}]
    readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 0.2}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def gateway() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="sy-", dir="/tmp"))
    home = parent / "home"
    monkeypatch.setenv("SPINYARD_HOME", os.fspath(home))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}")
    yield home
    for words in (["down", "--delete", "--timeout", "30s"], ["down"]):
        subprocess.run(
            [sys.executable, "-m", "spinyard.cli", *words, "--home", str(home)],
            check=False,
            timeout=60,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
def web(tmp_path: Path) -> str:
    (tmp_path / "index.html").write_text("hello\n")
    path = tmp_path / "web.yaml"
    path.write_text(WEB.format(python=sys.executable, directory=tmp_path))
    return str(path)


@pytest.mark.timeout(120)
def test_from_a_file_to_a_service_and_back_to_nothing(run: Run, home: Path, gateway: str, web: str) -> None:
    started = run("server", "--gateway", gateway, "-o", "json")
    assert started.code == 0, started.err
    assert json.loads(started.out)["gateway"] == gateway
    up = run("up", "-f", web, "--timeout", "60s")
    assert up.code == 0, up.err
    assert f"http://web.localhost:{gateway.rpartition(':')[2]}/" in up.out
    assert fetch(gateway) == "hello\n"

    service = json.loads(run("get", "svc/web", "-o", "json").out)
    assert service["status"]["state"] == "available"
    spins = run("get", "spins", "-o", "name").out.split()
    assert len(spins) == 2
    assert '"GET /' in run("logs", "web").out
    assert "Conditions" in run("describe", *spins[0].split("/")).out
    assert "Who must act" in run("explain", "web").out
    assert "Created" in run("events", "svc/web").out
    ran = run("exec", spins[0], "--", "sh", "-c", "echo $PORT; exit 7")
    assert (ran.code, ran.out.strip().isdigit()) == (7, True)

    assert run("scale", "web", "--replicas", "3", "--wait").code == 0
    assert len(run("get", "spins", "-o", "name").out.split()) == 3
    diff = run("diff", "-f", web)
    assert (diff.code, "spec.replicas: 3 -> 2" in diff.out) == (1, True)
    assert run("restart", "web", "--wait", "--timeout", "60s").code == 0
    assert not set(spins) & set(run("get", "spins", "-o", "name").out.split())

    assert run("orphans").code == 0
    backup = home.parent / "backup.db"
    assert run("backup", str(backup)).code == 0
    assert backup.stat().st_size > 0
    assert run("restore", str(backup)).code == 8, "not while the server runs"

    down = run("down", "--delete", "--timeout", "60s")
    assert (down.code, down.out.splitlines()[-1]) == (0, "nothing is left")
    assert run("restore", str(backup)).code == 8, "not over a store that is there"
    for left in home.glob("spinyard.db*"):
        left.rename(home.parent / left.name)
    restored = run("restore", str(backup))
    assert restored.code == 0, restored.err


@pytest.mark.timeout(120)
def test_instances_go_on_without_server_and_keeper_and_are_found_again(
    run: Run, home: Path, gateway: str, web: str
) -> None:
    run("server", "--gateway", gateway, "-o", "json")
    assert run("up", "-f", web, "--timeout", "60s").code == 0
    before = json.loads(run("get", "spins", "-o", "json").out)["items"]
    down = run("down")
    assert "2 instances left running" in down.out, down.out + down.err
    assert run("up", "-f", web, "--timeout", "60s").code == 0
    after = json.loads(run("get", "spins", "-o", "json").out)["items"]
    assert ports_of(after) == ports_of(before)
    assert fetch(gateway) == "hello\n"


def ports_of(spins: list[dict[str, object]]) -> list[object]:
    return [spin["status"]["ports"] for spin in spins]  # type: ignore[index]


def fetch(gateway: str) -> str:
    request = urllib.request.Request(f"http://{gateway}/", headers={"Host": "web.localhost"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(answer.read().decode())
