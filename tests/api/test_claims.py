"""Pools and claims over HTTP. What the engine does is done by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from spinyard.core.ids import Uid
from spinyard.core.plan import CreateChild, Plan
from spinyard.core.spec import Kind, SpinSpec, TemplateSpec, WarmPoolSpec
from spinyard.ports.store import Commit
from tests.api.conftest import World

pytestmark = pytest.mark.anyio

BOX = "/v1/namespaces/default/warmpools/box"
CLAIMS = "/v1/namespaces/default/claims"
ROUTE = "/v1/namespaces/{namespace}/warmpools/{pool}/claims"
POOL = {
    "spec": {
        "min": 2,
        "max": 5,
        "hostSuffix": "box.localhost",
        "template": {"command": ["sleep", "60"], "ports": [{"name": "http"}]},
    }
}


async def make_pool(world: World, warm: int, name: str = "box") -> None:
    answer = await world.call("PUT", BOX, POOL)
    assert answer.status == 201
    now = world.deps.clock.now()
    (row,) = world.store.claim(holder="test", now=now, lease_seconds=5.0, limit=100)
    assert isinstance(row.spec, WarmPoolSpec) and isinstance(row.template, TemplateSpec)
    digest = row.spec.template_digest
    made = tuple(
        CreateChild(Uid(f"member{n:014}"), Kind.SPIN, f"box-{n}", str(n), SpinSpec(digest), digest) for n in range(warm)
    )
    status = msgspec.json.encode({"observed_generation": row.generation, "warm": warm})
    plan = Plan("ready", status, "Ready.", "Ready", None, children=made)
    world.store.commit([Commit(row, plan, release=True)], now=now)
    if made:
        world.drive("warm", status=b'{"ports": {"http": 4711}}')


async def test_a_claim_answers_with_its_member_and_address(world: World) -> None:
    await make_pool(world, 1)
    body = {"name": "a", "env": {"A": "b"}, "files": [{"name": "x", "content": "y"}], "ttl": "10m"}
    answer = await world.call("POST", f"{BOX}/claims", body)
    assert answer.status == 201
    status = answer.json["status"]
    assert (status["bound"], status["cold"], status["host"]) == (True, False, "a.box.localhost")
    assert status["member"] == {
        "name": "box-0",
        "state": "warm",
        "address": "127.0.0.1",
        "ports": {"http": 4711},
        "url": "http://a.box.localhost:8080/",
    }
    assert "placeInQueue" not in status
    assert answer.json["spec"]["ttl"] == 600
    assert len(world.hints) == 2


async def test_who_finds_nothing_warm_is_told_the_place_in_the_queue(world: World) -> None:
    await make_pool(world, 0)
    answers = [await world.call("POST", f"{BOX}/claims") for _ in range(2)]
    assert [a.json["status"]["placeInQueue"] for a in answers] == [1, 2]
    assert [a.json["status"]["bound"] for a in answers] == [False, False]
    listed = (await world.call("GET", CLAIMS)).json["items"]
    assert {item["spec"]["pool"] for item in listed} == {"box"}


async def test_many_claims_at_once_each_get_a_member_of_their_own(world: World) -> None:
    await make_pool(world, 20)
    answers = await asyncio.gather(*(world.call("POST", f"{BOX}/claims", {"name": f"c{n}"}) for n in range(25)))
    assert {a.status for a in answers} == {201}
    members = [a.json["status"]["member"]["name"] for a in answers if a.json["status"]["bound"]]
    assert len(members) == len(set(members)) == 20


async def test_one_that_is_refused_does_no_harm_to_those_beside_it(world: World) -> None:
    await make_pool(world, 5)
    bodies: list[dict[str, Any]] = [{"name": "same"} if n % 2 else {"name": f"c{n}"} for n in range(8)]
    answers = await asyncio.gather(*(world.call("POST", f"{BOX}/claims", body) for body in bodies))
    assert sorted(a.status for a in answers) == [201] * 5 + [409] * 3
    assert {a.json["code"] for a in answers if a.status == 409} == {"already_exists"}


async def test_a_claim_is_waited_for(world: World) -> None:
    await make_pool(world, 1)
    waiting = asyncio.create_task(world.call("POST", f"{BOX}/claims?wait=10", {"name": "a"}))
    while (await world.call("GET", f"{CLAIMS}/a")).status == 404:
        continue
    uid = (await world.call("GET", f"{CLAIMS}/a")).json["metadata"]["uid"]
    world.store.wake([uid], now=world.deps.clock.now())
    world.drive("ready", status=b'{"observed_generation": GENERATION}')
    answer = await waiting
    assert (answer.status, answer.json["status"]["state"]) == (201, "ready")
    assert answer.json["spec"]["wait"] == 10


async def test_the_same_key_claims_once(world: World) -> None:
    await make_pool(world, 2)
    first, second = [await world.call("POST", f"{BOX}/claims", {}, Idempotency_Key="k") for _ in range(2)]
    assert (first.status, second.status) == (201, 200)
    assert first.json["metadata"]["uid"] == second.json["metadata"]["uid"]
    assert second.headers["idempotency-replayed"] == "true"
    assert len((await world.call("GET", CLAIMS)).json["items"]) == 1


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": -5}, "ttl"),
        ({"name": "A b"}, "name"),
        ({"env": {"1": "x"}}, "env[0].name"),
        ({"files": [{"name": "claim.json", "content": ""}]}, "files[0].name"),
        ({"pool": "other"}, "pool"),
    ],
)
async def test_a_wrong_claim_is_told_where(still_world: World, body: dict[str, Any], path: str) -> None:
    answer = await still_world.call("POST", f"{BOX}/claims", body)
    assert answer.status == 422
    assert answer.json["errors"][0]["path"].endswith(path)


async def test_an_unknown_pool_is_not_found_with_the_nearest(world: World) -> None:
    await make_pool(world, 0)
    answer = await world.call("POST", "/v1/namespaces/default/warmpools/bix/claims", {})
    assert answer.code == (404, "not_found")
    assert answer.json["nextStep"] == "Did you mean box?"


async def test_a_claim_is_renewed_and_released(world: World) -> None:
    await make_pool(world, 1)
    made = await world.call("POST", f"{BOX}/claims", {"name": "a", "ttl": 5})
    renewed = await world.call("POST", f"{CLAIMS}/a/renew", {"ttl": "1h"})
    assert renewed.status == 200
    assert renewed.json["status"]["expiresAt"] > made.json["status"]["expiresAt"]
    assert (await world.call("DELETE", BOX)).code == (409, "in_use")
    assert (await world.call("DELETE", f"{CLAIMS}/a")).status == 202
    assert (await world.call("POST", f"{CLAIMS}/a/renew", {"ttl": "1h"})).code == (409, "being_deleted")
    assert (await world.call("DELETE", BOX)).status == 202


async def test_the_last_hour_of_a_pool(world: World) -> None:
    await make_pool(world, 2)
    await world.call("POST", f"{BOX}/claims", {"name": "a"})
    world.drive("ready", status=b'{"bound_at": 1.0, "observed_generation": 1}')
    answer = await world.call("GET", f"{BOX}/stats")
    assert answer.status == 200
    assert (answer.json["hitRate"], answer.json["claims"]["warm"]) == (1.0, 1)
    assert len(answer.json["steps"]) == 12
    assert (await world.call("GET", "/v1/namespaces/default/warmpools/none/stats")).code == (404, "not_found")


async def test_why_a_pool_and_a_claim_are_as_they_are(world: World) -> None:
    await make_pool(world, 0)
    await world.call("POST", f"{BOX}/claims", {"name": "a"})
    for path in (BOX, f"{CLAIMS}/a"):
        assert (await world.call("GET", f"{path}/explain")).json["kind"] == "Explanation"


@pytest.mark.parametrize(
    "body",
    [
        {},
        None,
        {"name": "b"},
        {"name": "taken"},
        {"name": "A b"},
        {"name": 1},
        {"ttl": "10m", "env": {"A": "b"}, "labels": {"team": "x"}},
        {"ttl": -1},
        {"env": {"1": "x"}},
        {"what": "ever"},
        [],
    ],
)
async def test_a_claim_past_the_framework_is_answered_as_one_through_it(world: World, body: Any) -> None:
    await make_pool(world, 0)
    assert (await world.call("POST", f"{BOX}/claims", {"name": "taken"})).status == 201
    direct = await world.call("POST", f"{BOX}/claims", body)
    if direct.status == 201:
        await world.call("DELETE", f"{CLAIMS}/{direct.json['metadata']['name']}")
        world.drive("terminated", finished=True)
        await world.call("POST", f"{BOX}/claims", {"name": "taken"})
    other = {"Content_Type": "application/json; charset=utf-8"}
    around = await world.call("POST", f"{BOX}/claims", body, **other)
    assert direct.status == around.status
    assert _alike(direct.json) == _alike(around.json)
    metrics = (await world.call("GET", "/metrics")).text
    assert f'route="{ROUTE}",status="{direct.status}"' in metrics


def _alike(answer: dict[str, Any]) -> dict[str, Any]:
    """Without what differs from one claim to the next."""
    if "metadata" not in answer:
        return answer
    own = answer["metadata"]["name"]
    text = msgspec.json.encode(
        {k: v for k, v in answer.items() if k != "status"} | {"state": answer["status"]["state"]}
    )
    named = msgspec.json.decode(text.replace(own.encode(), b"NAME"))
    named["metadata"] = {k: v for k, v in named["metadata"].items() if k in ("name", "namespace", "labels")}
    named["spec"] = {k: v for k, v in named["spec"].items() if k != "expiresAt"}
    return named
