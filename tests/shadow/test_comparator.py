"""Copies over the socket, as Envoy sends them; the listener for calls from inside is a stand-in (the real one:
tests/proxy)."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from spinyard.clock import SystemClock
from spinyard.core.observed import LookShadow, ShadowFound
from spinyard.shadow.comparator import WAITING_MAX, Comparator
from spinyard.spinout.compare import Rules
from spinyard_sdk.wire import PARENT, SHADOW_HEADER, SIDE_HEADER

pytestmark = pytest.mark.anyio

NAME = "spinout/default/one/12345678"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(socket: Path, handler: Handler) -> AsyncIterator[None]:
    runner = web.AppRunner(web.Application(), access_log=None, shutdown_timeout=0.1)
    runner.app.router.add_route("*", "/{path:.*}", handler)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield
    finally:
        await runner.cleanup()


def says(value: object, status: int = 200) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path_qs, "host": request.host, "value": value}, status=status)

    return handler


class Yard:
    def __init__(self, comparator: Comparator, session: aiohttp.ClientSession) -> None:
        self.comparator, self._session = comparator, session

    async def copy(self, path: str = "/a?b=1", method: str = "GET", boundary: str = NAME, **more: str) -> int:
        headers = {SHADOW_HEADER: boundary, "Host": "shop.localhost", **more}
        async with self._session.request(method, f"http://envoy{path}", headers=headers) as answer:
            return answer.status

    async def found(self, since: float = 0.0) -> ShadowFound:
        found = await self.comparator.read(LookShadow(NAME, since))
        assert isinstance(found, ShadowFound)
        return found

    async def until(self, check: Callable[[ShadowFound], bool]) -> ShadowFound:
        async with asyncio.timeout(10):
            while not check(found := await self.found()):  # noqa: ASYNC110  another process would not tell us either
                await asyncio.sleep(0.01)
        return found


@asynccontextmanager
async def yard(parent: Handler, unit: Handler, rules: Rules = Rules()) -> AsyncIterator[Yard]:  # noqa: B008
    with tempfile.TemporaryDirectory(prefix="sy-shadow-", dir="/tmp") as folder:

        async def inside(request: web.Request) -> web.StreamResponse:
            assert request.headers[SHADOW_HEADER] == NAME
            return await (parent if request.headers[SIDE_HEADER] == PARENT else unit)(request)

        async def rules_of(name: str) -> Rules | None:
            return rules if name == NAME else None

        socket, asked = Path(folder) / "s.sock", Path(folder) / "asked.sock"
        async with server(asked, inside):
            comparator = Comparator(socket, asked, SystemClock(), rules_of, ask_seconds=0.5)
            await comparator.start()
            connector = aiohttp.UnixConnector(str(socket))
            try:
                async with aiohttp.ClientSession(connector=connector) as session:
                    one = Yard(comparator, session)
                    await one.found()
                    yield one
            finally:
                await comparator.stop()


async def test_alike_sides_are_compared_and_nothing_is_found() -> None:
    async with yard(says(1), says(1)) as one:
        for _ in range(8):
            assert await one.copy() == 204
        found = await one.until(lambda found: found.compared == 8)
        assert (found.different, found.errors, found.fields) == (0, 0, ())


async def test_a_wrong_answer_is_found_with_its_field_and_a_sample() -> None:
    async with yard(says(1), says(2)) as one:
        for _ in range(6):
            await one.copy("/things/7?secret=x")
        found = await one.until(lambda found: found.compared == 6)
        assert found.different == 6
        assert found.fields == (("body /value", 6),)
        (kept, *_) = one.comparator.samples(NAME)
        assert (kept.path, kept.fields) == ("/things/7", (("body /value", "1", "2"),))


async def test_a_unit_that_fails_or_is_gone_counts_as_an_error_a_failing_parent_as_nothing() -> None:
    async with yard(says(1), says(1, status=500)) as one:
        for _ in range(6):
            await one.copy()
        found = await one.until(lambda found: found.compared == 6)
        assert (found.different, found.errors, found.fields) == (0, 6, (("status 500", 6),))
    async with yard(says(1, status=500), says(1)) as one:
        for _ in range(6):
            await one.copy()
        found = await one.until(lambda found: found.skipped == 6)
        assert found.compared == 0


async def test_a_unit_that_hangs_or_breaks_off_counts_as_an_error() -> None:
    async def hangs(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response(text="x")

    async def breaks_off(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-length": "1000"})
        await answer.prepare(request)
        await answer.write(b"x")
        assert request.transport is not None
        request.transport.abort()
        return answer

    for unit in (hangs, breaks_off):
        async with yard(says(1), unit) as one:
            for _ in range(5):
                await one.copy()
            found = await one.until(lambda found: found.compared == 5)
            assert (found.errors, found.fields) == (5, (("no whole answer in time", 5),))


async def test_methods_that_write_and_unknown_boundaries_are_asked_of_nobody() -> None:
    asked: list[str] = []

    async def remember(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.Response(text="x")

    async with yard(remember, remember) as one:
        await one.copy(method="POST")
        await one.copy(boundary="spinout/default/other/1")
        await one.copy()
        await one.until(lambda found: len(asked) == 3)
        assert set(asked) == {"GET"}


async def test_what_is_too_much_is_not_compared_and_counted() -> None:
    free = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await free.wait()
        return web.Response(text="x")

    async with yard(slow, slow) as one:
        for _ in range(WAITING_MAX + 40):
            await one.copy()
        assert (await one.found()).skipped > 0
        free.set()
        await one.until(lambda found: found.compared + found.skipped == WAITING_MAX + 40)


async def test_whole_plain_answers_are_asked_for_whatever_the_user_had() -> None:
    seen: list[str] = []

    async def parent(request: web.Request) -> web.Response:
        seen.extend(name for name in ("Accept-Encoding", "Range", "If-None-Match") if name in request.headers)
        return web.Response(text="x")

    async with yard(parent, parent) as one:
        for _ in range(5):
            await one.copy(**{"Accept-Encoding": "gzip", "Range": "bytes=0-1", "If-None-Match": '"a"'})
        await one.until(lambda found: found.compared == 5)
    assert seen == []


async def test_the_parent_never_has_more_than_one_request_for_it() -> None:
    under_way, most = 0, 0

    async def parent(request: web.Request) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        return web.Response(text="x")

    async with yard(parent, says(1)) as one:
        for _ in range(8):
            await one.copy()
        await one.until(lambda found: found.compared + found.skipped == 8)
        assert most == 1


async def test_a_later_attempt_begins_anew() -> None:
    async with yard(says(1), says(2)) as one:
        for _ in range(6):
            await one.copy()
        await one.until(lambda found: found.compared == 6)
        later = SystemClock().now() + 1
        assert (await one.found(since=later)).compared == 0


async def test_long_bodies_are_compared_to_their_end() -> None:
    def long(last: bytes) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(body=b"x" * (3 << 20) + last)

        return handler

    async with yard(long(b"a"), long(b"b")) as one:
        for _ in range(5):
            await one.copy()
        found = await one.until(lambda found: found.compared == 5)
        assert found.different == 5
        assert len(json.dumps([kept.fields for kept in one.comparator.samples(NAME)])) < 4_000


async def test_each_side_is_asked_with_the_users_own_cookies_and_with_nobody_elses() -> None:
    asked: list[str] = []

    async def sets_one(request: web.Request) -> web.Response:
        asked.append(request.headers.get("cookie", ""))
        return web.json_response({}, headers={"set-cookie": "session=of-the-first; Path=/"})

    async with yard(sets_one, sets_one) as one:
        for number in range(8):
            await one.copy(cookie=f"session={number}")
        await one.until(lambda found: found.compared == 8)
    assert {*asked} == {f"session={number}" for number in range(8)}
