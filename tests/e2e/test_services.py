"""The good life: replacing, scaling, going back, waiting for each other, and requests that notice nothing of it."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

import pytest

from spinyard.testing.load import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult
from tests.e2e.house import ROOT, House, Json
from tests.e2e.objects import LIVE, job, named, service, template

pytestmark = pytest.mark.timeout(120)

GET = MixEntry(path="/", weight=3)
KEYED = MixEntry(path="/", method="POST", body="x", idempotency_key=True)


def load(house: House, host: str, *entries: MixEntry, rate: float = 40.0) -> LoadProcess:
    mix = Mix(requests=list(entries or (GET, KEYED)))
    spec = LoadSpec(url=f"http://{house.gateway}", host=host, rate=rate, seconds=90.0, mix=mix)
    return LoadProcess(spec, house.home / f"load-{host}.json")


def unhurt(result: LoadResult) -> None:
    assert result.totals.sent > 20
    assert result.totals.failed == 0, result.failures[:5]
    assert not result.headers.get("x-gallery-not-ready"), result.headers


def test_httpbin_from_its_ten_lines_restarts_under_load_without_a_failed_request(house: House) -> None:
    example = ROOT / "examples" / "httpbin.yaml"
    assert len(example.read_text().splitlines()) <= 12
    house.cli("up", "-f", str(example), "--timeout", "60", timeout=90)
    before = {spin["metadata"]["uid"] for spin in house.serve("httpbin", 3)}
    traffic = load(house, "httpbin.localhost", MixEntry(path="/get"), rate=15.0)
    try:
        house.wait("requests are answered", lambda: traffic.latest.get("ok"))
        house.cli("restart", "service", "httpbin")

        def all_new() -> bool:
            spins = house.spins("httpbin")
            return len(spins) == 3 and all(
                one["status"]["state"] == "serving" and one["metadata"]["uid"] not in before for one in spins
            )

        house.wait("all three were replaced", all_new, 90)
        unhurt(traffic.stop())
    finally:
        traffic.kill()
    house.cli("delete", "service", "httpbin", "--wait", timeout=60)
    house.wait("nothing is left", lambda: house.left() == [])


def test_a_new_version_that_cannot_start_goes_back_while_the_old_one_serves(house: House) -> None:
    good = template(env=[{"name": "VERSION", "value": "good"}])
    bad = template("--exit", "1", env=[{"name": "VERSION", "value": "bad"}])
    house.apply(service("site", good, replicas=2))
    old = {spin["metadata"]["uid"] for spin in house.serve("site", 2)}
    traffic = load(house, "site.localhost")
    try:
        house.wait("requests are answered", lambda: traffic.latest.get("ok"))
        update = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0, "progressDeadlineSeconds": 4}}
        house.apply(service("site", bad, replicas=2, update=update))

        def rolled_back() -> bool:
            found = house.get("Service", "site")["status"]
            return bool(found["state"] == "degraded" and found["reason"] == "RolledBack")

        house.wait("it goes back by itself", rolled_back, 60)
        house.serve("site", 2)
        result = traffic.stop()
    finally:
        traffic.kill()
    unhurt(result)
    assert set(result.headers["x-gallery-version"]) == {"good"}
    assert {spin["metadata"]["uid"] for spin in house.spins("site")} == old
    events = house.client.events(involved="Service/default/site")["items"]
    assert "RolledBack" in {event["reason"] for event in events}
    assert "ProcessExited" in house.cli("explain", "service", "site")

    house.apply(service("site", template(env=[{"name": "VERSION", "value": "mended"}]), replicas=2))
    house.wait("a mended version is taken", lambda: version_at(house, "site.localhost") == "mended", 40)
    house.wait("and it is available again", lambda: state_of(house, "site") == "available")
    house.delete("Service", "site")


def test_scaled_to_zero_and_back(house: House) -> None:
    house.apply(service("small", template()))
    house.serve("small", 1)
    house.cli("scale", "small", "--replicas", "0")
    house.wait("none is left", lambda: house.states("small") == [])
    condition = {one["type"]: one["status"] for one in house.get("Service", "small")["status"]["conditions"]}
    assert condition["ScaledToZero"] == "True"
    status, body, headers = house.request("small.localhost")
    assert (status, "retry-after" in headers) == (503, True), body
    house.cli("scale", "small", "--replicas", "2")
    house.serve("small", 2)
    assert house.request("small.localhost")[0] == 200
    house.delete("Service", "small")
    assert house.request("small.localhost")[0] == 404


def test_what_depends_on_others_starts_after_them(house: House, tmp_path: Path) -> None:
    gate = tmp_path / "not-ready"
    gate.touch()
    base = template(env=[{"name": "NOT_READY_FILE", "value": str(gate)}])
    front = service("front", template(), dependsOn=["base", {"kind": "Job", "name": "prepare"}])
    prepare = job("prepare", ["/bin/sh", "-c", "exit 0"])
    house.apply(front, service("base", base), prepare)
    house.wait("the job is done", lambda: house.get("Job", "prepare")["status"]["state"] == "succeeded")
    house.wait("the base runs", lambda: house.states("base") == ["bootstrapping"])
    assert house.states("front") == []
    assert "base" in house.cli("explain", "service", "front")
    gate.unlink()
    house.serve("front", 1)
    first = min(created(spin) for spin in house.spins("front"))
    served = next(one["at"] for one in house.spins("base")[0]["status"]["timeline"] if one["state"] == "serving")
    assert first >= served
    for kind, name in (("Service", "front"), ("Service", "base"), ("Job", "prepare")):
        house.delete(kind, name)


def test_a_dependency_that_does_not_exist_is_named(house: House) -> None:
    """It may come yet: so it is not refused, and `explain` says who is waited for."""
    house.cli("apply", "-f", "-", text=json.dumps(job("lonely", ["true"], dependsOn=["nobody"])))
    explained = json.loads(house.cli("explain", "job", "lonely", "-o", "json"))
    assert "nobody" in explained["cause"]
    assert house.spins("lonely", kind="job", finished="all") == []
    house.apply(service("nobody", template()))
    house.wait("the job is done", lambda: house.get("Job", "lonely")["status"]["state"] == "succeeded")
    for kind, name in (("Job", "lonely"), ("Service", "nobody")):
        house.delete(kind, name)


def test_an_external_service_is_routed_and_never_started(house: House) -> None:
    house.apply(service("origin", template(), route=False))
    [spin] = house.serve("origin", 1, state="ready")
    endpoint = {"address": "127.0.0.1", "port": spin["status"]["ports"]["http"]}
    external = named(
        "Service", "outside", {"external": {"endpoints": [endpoint]}, "route": {"hosts": ["outside.localhost"]}}
    )
    house.apply(external)
    house.wait("it is available", lambda: state_of(house, "outside") == "available")
    house.wait("it is routed", lambda: house.request("outside.localhost")[0] == 200)
    assert house.spins("outside", finished="all") == []
    house.delete("Service", "outside")
    assert house.request("outside.localhost")[0] == 404
    assert house.states("origin") == ["ready"]
    house.delete("Service", "origin")


def test_a_job_is_tried_again_until_it_succeeds(house: House, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    script = f'echo x >>"{marks}"; test $(wc -l <"{marks}") -ge 2'
    house.apply(job("twice", ["/bin/sh", "-c", script], retries=3))
    house.wait("it succeeded", lambda: house.get("Job", "twice")["status"]["state"] == "succeeded", 40)
    assert house.get("Job", "twice")["status"]["attempt"] == 2
    assert marks.read_text() == "x\nx\n"
    outcomes = sorted(spin["status"]["outcome"] for spin in house.spins("twice", kind="job", finished="all"))
    assert outcomes == ["ProcessExited", "Succeeded"]
    house.delete("Job", "twice")


def test_a_job_that_takes_too_long_is_killed(house: House) -> None:
    house.apply(job("slow", ["sleep", "60"], timeoutSeconds=0.5, retries=0))
    house.wait("it failed", lambda: house.get("Job", "slow")["status"]["state"] == "failed")
    assert house.get("Job", "slow")["status"]["lastErrorClass"] == "Timeout"
    house.delete("Job", "slow")


def test_a_retained_directory_is_listed_and_not_left(house: House) -> None:
    kept = {"name": "kept", "scope": "service", "retain": True, "env": "KEPT"}
    gone = {"name": "gone", "scope": "service", "env": "GONE"}
    step = {"name": "fill", "command": ["/bin/sh", "-c", 'echo precious >"$KEPT/file"; echo x >"$GONE/file"']}
    house.apply(service("keeps", template(dataDirectories=[kept, gone], bootstrap=[step]), route=False))
    house.serve("keeps", 1, state="ready")
    house.delete("Service", "keeps")
    files = list((house.home / "data").rglob("file"))
    assert [path.read_text() for path in files] == ["precious\n"]
    listed = {row["key"]: row.get("retained") for row in house.client.resources()["items"]}
    assert all(listed.values()), listed
    assert house.client.orphans()["items"] == []
    house.client.gc(dry_run=False)
    assert files[0].exists()
    files[0].unlink()
    directory = files[0].parent
    while directory != house.home / "data":
        directory.rmdir()
        directory = directory.parent


def test_what_has_a_ttl_goes_by_itself(house: House) -> None:
    house.apply(service("brief", template(), ttl="3s"))
    began = time.monotonic()
    house.wait("it has ended", lambda: state_of(house, "brief") == "terminated")
    assert time.monotonic() - began > 2.0
    assert house.spins("brief") == []


def test_what_fails_its_liveness_is_replaced(house: House, tmp_path: Path) -> None:
    sick = tmp_path / "sick"
    live = {**LIVE, "failureThreshold": 2}
    made_from = template(livenessProbe=live, env=[{"name": "SICK_FILE", "value": str(sick)}])
    house.apply(service("ill", made_from, replicas=2))
    spins = house.serve("ill", 2)
    victim = spins[0]
    sick.write_text(str(victim["status"]["ports"]["http"]))

    def uids() -> set[str]:
        return {one["metadata"]["uid"] for one in house.spins("ill")}

    house.wait("the sick one is gone", lambda: victim["metadata"]["uid"] not in uids())
    sick.unlink()  # the next one may have got its port
    house.serve("ill", 2)
    record = house.get("Spin", victim["metadata"]["name"])
    assert record["status"]["outcome"] == "ProbeFailed"
    assert spins[1]["metadata"]["uid"] in uids()
    house.delete("Service", "ill")


def test_readiness_by_a_command(house: House) -> None:
    """The test's file is beside what the spin owns: the probe runs with the environment of its instance."""
    probe = {
        "exec": {"command": ["/bin/sh", "-c", 'test -e "$OWN/ready"']},
        "periodSeconds": 0.2,
        "failureThreshold": 1,
    }
    made_from = template(readinessProbe=probe, dataDirectories=[{"name": "own", "env": "OWN"}])
    house.apply(service("asked", made_from))
    house.wait("it runs", lambda: house.states("asked") == ["bootstrapping"])
    [spin] = house.spins("asked")
    name = spin["metadata"]["name"]
    house.cli("exec", name, "--", "/bin/sh", "-c", 'touch "$OWN/ready"')
    house.serve("asked", 1)
    house.cli("exec", name, "--", "/bin/sh", "-c", 'rm "$OWN/ready"')
    house.wait("it is out of traffic", lambda: house.states("asked") == ["ready"])
    house.wait("no request comes there", lambda: house.request("asked.localhost")[0] == 503)
    house.delete("Service", "asked")


def test_an_open_stream_is_drained_to_its_end(house: House) -> None:
    house.apply(service("stream", template()))
    [spin] = house.serve("stream", 1)
    connection = http.client.HTTPConnection("127.0.0.1", house.gateway_port, timeout=20)
    connection.request("GET", "/events?15", headers={"Host": "stream.localhost"})
    reply = connection.getresponse()
    assert reply.read(8).startswith(b"data: 0")
    house.client.restart("default", "stream")
    house.wait("it drains", lambda: "draining" in house.states("stream"))
    rest = reply.read()
    connection.close()
    assert rest.rstrip().endswith(b"data: 14")
    house.wait("then it is gone", lambda: house.states("stream") == ["serving"])
    record = house.get("Spin", spin["metadata"]["name"])
    assert {one["type"]: one["status"] for one in record["status"]["conditions"]}["Drained"] == "True"
    house.delete("Service", "stream")


def test_the_data_plane_stayed_connected_all_the_time(house: House) -> None:
    """gRPC once took Envoy's pings for abuse, and ended the connection every 20 s."""
    lines = (house.home / "logs" / "server.log").read_text().splitlines()
    words = [str(json.loads(line).get("event")) for line in lines if "envoy_" in line]
    assert words == ["envoy_connected"]


def test_in_the_end_nothing_is_left(house: House) -> None:
    house.wait("nothing is left", lambda: [one for one in house.left() if "/kept" not in one] == [], 20)


def state_of(house: House, name: str) -> str:
    return str(house.get("Service", name)["status"]["state"])


def version_at(house: House, host: str) -> str:
    return house.request(host)[2].get("x-gallery-version", "")


def created(spin: Json) -> str:
    return str(spin["metadata"]["creationTimestamp"])
