"""A route with two sides: who gets a request, and what changes while the weight does."""

from __future__ import annotations

import asyncio
import json
import math
import signal
from collections import Counter
from collections.abc import Iterable, Mapping

import aiohttp
import pytest
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import RouteFacts
from spinyard.core.shift import Sticky
from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Split
from spinyard.errors import ProviderFailure
from spinyard.proxy import translate_routes
from tests.proxy.world import World, until

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.5)
KEYS = [f"user-{number}" for number in range(150)]
NONE = Sticky()
HEADER = Sticky(header="x-user")
COOKIE = Sticky(cookie="side")
ADDRESS = Sticky(client_address=True)


def route(weight: int, sticky: Sticky = NONE) -> RouteWant:
    split = Split(cluster="s/new", weight=weight, probe=PROBE, sticky=sticky)
    return RouteWant(cluster="s/old", hosts=("shop",), probe=PROBE, split=split)


async def weigh(world: World, weight: int, sticky: Sticky = NONE) -> float:
    """Until it is acknowledged, and Envoy's workers have followed."""
    took = await world.route("s/route", route(weight, sticky))
    await asyncio.sleep(0.02)
    return took


async def both(world: World, weight: int = 0, sticky: Sticky = NONE) -> None:
    old, new = await world.start_backend("old"), await world.start_backend("new")
    await world.route("s/route", route(weight, sticky))
    await world.endpoint("old/endpoint", "s/old", old)
    await world.endpoint("new/endpoint", "s/new", new)


async def ask(world: World, headers: Mapping[str, str] | None = None, method: str = "GET", path: str = "/") -> str:
    async with world.session.request(method, world.url(path), headers={"Host": "shop", **(headers or {})}) as answer:
        assert answer.status == 200
        return await answer.text()


async def sides_of(world: World, name: str, keys: Iterable[str], method: str = "GET") -> dict[str, str]:
    return {key: await ask(world, {name: key}, method) for key in keys}


def on_new(sides: Mapping[str, str]) -> set[str]:
    assert set(sides.values()) <= {"old", "new"}
    return {key for key, side in sides.items() if side == "new"}


@pytest.mark.parametrize("weight", [0, 1000, 5000, 10_000])
async def test_each_request_on_its_own_goes_by_weight(world: World, weight: int) -> None:
    await both(world)
    await weigh(world, weight)
    count = 1000
    seen = Counter([await ask(world) for _ in range(count)])
    share = weight / 10_000
    # Five standard deviations, and none at all for 0 and 100 %: there it must be exact.
    slack = 5 * math.sqrt(count * share * (1 - share))
    assert abs(seen["new"] - count * share) <= slack, seen
    assert seen["new"] + seen["old"] == count


@pytest.mark.parametrize(
    "sticky",
    [HEADER, COOKIE, ADDRESS, Sticky(header="x-user", no_key_old=False)],
    ids=["header", "cookie", "address", "header or any"],
)
async def test_0_and_100_percent_are_exact_for_every_kind_of_key(world: World, sticky: Sticky) -> None:
    await both(world)
    for weight, expected in ((10_000, "new"), (0, "old")):
        await weigh(world, weight, sticky)
        assert {await ask(world, {"x-user": key, "cookie": f"side={key}"}) for key in KEYS} == {expected}


@pytest.mark.parametrize(
    ("sticky", "name", "value"), [(HEADER, "x-user", "{}"), (COOKIE, "cookie", "a=b; side={}; c=d")]
)
async def test_a_key_stays_on_its_side_and_the_new_side_only_grows(
    world: World, sticky: Sticky, name: str, value: str
) -> None:
    await both(world)
    values = [value.format(key) for key in KEYS]
    before: set[str] = set()
    for weight in (1000, 3000, 6000, 10_000):
        await weigh(world, weight, sticky)
        now = on_new(await sides_of(world, name, values))
        assert now == on_new(await sides_of(world, name, values, "POST")), "safe and unsafe requests alike"
        assert now > before, f"at {weight}"
        before = now
    assert before == set(values)


@pytest.mark.parametrize("sticky", [HEADER, COOKIE, ADDRESS], ids=["header", "cookie", "address"])
async def test_the_side_of_a_key_is_the_one_that_we_compute_too(world: World, sticky: Sticky) -> None:
    xxhash = pytest.importorskip("xxhash")
    await both(world)
    await weigh(world, 4000, sticky)
    if sticky.client_address:
        keys = [f"127.0.3.{number}" for number in range(1, 40)]
        seen = {key: await _from_address(world, key) for key in keys}
    elif sticky.cookie:
        seen = {key: await ask(world, {"cookie": f"side={key}"}) for key in KEYS}
    else:
        seen = await sides_of(world, "x-user", KEYS)
    assert on_new(seen) == {key for key in seen if xxhash.xxh64_intdigest(key.encode()) % 10_000 < 4000}
    assert 0 < len(on_new(seen)) < len(seen)


async def _from_address(world: World, address: str) -> str:
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(world.url(), headers={"Host": "shop"}) as answer,
    ):
        return await answer.text()


@pytest.mark.parametrize(
    ("sticky", "headers"),
    [
        (HEADER, {}),
        (HEADER, {"x-users": "u"}),
        (COOKIE, {}),
        (COOKIE, {"cookie": "a=b"}),
        (COOKIE, {"cookie": "aside=x; a=side=x"}),
        (COOKIE, {"cookie": "side="}),
        (COOKIE, {"cookie": 'side=""; b=c'}),
    ],
)
async def test_without_a_key_a_request_goes_to_the_old_side(
    world: World, sticky: Sticky, headers: dict[str, str]
) -> None:
    await both(world)
    await weigh(world, 9000, sticky)
    assert {await ask(world, headers, method) for _ in range(40) for method in ("GET", "POST")} == {"old"}


async def test_without_the_header_any_side_if_that_is_wished(world: World) -> None:
    await both(world)
    await weigh(world, 5000, Sticky(header="x-user", no_key_old=False))
    seen = Counter([await ask(world) for _ in range(300)])
    assert 100 < seen["new"] < 200, seen
    assert len({await ask(world, {"x-user": "me"}) for _ in range(20)}) == 1


async def test_a_visitor_without_the_cookie_gets_one_that_keeps_him_on_his_side(world: World) -> None:
    await both(world)
    sticky = Sticky(cookie="side", no_key_old=False)
    await weigh(world, 3000, sticky)
    cookies: dict[str, str] = {}
    for _ in range(200):
        async with world.session.get(world.url(), headers={"Host": "shop"}) as answer:
            given, rest = answer.headers["set-cookie"].split(";", 1)
            assert given.startswith("side=") and "HttpOnly" in rest and "Path=/" in rest
            cookies[given] = await answer.text()
    assert len(cookies) == 200
    assert 28 < Counter(cookies.values())["new"] < 92, "five standard deviations around 60"
    for cookie, side in cookies.items():
        async with world.session.get(world.url(), headers={"Host": "shop", "cookie": cookie}) as answer:
            assert (await answer.text(), "set-cookie" in answer.headers) == (side, False)
    await weigh(world, 6000, sticky)
    assert on_new(await sides_of(world, "cookie", cookies)) > on_new(cookies)


async def test_the_instance_is_told_its_side_and_nobody_else_can_say_it(world: World) -> None:
    await both(world)
    for weight, side in ((0, "old"), (10_000, "new")):
        await weigh(world, weight)
        for method in ("GET", "POST"):
            echo = json.loads(await ask(world, {"x-spinyard-rollout": "forged"}, method, "/echo"))
            assert (echo["name"], echo["headers"]["x-spinyard-rollout"]) == (side, side)


async def test_a_retry_never_changes_the_side(world: World) -> None:
    """Nobody listens on one side: its keys fail, though the other could answer."""
    await both(world)
    await weigh(world, 5000, HEADER)
    sides = await sides_of(world, "x-user", KEYS)
    world.kill("new")
    for method in ("GET", "POST"):
        for key, side in sides.items():
            headers = {"Host": "shop", "x-user": key}
            async with world.session.request(method, world.url(), headers=headers) as answer:
                seen = (answer.status, await answer.text() if answer.status == 200 else "")
            assert seen == ((200, "old") if side == "old" else (503, ""))


async def test_an_interrupted_request_is_repeated_on_its_own_side(world: World) -> None:
    await both(world)
    await weigh(world, 5000, HEADER)
    for key, side in (await sides_of(world, "x-user", KEYS[:20])).items():
        assert await ask(world, {"x-user": key}, path=f"/drop?n=1&key={key}") == side


_COUNTERS = "cluster_manager.cluster_(added|modified|removed)|rds.gateway.(config_reload|update_success)|update_success"


async def _pushes(world: World) -> dict[str, int]:
    """Without what the control plane's own connection and the health checks count."""
    return await world.counters(f"^({_COUNTERS})|cluster.s/.*update_success|rds.gateway.config_reload$")


async def test_another_weight_is_one_update_of_the_routes_and_nothing_else(world: World) -> None:
    await both(world, weight=100)
    before = await _pushes(world)
    for weight in (0, 2500, 10_000):
        took = await weigh(world, weight)
        assert took < 0.5
    after = await _pushes(world)
    moved = {name: after[name] - count for name, count in before.items() if after[name] != count}
    reloads = {name: count for name, count in moved.items() if name.endswith("config_reload")}
    assert list(reloads.values()) == [3], moved
    assert not [name for name in moved if name.startswith("cluster")], moved


async def test_a_split_comes_and_goes_and_leaves_no_cluster(world: World) -> None:
    old = await world.start_backend("old")
    alone = replace(route(0), split=None)
    await world.route("s/route", alone)
    await world.endpoint("old/endpoint", "s/old", old)
    for _ in range(3):
        await weigh(world, 0)
        await world.endpoint("new/endpoint", "s/new", await world.start_backend("new"))
        await weigh(world, 5000)
        assert {await ask(world) for _ in range(40)} == {"old", "new"}
        await weigh(world, 0)
        await world.endpoint("new/endpoint", "s/new", world.ports["new"], EndpointState.DRAINING)
        await world.idle("new/endpoint")
        world.kill("new")
        await world.route("s/route", alone)
        await world.removed("new/endpoint")

        async def is_gone() -> bool:
            return not await world.counters("^cluster.s/new.upstream_rq_active$")

        await until(is_gone, "the cluster of the new side is gone")
        assert {await ask(world) for _ in range(10)} == {"old"}
    await world.removed("old/endpoint")
    await world.removed("s/route")
    assert await world.provider.owned() == []


async def test_a_removed_route_takes_both_its_clusters_along(world: World) -> None:
    await both(world, 5000)
    await world.removed("s/route")
    assert (await world.get())[0] == 404
    await world.removed("old/endpoint")
    await world.removed("new/endpoint")

    async def are_gone() -> bool:
        return not await world.counters("^cluster.s/.*upstream_rq_active$")

    await until(are_gone, "both clusters are gone")


async def test_promotion_under_load_loses_no_unsafe_request(world: World) -> None:
    """Four times: the new side rises, becomes the cluster of the route, and the old one's instances drain and are
    killed."""
    probes = [PROBE, Probe(http_get=HttpGet(path="/health"), period_seconds=0.4)]
    current = "c0"
    want = RouteWant(cluster=current, hosts=("shop",), probe=PROBE)
    await world.route("s/route", want)
    for number in range(2):
        name = f"{current}.{number}"
        await world.endpoint(f"{name}/endpoint", current, await world.start_backend(name))
    stop, seen = asyncio.Event(), Counter[object]()
    clients = [asyncio.create_task(_load(world, stop, seen, "/slow?s=0.01")) for _ in range(8)]
    clients += [asyncio.create_task(_load(world, stop, seen, "/slow?s=0.3")) for _ in range(3)]
    for turn in range(1, 5):
        new = f"c{turn}"
        # Every other time the probe changes: the cluster is replaced inside Envoy in the moment of the promotion.
        split = Split(cluster=new, weight=0, probe=probes[0])
        await world.route("s/route", replace(want, split=split))
        for number in range(2):
            name = f"{new}.{number}"
            await world.endpoint(f"{name}/endpoint", new, await world.start_backend(name))
        for weight in (1000, 5000, 10_000) if turn % 2 else (5000,):
            await world.route("s/route", replace(want, split=replace(split, weight=weight)))
            await asyncio.sleep(0.1)
        want = RouteWant(cluster=new, hosts=("shop",), probe=probes[turn % 2])
        # All at once, as the engine may: nothing may drain before the routes without it are in force.
        await world.provider.ensure(ResourceKey("s/route"), want)
        for number in range(2):
            await _drain(world, f"{current}.{number}", current)
        await world.acknowledged("s/route")
        for number in range(2):
            await world.idle(f"{current}.{number}/endpoint")
            world.kill(f"{current}.{number}")
            await world.removed(f"{current}.{number}/endpoint")
        current = new
    stop.set()
    await asyncio.gather(*clients)
    instances = {f"c{turn}.{number}" for turn in range(5) for number in range(2)}
    assert seen.keys() <= {200, *instances}, seen
    assert seen.keys() >= instances, seen
    assert seen[200] > 300


async def _drain(world: World, name: str, cluster: str) -> None:
    want = EndpointWant(cluster=cluster, address="127.0.0.1", port=world.ports[name], state=EndpointState.DRAINING)
    await world.provider.ensure(ResourceKey(f"{name}/endpoint"), want)


async def _load(world: World, stop: asyncio.Event, seen: Counter[object], path: str) -> None:
    while not stop.is_set():
        async with world.session.post(world.url(path), headers={"Host": "shop"}, data=b"x") as answer:
            seen[answer.status] += 1
            seen[await answer.text()] += 1


async def test_what_a_route_leaves_is_not_drained_before_the_routes_say_so(world: World) -> None:
    """The new cluster waits for a health check that gets no answer, and the routes wait for the cluster."""
    await world.route("s/route", RouteWant(cluster="old", hosts=("shop",)))
    await world.endpoint("old/endpoint", "old", await world.start_backend("old"))
    new, stuck = await world.start_backend("new"), await world.start_backend("stuck")
    world.backends["stuck"].send_signal(signal.SIGSTOP)
    probe = Probe(http_get=HttpGet(path="/health"), timeout_seconds=0.8)
    await world.provider.ensure(ResourceKey("s/route"), RouteWant(cluster="new", hosts=("shop",), probe=probe))
    for name, port in (("new", new), ("stuck", stuck)):
        endpoint = EndpointWant(cluster="new", address="127.0.0.1", port=port)
        await world.provider.ensure(ResourceKey(f"{name}/endpoint"), endpoint)
    await _drain(world, "old", "old")
    seen = Counter[str]()

    async def is_confirmed() -> bool:
        seen[await ask(world, method="POST")] += 1
        facts = await world.facts("old/endpoint")
        return facts is not None and facts.acknowledged

    assert await until(is_confirmed, "the old instance drains") > 0.5
    assert seen["old"] > 10
    await world.idle("old/endpoint")
    await world.acknowledged("s/route")
    assert {await ask(world) for _ in range(10)} == {"new"}
    await world.removed("old/endpoint")


async def test_what_a_route_without_hosts_leaves_is_drained_at_once(world: World) -> None:
    """No routes change, so there is nothing to wait for."""
    await world.route("s/route", RouteWant(cluster="old"))
    await world.endpoint("old/endpoint", "old", await world.start_backend("old"))
    await world.provider.ensure(ResourceKey("s/route"), RouteWant(cluster="new"))
    await world.endpoint("old/endpoint", "old", world.ports["old"], EndpointState.DRAINING)
    await world.removed("old/endpoint")
    await world.acknowledged("s/route")


async def test_a_route_that_comes_back_to_what_it_left_keeps_it(world: World) -> None:
    await both(world, 5000)
    await world.provider.ensure(ResourceKey("s/route"), replace(route(0), split=None))
    await world.provider.ensure(ResourceKey("s/route"), route(10_000))
    await world.acknowledged("s/route")
    await world.endpoint("new/endpoint", "s/new", world.ports["new"])
    assert {await ask(world) for _ in range(20)} == {"new"}


async def test_the_place_of_a_promoted_route_stays_its_own(world: World) -> None:
    """A later route with the same host and prefix must not get it in between."""
    await both(world)
    later = RouteWant(cluster="later", hosts=("shop",))
    await world.provider.ensure(ResourceKey("t/route"), later)
    await world.route("s/route", RouteWant(cluster="s/new", hosts=("shop",), probe=PROBE))
    assert {await ask(world) for _ in range(10)} == {"new"}
    facts = await world.facts("t/route")
    assert facts is not None and "belong to" in facts.rejected


async def test_a_new_side_that_envoy_refuses_is_told_and_harms_nobody(world: World) -> None:
    await both(world)
    bad = Probe(http_get=HttpGet(path="/", host="a\nb"))
    want = replace(route(0), split=Split(cluster="s/bad", weight=0, probe=bad))
    await world.rejected("s/route", want, "does not match regex")
    assert {await ask(world) for _ in range(20)} == {"old"}
    await weigh(world, 10_000)
    assert {await ask(world) for _ in range(20)} == {"new"}


async def test_a_side_is_not_acknowledged_before_envoy_has_its_cluster(world: World) -> None:
    """Its instance does not answer the first health check: until that is over, Envoy holds the cluster back."""
    await both(world)
    port = await world.start_backend("stuck")
    world.backends["stuck"].send_signal(signal.SIGSTOP)
    probe = Probe(http_get=HttpGet(path="/health"), timeout_seconds=0.6)
    want = replace(route(0), split=Split(cluster="s/stuck", weight=0, probe=probe))
    await world.provider.ensure(ResourceKey("s/route"), want)
    endpoint = EndpointWant(cluster="s/stuck", address="127.0.0.1", port=port)
    await world.provider.ensure(ResourceKey("stuck/endpoint"), endpoint)
    facts = await world.facts("s/route")
    assert isinstance(facts, RouteFacts)
    assert facts.want == want, "this is what is being asked for"
    assert await world.acknowledged("s/route") > 0.4
    assert {await ask(world) for _ in range(5)} == {"old"}


@pytest.mark.parametrize(
    "split",
    [
        Split(cluster=""),
        Split(cluster="s/old"),
        Split(cluster="n", weight=-1),
        Split(cluster="n", weight=10_001),
        Split(cluster="n", sticky=Sticky(header="a", cookie="b")),
        Split(cluster="n", sticky=Sticky(header="x y")),
        Split(cluster="n", sticky=Sticky(cookie="a;b")),
        Split(cluster="n", sticky=Sticky(cookie="%REQ(X)%")),
        Split(cluster="n", probe=Probe(http_get=HttpGet(path="\ud800"))),
    ],
)
async def test_a_split_that_makes_no_sense_is_refused_at_once(bare_world: World, split: Split) -> None:
    with pytest.raises(ProviderFailure) as caught:
        await bare_world.provider.ensure(ResourceKey("s/route"), replace(route(0), split=split))
    assert not caught.value.retryable
    assert await bare_world.provider.owned() == []


async def test_the_way_back_is_shown_whatever_else_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that another has, and routes of another in the same host that only Envoy refuses."""
    monkeypatch.setattr(translate_routes, "prefix_problem", lambda prefix: "")
    await both(world, 10_000)
    await world.route("t/route", RouteWant(cluster="t", hosts=("taken",), service="default/t"))
    lost = replace(route(10_000), hosts=("shop", "taken"))
    await world.rejected("s/route", lost, "belong to default/t")
    bad = RouteWant(cluster="t/bad", hosts=("shop",), path_prefix="/a?b", service="default/bad")
    await world.rejected("bad/route", bad, "path_separated_prefix")
    for weight, expected in ((0, "old"), (10_000, "new"), (0, "old")):
        want = replace(route(weight), hosts=("shop", "taken"))
        await world.provider.ensure(ResourceKey("s/route"), want)

        async def is_shared() -> bool:
            facts = await world.facts("s/route")
            assert isinstance(facts, RouteFacts)
            return facts.is_shared and facts.want == want and bool(facts.rejected)  # noqa: B023

        await until(is_shared, "it is shared so, and still refused")
        await asyncio.sleep(0.02)
        assert {await ask(world) for _ in range(20)} == {expected}


async def test_a_new_side_that_envoy_never_had_is_not_called_shared(world: World) -> None:
    await both(world)
    bad = Probe(http_get=HttpGet(path="/", host="a\nb"))
    await world.rejected("s/route", replace(route(0), split=Split(cluster="s/bad", probe=bad)), "does not match regex")
    facts = await world.facts("s/route")
    assert isinstance(facts, RouteFacts) and not facts.is_shared
