"""Logs, exec and explain of instances."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest

from spinyard.core.ids import child_name, child_uid
from spinyard.core.plan import CreateChild, EventDraft, Plan
from spinyard.core.spec import ClaimPart, Errand, Kind, SpinSpec
from spinyard.ports.store import Commit
from tests.api.conftest import World

pytestmark = pytest.mark.anyio
WEB = "/v1/namespaces/default/services/web"
SPEC = {
    "spec": {
        "replicas": 1,
        "template": {"command": ["sleep", "60"], "bootstrap": [{"name": "migrate", "command": ["true"]}]},
    }
}


async def spin(world: World, **fields: Any) -> tuple[str, Path]:
    """A Service with one spin, as the engine makes it; its path, and the directory of its logs."""
    made = (await world.call("PUT", WEB, SPEC)).json
    now = world.deps.clock.now()
    (row,) = world.store.claim(holder="t", now=now, lease_seconds=5, limit=10)
    uid = child_uid(row.uid, "0", 1)
    name = child_name("web", uid)
    child = CreateChild(
        uid, Kind.SPIN, name, "0", SpinSpec(row.template_digest, service_name="web", **fields), row.template_digest
    )
    plan = Plan("progressing", b"{}", "making one", "Making", None, children=(child,))
    world.store.commit([Commit(row, plan, release=True)], now=now)
    directory = world.deps.log_dir(uid)
    directory.mkdir(parents=True)
    assert made["metadata"]["uid"] == row.uid
    return f"/v1/namespaces/default/spins/{name}", directory


def fail(world: World, error_class: str, message: str) -> None:
    now = world.deps.clock.now()
    for row in world.store.claim(holder="t", now=now, lease_seconds=5, limit=10):
        if row.kind is Kind.SPIN:
            plan = Plan(
                "terminated",
                b"{}",
                message,
                error_class,
                None,
                events=(EventDraft("Warning", error_class, message),),
                finished=True,
                failed_at=now,
                outcome=error_class,
            )
            world.store.commit([Commit(row, plan, release=True)], now=now)


async def test_a_spin_shows_its_owner_and_its_template(world: World) -> None:
    path, _ = await spin(world)
    service = (await world.call("GET", WEB)).json
    found = (await world.call("GET", path)).json
    assert found["metadata"]["ownerReferences"] == [{"uid": service["metadata"]["uid"]}]
    assert found["spec"]["template"]["command"] == ["sleep", "60"]
    mine = await world.call("GET", f"/v1/spins?owner={service['metadata']['uid']}")
    assert [i["metadata"]["name"] for i in mine.json["items"]] == [found["metadata"]["name"]]


async def test_logs_are_read_from_the_end_through_both_files(world: World) -> None:
    path, directory = await spin(world)
    (directory / "process.log.1").write_text("one\ntwo\n")
    (directory / "process.log").write_text("three\nfour\n")
    (directory / "step-0.log").write_text("migrated\n")
    assert (await world.call("GET", f"{path}/logs")).text == "one\ntwo\nthree\nfour\n"
    assert (await world.call("GET", f"{path}/logs?tail=3")).text == "two\nthree\nfour\n"
    assert (await world.call("GET", f"{path}/logs?tail=1")).text == "four\n"
    assert (await world.call("GET", f"{path}/logs?tail=0")).text == ""
    assert (await world.call("GET", f"{path}/logs?part=migrate")).text == "migrated\n"
    unknown = await world.call("GET", f"{path}/logs?part=other")
    assert unknown.code == (404, "not_found")
    assert "main, migrate" in unknown.json["detail"]


async def test_followed_logs_go_on_over_a_rotation_and_end_with_the_spin(world: World) -> None:
    path, directory = await spin(world)
    log = directory / "process.log"
    log.write_text("one\n")
    headers = {"Authorization": f"Bearer {world.token[0]}"}
    async with (
        asyncio.timeout(5),
        world.session.get(f"{world.base}{path}/logs?follow=true", headers=headers) as response,
    ):
        assert await response.content.readline() == b"one\n"
        with log.open("a") as file:
            file.write("two\n")
        assert await response.content.readline() == b"two\n"
        with log.open("a") as file:
            file.write("three\n")
        log.rename(directory / "process.log.1")
        log.write_text("four\n")
        assert await response.content.readline() == b"three\n"
        assert await response.content.readline() == b"four\n"
        fail(world, "ProcessExited", "exit code 1")
        assert await response.content.read() == b""


async def test_logs_of_a_finished_spin_are_still_there(world: World) -> None:
    path, directory = await spin(world)
    (directory / "process.log").write_text("last words\n")
    fail(world, "ProcessExited", "exit code 1")
    assert (await world.call("GET", f"{path}/logs")).text == "last words\n"
    assert (await world.call("POST", f"{path}/exec", {"command": ["ls"]})).code == (409, "conflict")


async def test_logs_of_a_member_that_a_job_runs_on_are_those_of_its_command(world: World) -> None:
    path, directory = await spin(world, claim=ClaimPart("j", "j", errand=Errand(("work",), 9.0)))
    (directory / "process.log").write_text("the program\n")
    (directory / "command.log").write_text("the command\n")
    assert (await world.call("GET", f"{path}/logs")).text == "the command\n"
    assert (await world.call("GET", f"{path}/logs?part=command")).text == "the command\n"
    assert (await world.call("GET", f"{path}/logs?part=main")).text == "the program\n"
    missing = await world.call("GET", f"{path}/logs?part=nope")
    assert missing.code == (404, "not_found")
    assert "main, command, migrate" in missing.json["detail"]


async def test_exec_runs_in_the_spin(world: World) -> None:
    path, _ = await spin(world)
    answer = await world.call("POST", f"{path}/exec", {"command": ["ls", "-l"], "timeoutSeconds": 5})
    assert answer.json["exitCode"] == 0
    assert "ran ls -l within 5 s" in answer.json["output"]


async def test_exec_as_a_stream_tells_what_is_written_and_the_exit_code(world: World) -> None:
    path, _ = await spin(world)
    answer = await world.call("POST", f"{path}/exec", {"command": ["ls", "-l"], "stream": True})
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    *output, end = [json.loads(line) for line in answer.text.splitlines()]
    assert [base64.b64decode(line["data"]) for line in output] == [b"ls", b"-l"]
    assert end == {"type": "exit", "exitCode": 3, "why": ""}
    broken = await world.call("POST", f"{path}/exec", {"command": ["break"], "stream": True})
    last = json.loads(broken.text.splitlines()[-1])
    assert (last["type"], last["problem"]["code"]) == ("error", "provider_failure")


async def test_who_goes_away_ends_the_command(world: World) -> None:
    path, _ = await spin(world)
    body = {"command": ["for-ever"], "stream": True}
    headers = {"Authorization": f"Bearer {world.token[0]}"}
    async with world.session.post(f"{world.base}{path}/exec", json=body, headers=headers) as response:
        lines = [json.loads(await response.content.readline()) for _ in range(2)]
        assert [line["type"] for line in lines] == ["stdout", "heartbeat"]
        assert world.streamed == ["began"]
        response.close()
    async with asyncio.timeout(5):
        while world.streams.open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert world.streamed == ["began", "ended"]


async def test_a_program_that_is_not_there_is_the_callers_fault(world: World) -> None:
    path, _ = await spin(world)
    answer = await world.call("POST", f"{path}/exec", {"command": ["missing"], "stream": True})
    assert answer.code == (422, "command_not_found")
    assert answer.json["fault"] == "user"
    assert world.streams.open == 0


@pytest.mark.parametrize(("seconds", "stream"), [(0, True), (0, False), (86_401, True), (601, False)])
async def test_exec_takes_a_time_that_it_can_keep(world: World, seconds: float, stream: bool) -> None:
    path, _ = await spin(world)
    body = {"command": ["ls"], "timeoutSeconds": seconds, "stream": stream}
    assert (await world.call("POST", f"{path}/exec", body)).code == (422, "invalid_request")


async def test_explain_of_a_failing_service_names_the_cause_and_shows_the_log_of_its_spin(world: World) -> None:
    path, directory = await spin(world)
    (directory / "process.log").write_text("Traceback\nImportError: no module named shop\n")
    fail(world, "ProcessExited", "the program exited with code 1")
    for asked in (path, WEB):
        found = (await world.call("GET", f"{asked}/explain")).json
        assert found["cause"] == "ProcessExited: the program exited with code 1"
        assert found["who"] == "user"
        assert found["nextStep"]
        logs = [e["text"] for e in found["evidence"] if e["source"] == "log"]
        assert logs == ["Traceback\nImportError: no module named shop"]
        assert any(e["source"] == "event" and e["at"] for e in found["evidence"])


async def test_explain_of_what_waits_names_what_it_waits_for(world: World) -> None:
    waiting = {"spec": {**SPEC["spec"], "dependsOn": [{"kind": "Service", "name": "db"}]}}
    await world.call("PUT", WEB, waiting)
    found = (await world.call("GET", f"{WEB}/explain")).json
    assert found["cause"] == "Waits for service/db (it does not exist)."
    assert found["who"] == "nobody"


async def test_a_template_explains_itself_too(world: World) -> None:
    await world.call("PUT", "/v1/namespaces/default/templates/t", {"spec": SPEC["spec"]["template"]})
    found = (await world.call("GET", "/v1/namespaces/default/templates/t/explain")).json
    assert found["nextStep"] == "Nothing: all is as wished."
