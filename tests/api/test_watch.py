"""Watches miss nothing: not between list and watch, not over a broken connection, not what was pruned meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from spinyard.api.deps import ApiLimits
from tests.api.conftest import SERVICE, World

pytestmark = pytest.mark.anyio
ALL = "/v1/services"
WEB = "/v1/namespaces/default/services/web"
Frame = tuple[str, str, Any]


async def test_what_is_there_comes_first_and_then_what_changes(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    async with watching(world, f"{ALL}?watch=true") as frames:
        assert kinds([await anext(frames)]) == [("ADDED", "web")]
        await world.call("PUT", WEB.replace("web", "b"), SERVICE)
        assert kinds([await anext(frames)]) == [("ADDED", "b")]
        await world.call("POST", f"{WEB}/scale", {"replicas": 5})
        _, kind, found = await anext(frames)
        assert (kind, found["spec"]["replicas"]) == ("MODIFIED", 5)


async def test_a_change_of_the_status_alone_is_sent(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    world.drive("progressing")
    async with watching(world, f"{WEB}?watch=true") as frames:
        await anext(frames)
        await world.call("POST", f"{WEB}/pause")
        await anext(frames)
        world.drive("progressing", status=b'{"ready": 1, "observed_generation": GENERATION}')
        _, kind, found = await anext(frames)
    assert (kind, found["status"]["ready"]) == ("MODIFIED", 1)


async def test_what_ends_is_sent_as_deleted(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    async with watching(world, f"{WEB}?watch=true") as frames:
        await anext(frames)
        await world.call("DELETE", WEB)
        _, kind, found = await anext(frames)
        assert kind == "MODIFIED"
        assert "deletionTimestamp" in found["metadata"]
        world.drive("terminated", finished=True)
        assert kinds([await anext(frames)]) == [("DELETED", "web")]


async def test_from_the_token_of_a_list_nothing_is_missed(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    listed = await world.call("GET", ALL)
    await world.call("PUT", WEB.replace("web", "b"), SERVICE)
    async with watching(world, f"{ALL}?watch=true&resume={listed.json['metadata']['resourceVersion']}") as frames:
        assert kinds([await anext(frames)]) == [("ADDED", "b")]


async def test_after_a_break_it_goes_on_from_the_last_id(world: World) -> None:
    names = [f"s{n}" for n in range(12)]
    async with watching(world, f"{ALL}?watch=true") as frames:
        await world.call("PUT", f"/v1/namespaces/default/services/{names[0]}", SERVICE)
        last, _, _ = await anext(frames)
    objects = [
        {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": n}, **SERVICE} for n in names[1:]
    ]
    await world.call("POST", "/v1/apply", {"objects": objects})
    seen: list[str] = []
    while set(seen) != set(names[1:]):
        async with watching(world, f"{ALL}?watch=true", Last_Event_ID=last) as frames:
            for _ in range(5 if not seen else 11):
                last, kind, found = await anext(frames)
                assert kind == "ADDED"
                seen.append(found["metadata"]["name"])
    assert len(seen) == 5 + 11, "the broken commit is sent again as a whole"


async def test_from_the_middle_of_a_commit_all_of_its_objects_are_sent(world: World) -> None:
    objects = [{"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": n}, **SERVICE} for n in "abc"]
    await world.call("POST", "/v1/apply", {"objects": objects})
    token = (await world.call("GET", "/v1/events")).json["items"][0]["token"]
    async with watching(world, f"{ALL}?watch=true&resume={token}") as frames:
        assert sorted(kinds([await anext(frames) for _ in range(3)])) == [("ADDED", n) for n in "abc"]


async def test_what_was_pruned_while_nobody_watched_is_still_told_as_deleted(world: World) -> None:
    template = "/v1/namespaces/default/templates/t"
    await world.call("PUT", template, {"spec": SERVICE["spec"]["template"]})
    listed = await world.call("GET", "/v1/templates")
    await world.call("DELETE", template)
    now = world.deps.clock.now() + 10
    world.store.prune(now=now, finished_keep_max=0, events_keep_max=1000, events_keep_seconds=1000)
    assert (await world.call("GET", f"{template}?finished=all")).status == 404
    async with watching(
        world, f"/v1/templates?watch=true&resume={listed.json['metadata']['resourceVersion']}"
    ) as frames:
        assert kinds([await anext(frames)]) == [("DELETED", "t")]


async def test_a_token_older_than_the_kept_history_is_gone(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    old = (await world.call("GET", ALL)).json["metadata"]["resourceVersion"]
    for replicas in range(3, 8):
        await world.call("POST", f"{WEB}/scale", {"replicas": replicas})
    world.store.prune(now=world.deps.clock.now(), finished_keep_max=100, events_keep_max=1, events_keep_seconds=1000.0)
    for path in (f"{ALL}?watch=true&resume={old}", f"/v1/events?watch=true&resume={old}", f"/v1/events?after={old}"):
        answer = await world.call("GET", path)
        assert answer.code == (410, "expired")
        assert answer.json["nextStep"]


async def test_labels_select_and_what_leaves_the_selection_is_told(world: World) -> None:
    blue = {"metadata": {"labels": {"color": "blue"}}, **SERVICE}
    red = {"metadata": {"labels": {"color": "red"}}, **SERVICE}
    await world.call("PUT", WEB, blue)
    await world.call("PUT", WEB.replace("web", "b"), red)
    async with watching(world, f"{ALL}?watch=true&labelSelector=color%3Dblue") as frames:
        assert kinds([await anext(frames)]) == [("ADDED", "web")]
        await world.call("PUT", WEB, red)
        assert kinds([await anext(frames)]) == [("DELETED", "web")]


async def test_events_are_sent_as_they_happen_each_once(world: World) -> None:
    await world.call("PUT", WEB, SERVICE)
    async with watching(world, "/v1/events?watch=true") as frames:
        for replicas in (3, 4, 5):
            await world.call("POST", f"{WEB}/scale", {"replicas": replicas})
        found = [await anext(frames) for _ in range(3)]
    assert [kind for _, kind, _ in found] == ["EVENT"] * 3
    assert [event["reason"] for _, _, event in found] == ["Scaled"] * 3
    assert [token for token, _, _ in found] == [event["token"] for _, _, event in found]
    async with watching(world, f"/v1/events?watch=true&resume={found[0][0]}") as frames:
        again = [await anext(frames) for _ in range(2)]
    assert again == found[1:]


async def test_a_quiet_watch_says_that_it_lives(world: World) -> None:
    async with open_watch(world, f"{ALL}?watch=true") as response:
        async with asyncio.timeout(2):
            text = b""
            while text.count(b": still here") < 3:
                text += await response.content.readany()


class TestBound:
    @pytest.fixture
    def limits(self) -> ApiLimits:
        return ApiLimits(poll_seconds=0.05, streams_max=2, heartbeat_seconds=0.1)

    async def test_there_is_a_bound_on_watches_and_closing_one_makes_room(self, world: World) -> None:
        async with open_watch(world, f"{ALL}?watch=true"):
            async with open_watch(world, f"{ALL}?watch=true"):
                assert (await world.call("GET", f"{ALL}?watch=true")).code == (429, "too_many_requests")
            async with asyncio.timeout(3):
                while True:
                    async with open_watch(world, f"{ALL}?watch=true") as response:
                        if response.status == 200:
                            break


async def test_a_quiet_watch_ends_at_once_and_whole_when_the_server_ends(world: World) -> None:
    async with asyncio.timeout(2), open_watch(world, f"{ALL}?watch=true") as response:
        await response.content.readuntil(b"\n\n")
        world.streams.close()
        rest = await response.content.read()
        assert rest == b"" or rest.endswith(b"\n\n")
        assert world.streams.open == 0


async def test_a_client_that_leaves_gives_its_place_back(world: World) -> None:
    for _ in range(3):
        async with open_watch(world, f"{ALL}?watch=true") as response:
            await response.content.readany()
        async with asyncio.timeout(3):
            while world.streams.open:
                await asyncio.wait_for(world.call("GET", "/healthz"), 1)


def kinds(frames: list[Frame]) -> list[tuple[str, str]]:
    return [(kind, found["metadata"]["name"]) for _, kind, found in frames]


@contextlib.asynccontextmanager
async def open_watch(world: World, path: str, **headers: str) -> AsyncIterator[Any]:
    sent = {"Authorization": f"Bearer {world.token[0]}"} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with world.session.get(world.base + path, headers=sent) as response:
        yield response


@contextlib.asynccontextmanager
async def watching(world: World, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Frame]]:
    async with open_watch(world, path, **headers) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        async with asyncio.timeout(10):
            yield frames_of(response)


async def frames_of(response: Any) -> AsyncIterator[Frame]:
    token, kind = "", ""
    async for raw in response.content:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        if name == "id":
            token = value
        elif name == "event":
            kind = value
        elif name == "data":
            yield token, kind, json.loads(value)
