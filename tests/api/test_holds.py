"""Holds over HTTP."""

from __future__ import annotations

import pytest

from tests.api.conftest import Answer, World

pytestmark = pytest.mark.anyio

WEB = "/v1/namespaces/default/services/web"
SPEC = {"spec": {"template": {"command": ["serve"]}}}


async def test_a_hold_is_set_listed_and_released(world: World) -> None:
    assert (await world.call("PUT", WEB, SPEC)).status == 201
    made = await hold(world, scope="service/web", why="a freeze", forSeconds=60)
    assert made.status == 201
    assert {k: made.json[k] for k in ("kind", "scope", "namespace", "why")} == {
        "kind": "Hold",
        "scope": "service/web",
        "namespace": "default",
        "why": "a freeze",
    }
    assert made.json["until"] > made.json["since"]
    again = await hold(world, scope="service/web", why="still")
    assert (again.status, again.json["until"], again.json["why"]) == (200, None, "still")
    for path, count in (("/v1/holds", 1), ("/v1/holds?namespace=default", 1), ("/v1/holds?namespace=other", 0)):
        assert len((await world.call("GET", path)).json["items"]) == count
    gone = await world.call("DELETE", "/v1/holds?scope=service/web")
    assert gone.status == 200
    assert (await world.call("GET", "/v1/holds")).json["items"] == []
    assert (await world.call("DELETE", "/v1/holds?scope=service/web")).status == 404


async def test_the_same_key_holds_once(world: World) -> None:
    first = await hold(world, "k1", why="a freeze")
    assert first.status == 201
    await world.call("DELETE", "/v1/holds")
    again = await hold(world, "k1", why="a freeze")
    assert again.status == 200 and (await world.call("GET", "/v1/holds")).json["items"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"why": ""}, 422),
        ({}, 422),
        ({"why": "x", "scope": "spin/a"}, 422),
        ({"why": "x", "scope": "service/none"}, 404),
        ({"why": "x", "scope": "namespace/none"}, 404),
        ({"why": "x", "forSeconds": 0}, 422),
        ({"why": "x", "forSeconds": -1}, 422),
        ({"why": "x", "namespace": "No!"}, 422),
        ({"why": "x", "more": 1}, 422),
    ],
)
async def test_bad_holds_are_refused_and_hold_nothing(world: World, body: dict[str, object], status: int) -> None:
    answer = await world.call("POST", "/v1/holds", body)
    assert answer.status == status, answer.text
    assert answer.json["nextStep"]
    assert (await world.call("GET", "/v1/holds")).json["items"] == []


async def hold(world: World, key: str = "", **body: object) -> Answer:
    return await world.call("POST", "/v1/holds", body, **({"Idempotency_Key": key} if key else {}))
