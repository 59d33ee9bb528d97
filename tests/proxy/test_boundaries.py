"""A boundary through a real Envoy: which requests it takes, which side gets them, and what each side counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import BoundaryFacts
from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule, RouteWant, Split
from spinyard.proxy.latency import FINE_BOUNDS_MS
from spinyard_sdk import wire
from tests.proxy.boundary_world import HOST, KEY, KEYS, PARENT, PROBE, THUMBS, UNIT, WANT, WEB, BoundaryWorld
from tests.proxy.world import until

pytestmark = pytest.mark.anyio


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


async def test_at_full_weight_the_unit_gets_what_the_rules_say_and_nothing_else(world: BoundaryWorld) -> None:
    rules = (
        BoundaryRule(path="/thumbs/*"),
        BoundaryRule(path="/photos/{id}/thumb", method="GET"),
        BoundaryRule(path="/about"),
        BoundaryRule(path="/about/{page}", method="POST"),
    )
    await world.share(10_000, rules=rules, sticky=Sticky())
    of_unit = [
        *(("GET", path) for path in ("/thumbs/", "/thumbs/1", "/thumbs/a/b?x=/c", "/about", "/about?x=1")),
        *(("GET", path) for path in ("/photos/1/thumb", "/photos/a.b%20c/thumb?size=3", "/x/../thumbs/1")),
        *(("POST", path) for path in ("/thumbs/1", "/about", "/about/us")),
        *(("HEAD", "/thumbs/1"), ("DELETE", "/thumbs/1")),
    ]
    of_parent = [
        *(("GET", path) for path in ("/", "/thumbs", "/thumbsx", "/Thumbs/1", "//thumbs/1", "/x/thumbs/1")),
        *(("GET", path) for path in ("/photos/1/thumb/", "/photos//thumb", "/photos/1/2/thumb", "/photos/1/thumbs")),
        *(("GET", path) for path in ("/about/", "/about/us", "/thumbs/../about/x", "/?p=/thumbs/1", "/%74humb/1")),
        *(("POST", "/photos/1/thumb"), ("HEAD", "/photos/1/thumb"), ("OPTIONS", "/photos/1/thumb")),
    ]
    assert {(method, path): await world.who(path, {}, method) for method, path in of_unit} == dict.fromkeys(
        of_unit, "unit"
    )
    assert {(method, path): await world.who(path, {}, method) for method, path in of_parent} == dict.fromkeys(
        of_parent, "parent"
    )


async def test_the_most_specific_rule_decides_whatever_the_order(world: BoundaryWorld) -> None:
    rules = (
        BoundaryRule(path="/a/*"),
        BoundaryRule(path="/a/{x}", weighted=False),
        BoundaryRule(path="/a/b"),
        BoundaryRule(path="/a/b", method="POST", weighted=False),
        BoundaryRule(path="/a/b/c/*", weighted=False),
    )
    expected = {
        ("GET", "/a/b"): "unit",
        ("POST", "/a/b"): "parent",
        ("GET", "/a/x"): "parent",
        ("GET", "/a/x/y"): "unit",
        ("GET", "/a/b/c/d"): "parent",
        ("GET", "/a/b/c"): "unit",
    }
    for ordered in (rules, rules[::-1]):
        await world.share(10_000, rules=ordered, sticky=Sticky())
        assert {(method, path): await world.who(path, {}, method) for method, path in expected} == expected


@pytest.mark.parametrize("weight", [0, 1, 500, 5000, 9999, 10_000])
async def test_envoy_and_the_sdk_agree_on_the_side_of_every_key(world: BoundaryWorld, weight: int) -> None:
    await world.share(weight)
    keys = [f"key {number}" for number in range(350)]
    expected = {key: wire.side_of(key, weight) for key in keys}
    assert await world.sides(keys) == expected


async def test_on_the_way_up_no_key_goes_back(world: BoundaryWorld) -> None:
    before: set[str] = set()
    for weight in (100, 1000, 2500, 5000, 10_000):
        await world.share(weight)
        now = {key for key, side in (await world.sides(KEYS)).items() if side == "unit"}
        assert before <= now
        before = now
    assert before == set(KEYS)


async def test_without_a_key_the_parent_answers(world: BoundaryWorld) -> None:
    await world.share(9999)
    assert {await world.who("/thumbs/1", method=method) for method in ("GET", "POST") for _ in range(20)} == {"parent"}


async def test_each_side_is_told_which_it_is_and_counts_its_own(world: BoundaryWorld) -> None:
    rules = (*WANT.rules, BoundaryRule(path="/upload", weighted=False))
    await world.share(5000, rules=rules)
    before = await world.counted("old", "new")
    sides = {key: await world.echo("/thumbs", {"x-user": key}) for key in KEYS}
    assert {said["name"] for said in sides.values()} == {"parent", "unit"}
    assert all(said["x-spinyard-side"] == said["name"] == wire.side_of(key, 5000) for key, said in sides.items())
    for _ in range(7):
        await world.who("/elsewhere", {"x-user": KEYS[0]})
        assert await world.who("/upload", {"x-user": KEYS[0]}, "POST") == "parent"
    counts = Counter(said["name"] for said in sides.values())
    after = await world.counted("old", "new")
    assert {side: after[side] - before[side] for side in after} == {"old": counts["parent"], "new": counts["unit"]}
    assert (await world.counted("forced-old", "forced-new")) == {"forced-old": 0, "forced-new": 0}


async def test_latency_of_each_side_is_counted_finer_than_a_judges_margin(world: BoundaryWorld) -> None:
    await world.share(5000)
    await world.sides(KEYS)
    for side in (await world.traffic("old", "new")).values():
        bounds = [bound for bound, _ in side.latency]
        assert bounds == [ms / 1000 for ms in FINE_BOUNDS_MS]
        assert all(high / low <= 1.1 for low, high in pairwise(bounds) if 0.01 <= low <= 9)


async def test_what_is_not_weighted_is_the_parents_and_says_so(world: BoundaryWorld) -> None:
    await world.share(10_000, rules=(BoundaryRule(path="/upload/*", weighted=False),), sticky=Sticky())
    said = await world.echo("/upload", {"x-spinyard-side": "unit"})
    assert (said["name"], said["x-spinyard-side"]) == ("parent", "parent")
    assert "x-spinyard-side" not in await world.echo("/elsewhere")


async def test_outsiders_decide_nothing_by_a_header(world: BoundaryWorld) -> None:
    await world.share(0)
    forged = {"x-spinyard-side": "unit", "X-Spinyard-Inside": "1", "x-spinyard-shadow": "1", "x-spinyard-forced": "1"}
    for headers in ({**forged, "x-user": "me"}, forged):
        said = await world.echo("/thumbs", headers)
        assert (said["name"], said["x-spinyard-side"]) == ("parent", "parent")
        assert not {"x-spinyard-inside", "x-spinyard-shadow", "x-spinyard-forced"} & said.keys()
    await world.share(10_000)
    assert (await world.echo("/thumbs", {"x-user": "me", "x-spinyard-side": "parent"}))["name"] == "unit"


async def test_from_inside_the_first_hops_word_wins_until_the_weight_is_0(world: BoundaryWorld) -> None:
    on_unit = next(key for key in KEYS if wire.side_of(key, 5000) == "unit")
    await world.share(5000)
    for side in ("parent", "unit"):
        for headers in ({}, {"x-user": on_unit}):
            said = await world.echo("/thumbs", {**headers, "x-spinyard-side": side}, inside=True)
            assert (said["name"], said["x-spinyard-side"]) == (side, side)
    assert (await world.echo("/thumbs", {"x-user": on_unit}, inside=True))["name"] == "unit"
    assert (await world.echo("/thumbs", {"x-spinyard-side": "else"}, inside=True))["name"] == "parent"
    said = await world.echo("/elsewhere", {"x-spinyard-side": "unit"}, inside=True)
    assert (said["name"], said["x-spinyard-side"]) == ("parent", "unit"), "it goes along through other services"
    assert "x-spinyard-inside" not in said
    await world.share(0)
    assert (await world.echo("/thumbs", {"x-spinyard-side": "unit"}, inside=True))["name"] == "parent"


async def test_another_weight_is_one_write_of_the_routes(world: BoundaryWorld) -> None:
    await world.share(100)
    before = await world.counters("config_reload$|^cluster_manager.cluster_(added|modified|removed)$")
    took = [await world.share(weight) for weight in (0, 5000, 10_000, 0)]
    after = await world.counters("config_reload$|^cluster_manager.cluster_(added|modified|removed)$")
    moved = {name: after[name] - count for name, count in before.items() if after[name] != count}
    # Two listeners have the same routes, by one subscription.
    assert {name: count for name, count in moved.items() if "cluster" in name} == {}
    assert set(moved.values()) == {4}
    # The least of four: what Envoy and we need, whatever else the machine does.
    assert min(took) < 0.25


# -- the host name of the SDK -----------------------------------------------------------------------------------------


async def test_the_sdk_is_answered_by_the_unit_or_told_to_do_it_itself(world: BoundaryWorld) -> None:
    await world.share(5000)
    before = await world.counted("new")
    expected: Counter[str] = Counter()
    for key in KEYS:
        status, text, headers = await world.call("/any/echo", {"x-spinyard-key": key}, "POST", host=HOST, inside=True)
        side = wire.side_of(key, 5000)
        expected[side] += 1
        if side == "unit":
            assert status == 200
            assert '"name": "unit"' in text
        else:
            assert (status, text, headers["x-spinyard-side"]) == (421, "local", "parent")
    assert expected["unit"] > 50
    assert (await world.counted("new"))["new"] - before["new"] == expected["unit"]


async def test_the_sdk_without_a_key_or_on_the_parents_side_is_told_to_do_it_itself(world: BoundaryWorld) -> None:
    await world.share(10_000)
    local = (421, "local")
    for headers in ({}, {"x-spinyard-side": "parent", "x-spinyard-key": "k"}, {"x-user": "k"}):
        assert (await world.call("/any", headers, host=HOST, inside=True))[:2] == local
    for headers in ({"x-spinyard-key": "k"}, {"x-spinyard-side": "unit"}):
        assert (await world.call("/any", headers, host=HOST, inside=True))[:2] == (200, "unit")


async def test_at_weight_0_no_word_of_a_stale_sdk_reaches_the_unit(world: BoundaryWorld) -> None:
    await world.share(0)
    before = await world.counted("new")
    for headers in ({}, {"x-spinyard-key": "k"}, {"x-spinyard-side": "unit", "x-spinyard-key": "k"}):
        status, text, said = await world.call("/any", headers, "POST", host=HOST, inside=True)
        assert (status, text, said["x-spinyard-side"]) == (421, "local", "parent")
    assert await world.counted("new") == before


async def test_the_sdks_host_name_does_not_exist_outside(world: BoundaryWorld) -> None:
    await world.share(10_000)
    forged = {"x-spinyard-inside": "1", "x-spinyard-key": "k", "x-spinyard-side": "unit"}
    for host in (HOST, HOST.upper(), f"{HOST}:80", f"{HOST}:{world.inside_port}"):
        assert (await world.call("/any", forged, host=host))[0] == 404
    with_any = RouteWant(cluster="any", hosts=("*",), service="default/any")
    await world.route("any/route", with_any)
    await world.endpoint("any/endpoint", "any", world.ports["parent"])
    assert await world.who("/any", forged, host=HOST) == "parent", "as any other unknown name"
    assert (await world.call("/any", {"x-spinyard-key": "k"}, host=HOST, inside=True))[:2] == (200, "unit")
    await world.removed("any/endpoint")
    await world.removed("any/route")


# -- its Services -----------------------------------------------------------------------------------------------------


async def test_while_a_service_is_missing_its_requests_stay_with_the_parent(world: BoundaryWorld) -> None:
    await world.share(10_000, sticky=Sticky())
    assert await world.who("/thumbs/1") == "unit"
    await world.removed("unit/route")

    async def is_missing() -> bool:
        facts = await world.boundary()
        return facts == BoundaryFacts(True, "", replace(WANT, weight=10_000, sticky=Sticky()), (UNIT,))

    await until(is_missing, "the unit is missing, and that is confirmed")
    await asyncio.sleep(0.02)
    assert "x-spinyard-side" not in await world.echo("/thumbs")
    await world.route("unit/route", THUMBS)
    await world.acknowledged(KEY)
    await asyncio.sleep(0.02)
    assert (await world.echo("/thumbs"))["name"] == "unit"


async def test_while_the_parent_has_a_rollout_weighted_requests_go_to_its_stable_side(world: BoundaryWorld) -> None:
    await world.start_backend("candidate")
    rules = (*WANT.rules, BoundaryRule(path="/upload", weighted=False))
    await world.share(5000, rules=rules)
    await world.route("parent/route", replace(WEB, split=Split(cluster="default/web/2", weight=10_000, probe=PROBE)))
    await world.endpoint("candidate/endpoint", "default/web/2", world.ports["candidate"])
    await world.acknowledged(KEY)
    await asyncio.sleep(0.02)
    on_parent = next(key for key in KEYS if wire.side_of(key, 5000) == "parent")
    assert await world.who("/thumbs/1", {"x-user": on_parent}) == "parent"
    assert await world.who("/", {"x-user": on_parent}) == "candidate"
    assert await world.who("/upload", {"x-user": on_parent}) == "candidate"
    await world.route("parent/route", WEB)
    await world.removed("candidate/endpoint")
    world.kill("candidate")


async def test_rules_that_are_not_below_the_parents_prefix_are_refused_in_words(world: BoundaryWorld) -> None:
    await world.route("parent/route", replace(WEB, path_prefix="/api"))
    wanted = replace(WANT, weight=10_000, sticky=Sticky())
    await world.provider.ensure(ResourceKey(KEY), wanted)
    facts = await world.boundary()
    assert "/thumbs/* is not below" in facts.rejected
    assert not facts.acknowledged
    await world.share(0, sticky=Sticky())
    assert "is not below" in (await world.boundary()).rejected, "back to 0 is kept all the same"
    await world.share(10_000, rules=(BoundaryRule(path="/api/thumbs/*"),), sticky=Sticky())
    assert (await world.who("/api/thumbs/1"), await world.who("/api/x")) == ("unit", "parent")
    await world.route("parent/route", WEB)
    await world.acknowledged(KEY)


async def test_removal_puts_everything_back_and_leaves_no_cluster(world: BoundaryWorld) -> None:
    await world.share(10_000, sticky=Sticky())
    assert await world.who("/thumbs/1") == "unit"
    await world.removed(KEY)
    await asyncio.sleep(0.02)
    said = await world.echo("/thumbs", {"x-user": "me"})
    assert (said["name"], "x-spinyard-side" in said) == ("parent", False)
    assert (await world.call("/any", {"x-spinyard-key": "k"}, host=HOST, inside=True))[0] == 421

    async def are_gone() -> bool:
        return not [name for name in await world.clusters() if "~" in name and "@" in name]

    await until(are_gone, "its clusters are gone")


async def test_the_first_of_two_boundaries_keeps_what_both_want(world: BoundaryWorld) -> None:
    await world.share(10_000, sticky=Sticky())
    other = replace(WANT, cluster="default/other/1", unit=PARENT, parent=UNIT)
    second = replace(WANT, cluster="default/second/1", weight=0, rules=(BoundaryRule(path="/thumbs/1"),), host="")
    for key, want in (("second/boundary", second), ("other/boundary", other)):
        await world.provider.ensure(ResourceKey(key), want)
        await world.acknowledged(key)
    await asyncio.sleep(0.02)
    assert await world.who("/thumbs/1") == "unit"
    await world.removed("second/boundary")
    await world.removed("other/boundary")
