"""/metrics as Prometheus itself reads it."""

from __future__ import annotations

import subprocess
import urllib.request

import pytest

from spinyard.client import read_server_file
from tests.e2e.house import House
from tests.e2e.objects import service, template

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


def test_promtool_finds_nothing_wrong_after_a_whole_life(empty_house: House) -> None:
    house = empty_house
    house.start()
    house.apply(service("web", template(), replicas=2))
    house.serve("web", 2)
    assert house.request("web.localhost", "/ready")[0] == 200
    house.cli("restart", "web", "--wait", "--timeout", "40s")
    house.run("get", "service", "nobody")  # a refused request is counted too
    house.delete("Service", "web")

    server = read_server_file(house.home)
    assert server is not None
    token = (house.home / "token").read_text().strip()
    request = urllib.request.Request(f"{server.url}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(samples) > 20, text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, "", "")
