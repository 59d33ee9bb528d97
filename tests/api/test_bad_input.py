"""Everything that can be wrong with a request gets a clear answer with a stable code, quickly, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from spinyard.api.deps import ApiLimits
from tests.api.conftest import SERVICE, TOKEN, World

pytestmark = pytest.mark.anyio
WEB = "/v1/namespaces/default/services/web"
DEEP = json.loads("[" * 40 + "]" * 40)


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": {**SERVICE["spec"], **fields}}


REQUESTS = {
    "no such path": ("GET", "/v1/nothing", None, {}, 404, "not_found"),
    "no such object": ("GET", WEB, None, {}, 404, "not_found"),
    "method not of the path": ("PATCH", WEB, None, {}, 405, "method_not_allowed"),
    "spins are not applied": ("PUT", "/v1/namespaces/default/spins/x", SERVICE, {}, 405, "method_not_allowed"),
    "a name in capitals": ("GET", "/v1/namespaces/default/services/WEB", None, {}, 422, "invalid_request"),
    "no token": ("GET", WEB, None, {"Authorization": ""}, 401, "unauthenticated"),
    "a wrong token": ("GET", WEB, None, {"Authorization": "Bearer no"}, 401, "unauthenticated"),
    "another scheme": ("GET", WEB, None, {"Authorization": f"Basic {TOKEN}"}, 401, "unauthenticated"),
    "a foreign host": ("GET", WEB, None, {"Host": "evil.example"}, 421, "wrong_host"),
    "no body": ("PUT", WEB, None, {}, 422, "invalid_json"),
    "a body of another type": ("PUT", WEB, SERVICE, {"Content-Type": "text/yaml"}, 415, "unsupported_media_type"),
    "a list for an object": ("PUT", WEB, [1], {}, 422, "invalid_manifest"),
    "too deep": ("PUT", WEB, {"spec": DEEP}, {}, 422, "invalid_json"),
    "a NUL": ("PUT", WEB, spec(owner="a\x00b"), {}, 422, "invalid_json"),
    "an unknown field": ("PUT", WEB, spec(replcas=3), {}, 422, "invalid_manifest"),
    "a wrong type": ("PUT", WEB, spec(replicas="three"), {}, 422, "invalid_manifest"),
    "another kind than the path": ("PUT", WEB, {"kind": "Job", **SERVICE}, {}, 422, "invalid_manifest"),
    "another name than the path": ("PUT", WEB, {"metadata": {"name": "b"}, **SERVICE}, {}, 422, "invalid_request"),
    "a template that is not there": ("PUT", WEB, {"spec": {"templateRef": {"name": "t"}}}, {}, 422, "invalid_manifest"),
    "If-Match of something new": ("PUT", WEB, SERVICE, {"If-Match": '"7"'}, 412, "precondition_failed"),
    "If-Match that is no version": ("PUT", WEB, SERVICE, {"If-Match": "x"}, 422, "invalid_request"),
    "an endless key": ("PUT", WEB, SERVICE, {"Idempotency-Key": "k" * 201}, 422, "invalid_request"),
    "a wait without end": ("PUT", f"{WEB}?wait=3600", SERVICE, {}, 422, "invalid_request"),
    "another dry run": ("PUT", f"{WEB}?dryRun=all", SERVICE, {}, 422, "invalid_request"),
    "a page too large": ("GET", "/v1/services?limit=201", None, {}, 422, "invalid_request"),
    "a page of nothing": ("GET", "/v1/services?limit=0", None, {}, 422, "invalid_request"),
    "a broken selector": ("GET", "/v1/services?labelSelector=a", None, {}, 422, "invalid_request"),
    "an unknown operator": ("GET", "/v1/services?labelSelector=a!%3Db", None, {}, 422, "invalid_request"),
    "a NUL in the address": ("GET", "/v1/services?continue=%00", None, {}, 422, "invalid_request"),
    "a broken token": ("GET", "/v1/services?watch=true&resume=abc", None, {}, 422, "invalid_request"),
    "a token from the future": ("GET", "/v1/services?watch=true&resume=999999", None, {}, 410, "expired"),
    "a watch of nothing": ("GET", f"{WEB}?watch=true", None, {}, 404, "not_found"),
    "events of nothing": ("GET", "/v1/events?involved=Service/default/no", None, {}, 404, "not_found"),
    "events of no kind": ("GET", "/v1/events?involved=Thing/default/no", None, {}, 422, "invalid_request"),
    "delete of nothing": ("DELETE", WEB, None, {}, 404, "not_found"),
    "scale of nothing": ("POST", f"{WEB}/scale", {"replicas": 1}, {}, 404, "not_found"),
    "scale below zero": ("POST", f"{WEB}/scale", {"replicas": -1}, {}, 422, "invalid_request"),
    "scale by a word": ("POST", f"{WEB}/scale", {"replicas": "2"}, {}, 422, "invalid_request"),
    "scale without a number": ("POST", f"{WEB}/scale", {}, {}, 422, "invalid_request"),
    "logs of nothing": ("GET", "/v1/namespaces/default/spins/x/logs", None, {}, 404, "not_found"),
    "exec without a command": (
        "POST",
        "/v1/namespaces/default/spins/x/exec",
        {"command": []},
        {},
        422,
        "invalid_request",
    ),
    "explain of nothing": ("GET", f"{WEB}/explain", None, {}, 404, "not_found"),
    "apply without objects": ("POST", "/v1/apply", {}, {}, 422, "invalid_request"),
    "prune without a set": ("POST", "/v1/apply", {"objects": [], "prune": True}, {}, 422, "invalid_request"),
    "a relative backup": ("POST", "/v1/backup", {"path": "x.db"}, {}, 422, "invalid_request"),
    "a backup into nowhere": ("POST", "/v1/backup", {"path": "/nowhere/at/all/x.db"}, {}, 404, "not_found"),
}


@pytest.mark.parametrize("case", REQUESTS.values(), ids=REQUESTS.keys())
async def test_a_bad_request_is_refused_with_its_code_and_changes_nothing(
    still_world: World, case: tuple[str, str, Any, dict[str, str], int, str]
) -> None:
    method, path, body, headers, status, code = case
    before = still_world.store.commit_seq()
    answer = await still_world.call(method, path, body, **headers)
    assert answer.code == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.json) >= {"type", "title", "status", "detail", "code", "fault", "retryable", "nextStep", "errors"}
    assert answer.json["detail"]
    assert still_world.store.commit_seq() == before
    assert not still_world.hints


HOSTS = {
    "localhost": 200,
    "localhost:8080": 200,
    "LOCALHOST:1": 200,
    "127.0.0.1:9": 200,
    "[::1]:9": 200,
    "[::1]": 200,
    "localhost.evil.example": 421,
    "127.0.0.1.evil.example:80": 421,
    "[::1].evil.example": 421,
    "192.168.0.7": 421,
}


@pytest.mark.parametrize("host", HOSTS)
async def test_only_names_of_this_machine_are_answered(still_world: World, host: str) -> None:
    assert (await still_world.call("GET", "/v1/info", Host=host)).status == HOSTS[host]


async def test_all_problems_of_all_objects_come_at_once(still_world: World) -> None:
    wrong = {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": "a"}, **spec(replcas=3)}
    other = {"apiVersion": "spinyard.dev/v1", "kind": "Servise", "metadata": {"name": "b"}, "spec": {}}
    answer = await still_world.call("POST", "/v1/apply", {"objects": [wrong, other]})
    assert answer.code == (422, "invalid_manifest")
    errors = answer.json["errors"]
    assert any("replcas" in e["path"] and "replicas" in e["suggestion"] for e in errors)
    assert any("kind" in e["path"] for e in errors)


async def test_invalid_json_says_where(still_world: World) -> None:
    status, body = await raw(still_world, b"PUT", b'{"spec": }')
    assert (status, body["code"]) == (422, "invalid_json")
    assert "byte" in body["detail"]


async def test_a_mebibyte_of_brackets_is_refused_quickly(still_world: World) -> None:
    body = b"[" + b"[]," * 340_000 + b"[]]"
    began = time.perf_counter()
    status, found = await raw(still_world, b"PUT", body)
    assert (status, found["code"]) == (422, "invalid_json")
    assert time.perf_counter() - began < 0.5


async def test_a_lone_surrogate_is_refused(still_world: World) -> None:
    status, body = await raw(still_world, b"PUT", b'{"spec": {"owner": "\\ud800"}}')
    assert (status, body["code"]) in ((422, "invalid_json"), (422, "invalid_manifest"))


async def test_a_body_that_says_it_is_too_large_is_refused_unread(still_world: World) -> None:
    status, body = await raw(still_world, b"PUT", b"", length=2_000_000)
    assert (status, body["code"]) == (413, "too_large")


async def test_a_chunked_body_is_cut_off_at_the_limit(still_world: World) -> None:
    reader, writer = await connect(still_world)
    writer.write(head(b"PUT", b"Transfer-Encoding: chunked\r\n"))
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(17):
        writer.write(chunk)
    status, body = await answer_of(reader)
    writer.close()
    assert (status, body["code"]) == (413, "too_large")


async def test_a_half_sent_body_ends_in_a_timeout(still_world: World) -> None:
    status, body = await raw(still_world, b"PUT", b'{"spec"', length=100)
    assert (status, body["code"]) == (408, "body_timeout")


async def test_without_the_token_no_body_is_read(still_world: World) -> None:
    reader, writer = await connect(still_world)
    writer.write(b"PUT /v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    async with asyncio.timeout(0.4):
        status, _ = await answer_of(reader)
    writer.close()
    assert status == 401


class TestBounds:
    @pytest.fixture
    def limits(self) -> ApiLimits:
        return ApiLimits(poll_seconds=0.05, burst_max=5, requests_per_second=0.001)

    async def test_too_many_requests_are_told_to_wait(self, world: World) -> None:
        answers = [await world.call("GET", "/v1/services") for _ in range(8)]
        assert [a.status for a in answers] == [200] * 5 + [429] * 3
        assert answers[-1].json["code"] == "too_many_requests"
        assert answers[-1].headers["Retry-After"] == "1"
        assert answers[-1].json["retryable"]


async def test_a_failure_of_ours_is_a_problem_too_and_is_not_shown_in_detail(world: World) -> None:
    world.store.close()
    answer = await world.call("GET", "/v1/services")
    assert answer.status in (500, 503)
    assert answer.json["code"]
    assert "Traceback" not in answer.text


async def raw(world: World, method: bytes, body: bytes, *, length: int | None = None) -> tuple[int, Any]:
    reader, writer = await connect(world)
    size = len(body) if length is None else length
    writer.write(head(method, f"Content-Length: {size}\r\n".encode()) + body)
    found = await answer_of(reader)
    writer.close()
    return found


def head(method: bytes, more: bytes) -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\n" % (
        method,
        WEB.encode(),
        TOKEN.encode(),
        more,
    )


async def connect(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(world.base.rsplit(":", 1)[1]))


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head_lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    lengths = [line.split(":")[1] for line in head_lines if line.lower().startswith("content-length")]
    body = await reader.readexactly(int(lengths[0]))
    return int(head_lines[0].split()[1]), json.loads(body)
