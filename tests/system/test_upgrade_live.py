"""From 0.1.0 to this version and back, while its instances serve: not one request is lost, and not one is replaced.

The older code comes from the history of this repository, as it stood when 0.1.0 was named.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spinyard.testing.load_mix import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from tests.e2e.house import ROOT, House, unpack, web

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

COMMIT_OF_0_1_0 = "b9a94da"
RATE = 50.0


class Versioned(House):
    """`source`: the code that its commands, and the server that they start, are of."""

    def __init__(self) -> None:
        super().__init__()
        self.source = ROOT

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": f"{self.source / 'src'}:{ROOT}"}

    def take_over(self, source: Path) -> None:
        """As somebody does who has installed another version."""
        before = self.server_pid()
        self.source = source
        if source == ROOT:
            self.cli("server", "--take-over", "-o", "json", timeout=90)
        else:
            # 0.1.0 has no --take-over: its server is stopped by the keeper, and started again by 0.1.0's own command.
            self.stop_server()
            self.cli("server", "-o", "json", timeout=90)
        assert self.server_pid() not in (0, before)

    def stop_server(self) -> None:
        """The keeper, Envoy and the instances go on."""
        self.keeper.change("unsupervise", name="server", signal=15, grace_seconds=10.0)
        self.wait("the server has ended", lambda: "server" not in self.keeper.supervised(), 20)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Not shallow: a clone without its history cannot try an upgrade, and must say so."""
    made = subprocess.run(
        ["git", "archive", COMMIT_OF_0_1_0, "src"], cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    assert made.returncode == 0, f"no commit {COMMIT_OF_0_1_0} in this clone: {made.stderr.decode()}"
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        unpack(archive, tmp_path)
    return tmp_path


@pytest.fixture
def house() -> Iterator[Versioned]:
    house = Versioned()
    yield house
    house.close()


def service(name: str, template: dict[str, Any], **spec: Any) -> dict[str, Any]:
    route = {"hosts": [f"{name}.localhost"]}
    whole = {"owner": "team", "replicas": 2, "route": route, "template": template, **spec}
    return {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def test_live_instances_serve_through_an_upgrade_from_0_1_0_and_back(
    house: Versioned, older: Path, tmp_path: Path
) -> None:
    template = {
        "command": web(),
        "ports": [{"name": "http"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 0.2},
    }
    house.source = older
    house.start()
    house.apply(service("app", template))
    first = {spin["metadata"]["uid"] for spin in house.serve("app", 2)}
    pids = house.instance_pids()
    house.wait("it answers", lambda: house.request("app.localhost")[0] == 200)
    mix = Mix(requests=[MixEntry(path="/"), MixEntry(path="/", method="POST", body="x")])
    load = LoadProcess(
        LoadSpec(f"http://{house.gateway}", RATE, 200, mix, host="app.localhost"), tmp_path / "load.json"
    )
    try:
        house.take_over(ROOT)
        same = {spin["metadata"]["uid"] for spin in house.serve("app", 2)}
        assert (same, house.instance_pids()) == (first, pids), "an upgrade replaces no instance"

        pool = {"owner": "team", "min": 1, "max": 2, "template": template}
        house.apply({"apiVersion": "spinyard.dev/v1", "kind": "WarmPool", "metadata": {"name": "box"}, "spec": pool})
        house.wait("a member is warm", lambda: house.get("WarmPool", "box")["status"].get("warm") == 1)
        members = set(house.instance_pids()) - set(pids)

        house.take_over(older)
        again = {spin["metadata"]["uid"] for spin in house.serve("app", 2)}
        assert again == first, "going back replaces no instance"
        house.cli("restart", "app")
        house.wait("the older version rolls", lambda: not first & {s["metadata"]["uid"] for s in house.spins("app")})
        second = {spin["metadata"]["uid"] for spin in house.serve("app", 2)}
        assert members <= set(house.instance_pids()), "what the older version does not know is left alone"

        house.take_over(ROOT)
        assert {spin["metadata"]["uid"] for spin in house.serve("app", 2)} == second
        assert house.get("WarmPool", "box")["status"].get("warm") == 1

        # A promoted rollout leaves a Service that 0.1.0 would send astray: it must not be let at it.
        steps = {"steps": [{"weight": 50}, {"weight": 100}], "analysis": {"enabled": False}}
        changed = {**template, "env": [{"name": "VERSION", "value": "2"}]}
        house.apply(service("app", template, rollout=steps))
        house.apply(service("app", changed, rollout=steps))
        house.wait("the rollout has ended", lambda: not house.client.list("Rollout", "default")["items"], 60)
        third = {spin["metadata"]["uid"] for spin in house.serve("app", 2)}
        assert not third & second
        house.stop_server()
        house.source = older
        refused = house.run("server", "-o", "json", timeout=90)
        assert refused.returncode == 4
        assert "store_too_new" in refused.stdout + refused.stderr
        house.source = ROOT
        house.cli("server", "-o", "json", timeout=90)
        assert {spin["metadata"]["uid"] for spin in house.serve("app", 2)} == third
        result = load.stop()
    finally:
        load.kill()
    assert result.totals.sent > 100
    assert result.totals.failed == 0, [f"{f.method} {f.status} {f.error}" for f in result.failures[:10]]
    house.delete("WarmPool", "box")
    house.delete("Service", "app")
    assert house.left() == []
