"""Apply, plan, prune, wait, pages: wishes over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.conftest import SERVICE, Answer, World

pytestmark = pytest.mark.anyio
WEB = "/v1/namespaces/default/services/web"
TEMPLATE = SERVICE["spec"]["template"]
AVAILABLE = b'{"observed_generation": GENERATION}'


def named(name: str, kind: str = "Service", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    content = {"Service": SERVICE["spec"], "Template": TEMPLATE, "Job": {"template": {"command": ["true"]}}}[kind]
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "spinyard.dev/v1", "kind": kind, "metadata": metadata, "spec": {**content, **spec}}


async def apply(world: World, *objects: dict[str, Any], query: str = "", **fields: Any) -> Answer:
    return await world.call("POST", f"/v1/apply{query}", {"objects": list(objects), **fields})


def results(answer: Answer) -> list[tuple[str, str]]:
    assert answer.status == 200, answer.text
    return [(r["result"], r["object"]["metadata"]["name"]) for r in answer.json["results"]]


async def test_many_objects_are_made_in_one_commit_each_with_its_result(world: World) -> None:
    assert results(await apply(world, named("a"), named("b"))) == [("created", "a"), ("created", "b")]
    events = (await world.call("GET", "/v1/events")).json["items"]
    assert len({e["token"].split(".")[0] for e in events}) == 1
    changed = named("b", replicas=5)
    assert results(await apply(world, named("a"), changed)) == [("unchanged", "a"), ("configured", "b")]


async def test_what_is_read_can_be_applied_again_and_changes_nothing(world: World) -> None:
    await apply(world, named("web", labels={"a": "b"}), named("j", "Job"), named("t", "Template"))
    for path in (WEB, "/v1/namespaces/default/jobs/j", "/v1/namespaces/default/templates/t"):
        read = (await world.call("GET", path)).json
        put = await world.call("PUT", path, read)
        assert put.status == 200, put.text
        assert put.json == read


async def test_all_or_nothing(world: World) -> None:
    await apply(world, named("b"))
    await world.call("DELETE", WEB.replace("web", "b"))
    answer = await apply(world, named("a"), named("b", replicas=3))
    assert answer.code == (409, "being_deleted")
    assert answer.json["retryable"]
    assert [i["metadata"]["name"] for i in (await world.call("GET", "/v1/services")).json["items"]] == ["b"]


async def test_a_reference_is_resolved_within_the_same_set_and_recorded(world: World) -> None:
    by_reference = {**named("web"), "spec": {"replicas": 1, "templateRef": {"name": "t"}}}
    assert results(await apply(world, by_reference, named("t", "Template")))[0] == ("created", "web")
    found = (await world.call("GET", WEB)).json
    assert found["spec"]["templateRef"]["name"] == "t"
    assert (await world.call("DELETE", "/v1/namespaces/default/templates/t")).code == (409, "in_use")
    await world.call("DELETE", WEB)
    gone = await world.call("DELETE", "/v1/namespaces/default/templates/t")
    assert gone.status == 200
    assert (await world.call("GET", "/v1/namespaces/default/templates/t")).status == 404


async def test_prune_deletes_what_left_the_set_and_nothing_else(world: World) -> None:
    await apply(world, named("alone"))
    await apply(world, named("a"), named("b"), appliedSet="shop")
    await apply(world, named("c"), appliedSet="other")
    again = await apply(world, named("a"), appliedSet="shop", prune=True)
    assert results(again) == [("unchanged", "a"), ("deleted", "b")]
    alive = [
        i["metadata"]["name"]
        for i in (await world.call("GET", "/v1/services")).json["items"]
        if "deletionTimestamp" not in i["metadata"]
    ]
    assert alive == ["a", "alone", "c"]


async def test_a_plan_shows_what_would_change_and_changes_nothing(world: World) -> None:
    await apply(world, named("a"), named("b"), appliedSet="shop")
    before = world.store.commit_seq()
    plan = await apply(world, named("a", replicas=9), named("n"), query="?dryRun=plan", appliedSet="shop", prune=True)
    changes = {c["name"]: c for c in plan.json["changes"]}
    assert {name: c["action"] for name, c in changes.items()} == {"a": "update", "n": "create", "b": "delete"}
    assert changes["a"]["diff"] == [{"path": "spec.replicas", "before": 2, "after": 9}]
    assert any("sleep 60" in line for line in changes["n"]["details"])
    assert {p["object"] for p in plan.json["preflight"]} == {"Service/default/a", "Service/default/n"}
    assert world.store.commit_seq() == before
    deletion = await world.call("DELETE", f"{WEB.replace('web', 'a')}?dryRun=plan")
    assert deletion.json["changes"][0]["action"] == "delete"
    assert world.store.commit_seq() == before


async def test_a_plan_tells_that_a_route_is_taken(world: World) -> None:
    route = {"hosts": ["shop.localhost"], "pathPrefix": "/"}
    await apply(world, named("a", route=route))
    plan = await apply(world, named("b", route=route), named("a", route=route), query="?dryRun=plan")
    found = [p for p in plan.json["preflight"] if p["check"] == "route"]
    assert [(p["status"], p["object"]) for p in found] == [("failed", "Service/default/a")]
    alone = await apply(world, named("a", route=route), query="?dryRun=plan")
    assert not [p for p in alone.json["preflight"] if p["check"] == "route"]


async def test_a_diff_names_the_changed_part_of_the_template(world: World) -> None:
    await apply(world, named("a"))
    longer = {**TEMPLATE, "command": ["sleep", "90"], "env": [{"name": "X", "value": "1"}]}
    plan = await apply(world, named("a", template=longer), query="?dryRun=plan")
    paths = {d["path"] for d in plan.json["changes"][0]["diff"]}
    assert "spec.template.command" in paths
    assert any(path.startswith("spec.template.env") for path in paths)


async def test_a_dependency_cycle_is_refused_also_across_requests(world: World) -> None:
    assert results(await apply(world, named("a", dependsOn=[{"kind": "Service", "name": "b"}])))
    answer = await apply(world, named("b", dependsOn=[{"kind": "Service", "name": "a"}]))
    assert answer.code == (422, "invalid_manifest")
    assert answer.json["errors"][0]["code"] == "dependency_cycle"


async def test_the_same_name_twice_is_refused(world: World) -> None:
    answer = await apply(world, named("a"), named("a", replicas=3))
    assert answer.code == (422, "invalid_manifest")


async def test_a_job_that_ended_does_not_run_again_by_being_changed(world: World) -> None:
    await apply(world, named("j", "Job"))
    world.drive("running")
    world.store.wake([world_uid(world, "jobs", await world.call("GET", "/v1/jobs"))], now=world.deps.clock.now())
    world.drive("succeeded")
    assert results(await apply(world, named("j", "Job"))) == [("unchanged", "j")]
    assert (await apply(world, named("j", "Job", retries=3))).code == (409, "job_ended")


async def test_scale_pause_restart_and_resume_change_one_thing_each(world: World) -> None:
    await apply(world, named("web"))
    assert (await world.call("POST", f"{WEB}/scale", {"replicas": 0})).json["spec"]["replicas"] == 0
    assert (await world.call("POST", f"{WEB}/pause")).json["status"]["paused"] is True
    assert "paused" not in (await world.call("POST", f"{WEB}/resume")).json["status"]
    restarted = (await world.call("POST", f"{WEB}/restart")).json
    assert restarted["metadata"]["generation"] == 3
    assert results(await apply(world, named("web", replicas=0))) == [("unchanged", "web")]
    reasons = [e["reason"] for e in (await world.call("GET", "/v1/events")).json["items"]]
    assert reasons == ["Created", "Scaled", "Paused", "Resumed", "RestartRequested"]


async def test_a_wait_ends_when_the_service_is_available_at_this_generation(world: World) -> None:
    await apply(world, named("web"))
    world.drive("available", status=AVAILABLE)
    waiting = asyncio.create_task(world.call("PUT", f"{WEB}?wait=5", named("web", replicas=3)))
    await until(world, lambda found: found["metadata"]["generation"] == 2)
    assert not waiting.done(), "available as it is, but not yet at the new generation"
    world.drive("available", status=AVAILABLE)
    found = (await waiting).json
    assert found["status"]["observedGeneration"] == 2


async def test_a_wait_that_is_over_gives_the_object_as_it_is(world: World) -> None:
    found = await world.call("PUT", f"{WEB}?wait=0.1", SERVICE)
    assert (found.status, found.json["status"]["state"]) == (201, "pending")


async def test_a_delete_waits_until_it_is_gone(world: World) -> None:
    await apply(world, named("web"))
    waiting = asyncio.create_task(world.call("DELETE", f"{WEB}?wait=5"))
    await until(world, lambda found: "deletionTimestamp" in found["metadata"])
    world.drive("terminated", finished=True)
    found = await waiting
    assert found.status == 200
    assert found.json["status"]["finishedAt"]


async def test_delete_again_is_the_same_and_force_is_added(world: World) -> None:
    await apply(world, named("web"))
    first = await world.call("DELETE", WEB)
    second = await world.call("DELETE", WEB)
    assert second.json["metadata"] == first.json["metadata"]
    await world.call("DELETE", f"{WEB}?force=true")
    reasons = [e["reason"] for e in (await world.call("GET", "/v1/events")).json["items"]]
    assert reasons == ["Created", "DeleteRequested", "DeleteForced"]


async def test_pages_hold_everything_once_in_order(world: World) -> None:
    await apply(world, *[named(f"s{n:02}", labels={"odd": str(n % 2)}) for n in range(23)])
    seen, token = [], ""
    while True:
        page = await world.call("GET", f"/v1/services?limit=5&continue={token}")
        seen += [i["metadata"]["name"] for i in page.json["items"]]
        token = page.json["metadata"]["continue"]
        if not token:
            break
    assert seen == [f"s{n:02}" for n in range(23)]
    odd = await world.call("GET", "/v1/namespaces/default/services?labelSelector=odd%3D1&limit=200")
    assert len(odd.json["items"]) == 11
    assert not (await world.call("GET", "/v1/namespaces/other/services")).json["items"]


async def until(world: World, is_so: Callable[[Any], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so((await world.call("GET", WEB)).json):
            continue


def world_uid(world: World, plural: str, listed: Answer) -> Any:
    return listed.json["items"][0]["metadata"]["uid"]
