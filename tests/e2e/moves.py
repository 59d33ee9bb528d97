"""A parent, its unit, and what moves from one to the other: for the tests of Spinouts with real processes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spinyard.testing.load import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult
from tests.e2e.house import House, Json, kill
from tests.e2e.objects import READY, named

PROGRAM = Path(__file__).with_name("programs") / "moving.py"
ON_PURPOSE, ANSWERED_BY = "x-failed-on-purpose", "x-answered-by"


def side(name: str, side_name: str, bad: Path, *, replicas: int = 1, **route: Any) -> Json:
    made_from: Json = {
        "command": [sys.executable, "-I", "-S", str(PROGRAM)],
        "ports": [{"name": "http"}],
        "env": [{"name": "BAD", "value": str(bad)}, {"name": "SIDE", "value": side_name}],
        "readinessProbe": {**READY, "failureThreshold": 2},
        "drain": {"timeoutSeconds": 1},
        "terminationGracePeriodSeconds": 1,
    }
    spec = {"replicas": replicas, "route": {"hosts": [f"{name}.localhost"], **route}, "template": made_from}
    return named("Service", name, spec)


class Move:
    """`name` of the Spinout, of its parent (`NAME-old`) and its unit (`NAME-new`)."""

    def __init__(self, house: House, name: str, place: Path) -> None:
        self.house, self.name = house, name
        self.parent, self.unit = f"{name}-old", f"{name}-new"
        self.bad_parent, self.bad_unit = place / f"{name}-old.bad", place / f"{name}-new.bad"
        self._load: LoadProcess | None = None
        self.begun_again = 0

    # -- the objects ---------------------------------------------------------------------------------------------------

    def apply(
        self, *, route: Json | None = None, unit_replicas: int = 2, external: Json | None = None, **more: Any
    ) -> None:
        """The fields of `more` as in the manifest, over such as suit a test."""
        spec: Json = {
            "parent": self.parent,
            "unit": self.unit,
            "boundary": {"routes": ["GET /items/{id}"]},
            "steps": [{"weight": 50, "pause": True}, {"weight": 100, "pause": True}],
            "gates": {"success": {"margin": 5}},
            "shadow": False,
            "baseline": {"duration": "0.5s", "minRequests": 20},
            "soak": "1h",
            **more,
        }
        parent = side(self.parent, "parent", self.bad_parent, **(route or {}))
        if external is not None:
            parent["spec"].pop("template")
            parent["spec"].pop("replicas")
            parent["spec"]["external"] = external
        unit = side(self.unit, "unit", self.bad_unit, replicas=unit_replicas, **(route or {}))
        self.house.apply(parent, unit, named("Spinout", self.name, spec))

    def ready(self) -> None:
        self.house.wait("parent and unit are available", lambda: self._available(self.parent, self.unit))

    def _available(self, *names: str) -> bool:
        return all(self.house.get("Service", name)["status"]["state"] == "available" for name in names)

    def start(self) -> None:
        self.house.cli("spinout", "start", self.name, "--evidence", "a test")

    def say(self, verb: str, *words: str) -> str:
        return self.house.cli("spinout", verb, self.name, *words)

    # -- what is seen --------------------------------------------------------------------------------------------------

    @property
    def status(self) -> Json:
        return dict(self.house.get("Spinout", self.name)["status"])

    @property
    def state(self) -> str:
        return str(self.status["state"])

    def _wait(self, what: str, check: Callable[[], object], seconds: float) -> None:
        try:
            self.house.wait(what, check, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.status}") from None

    def until(self, state: str, seconds: float = 20.0) -> Json:
        self._wait(f"{self.name} is {state}", lambda: self.state == state or self._stuck(state), seconds)
        return self.status

    def until_goes_on(self, state: str, seconds: float = 20.0) -> Json:
        """As `until`, from where it is held or back."""
        self._wait(f"{self.name} is {state}", lambda: self.state == state, seconds)
        return self.status

    def until_weight(self, percent: float, seconds: float = 20.0) -> Json:
        self._wait(f"{self.name} has {percent} %", lambda: self._has(percent), seconds)
        return self.status

    def until_it_says(self, words: str, seconds: float = 20.0) -> Json:
        self._wait(f"{self.name} says {words!r}", lambda: words in str(self.status), seconds)
        return self.status

    def _has(self, percent: float) -> bool:
        status = self.status
        assert status["state"] not in ("rolled_back", "abandoned"), f"{self.name} is back: {status}"
        return bool(status["shownWeight"] == percent * 100)

    def sees_requests(self, count: int, seconds: float = 20.0) -> None:
        """So many more on the unit's side, as the server counts them; anew after a change of weight."""
        before = self._counted()
        self._wait(f"{count} requests at the unit", lambda: self._counted() >= before + count, seconds)

    def _counted(self) -> int:
        return int(self.status["new"].get("requests", 0))

    def sees_answers(self, count: int, seconds: float = 20.0) -> None:
        """So many more good ones, as the load counts them."""
        assert self._load is not None
        running = self._load
        before = int(str(running.latest.get("ok", 0)))
        self._wait(f"{count} answers", lambda: int(str(running.latest.get("ok", 0))) >= before + count, seconds)

    def asks(self) -> tuple[int, str]:
        """(status, by whom)."""
        status, _, headers = self.house.request(f"{self.parent}.localhost", "/items/1")
        return status, headers.get(ANSWERED_BY, "")

    def kill_unit(self) -> list[int]:
        pids = [
            pid
            for one in self.house.spins(self.unit)
            for pid in self.house.instance_pids(f"{one['metadata']['uid']}/process")
        ]
        assert pids
        for pid in pids:
            kill(pid)
        return pids

    def _stuck(self, wanted: str) -> bool:
        now = self.state
        assert now == wanted or now not in ("rolled_back", "held"), f"{self.name} is {now}: {self.status}"
        return False

    # -- traffic -------------------------------------------------------------------------------------------------------

    def load(self, rate: float = 60.0, *, timeout: float = 10.0) -> LoadProcess:
        mix = Mix(requests=[MixEntry(path="/items/{n}", headers={"x-user": f"u{user}"}) for user in range(40)])
        spec = LoadSpec(
            url=f"http://{self.house.gateway}",
            host=f"{self.parent}.localhost",
            rate=rate,
            seconds=600.0,
            mix=mix,
            timeout_seconds=timeout,
            counted_headers=(ANSWERED_BY,),
            apart_header=ON_PURPOSE,
        )
        self.begun_again += 1
        self._load = LoadProcess(spec, self.house.home / f"load-{self.name}-{self.begun_again}.json")
        return self._load

    def stop_load(self) -> LoadResult:
        assert self._load is not None
        return self._load.stop()

    def close(self) -> None:
        if self._load is not None:
            self._load.kill()
        for path in (self.bad_parent, self.bad_unit):
            path.unlink(missing_ok=True)
        for kind, name in (("Spinout", self.name), ("Service", self.unit), ("Service", self.parent)):
            if self.house.find(kind, name) is not None:
                self.house.delete(kind, name)


def answered(result: LoadResult, by: str) -> int:
    return result.headers.get(ANSWERED_BY, {}).get(by, 0)
