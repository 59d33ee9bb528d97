"""Programs that do what programs should not: the spin fails with a class of its own, the Service says CrashLoopBackOff
with that reason, `explain` names the cause and who must act, and nothing of it stays. All are in one home at once."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.house import House, Json
from tests.e2e.objects import service, template

pytestmark = pytest.mark.timeout(150)


@dataclass(frozen=True)
class Case:
    """`words`: in the explanation, cause or evidence."""

    name: str
    template: Json
    outcome: str
    words: str
    who: str = "user"


def cases(folder: Path, taken_port: int) -> list[Case]:
    script = folder / "not-executable"
    script.write_text("#!/bin/sh\n")
    secret = {"name": "SECRET", "valueFrom": {"secretFile": str(folder / "no-such-secret")}}
    step = {"name": "seed", "timeoutSeconds": 0.5}
    slow = {"startTimeoutSeconds": 1}
    wrong_path = {"httpGet": {"path": "/missing", "port": "http"}, "periodSeconds": 0.1}
    return [
        Case("not-found", template(command=["no-such-command"]), "CommandNotFound", "no-such-command"),
        Case("not-executable", template(command=[str(script)]), "CommandNotExecutable", "not-executable"),
        Case("exits-0", template("--exit", "0"), "ProcessExited", "exited with code 0"),
        Case("exits-1", template("--exit", "1"), "ProcessExited", "the last words of the program"),
        Case("flaps", template("--exit", "1", "--after", "0.7"), "ProcessExited", "exited with code 1"),
        Case("leaves-a-daemon", template("--daemonise", "2"), "ProcessExited", "exited with code 0"),
        Case("step-hangs", template(bootstrap=[{**step, "command": ["sleep", "60"]}]), "BootstrapTimeout", "seed"),
        Case("step-fails", template(bootstrap=[{**step, "command": ["false"]}]), "BootstrapExit", "exited with code 1"),
        Case("never-ready", template("--never-ready", **slow), "ProbeFailed", "503"),
        Case("wrong-probe-path", template(readinessProbe=wrong_path, **slow), "ProbeFailed", "404"),
        Case(
            "fails-its-smoke-test",
            template(smokeTest={"httpGet": {"path": "/missing", "port": "http"}}),
            "SmokeTestFailed",
            "404",
        ),
        Case(
            "eats-memory",
            template("--eat", "200", resources={"limits": {"memory": "64Mi"}}),
            "OutOfMemory",
            "64",
        ),
        Case("no-secret", template(env=[secret]), "SecretDenied", "no-such-secret"),
        Case(
            "port-taken", template(ports=[{"name": "http", "number": taken_port}]), "PortUnavailable", str(taken_port)
        ),
    ]  # fmt: skip


NAMES = (
    "not-found",
    "not-executable",
    "exits-0",
    "exits-1",
    "flaps",
    "leaves-a-daemon",
    "step-hangs",
    "step-fails",
    "never-ready",
    "wrong-probe-path",
    "fails-its-smoke-test",
    "eats-memory",
    "no-secret",
    "port-taken",
)


@pytest.fixture(scope="module")
def bad(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Case]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = {case.name: case for case in cases(tmp_path_factory.mktemp("bad"), taken.getsockname()[1])}
        assert tuple(found) == NAMES
        house.apply(*(service(case.name, case.template) for case in found.values()))
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_it_fails_with_its_class_backs_off_with_the_reason_and_leaves_nothing(
    house: House, bad: dict[str, Case], name: str
) -> None:
    case = bad[name]

    def backs_off() -> bool:
        return reasons(house.get("Service", name)).get("Progressing") == "CrashLoopBackOff"

    house.wait(f"{name} is in CrashLoopBackOff", backs_off, 100)
    found = house.get("Service", name)
    assert found["status"]["lastErrorClass"] == case.outcome, found["status"]

    ended = [spin for spin in house.spins(name, finished="true") if spin["status"]["outcome"] == case.outcome]
    assert ended, house.spins(name, finished="all")
    for spin in ended:
        assert spin["status"]["state"] == "terminated"
        assert conditions(spin)["CleanupVerified"] == "True"
        assert "failed" in [entry["state"] for entry in spin["status"]["timeline"]]

    explained = json.loads(house.cli("explain", "service", name, "-o", "json"))
    assert explained["cause"].startswith(case.outcome), explained
    assert explained["who"] == case.who
    assert explained["nextStep"]
    told = explained["cause"] + "".join(one["text"] for one in explained["evidence"])
    assert case.words in told, explained


def test_in_the_end_nothing_of_all_that_is_left(house: House, bad: dict[str, Case]) -> None:
    for name in bad:
        house.client.delete("Service", "default", name)
    house.wait("all are gone", lambda: not any(house.find("Service", name) for name in bad), 60)
    house.wait("nothing is left", lambda: house.left() == [], 20)


def test_one_that_ignores_sigterm_is_killed_after_its_grace(house: House) -> None:
    house.apply(service("stubborn", template("--ignore-term", terminationGracePeriodSeconds=0.5)))
    [spin] = house.serve("stubborn", 1)
    began = time.monotonic()
    house.delete("Service", "stubborn")
    assert time.monotonic() - began >= 0.5
    record = house.get("Spin", spin["metadata"]["name"])
    assert conditions(record)["CleanupVerified"] == "True"
    assert record["status"]["exit"]["signal"] == 9, "a planned end too is recorded as it was"
    assert house.left() == []


def test_a_daemon_that_it_forked_ends_with_it(house: House) -> None:
    house.apply(service("parent", template("--daemonise")))
    [spin] = house.serve("parent", 1)
    key = f"{spin['metadata']['uid']}/process"
    house.wait("the daemon runs beside it", lambda: len(house.instance_pids(key)) == 2)
    house.delete("Service", "parent")
    assert house.left() == []


def test_one_that_fills_its_log_serves_and_keeps_the_end_of_it(house: House) -> None:
    limit, written = 256 << 10, 20 << 20
    limits = {"limits": {"log": limit}}
    house.apply(service("talker", template("--fill-log", str(written), resources=limits)))
    [spin] = house.serve("talker", 1)
    files = list((house.home / "logs").rglob(f"*{spin['metadata']['uid']}*"))
    size = sum(file.stat().st_size for one in files for file in ([one] if one.is_file() else one.rglob("*")))
    assert 1024 < size <= 2 * limit
    assert "xxx" in house.cli("logs", spin["metadata"]["name"], "--tail", "3")
    house.delete("Service", "talker")


def test_readiness_that_comes_and_goes_moves_the_traffic_and_replaces_nothing(house: House) -> None:
    house.apply(service("moody", template("--flap", "2")))
    house.serve("moody", 1)
    [spin] = house.spins("moody")
    uid = spin["metadata"]["uid"]
    house.wait("it is ready and not in traffic", lambda: house.states("moody") == ["ready"], 20)
    status, body, headers = house.request("moody.localhost")
    assert (status, "retry-after" in headers) in ((503, True), (200, False)), body
    house.wait("it serves again", lambda: house.states("moody") == ["serving"], 20)
    assert [one["metadata"]["uid"] for one in house.spins("moody", finished="all")] == [uid]
    house.delete("Service", "moody")


def test_a_job_says_how_its_last_attempt_failed(house: House) -> None:
    spec = {"retries": 1, "template": {"command": [sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"]}}
    house.apply({"apiVersion": "spinyard.dev/v1", "kind": "Job", "metadata": {"name": "bad"}, "spec": spec})
    house.wait("it has failed", lambda: house.get("Job", "bad")["status"]["state"] == "failed")
    status = house.get("Job", "bad")["status"]
    assert (status["attempt"], status["lastErrorClass"]) == (2, "ProcessExited"), status
    assert "exited with code 3" in status["lastError"]
    done = house.run("wait", "job", "bad", "--for=state=succeeded", "--timeout", "5")
    assert done.returncode == 1, done.stdout + done.stderr
    house.delete("Job", "bad")


def conditions(found: Json) -> dict[str, str]:
    return {one["type"]: one["status"] for one in found["status"]["conditions"]}


def reasons(found: Json) -> dict[str, str]:
    return {one["type"]: one["reason"] for one in found["status"]["conditions"]}
