"""The unit's server: what it answers to what is no call."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from spinyard_sdk import sides
from spinyard_sdk.boundary import boundary
from spinyard_sdk.unit import serve
from tests.sdk.boundaries import serving

LET_GO = threading.Event()
TWO_WAIT = threading.Barrier(3)


@boundary("paint", key=lambda what: what)
def paint(what: str) -> str:
    return what.upper()


@boundary("paint", key=lambda what: what)
def wait(what: str) -> str:
    TWO_WAIT.wait(10)
    LET_GO.wait(10)
    return what


@boundary("paint")
def odd() -> Any:
    return {1, object()}


class Answered:
    def __init__(self, status: int, body: Any, headers: Any) -> None:
        self.status, self.body, self.headers = status, body, headers


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(serve(paint, wait, odd, calls_max=2)) as found:
        yield found
    sides.state_of("paint").is_served_here = False


async def call(port: int, path: str, body: bytes = b"{}", method: str = "POST", **headers: str) -> Answered:
    sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}{path}", data=body, headers=sent) as answer,
    ):
        return Answered(answer.status, json.loads(await answer.text() or "null"), answer.headers)


async def test_a_function_answers_at_its_path(port: int) -> None:
    found = await call(port, "/paint/paint", b'{"what":"red"}')
    assert (found.status, found.body, found.headers["x-spinyard-boundary"]) == (200, "RED", "paint")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_it_says_that_it_is_well(port: int, path: str) -> None:
    assert (await call(port, path, method="GET")).status == 200


@pytest.mark.parametrize(
    ("path", "body", "more", "status", "code"),
    [
        ("/paint/nothing", b"{}", {}, 404, "unknown_function"),
        ("/paint/paint", b"{}", {}, 422, "invalid_arguments"),
        ("/paint/paint", b'{"what":1}', {}, 422, "invalid_arguments"),
        ("/paint/paint", b"[" * 100_000, {}, 422, "invalid_arguments"),
        ("/paint/paint", b'{"what":"\xff"}', {}, 422, "invalid_arguments"),
        ("/paint/paint", b"what=red", {"content_type": "text/plain"}, 415, "unsupported_media_type"),
        ("/paint/paint", b'{"what":"a"}', {"method": "PUT"}, 405, "method_not_allowed"),
        ("/paint/paint", b'{"what":"a"}', {"x_spinyard_shadow": "1"}, 409, "not_safe"),
        ("/paint/odd", b"{}", {}, 500, "internal"),
    ],
)  # fmt: skip
async def test_what_is_no_call_is_told_by_a_problem(
    port: int, path: str, body: bytes, more: dict[str, str], status: int, code: str
) -> None:
    found = await call(port, path, body, **more)
    assert (found.status, found.body["code"], found.body["status"]) == (status, code, status)
    assert found.headers["content-type"] == "application/problem+json"
    assert found.body["type"] == f"https://spinyard.dev/problems/{code}"


async def test_what_is_too_large_is_not_read(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /paint/paint HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {1 << 40}\r\n\r\n"
    )
    writer.write(head.encode())
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_one_call_too_many_is_told_before_it_begins(port: int) -> None:
    LET_GO.clear()
    running = [asyncio.create_task(call(port, "/paint/wait", b'{"what":"a"}')) for _ in range(2)]
    try:
        await asyncio.to_thread(TWO_WAIT.wait, 10)
        found = await call(port, "/paint/paint", b'{"what":"a"}')
        assert (found.status, found.body["code"]) == (503, "busy")
    finally:
        LET_GO.set()
    assert [(await one).status for one in running] == [200, 200]
    assert (await call(port, "/paint/paint", b'{"what":"a"}')).status == 200


def test_two_functions_of_one_path_and_none_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match="/paint/paint"):
        serve(paint, paint)
    with pytest.raises(ValueError, match="decorated"):
        serve(json)
