"""The same key with the same request happens once; what comes back is the object as it is now."""

from __future__ import annotations

import asyncio

import pytest

from tests.api.conftest import SERVICE, World

pytestmark = pytest.mark.anyio
WEB = "/v1/namespaces/default/services/web"


async def test_the_same_request_twice_is_one_object(world: World) -> None:
    first = await world.call("PUT", WEB, SERVICE, Idempotency_Key="k1")
    second = await world.call("PUT", WEB, SERVICE, Idempotency_Key="k1")
    assert (first.status, second.status) == (201, 200)
    assert second.json["metadata"]["uid"] == first.json["metadata"]["uid"]
    assert second.headers["Idempotency-Replayed"] == "true"


async def test_a_repeated_request_does_not_undo_what_came_after_it(world: World) -> None:
    await world.call("PUT", WEB, SERVICE, Idempotency_Key="k1")
    await world.call("POST", f"{WEB}/scale", {"replicas": 7})
    again = await world.call("PUT", WEB, SERVICE, Idempotency_Key="k1")
    assert again.json["spec"]["replicas"] == 7


async def test_a_key_is_for_one_request_only(world: World) -> None:
    await world.call("PUT", WEB, SERVICE, Idempotency_Key="k1")
    other_body = {"spec": {**SERVICE["spec"], "replicas": 3}}
    for method, path, body in (
        ("PUT", WEB, other_body),
        ("DELETE", WEB, None),
        ("PUT", WEB.replace("web", "b"), SERVICE),
    ):
        answer = await world.call(method, path, body, Idempotency_Key="k1")
        assert answer.code == (422, "idempotency_key_reused")
    assert (await world.call("GET", WEB)).json["spec"]["replicas"] == 2


async def test_a_wait_is_not_another_request(world: World) -> None:
    await world.call("PUT", WEB, SERVICE, Idempotency_Key="k1")
    again = await world.call("PUT", f"{WEB}?wait=0", SERVICE, Idempotency_Key="k1")
    assert again.status == 200


async def test_a_refused_request_does_not_use_up_its_key(world: World) -> None:
    body = {"spec": {"templateRef": {"name": "t"}}}
    assert (await world.call("PUT", WEB, body, Idempotency_Key="k1")).status == 422
    template = "/v1/namespaces/default/templates/t"
    assert (await world.call("PUT", template, {"spec": SERVICE["spec"]["template"]})).status == 201
    assert (await world.call("PUT", WEB, body, Idempotency_Key="k1")).status == 201


async def test_twenty_at_once_make_one_object(world: World) -> None:
    answers = await asyncio.gather(*(world.call("PUT", WEB, SERVICE, Idempotency_Key="k1") for _ in range(20)))
    assert len({a.json["metadata"]["uid"] for a in answers}) == 1
    assert sorted(a.status for a in answers) == [200] * 19 + [201]
    events = await world.call("GET", "/v1/events")
    assert [e["reason"] for e in events.json["items"]] == ["Created"]


async def test_twenty_restarts_with_one_key_are_one_restart(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    await asyncio.gather(*(world.call("POST", f"{WEB}/restart", Idempotency_Key="r") for _ in range(20)))
    assert (await world.call("GET", WEB)).json["metadata"]["generation"] == 2


async def test_apply_of_many_is_repeated_as_a_whole(world: World) -> None:
    named = {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": "web"}, **SERVICE}
    first = await world.call("POST", "/v1/apply", {"objects": [named]}, Idempotency_Key="k1")
    await world.call("POST", f"{WEB}/scale", {"replicas": 7})
    second = await world.call("POST", "/v1/apply", {"objects": [named]}, Idempotency_Key="k1")
    assert first.json["results"][0]["result"] == second.json["results"][0]["result"] == "created"
    assert second.json["results"][0]["object"]["spec"]["replicas"] == 7


async def test_if_match_lets_only_the_first_of_two_editors_win(world: World) -> None:
    made = await world.call("PUT", WEB, SERVICE)
    tag = made.headers["ETag"]
    assert tag == f'"{made.json["metadata"]["resourceVersion"]}"'
    answers = await asyncio.gather(
        *(world.call("POST", f"{WEB}/scale", {"replicas": n}, If_Match=tag) for n in (5, 6, 7))
    )
    assert sorted(a.status for a in answers) == [200, 412, 412]


async def test_the_actor_is_written_beside_the_change(world: World) -> None:
    await world.call("PUT", WEB, SERVICE, X_Spinyard_Actor="anna@laptop")
    event = (await world.call("GET", "/v1/events")).json["items"][0]
    assert event["actor"] == "anna@laptop"
    assert "anna@laptop" in event["message"]
