"""One small life of a Service and a Job on a real server, and what must be true of it whoever is killed meanwhile.

Checked all the time: no key has two live processes, and none lives that the ledger does not know. Checked in the end,
from the timelines: never more instances alive than wanted and surge. Checked last, on the machine: nothing is left.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from pathlib import Path

from spinyard.errors import SpinyardError, SystemFailure
from tests.e2e.house import House, Json, web

SECONDS_EACH = 60.0
"""of any one step, with every restart of the server in it"""
SURGE = 1
STARTING_AND_UP = ("pending", "planned", "provisioning", "bootstrapping", "registering", "ready", "serving")
LEFT_SECONDS = 20.0
SEED = 'echo x >>"$SHARED/seeds" && echo x >"$OWN/x"'
WAIT = """
import os, sys, time
open(os.environ["WORK"] + "/x", "w")
while not os.path.exists(sys.argv[1]):
    time.sleep(0.05)
"""
CLOCK_SECONDS = 0.3
"""between a commit and what /proc shows of it"""


@dataclass(slots=True)
class Findings:
    leaked: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    fired: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Scenario:
    def __init__(
        self, house: House, failpoint: str = "", accidents: AbstractContextManager[object] | None = None
    ) -> None:
        self.house = house
        self.failpoint = failpoint
        self._accidents = accidents or nullcontext()
        self._go = house.home / "go"
        self._wanted: list[tuple[float, int]] = [(0.0, 0)]
        self._seen: list[tuple[float, dict[str, list[int]]]] = []
        self._doubled: set[str] = set()

    def play(self) -> Findings:
        """AssertionError when something is stuck."""
        began = time.monotonic()
        house = self.house
        house.start(**({"SPINYARD_FAILPOINT": self.failpoint} if self.failpoint else {}))
        with self._watching(), self._accidents:
            self._live()
        found = Findings(doubled=sorted(self._doubled))
        found.leaked = self._left() + self._unknown()
        found.doubled += self._too_many()
        fired = house.home / "run" / "failpoints.fired"
        found.fired = fired.read_text().splitlines() if fired.exists() else []
        found.seconds = time.monotonic() - began
        return found

    def _live(self) -> None:
        house = self.house
        self._want(2)
        self._apply(service(version="1", replicas=2), job(self._go))
        house.serve("web", 2, seconds=SECONDS_EACH)
        house.wait("the job runs", lambda: house.states("once", kind="job") == ["ready"], SECONDS_EACH)
        self._go.touch()
        house.wait("the job is done", lambda: self._job_state() == "succeeded", SECONDS_EACH)
        self._stray()
        self._apply(service(version="2", replicas=2))
        house.wait("all are of version 2", lambda: self._versions() == ["2", "2"], SECONDS_EACH)
        self._scale(3)
        self._scale(1)
        for kind, name in (("Service", "web"), ("Job", "once")):
            self._delete(kind, name)

    # -- acts ----------------------------------------------------------------------------------------------------------

    def _change(self, what: str, act: Callable[[str], object]) -> None:
        """Asked with one key until it is answered: the client gives up a request that three servers died over. Refused
        it may be only because nobody can answer yet."""
        key = f"{what}-{os.urandom(4).hex()}"

        def asked() -> bool:
            try:
                act(key)
            except SpinyardError as refused:
                assert refused.retryable or isinstance(refused, SystemFailure), f"{what} is refused: {refused!r}"
                raise
            return True

        self.house.wait(f"{what} is answered", asked, SECONDS_EACH)

    def _apply(self, *objects: Json) -> None:
        self._change("apply", lambda key: self.house.client.apply(objects, key=key))

    def _delete(self, kind: str, name: str) -> None:
        house = self.house
        self._change(f"delete-{kind}", lambda key: house.client.delete(kind, "default", name, key=key))
        house.wait(f"{kind} {name} is gone", lambda: house.find(kind, name) is None, SECONDS_EACH)

    def _scale(self, replicas: int) -> None:
        self._want(replicas)
        self._change(f"scale-{replicas}", lambda key: self.house.client.scale("default", "web", replicas, key=key))
        self.house.serve("web", replicas, seconds=SECONDS_EACH)

    def _stray(self) -> None:
        """Something with our tag that the ledger never heard of; the sweep must find and remove it, once asked."""
        house = self.house

        def known() -> list[str]:
            return [one["key"] for one in house.client.orphans()["items"]]

        def swept() -> bool:
            house.client.gc(dry_run=False)
            return not house.instance_pids("stray/process") and not known()

        env = [{"name": "SPINYARD_INSTALLATION", "value": house.installation}]
        start = {**PLAIN, "key": "stray/process", "argv": web_sleep(), "env": env}
        house.wait(
            "the keeper starts the stray", lambda: house.keeper.change("start", **start) is not None, SECONDS_EACH
        )
        house.wait("the stray is seen", lambda: known() == ["stray/process"], SECONDS_EACH)
        house.wait("the stray is swept away", swept, SECONDS_EACH)

    def _versions(self) -> list[str]:
        """Of all instances, by the answer of each one's own program."""
        spins = self.house.spins("web")
        if any(spin["status"]["state"] != "serving" for spin in spins):
            return []
        return sorted(version_of(spin) for spin in spins)

    def _job_state(self) -> str:
        return str(self.house.get("Job", "once")["status"]["state"])

    def _want(self, replicas: int) -> None:
        self._wanted.append((time.time(), replicas))

    # -- what is watched -----------------------------------------------------------------------------------------------

    @contextmanager
    def _watching(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.02):
                now, keyed = time.time(), self.house.keyed()
                self._seen.append((now, keyed))
                self._doubled |= {f"{len(pids)} processes with {key}" for key, pids in keyed.items() if len(pids) > 1}

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _left(self) -> list[str]:
        deadline = time.monotonic() + LEFT_SECONDS
        while (left := self._look()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _look(self) -> list[str]:
        try:
            return self.house.left()
        except (OSError, HTTPException, SpinyardError) as away:  # server or Envoy, killed a moment ago
            return [f"cannot be looked at: {away!r}"]

    def _unknown(self) -> list[str]:
        """Processes that lived without a record, or longer than their record says."""
        ends = {spin["metadata"]["uid"]: spin["status"] for spin in self._records()}
        out = set()
        for at, keyed in self._seen:
            for key in keyed:
                owner = key.split("/")[0]
                if owner == "stray":
                    continue
                status = ends.get(owner)
                if status is None:
                    out.add(f"{key} lived and has no record")
                elif at > seconds_of(status["finishedAt"]) + CLOCK_SECONDS:
                    out.add(f"{key} outlived its record")
        return sorted(out)

    def _too_many(self) -> list[str]:
        """More at once than wanted and surge, of those that were not on their way out."""
        changes: list[tuple[float, int]] = []
        for spin in self._records():
            alive = [one for one in spin["status"]["timeline"] if one["state"] in STARTING_AND_UP]
            after = [one for one in spin["status"]["timeline"] if one["state"] not in STARTING_AND_UP]
            assert alive and after, spin
            ended = seconds_of(after[0]["at"])
            if "=raise" in self.failpoint and (told := spin["metadata"].get("deletionTimestamp")):
                # A commit that was made to fail keeps it from leaving; what was told to end does not count as capacity.
                ended = min(ended, seconds_of(told))
            changes += [(seconds_of(alive[0]["at"]), 1), (ended, -1)]
        out, count = [], 0
        for at, change in sorted(changes):
            count += change
            if count > self._wanted_at(at) + SURGE:
                out.append(f"{count} instances at once with {self._wanted_at(at)} wanted")
        return out

    def _wanted_at(self, at: float) -> int:
        """The higher one around a change: the wish is written a moment after it was asked."""
        here = max(i for i, (since, _) in enumerate(self._wanted) if since <= at)
        return max(wanted for _, wanted in self._wanted[max(0, here - 1) : here + 1])

    def _records(self) -> list[Json]:
        return [*self.house.spins("web", finished="all"), *self.house.spins("once", kind="job", finished="all")]


def service(*, version: str, replicas: int) -> Json:
    return {
        "apiVersion": "spinyard.dev/v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "route": {"hosts": ["web.localhost"]},
            "template": {
                "command": web(),
                "ports": [{"name": "http"}],
                "env": [{"name": "VERSION", "value": version}],
                "dataDirectories": [
                    {"name": "shared", "scope": "service", "env": "SHARED"},
                    {"name": "own", "scope": "spin", "env": "OWN"},
                ],
                "bootstrap": [{"name": "seed", "command": ["/bin/sh", "-c", SEED]}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 0.1},
                "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 1},
                "drain": {"timeoutSeconds": 2},
                "terminationGracePeriodSeconds": 2,
            },
        },
    }


def job(go: Path) -> Json:
    """Ends when that file is there."""
    template: Json = {"command": [sys.executable, "-I", "-S", "-c", WAIT, str(go)]}
    template |= {"dataDirectories": [{"name": "work", "env": "WORK"}]}
    spec = {"retries": 2, "template": template}
    return {"apiVersion": "spinyard.dev/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": spec}


def version_of(spin: Json) -> str:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", spin["status"]["ports"]["http"], timeout=5)
    try:
        connection.request("GET", "/")
        return str(connection.getresponse().getheader("x-gallery-version"))
    finally:
        connection.close()


def web_sleep() -> list[str]:
    return [sys.executable, "-I", "-S", "-c", "import time; time.sleep(300)"]


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


PLAIN: Json = {
    "cwd": "/",
    "ports": [],
    "directories": [],
    "grace_seconds": 2.0,
    "timeout_seconds": None,
    "memory_bytes": None,
    "cpu": None,
    "open_files": None,
    "processes": None,
    "log_bytes": 1 << 20,
    "log_name": "stray/process",
    "isolation": "none",
}
