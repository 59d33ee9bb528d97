"""Apply, get, list, delete, events: the shortest way through all of it."""

from __future__ import annotations

import pytest

from tests.api.conftest import SERVICE, World

pytestmark = pytest.mark.anyio
WEB = "/v1/namespaces/default/services/web"


async def test_a_service_is_applied_read_listed_and_deleted(world: World) -> None:
    made = await world.call("PUT", WEB, SERVICE)
    assert made.status == 201
    assert made.json["kind"] == "Service"
    assert made.json["metadata"]["name"] == "web"
    assert made.json["spec"]["replicas"] == 2
    assert made.json["spec"]["template"]["command"] == ["sleep", "60"]
    assert made.json["status"]["state"] == "pending"
    assert world.hints

    again = await world.call("PUT", WEB, SERVICE)
    assert again.status == 200
    assert again.json["metadata"] == made.json["metadata"]

    found = await world.call("GET", WEB)
    assert found.json == again.json
    listed = await world.call("GET", "/v1/services")
    assert [item["metadata"]["name"] for item in listed.json["items"]] == ["web"]

    gone = await world.call("DELETE", WEB)
    assert gone.status == 202
    assert "deletionTimestamp" in gone.json["metadata"]

    events = await world.call("GET", "/v1/events?involved=Service/default/web")
    assert [e["reason"] for e in events.json["items"]] == ["Created", "DeleteRequested"]
    assert events.json["items"][0]["actor"] == "token:default"

    world.drive("terminated", finished=True)
    assert (await world.call("GET", WEB)).code == (404, "not_found")
    assert (await world.call("GET", f"{WEB}?finished=all")).json["status"]["state"] == "terminated"
