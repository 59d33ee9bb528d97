"""A Python program whose function leaves it: the server, its engine, Envoy, flags and SDK, all of them real."""

from __future__ import annotations

import json
import re
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from spinyard_sdk.wire import UNIT, side_of
from tests.e2e.house import ROOT, House, Json, kill
from tests.e2e.objects import named

pytestmark = pytest.mark.timeout(150)
KEYS = [f"photo-{number}" for number in range(24)]
HALF = {key: "pics" if side_of(key, 5_000) == UNIT else "shop" for key in KEYS}
SPINOUT: Json = {
    "parent": "shop",
    "unit": "pics",
    "owner": "tests",
    "boundary": {"routes": ["GET /pics/render"]},
    "key": {"header": "x-user"},
    "steps": [{"weight": 50, "pause": True}, {"weight": 100}],
    "shadow": {"enabled": False},
    "baseline": {"duration": "0.5s", "minRequests": 1},
}


def program(name: str, what: str) -> Json:
    uvicorn = ["-m", "uvicorn", "--app-dir", str(ROOT), "--factory", f"tests.sdk.pics:{what}", "--port", "${PORT}"]
    template: Json = {
        "command": [sys.executable, *uvicorn, "--lifespan", "off", "--log-level", "warning"],
        "ports": [{"name": "http"}],
        "readinessProbe": {"httpGet": {"path": "/healthz"}, "periodSeconds": 0.2},
    }
    return named("Service", name, {"template": template, "route": {"hosts": [name]}})


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    try:
        house.start()
        house.apply(program("shop", "parent"), program("pics", "unit"))
        house.serve("shop", 1)
        house.serve("pics", 1)
        yield house
    finally:
        house.close()


def sides(house: House) -> dict[str, str]:
    found = {}
    for key in KEYS:
        status, text, _ = house.request("shop", f"/show/{key}")
        assert status == 200
        found[key] = text
    return found


def approve(house: House) -> str:
    """What the Spinout waits for a person to say, said; its phase."""
    house.request("shop", "/pics/render")
    status = house.get("Spinout", "pics")["status"]
    if phase := re.search(r"approve pics (\w+)", str(status.get("needs"))):
        house.cli("spinout", "approve", "pics", phase.group(1), "--evidence", "a test")
    return str(status["state"])


def flag(house: House, key: str) -> Json:
    port = (house.home / "run" / "otlp-port").read_text().strip()
    body = json.dumps({"context": {"targetingKey": key}}).encode()
    url = f"http://127.0.0.1:{port}/ofrep/v1/evaluate/flags/pics"
    with urllib.request.urlopen(urllib.request.Request(url, body, {"content-type": "application/json"})) as answer:
        found: Json = json.loads(answer.read())
        return found


def test_a_function_moves_to_its_unit_and_back(house: House) -> None:
    assert set(sides(house).values()) == {"shop"}
    house.apply(named("Spinout", "pics", SPINOUT))
    house.cli("spinout", "start", "pics")
    house.wait("half of the keys are the unit's", lambda: approve(house) == "ramping" and sides(house) == HALF, 60)
    assert {key: flag(house, key)["variant"] for key in KEYS} == {key: side_of(key, 5_000) for key in KEYS}

    # The control plane is away: the last weight holds, and no request is lost.
    kill(house.server_pid())
    assert sides(house) == HALF
    house.wait("the server is back", lambda: flag(house, "a")["metadata"]["weight"] == 5_000)
    assert sides(house) == HALF

    house.cli("spinout", "abort", "pics")
    house.wait("everything is the parent's", lambda: set(sides(house).values()) == {"shop"})
    assert flag(house, "a")["value"] is False
    house.wait("it is verified at the data plane", lambda: flag(house, "a")["reason"] == "DISABLED")
    counts = json.loads(house.request("shop", "/counts")[1])
    assert (counts["failed"], counts["remote"] > 0) == ({}, True)
