"""The installation over HTTP: info, ledger, orphans, gc, backup, health, figures, and the token."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from spinyard.core.ids import resource_key
from spinyard.core.plan import Plan, Resource
from spinyard.ports.store import Commit
from tests.api.conftest import SERVICE, TOKEN, World

pytestmark = pytest.mark.anyio
WEB = "/v1/namespaces/default/services/web"


async def test_a_replaced_token_is_refused_at_once_and_the_new_one_counts(world: World) -> None:
    assert (await world.call("GET", "/v1/info")).status == 200
    world.token[0] = "the-new-one"
    old = await world.call("GET", "/v1/info", Authorization=f"Bearer {TOKEN}")
    assert old.code == (401, "unauthenticated")
    assert "replaced" in old.json["detail"]
    assert "token" in old.json["nextStep"]
    assert (await world.call("GET", "/v1/info")).status == 200


async def test_an_empty_token_opens_nothing(world: World) -> None:
    world.token[0] = ""
    for value in ("Bearer ", "Bearer", "Bearer x"):
        assert (await world.call("GET", "/v1/info", Authorization=value)).status == 401


async def test_health_needs_no_token_and_everything_else_does(world: World) -> None:
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 401), ("/v1/openapi.json", 401)):
        assert (await world.call("GET", path, Authorization="")).status == status


async def test_info_tells_what_this_is(world: World) -> None:
    info = (await world.call("GET", "/v1/info")).json
    assert info["installation"] == world.store.installation
    assert {"version", "home", "gateway", "store"} <= set(info)


async def test_the_ledger_is_listed_by_owner_and_page(world: World) -> None:
    for name in ("a", "b"):
        await world.call("PUT", WEB.replace("web", name), SERVICE)
    now = world.deps.clock.now()
    rows = world.store.claim(holder="t", now=now, lease_seconds=5, limit=10)
    for row in rows:
        resources = tuple(
            Resource(resource_key(row.uid, f"r{n}"), row.uid, "process", "process", True, created_at=now)
            for n in range(3)
        )
        plan = Plan("progressing", b"{}", "making things", "Making", None, resources=resources)
        world.store.commit([Commit(row, plan, release=True)], now=now)
    everything = await world.call("GET", "/v1/resources")
    assert len(everything.json["items"]) == 6
    page = await world.call("GET", "/v1/resources?limit=4")
    rest = await world.call("GET", f"/v1/resources?limit=4&continue={page.json['metadata']['continue']}")
    assert page.json["items"] + rest.json["items"] == everything.json["items"]
    mine = await world.call("GET", f"/v1/resources?owner={rows[0].uid}")
    assert [r["owner"] for r in mine.json["items"]] == [rows[0].uid] * 3
    one = await world.call("GET", f"/v1/resources?key={mine.json['items'][0]['key']}")
    assert one.json["items"] == mine.json["items"][:1]


async def test_orphans_are_shown_and_gc_says_what_it_did(world: World) -> None:
    orphans = (await world.call("GET", "/v1/orphans")).json["items"]
    assert orphans[0]["why"] == "its owner is gone"
    dry = await world.call("POST", "/v1/gc?dryRun=true")
    real = await world.call("POST", "/v1/gc")
    assert (dry.json["dryRun"], real.json["dryRun"]) == (True, False)
    assert world.swept == [True, False]


async def test_a_backup_is_a_whole_store_and_never_overwrites(world: World, tmp_path: Path) -> None:
    await world.call("PUT", WEB, SERVICE)
    target = tmp_path / "copy.db"
    assert (await world.call("POST", "/v1/backup", {"path": str(target)})).json["path"] == str(target)
    with sqlite3.connect(target) as copy:
        assert copy.execute("select name from objects").fetchall() == [("web",)]
    assert (await world.call("POST", "/v1/backup", {"path": str(target)})).code == (409, "already_exists")


async def test_figures_are_bounded_by_route_and_state_and_never_by_name(world: World) -> None:
    for n in range(20):
        await world.call("PUT", WEB.replace("web", f"name-{n}"), SERVICE)
        await world.call("GET", f"/v1/unknown-{n}")
    await world.call("GET", WEB, Authorization="Bearer wrong")
    text = (await world.call("GET", "/metrics")).text
    route = "/v1/namespaces/{namespace}/services/{name}"
    assert f'spinyard_http_requests_total{{method="PUT",route="{route}",status="201"}} 20.0' in text
    assert 'spinyard_http_requests_total{method="GET",route="unmatched",status="404"} 20.0' in text
    assert 'spinyard_objects{kind="Service",state="pending"} 20.0' in text
    assert "spinyard_engine_passes_total 3.0" in text
    assert "name-" not in text
    assert "unknown-" not in text
