"""The head of a request comes before the token is known: whoever reaches the port may not make it cost much."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from spinyard.api.connection import HEAD_BYTES_MAX, BoundedConnection
from tests.api.conftest import TOKEN, World

pytestmark = pytest.mark.anyio
START = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def connect(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(world.base)
    return await asyncio.open_connection(address.hostname, address.port)


async def test_a_head_without_end_is_refused_and_the_connection_closed(still_world: World) -> None:
    _, writer = await connect(still_world)
    writer.write(START)
    sent = 0
    try:
        while sent < 64 * HEAD_BYTES_MAX:
            writer.write(b"X-%d: " % sent + b"a" * 8000 + b"\r\n")
            sent += 8000
            await writer.drain()
    except ConnectionError:
        pass
    assert sent < 64 * HEAD_BYTES_MAX, "it was read to the end"
    writer.close()
    assert (await still_world.call("GET", "/v1/info")).status == 200


async def test_a_head_just_below_the_bound_is_read(still_world: World) -> None:

    reader, writer = await connect(still_world)
    writer.write(START)
    for n in range(7):
        writer.write(b"X-%d: " % n + b"a" * 8000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(b"Connection: close\r\n\r\n")
    assert (await reader.read(20)).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize(
    "begun", [b"", b"GET /heal", START, b"\r\n"], ids=["nothing", "half a line", "no end", "blank"]
)
async def test_a_head_that_does_not_come_ends_the_connection(
    still_world: World, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(BoundedConnection, "head_seconds_max", 0.2)
    reader, writer = await connect(still_world)
    writer.write(begun)
    async with asyncio.timeout(3):
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_second_head_on_a_kept_connection_has_the_time_of_the_first(
    still_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedConnection, "head_seconds_max", 0.3)
    reader, writer = await connect(still_world)
    whole = START + b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    for _ in range(3):
        writer.write(whole)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        await reader.readexactly(length)
        await asyncio.sleep(0.15)
    writer.write(whole[:-2])
    async with asyncio.timeout(3):
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_an_answer_may_take_longer_than_a_head(still_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedConnection, "head_seconds_max", 0.1)
    reader, writer = await connect(still_world)
    path = b"/v1/namespaces/default/services?watch=true"
    writer.write(
        b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
    )
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    await asyncio.sleep(0.4)
    assert not reader.at_eof()
    writer.close()
