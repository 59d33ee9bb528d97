"""Requests through a real Envoy: who gets them, and what a caller is told when nobody does."""

from __future__ import annotations

import json

import pytest

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import EndpointFacts
from spinyard.core.spec import HttpGet, Probe, TcpSocket
from spinyard.core.want import EndpointState, EndpointWant, RouteWant
from spinyard.errors import ProviderFailure
from tests.proxy.world import World, until

pytestmark = pytest.mark.anyio

PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.2, failure_threshold=1)


async def test_requests_reach_both_instances_of_a_route(world: World) -> None:
    a, b = await world.start_backend("a"), await world.start_backend("b")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=PROBE))
    await world.endpoint("a/endpoint", "s", a)
    await world.endpoint("b/endpoint", "s", b)
    answers = [await world.get() for _ in range(40)]
    assert {status for status, _ in answers} == {200}
    assert {text for _, text in answers} == {"a", "b"}


@pytest.mark.parametrize("probe", [None, PROBE, Probe(tcp_socket=TcpSocket())], ids=["no probe", "http", "tcp"])
async def test_an_endpoint_is_acknowledged_and_healthy_soon(world: World, probe: Probe | None) -> None:
    port = await world.start_backend("a")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=probe))
    took = await world.endpoint("a/endpoint", "s", port)
    assert took < 0.3
    assert await world.get() == (200, "a")


async def test_no_route_is_a_404_that_names_host_and_path(world: World) -> None:
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), path_prefix="/api"))
    for host, path in (("nobody", "/x?y=1"), ("shop", "/apix")):
        async with world.session.get(world.url(path), headers={"Host": host}) as answer:
            problem = json.loads(await answer.text())
            assert answer.status == 404
            assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["code"], problem["status"]) == ("no_route", 404)
        assert (problem["host"], problem["path"]) == (host, path)


async def test_what_a_problem_repeats_of_a_request_is_bounded_and_stays_json(world: World) -> None:
    async with world.session.get(world.url('/"}' + "x" * 5000), headers={"Host": "nobody"}) as answer:
        body = await answer.text()
    assert len(json.loads(body)["path"]) <= 200
    assert len(body) < 1500


async def test_no_instance_is_a_503_that_says_when_to_try_again(world: World) -> None:
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=PROBE))
    async with world.session.get(world.url(), headers={"Host": "shop"}) as answer:
        problem = json.loads(await answer.text())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (problem["code"], problem["retryable"]) == ("no_instance", True)


async def test_an_applications_own_errors_pass_untouched(world: World) -> None:
    port = await world.start_backend("a")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",)))
    await world.endpoint("a/endpoint", "s", port)
    for status in (404, 503):
        async with world.session.get(world.url(f"/status/{status}"), headers={"Host": "shop"}) as answer:
            assert (answer.status, await answer.text()) == (status, "mine")
            assert "retry-after" not in answer.headers


async def test_the_most_specific_host_and_the_longest_prefix_win(world: World) -> None:
    wants = {
        "any": RouteWant(cluster="any", hosts=("*",)),
        "shop": RouteWant(cluster="shop", hosts=("Shop.example",), path_prefix="/"),
        "api": RouteWant(cluster="api", hosts=("shop.example",), path_prefix="/api/"),
        "deep": RouteWant(cluster="deep", hosts=("shop.example",), path_prefix="/api/deep"),
        "sub": RouteWant(cluster="sub", hosts=("*.shop.example",), path_prefix="/in"),
    }
    for name, want in wants.items():
        port = await world.start_backend(name)
        await world.route(f"{name}/route", want)
        await world.endpoint(f"{name}/endpoint", name, port)
    expected = {
        ("shop.example", "/"): "shop",
        ("SHOP.example:8080", "/x"): "shop",
        ("shop.example", "/api"): "api",
        ("shop.example", "/api?q=1"): "api",
        ("shop.example", "/api/x"): "api",
        ("shop.example", "/apix"): "shop",
        ("shop.example", "/api/deep/x"): "deep",
        ("a.shop.example", "/in/x"): "sub",
        ("a.shop.example", "/out"): "any",
        ("other", "/api"): "any",
    }
    seen = {(host, path): (await world.get(path, host))[1] for host, path in expected}
    assert seen == expected


async def test_outsiders_cannot_set_our_headers_and_underscores_are_refused(world: World) -> None:
    port = await world.start_backend("a")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",)))
    await world.endpoint("a/endpoint", "s", port)
    sent = {
        "Host": "shop:9999",
        "X-Envoy-Retry-On": "5xx",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "X-Spinyard-Side": "unit",
        "x-spinyard-anything": "1",
        "x-envoy-external-address": "6.6.6.6",
        "x-mine": "kept",
    }
    async with world.session.get(world.url("/echo"), headers=sent) as answer:
        seen = json.loads(await answer.text())["headers"]
        assert not [name for name in answer.headers if name.lower().startswith("x-envoy")]
    assert seen["x-mine"] == "kept"
    assert seen["host"] == "shop:9999"
    ours = {name: value for name, value in seen.items() if name.startswith(("x-spinyard", "x-envoy"))}
    assert ours == {"x-envoy-external-address": "127.0.0.1"}, "the one that Envoy itself sets"
    async with world.session.get(world.url("/echo"), headers={"Host": "shop", "x_bad": "1"}) as answer:
        assert answer.status == 400


async def test_an_unready_instance_never_gets_a_request(world: World) -> None:
    """The backend itself records what arrives while it is not ready."""
    a, b = await world.start_backend("a"), await world.start_backend("b", "unready")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=PROBE))
    await world.endpoint("a/endpoint", "s", a)
    await world.provider.ensure(ResourceKey("b/endpoint"), EndpointWant(cluster="s", address="127.0.0.1", port=b))
    await world.acknowledged("b/endpoint")
    assert {(await world.get())[1] for _ in range(60)} == {"a"}
    facts = await world.facts("b/endpoint")
    assert isinstance(facts, EndpointFacts)
    assert facts.acknowledged and not facts.healthy
    async with world.session.post(f"http://127.0.0.1:{b}/ready"):
        took = await world.endpoint("b/endpoint", "s", b)
    assert took < 1.5
    assert {(await world.get())[1] for _ in range(40)} == {"a", "b"}
    await world.endpoint("b/endpoint", "s", b, EndpointState.UNHEALTHY)
    assert {(await world.get())[1] for _ in range(40)} == {"a"}
    async with world.session.get(f"http://127.0.0.1:{b}/hits") as answer:
        assert json.loads(await answer.text())["hits_unready"] == 0


async def test_with_no_healthy_instance_nothing_is_sent_to_an_unhealthy_one(world: World) -> None:
    """Envoy's panic threshold would."""
    port = await world.start_backend("a", "unready")
    await world.route("s/route", RouteWant(cluster="s", hosts=("shop",), probe=PROBE))
    await world.provider.ensure(ResourceKey("a/endpoint"), EndpointWant(cluster="s", address="127.0.0.1", port=port))
    await world.acknowledged("a/endpoint")
    for _ in range(10):
        status, body = await world.get()
        assert (status, json.loads(body)["code"]) == (503, "no_instance")


@pytest.mark.parametrize(
    "want",
    [
        RouteWant(cluster="s", hosts=("a b",)),
        RouteWant(cluster="s", hosts=("shop:80",)),
        RouteWant(cluster="s", hosts=("http://shop",)),
        RouteWant(cluster="s", hosts=("sh*p",)),
        RouteWant(cluster="s", path_prefix="api"),
        RouteWant(cluster="s", path_prefix="/a?b"),
        RouteWant(cluster=""),
        RouteWant(cluster="s", timeout_seconds=1e20),
        RouteWant(cluster="s", probe=Probe(http_get=HttpGet(path="\ud800"))),
        EndpointWant(cluster="s", address="db.example", port=1),
        EndpointWant(cluster="s", address="127.0.0.1", port=70_000),
    ],
    ids=["host", "port", "url", "star", "relative", "query", "no name", "time", "text", "no address", "no port"],
)
async def test_what_envoy_would_refuse_is_refused_at_once(bare_world: World, want: RouteWant | EndpointWant) -> None:
    with pytest.raises(ProviderFailure) as caught:
        await bare_world.provider.ensure(ResourceKey("s/route"), want)
    assert not caught.value.retryable
    bare_world.provider.restore([(ResourceKey("s/route"), want)])
    assert await bare_world.provider.owned() == []


async def test_the_second_service_with_the_same_host_and_prefix_is_told_who_has_it(world: World) -> None:
    port = await world.start_backend("first")
    await world.route("1/route", RouteWant(cluster="one", hosts=("shop",), service="first"))
    await world.endpoint("1/endpoint", "one", port)
    await world.provider.ensure(ResourceKey("2/route"), RouteWant(cluster="two", hosts=("shop",)))

    async def is_told() -> bool:
        facts = await world.facts("2/route")
        return facts is not None and not facts.acknowledged and "belong to first already" in facts.rejected

    await until(is_told, "the second is told")
    assert await world.get() == (200, "first")
    await world.removed("1/endpoint")
    await world.removed("1/route")
    await world.acknowledged("2/route")
