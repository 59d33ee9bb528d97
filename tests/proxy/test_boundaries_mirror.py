"""Copies of safe requests, for whoever compares answers: what is copied, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule
from spinyard.proxy.translate_inside import SHADOWS_MAX
from tests.proxy.boundary_world import CLUSTER, KEYS, BoundaryWorld
from tests.proxy.world import until

pytestmark = pytest.mark.anyio

RULES = (
    BoundaryRule(path="/thumbs/*", mirrored=True),
    BoundaryRule(path="/photos/{id}", method="GET", mirrored=True),
    BoundaryRule(path="/photos", method="POST", mirrored=True),
    BoundaryRule(path="/owned/*", mirrored=True, weighted=False),
    BoundaryRule(path="/plain"),
)
ALL = {"rules": RULES, "mirror": 10_000}


class Comparator:
    """Writes down what it gets; `answer` decides how it ends."""

    def __init__(self) -> None:
        self.got: list[web.BaseRequest] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.status = 200
        self._runner = web.ServerRunner(web.Server(self._serve))

    async def start(self, path: str) -> None:
        await self._runner.setup()
        await web.UnixSite(self._runner, path).start()

    async def stop(self) -> None:
        self.hold.set()
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        self.got.append(request)
        await self.hold.wait()
        return web.Response(status=self.status, text="mine")

    async def has(self, count: int) -> None:
        async def is_so() -> bool:
            return len(self.got) >= count

        await until(is_so, f"{count} copies")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[BoundaryWorld]:
    world = BoundaryWorld()
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


@pytest.fixture
async def comparator(world: BoundaryWorld) -> AsyncIterator[Comparator]:
    comparator = Comparator()
    await comparator.start(str(world.home / "compare.sock"))
    try:
        yield comparator
    finally:
        await comparator.stop()


async def test_only_safe_requests_of_mirrored_rules_are_copied(world: BoundaryWorld, comparator: Comparator) -> None:
    await world.share(0, **ALL)
    copied = [("GET", "/thumbs/1?a=b"), ("HEAD", "/thumbs/1"), ("GET", "/photos/7"), ("GET", "/owned/x")]
    others = [
        *((method, "/thumbs/1") for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
        *(("POST", "/photos"), ("POST", "/photos/7"), ("GET", "/photos"), ("GET", "/plain"), ("GET", "/")),
    ]
    for method, path in (*others, *copied, *others):
        for headers in ({}, {"idempotency-key": "1"}):
            assert (await world.call(path, headers, method))[1:2] == ("parent" if method != "HEAD" else "",)
    await comparator.has(2 * len(copied))
    await world.call("/thumbs/last")
    await comparator.has(2 * len(copied) + 1)
    seen = [(request.method, request.path_qs) for request in comparator.got]
    assert sorted(seen) == sorted([*copied, *copied, ("GET", "/thumbs/last")])


async def test_a_copy_says_what_it_is_and_of_which_boundary(world: BoundaryWorld, comparator: Comparator) -> None:
    await world.share(0, **ALL)
    said = await world.echo("/thumbs", {"x-user": "me", "cookie": "a=b"})
    await comparator.has(1)
    copy = comparator.got[0].headers
    assert copy["x-spinyard-shadow"] == CLUSTER
    assert "x-spinyard-side" not in copy
    assert (copy["host"], copy["x-user"], copy["cookie"]) == ("shop", "me", "a=b")
    assert copy["x-request-id"] == said["x-request-id"], "the two can be joined"
    assert "x-spinyard-shadow" not in said


@pytest.mark.parametrize("weight", [0, 5000, 10_000])
async def test_copies_are_counted_on_no_side(world: BoundaryWorld, comparator: Comparator, weight: int) -> None:
    await world.share(weight, **ALL)
    sides = ("old", "new", "forced-old", "forced-new")
    before = await world.counted(*sides)
    answers = await world.sides(KEYS[:60])
    await comparator.has(60)
    after = await world.counted(*sides)
    on_unit = sum(side == "unit" for side in answers.values())
    assert [after[side] - before[side] for side in sides] == [60 - on_unit, on_unit, 0, 0]


async def test_a_part_of_them_is_copied(world: BoundaryWorld, comparator: Comparator) -> None:
    await world.share(0, rules=RULES, mirror=2500)
    await world.sides([str(number) for number in range(400)])
    await world.share(0, **ALL)
    await world.call("/thumbs/last")

    async def has_last() -> bool:
        return any(request.path == "/thumbs/last" for request in comparator.got)

    await until(has_last, "the last one is copied")
    assert 57 <= len(comparator.got) - 1 <= 143, "five standard deviations around 100"
    await world.share(0, rules=RULES, mirror=0)
    before = len(comparator.got)
    await world.sides(KEYS[:50])
    await world.share(0, **ALL)
    await world.call("/thumbs/last")
    await comparator.has(before + 1)
    assert len(comparator.got) == before + 1


async def test_nobody_waits_for_a_comparator_that_hangs(world: BoundaryWorld, comparator: Comparator) -> None:
    await world.share(5000, **ALL)
    comparator.hold.clear()
    count = 2 * SHADOWS_MAX
    answers = await asyncio.gather(
        *(world.call(f"/thumbs/{number}", {"x-user": str(number)}) for number in range(count))
    )
    assert {status for status, _, _ in answers} == {200}
    assert not comparator.hold.is_set(), "no copy has been answered yet"
    shadow = await world.counters(r"^cluster\.~shadow\.(upstream_rq_active|upstream_cx_active)$")
    assert 0 < max(shadow.values()) <= SHADOWS_MAX, shadow


async def test_nobody_hears_of_a_comparator_that_fails(world: BoundaryWorld, comparator: Comparator) -> None:
    await world.share(0, **ALL)
    comparator.status = 500
    for method in ("GET", "HEAD"):
        assert {(await world.call("/thumbs/1", {}, method))[0] for _ in range(20)} == {200}
    await comparator.has(40)


@pytest.mark.parametrize("left", [True, False], ids=["a socket is left", "no socket"])
async def test_without_a_comparator_all_goes_on(world: BoundaryWorld, *, left: bool) -> None:
    path = world.home / "compare.sock"
    path.unlink(missing_ok=True)
    if left:
        gone = Comparator()
        await gone.start(str(path))
        await gone.stop()
    assert path.exists() == left
    await world.share(5000, **ALL)
    assert set((await world.sides(KEYS)).values()) == {"parent", "unit"}


async def test_the_comparators_own_requests_reach_the_side_it_asks_for_uncounted(
    world: BoundaryWorld, comparator: Comparator
) -> None:
    await world.share(0, sticky=Sticky(), **ALL)
    before = await world.counted("old", "new")
    for side in ("parent", "unit"):
        headers = {"x-spinyard-side": side, "x-spinyard-shadow": CLUSTER}
        said = await world.echo("/thumbs", headers, inside=True)
        assert (said["name"], said["x-spinyard-side"], said["x-spinyard-shadow"]) == (side, side, CLUSTER)
        assert (await world.call("/thumbs/1", headers, "POST", inside=True))[1] == "parent", "never what may write"
    assert (await world.echo("/thumbs", {"x-spinyard-shadow": CLUSTER}, inside=True))["name"] == "parent"
    after = await world.counted("old", "new", "forced-old", "forced-new")
    assert after["new"] == before["new"]
    assert after["forced-new"] >= 1
    assert comparator.got == [], "a copy is not copied again"


async def test_whoever_compares_asks_both_sides_over_a_socket_that_is_envoys_alone(world: BoundaryWorld) -> None:
    await world.share(0, **ALL)
    asked = world.home / "asked.sock"
    assert stat.S_IMODE(asked.stat().st_mode) == 0o600

    async def ask(path: str, headers: dict[str, str]) -> str:
        connector = aiohttp.UnixConnector(str(asked))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://inside{path}", headers={"Host": "shop", **headers}) as answer,
        ):
            return await answer.text()

    before = await world.counted("old", "new")
    for side in ("parent", "unit"):
        assert await ask("/thumbs/1", {"x-spinyard-shadow": CLUSTER, "x-spinyard-side": side}) == side
    assert await world.counted("old", "new") == before, "and is counted nowhere"
