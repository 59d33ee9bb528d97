"""One small life of a pool, its claims and a Job on it, and of a Service whose new versions are rolled out: one to the
end, one until it is aborted half-way.

Beside what every scenario checks: all the time a visitor asks through the gateway, and each request is answered, never
by a version that is gone. From /proc: never more members than `max`, never more instances of a version than its side
has. From what `onClaim` wrote down in the members themselves: no claim has two members, and no member two claims.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from tests.crash.scenario import SECONDS_EACH, Scenario, service
from tests.e2e.house import House, Json, web

MEMBERS_MAX = 2
REPLICAS = 2
HALF: Json = {"weight": 50}
ALL: Json = {"weight": 100}
POOL = "box"
VISIT_SECONDS = 0.1
RUN = """
import os, sys, time
print("began", file=open(sys.argv[1], "a"), flush=True)
while not os.path.exists(sys.argv[2]):
    time.sleep(0.05)
print("ended", file=open(sys.argv[1], "a"), flush=True)
"""


class RolloutScenario(Scenario):
    def __init__(self, house: House, failpoint: str = "") -> None:
        super().__init__(house, failpoint)
        self._given = house.home / "given"
        self._ran = house.home / "ran"
        self._members: dict[str, str] = {}
        """of each claim that was ready, as the API says"""
        self._visits: list[tuple[float, str]] = []
        """(when it was asked, which version answered)"""
        self._gone: dict[str, float] = {}
        """since when a version must not answer any more"""
        self._at_most: dict[str, tuple[str, int]] = {}
        """template digest: whose it is, and how many instances of it may live at once"""

    def _live(self) -> None:
        house = self.house
        self._apply(pool(self._given), rolled("1", HALF, ALL))
        house.serve("web", REPLICAS, seconds=SECONDS_EACH)
        self._is_stable("1")
        with self._visiting():
            self._claim("first")
            self._apply(rolled("2", HALF, ALL))
            self._succeeds("2", instead_of="1")
            self._claim("second")
            self._ask_for("third")
            house.wait("it waits for room", lambda: self._claimed("third")["state"] == "pending", SECONDS_EACH)
            self._release("first")
            self._is_ready("third")
            self._apply(rolled("3", {**HALF, "pause": True}, ALL))
            self._is_aborted("3", back_to="2")
        self._run_job()
        self._release("second")
        for kind, name in (("Service", "web"), ("Job", "errand"), ("WarmPool", POOL)):
            self._delete(kind, name)
        self._check_claims()
        self._check_visits()

    def _read(self, what: str, ask: Callable[[], Json]) -> Json:
        """Whoever is killed meanwhile."""
        answers: list[Json] = []

        def asked() -> bool:
            answers.append(ask())
            return True

        self.house.wait(f"{what} can be read", asked, SECONDS_EACH)
        return answers[-1]

    # -- claims --------------------------------------------------------------------------------------------------------

    def _claim(self, name: str) -> None:
        """A warm one."""
        house = self.house
        house.wait("a member is warm", lambda: house.get("WarmPool", POOL)["status"].get("warm") == 1, SECONDS_EACH)
        self._ask_for(name)
        self._is_ready(name)

    def _ask_for(self, name: str) -> None:
        files = [{"name": "note", "content": f"for-{name}"}]
        body = {"name": name, "env": {"WHO": name}, "files": files, "wait": "10m"}
        self._change(f"claim-{name}", lambda key: self.house.client.claim("default", POOL, body, key=key))

    def _is_ready(self, name: str) -> None:
        house = self.house
        house.wait(f"claim {name} is ready", lambda: self._claimed(name)["state"] == "ready", SECONDS_EACH)
        host = f"{name}.{POOL}.localhost"
        house.wait(f"{host} answers", lambda: house.request(host)[0] == 200, SECONDS_EACH)
        self._members[name] = self._read(name, lambda: self._claimed(name))["member"]["name"]

    def _release(self, name: str) -> None:
        member = self._read(name, lambda: self._claimed(name))["member"]["name"]
        assert member == self._members[name], f"claim {name} had {self._members[name]} and has {member}"
        self._delete("Claim", name)

    def _claimed(self, name: str) -> Json:
        status: Json = self.house.get("Claim", name)["status"]
        assert status["state"] != "failed", status
        return status

    def _run_job(self) -> None:
        """While the pool is at its maximum: it waits for the release of another."""
        house = self.house
        self._apply(errand(self._ran, self._go))
        house.wait("it waits", lambda: "maximum of" in self._job_status().get("message", ""), SECONDS_EACH)
        self._release("third")
        house.wait("its command runs", self._ran.exists, SECONDS_EACH)
        self._go.touch()
        house.wait("it has ended", lambda: self._job_status()["state"] in ("succeeded", "failed"), SECONDS_EACH)
        status = self._read("the job", self._job_status)
        assert status["state"] == "succeeded", status
        assert self._ran.read_text().split() == ["began", "ended"], self._ran.read_text()

    def _job_status(self) -> Json:
        return dict(self.house.get("Job", "errand")["status"])

    def _check_claims(self) -> None:
        """By what the members wrote themselves when they were claimed; at least once each."""
        given = [line.split(" ", 2) for line in self._given.read_text().splitlines()]
        pairs = {(member, json.loads(text)["claim"], note) for member, note, text in given}
        members, claims = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        assert len(set(members)) == len(set(claims)) == len(pairs), f"doubled: {sorted(pairs)}"
        assert {claim: member for member, claim, _ in pairs if claim in self._members} == self._members
        assert {note for _, claim, note in pairs if claim in self._members} == {f"for-{one}" for one in self._members}

    # -- rollouts ------------------------------------------------------------------------------------------------------

    def _succeeds(self, version: str, *, instead_of: str) -> None:
        self._ends("succeeded")
        self._gone[instead_of] = time.time()
        self._is_stable(version)

    def _is_aborted(self, version: str, *, back_to: str) -> None:
        """Half-way, when Envoy has half of the requests go there."""
        house = self.house
        house.wait("half of it is in force", lambda: self._running()["state"] == "judging", SECONDS_EACH)
        self._bound(version, 1)
        assert self._split() == [5000, 5000]
        why = {"why": "this is the test"}
        self._change("abort", lambda key: house.client.rollout("default", "web", "abort", **why, key=key))
        self._ends("rolled_back")
        self._gone[version] = time.time()
        self._is_stable(back_to)

    def _ends(self, state: str) -> None:
        house = self.house
        house.wait("the rollout has ended", lambda: not house.client.list("Rollout", "default")["items"], SECONDS_EACH)
        listed = self._read("the rollouts", lambda: house.client.list("Rollout", "default", finished="all"))
        last = max(listed["items"], key=lambda one: str(one["metadata"]["creationTimestamp"]))
        assert last["status"]["state"] == state, last["status"]

    def _running(self) -> Json:
        [rollout] = self.house.client.list("Rollout", "default")["items"] or [{"status": {"state": "none yet"}}]
        assert rollout["status"]["state"] not in ("retreating", "removing", "rolled_back"), rollout["status"]
        return dict(rollout["status"])

    def _is_stable(self, version: str) -> None:
        """Only that version, in the Service, in its instances, and in Envoy's routes."""
        house = self.house
        house.wait(f"all are {version}", lambda: self._versions() == [version] * REPLICAS, SECONDS_EACH)
        house.wait("nothing is split", lambda: not self._split(), SECONDS_EACH)
        web = self._read("the Service", lambda: house.get("Service", "web"))
        assert web["spec"]["template"]["env"] == [{"name": "VERSION", "value": version}], web["spec"]
        assert "rollout" not in web["status"], web["status"]
        self._bound(version, REPLICAS)

    def _bound(self, version: str, count: int) -> None:
        """How many of that version there may be, ever."""
        house = self.house
        listed = self._read("the instances", lambda: {"items": house.spins("web", finished="all")})["items"]
        for spin in listed:
            if spin["spec"]["template"]["env"] == [{"name": "VERSION", "value": version}]:
                self._at_most[spin["spec"]["templateDigest"]] = (f"of version {version}", count)

    def _split(self) -> list[int]:
        """Parts of 10,000 of the requests for the Service, for each side; in Envoy's own words."""
        dump = json.loads(self.house.envoy_admin("/config_dump?resource=dynamic_route_configs"))
        [host] = [one for one in found(dump, "virtual_hosts") if "web.localhost" in one["domains"]]
        return list({side["name"]: int(side["weight"]) for side in found(host, "clusters")}.values())

    # -- what is watched -----------------------------------------------------------------------------------------------

    @contextmanager
    def _visiting(self) -> Iterator[None]:
        over = threading.Event()

        def visit() -> None:
            while not over.wait(VISIT_SECONDS):
                at = time.time()
                try:
                    status, text, headers = self.house.request("web.localhost")
                    answer = headers.get("x-gallery-version", "") if status == 200 else f"{status} {text}"
                except (OSError, HTTPException) as error:
                    answer = repr(error)
                self._visits.append((at, answer))

        visitor = threading.Thread(target=visit, daemon=True)
        visitor.start()
        try:
            yield
        finally:
            over.set()
            visitor.join()

    def _check_visits(self) -> None:
        lost = sorted({answer for _, answer in self._visits if answer not in ("1", "2", "3")})
        assert self._visits and not lost, f"lost requests: {lost}"
        late = [(at, answer) for at, answer in self._visits if at > self._gone.get(answer, at)]
        assert not late, f"answered by a version that was gone: {late}"

    def _too_many(self) -> list[str]:
        """At any look into /proc."""
        owners = {one["metadata"]["uid"]: one["spec"]["templateDigest"] for one in self._records()}
        out = set()
        for _, keyed in self._seen:
            alive = [owners.get(key.split("/")[0], "") for key in keyed if key.endswith("/process")]
            for digest in set(alive):
                whose, most = self._at_most.get(digest, ("members", MEMBERS_MAX))
                if alive.count(digest) > most:
                    out.add(f"{alive.count(digest)} {whose} at once, at most {most}")
        return sorted(out)

    def _records(self) -> list[Json]:
        return list(self.house.client.list("Spin", "default", finished="all")["items"])


def rolled(version: str, *steps: Json) -> Json:
    out = service(version=version, replicas=REPLICAS)
    out["spec"]["rollout"] = {"steps": list(steps), "analysis": {"enabled": False}}
    return out


def pool(given: Path) -> Json:
    """`given`: where each member writes down for whom it is, whenever it is told."""
    template = {
        "command": web(),
        "ports": [{"name": "http"}],
        "env": [{"name": "GIVEN", "value": str(given)}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 0.1},
        "drain": {"timeoutSeconds": 2},
        "terminationGracePeriodSeconds": 2,
    }
    hook = {"httpGet": {"path": "/claimed", "port": "http"}, "timeoutSeconds": 10}
    spec = {"min": 1, "max": MEMBERS_MAX, "hostSuffix": f"{POOL}.localhost", "onClaim": hook, "template": template}
    return {"apiVersion": "spinyard.dev/v1", "kind": "WarmPool", "metadata": {"name": POOL}, "spec": spec}


def errand(ran: Path, go: Path) -> Json:
    """Ends when `go` is there."""
    command = [sys.executable, "-I", "-S", "-c", RUN, str(ran), str(go)]
    files = [{"name": "note", "content": "for-errand"}]
    spec = {"pool": POOL, "command": command, "files": files, "retries": 2}
    return {"apiVersion": "spinyard.dev/v1", "kind": "Job", "metadata": {"name": "errand"}, "spec": spec}


def found(tree: object, name: str) -> Iterator[Json]:
    """The members of every list of that name, anywhere in it."""
    if isinstance(tree, list):
        for one in tree:
            yield from found(one, name)
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name and isinstance(value, list):
                yield from value
            yield from found(value, name)
