"""What a stranger, a careless client and a huge file meet at the real API and command line. The single checks are tests
of the API and of the manifest; here the whole path says the same."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spinyard.client import read_server_file
from tests.e2e.house import House, Json
from tests.e2e.objects import job, named, service, template

pytestmark = pytest.mark.timeout(120)

IDLE: Json = {"command": ["true"], "ports": [{"name": "http"}]}


def ask(house: House, token: str | None, *, path: str = "/v1/services", host: str | None = None) -> tuple[int, Json]:
    connection = http.client.HTTPConnection(*address(house), timeout=20)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers |= {} if host is None else {"Host": host}
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def address(house: House) -> tuple[str, int]:
    server = read_server_file(house.home)
    assert server is not None
    parts = urlsplit(server.url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


def test_without_with_a_wrong_and_with_a_replaced_token(house: House) -> None:
    file = house.home / "token"
    old = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert ask(house, old)[0] == 200
    for wrong in (None, "", "wrong", old[:-1], old + "x"):
        status, problem = ask(house, wrong)
        assert (status, problem["code"]) == (401, "unauthenticated")
        assert str(file) in json.dumps(problem) or "token" in problem["detail"]
    pid = house.server_pid()
    house.cli("server", "--rotate-token")
    new = file.read_text().strip()
    assert new != old
    assert ask(house, old)[0] == 401
    assert ask(house, new)[0] == 200
    assert house.server_pid() == pid, "a new token needs no new server"
    house.cli("get", "services")


def test_a_page_of_another_site_is_refused(house: House) -> None:
    token = (house.home / "token").read_text().strip()
    status, problem = ask(house, token, host="evil.example.com")
    assert (status, problem["code"]) == (421, "wrong_host")


def test_half_a_body_holds_nobody_up(house: House) -> None:
    token = (house.home / "token").read_text().strip()
    with socket.create_connection(address(house), timeout=30) as half:
        half.sendall(
            f"POST /v1/apply HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            'Content-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"objects": ['.encode()
        )
        assert ask(house, token)[0] == 200
        reply = b"".join(iter(lambda: half.recv(65536), b"")).decode()
    assert reply.startswith("HTTP/1.1 408")
    assert "body_timeout" in reply
    assert house.client.list("Service")["items"] == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n", id="aliases"),
        pytest.param("{" * 50_000, id="deep"),
        pytest.param("kind: Service\n" + "# " + "x" * (1 << 20), id="a megabyte of comment"),
        pytest.param("- " * 5000, id="a ladder"),
    ],
)
def test_a_hostile_file_is_refused_soon(house: House, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    began = time.monotonic()
    done = house.run("apply", "-f", str(file), "-o", "json")
    assert done.returncode == 2, done.stdout[-500:] + done.stderr[-500:]
    told = json.loads(done.stdout)
    assert told["code"] in ("invalid_manifest", "too_large")
    assert len(done.stdout) < 200_000
    assert time.monotonic() - began < 15


def test_everything_that_is_wrong_is_told_at_once(house: House, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("""\
{apiVersion: spinyard.dev/v1, kind: Servise, metadata: {name: a}, spec: {}}
---
{apiVersion: spinyard.dev/v1, kind: Service, metadata: {name: b}, spec: {replicsa: 2, template: {command: ["true"]}}}
---
{apiVersion: spinyard.dev/v1, kind: Service, metadata: {name: c}, spec: {replicas: two, template: {command: ["true"]}}}
---
{apiVersion: spinyard.dev/v1, kind: Service, metadata: {name: d}, spec: {dependsOn: [e], template: {command: ["true"]}}}
---
{apiVersion: spinyard.dev/v1, kind: Service, metadata: {name: e}, spec: {dependsOn: [d], template: {command: ["true"]}}}
---
{apiVersion: spinyard.dev/v1, kind: Service, metadata: {name: e}, spec: {template: {command: ["true"]}}}
""")
    done = house.run("apply", "-f", str(file))
    assert done.returncode == 2
    for words in ("Service", "replicas", "wrong.yaml:3", "wrong.yaml:5", "wrong.yaml:11"):
        assert words in done.stderr, done.stderr
    told = done.stderr.lower()
    assert "cycle" in told or "depend" in told
    assert "twice" in told or "duplicate" in told or "already" in told
    assert house.client.list("Service")["items"] == []


def test_ten_thousand_services_are_checked_in_bounded_time(house: House, tmp_path: Path) -> None:
    """The file is read and checked whole; what one request may hold is then said, and nothing is half applied."""
    file = tmp_path / "many.yaml"
    file.write_text("\n---\n".join(json.dumps(service(f"s{number}", IDLE, replicas=0)) for number in range(10_000)))
    began = time.monotonic()
    done = house.run("apply", "-f", str(file), "-o", "json", timeout=110)
    assert time.monotonic() - began < 60
    if done.returncode != 0:
        assert json.loads(done.stdout)["code"] in ("too_large", "invalid_request", "invalid_manifest"), done.stderr
        assert house.client.list("Service")["items"] == []


def test_no_secret_is_seen_anywhere(house: House, tmp_path: Path) -> None:
    canary = "canary-8a6f1c-secret"
    file = tmp_path / "secret"
    file.write_text(canary + "\n")
    env = [{"name": "SECRET", "valueFrom": {"secretFile": str(file)}}]
    house.apply(
        service("secretive", template(env=env)),
        job("told", ["/bin/sh", "-c", 'test -n "$SECRET"'], template_more={"env": env}),
    )
    [spin] = house.serve("secretive", 1)
    house.wait("the job had it", lambda: house.get("Job", "told")["status"]["state"] == "succeeded")
    [pid] = house.instance_pids(f"{spin['metadata']['uid']}/process")
    assert canary.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    house.cli("describe", "service", "secretive")
    house.client.delete("Service", "default", "secretive")
    house.delete("Job", "told")
    house.wait("it is gone", lambda: house.find("Service", "secretive") is None)
    for path in house.home.rglob("*"):
        if path.is_file():
            assert canary.encode() not in path.read_bytes(), path


def test_a_template_in_use_cannot_go_and_names_who_uses_it(house: House) -> None:
    made_from = template()
    house.apply(
        named("Template", "shared", made_from),
        named("Service", "user", {"templateRef": {"name": "shared"}, "replicas": 0}),
    )
    done = house.run("delete", "template", "shared", "-o", "json")
    assert done.returncode == 8
    told = json.loads(done.stdout)
    assert told["code"] == "in_use"
    assert "user" in told["message"]
    house.delete("Service", "user")
    house.cli("delete", "template", "shared")
