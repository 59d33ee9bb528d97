"""Wants to Envoy's resources: golden files, and what holds for any wants."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.spec import Grpc, HttpGet, Probe, TcpSocket
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Split
from spinyard.proxy import encoded, proto, translate, translate_routes
from spinyard.proxy.route_table import RouteTable
from spinyard.proxy.translate_boundaries import AWAY, Boundary
from spinyard.proxy.translate_listener import gateway_of
from tests.proxy import golden
from tests.proxy.boundary_world import THUMBS, WANT, WEB

MESSAGES = {
    "cluster": "envoy.config.cluster.v3.Cluster",
    "assignment": "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "virtual": "envoy.config.route.v3.VirtualHost",
    "listener": "envoy.config.listener.v3.Listener",
    "extension": "envoy.config.core.v3.TypedExtensionConfig",
}


@pytest.mark.parametrize("name", golden.cases())
def test_the_resource_is_as_it_was_last_read(name: str) -> None:
    """After a wanted change: python -m tests.proxy.golden, and read the diff."""
    assert golden.text(golden.cases()[name]) == (golden.FOLDER / f"{name}.json").read_text()


def test_there_is_no_golden_file_without_its_case() -> None:
    assert {path.stem for path in golden.FOLDER.iterdir()} == set(golden.cases())


@pytest.mark.parametrize("name", [name for name in golden.cases() if name != "bootstrap"])
def test_every_field_is_one_that_envoy_knows(name: str) -> None:
    message, case = MESSAGES[name.split("_")[0]], golden.cases()[name]
    body = proto.encode(message, case)
    assert proto.encode(message, proto.decode(message, body)) == body


def test_endpoints_encoded_one_by_one_are_the_same_bytes() -> None:
    wants = [golden.endpoint(n, host=f"C{n}.box") for n in (4, 2, 9)] + [golden.endpoint(2, probe_port=81)]
    whole = proto.encode(MESSAGES["assignment"], translate.assignment("pool", wants))
    assert encoded.assignment("pool", wants) == whole
    assert encoded.assignment("none", []) == proto.encode(MESSAGES["assignment"], translate.assignment("none", []))


@pytest.mark.parametrize("name", [name for name in golden.cases() if name.startswith("virtual_host")])
def test_routes_encoded_in_parts_are_read_as_the_whole(name: str) -> None:
    case, message = golden.cases()[name], MESSAGES["virtual"]
    assert proto.decode(message, encoded.virtual_host(case)) == proto.decode(message, proto.encode(message, case))


def test_the_bytes_are_the_same_in_another_process() -> None:
    """Else a restart of the control plane would change the listener, and Envoy would drain its connections."""
    script = (
        "from tests.proxy.golden import cases; from spinyard.proxy import proto;"
        "print(proto.encode('envoy.config.listener.v3.Listener', cases()['listener']).hex())"
    )
    run = [sys.executable, "-c", script]
    seen = {subprocess.run(run, capture_output=True, check=True, text=True).stdout for _ in range(3)}
    assert seen == {proto.encode(MESSAGES["listener"], golden.cases()["listener"]).hex() + "\n"}


_hosts = st.sampled_from(["*", "a.b.c", "b.c", "c", "*.c", "*.b.c", "x", "A.b.c"])
_prefixes = st.sampled_from(["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c"])
_probes = st.one_of(
    st.none(),
    st.builds(
        Probe,
        http_get=st.builds(HttpGet, path=st.sampled_from(["", "/", "/x?y"])),
        period_seconds=st.floats(0, 1e5),
        timeout_seconds=st.floats(0, 1e4),
        success_threshold=st.integers(0, 100),
        failure_threshold=st.integers(0, 100),
    ),
    st.builds(Probe, tcp_socket=st.builds(TcpSocket)),
    st.builds(Probe, grpc=st.builds(Grpc, service=st.text(max_size=9))),
)
_routes = st.lists(
    st.builds(
        RouteWant,
        cluster=st.sampled_from(["one", "two", "three"]),
        hosts=st.lists(_hosts, max_size=3).map(tuple),
        path_prefix=_prefixes,
        probe=_probes,
        timeout_seconds=st.floats(0, 1e6),
        http2=st.booleans(),
    ),
    max_size=8,
)


def _by_domain(routes: list[RouteWant]) -> dict[str, list[RouteWant]]:
    result: dict[str, list[RouteWant]] = {}
    for want in routes:
        for domain in translate_routes.domains_of(want):
            result.setdefault(domain, []).append(want)
    return result


@given(_routes)
def test_any_route_becomes_a_cluster_that_envoy_can_read(routes: list[RouteWant]) -> None:
    for want in routes:
        assert proto.encode(MESSAGES["cluster"], translate.cluster(want))


@given(_routes, st.sampled_from(["a.b.c", "b.c", "q.c", "x", "nobody"]), st.sampled_from(["/", "/a", "/a/b/z", "/abc"]))
def test_a_request_goes_to_the_most_specific_host_then_to_the_longest_prefix(
    routes: list[RouteWant], host: str, path: str
) -> None:
    """Envoy takes the domain that fits best and in it the first match; compared with the rule said plainly."""
    by_domain = _by_domain(routes)
    scope = (host, *translate_routes.fallbacks(host))
    domain = next((name for name in scope if name in by_domain), None)
    got = None
    if domain is not None:
        matches = (
            entry["route"]["cluster"]
            for entry in translate_routes.virtual_host(domain, by_domain)["routes"]
            if _matches(entry["match"], path)
        )
        got = next(matches, None)
    expected = None
    for name in scope:
        fitting = [w for w in by_domain.get(name, ()) if _is_under(path, translate_routes.prefix_of(w))]
        if fitting:
            longest = max(len(translate_routes.prefix_of(w)) for w in fitting)
            expected = next(w.cluster for w in fitting if len(translate_routes.prefix_of(w)) == longest)
            break
    assert got == expected


def _matches(match: dict[str, str], path: str) -> bool:
    return match.get("prefix") == "/" or _is_under(path, match.get("path_separated_prefix", "?"))


def _is_under(path: str, prefix: str) -> bool:
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


_changes = st.lists(
    st.tuples(
        st.sampled_from(["k1", "k2", "k3", "k4"]).map(ResourceKey),
        st.one_of(st.none(), st.builds(RouteWant, cluster=st.just("c"), hosts=st.lists(_hosts, max_size=3).map(tuple))),
    ),
    max_size=12,
)


@given(_changes)
def test_the_route_table_kept_up_to_date_equals_one_made_anew(
    changes: list[tuple[ResourceKey, RouteWant | None]],
) -> None:
    kept, wants = RouteTable(), dict[ResourceKey, RouteWant]()
    for key, want in changes:
        if want is None:
            kept.take_away(key)
            wants.pop(key, None)
        else:
            kept.put(key, want)
            wants[key] = want
        kept.body()
    anew = RouteTable()
    for key, want in wants.items():
        anew.put(key, want)
    table = proto.decode("envoy.config.route.v3.RouteConfiguration", kept.body())
    assert table == proto.decode("envoy.config.route.v3.RouteConfiguration", anew.body())
    domains = [domain for host in table.get("virtual_hosts", ()) for domain in host["domains"]]
    assert len(domains) == len(set(domains))
    assert set(domains) == {*_by_domain(list(wants.values())), AWAY}


@given(_changes, st.sets(st.sampled_from(["*", "a.b.c", "x", "c"]), max_size=3))
def test_refused_hosts_are_found_and_the_others_shown(
    changes: list[tuple[ResourceKey, RouteWant | None]], bad: set[str]
) -> None:
    table, wants = RouteTable(), dict[ResourceKey, RouteWant]()
    for key, want in changes:
        if want is not None:
            table.put(key, want)
            wants[key] = want
    for _ in range(60):
        shown = proto.decode("envoy.config.route.v3.RouteConfiguration", table.body())
        names = {host["name"] for host in shown.get("virtual_hosts", ())}
        if not (table.was_refused("no") if names & bad else table.was_confirmed()):
            break
    else:
        raise AssertionError("it never comes to an end")
    assert names == {*_by_domain(list(wants.values())), AWAY} - bad
    for key, want in wants.items():
        is_bad = bool(bad & set(translate_routes.domains_of(want)))
        assert table.refusal(key) == ("no" if is_bad else "")
        assert table.is_shown(key) != is_bad


@given(st.lists(st.one_of(st.booleans(), st.integers(0, 10_000)), min_size=1, max_size=8))
def test_weights_follow_whatever_is_refused_in_their_host(steps: list[bool | int]) -> None:
    """A number: the boundary's weight and the split's. A bool: a route comes or goes that Envoy refuses."""
    table, bad = RouteTable(), RouteWant(cluster="bad", hosts=("shop",), path_prefix="/bad", service="default/bad")
    weight = 0
    taken: dict[str, Any] = {}
    for step in [0, *steps]:
        if step is True:
            table.put(ResourceKey("bad"), bad)
        elif step is False:
            table.take_away(ResourceKey("bad"))
        else:
            weight = step
        parent = replace(WEB, split=Split(cluster="default/web/2", weight=weight))
        table.put(ResourceKey("parent"), parent)
        boundary = Boundary(replace(WANT, weight=weight), parent, THUMBS)
        table.set_boundaries([boundary])
        for _ in range(20):
            shown = proto.decode("envoy.config.route.v3.RouteConfiguration", table.body())
            is_refused = '"path_separated_prefix": "/bad"' in json.dumps(shown)
            taken = taken if is_refused else shown
            if not (table.was_refused("no") if is_refused else table.was_confirmed()):
                break
        else:
            raise AssertionError("it never comes to an end")
        [shop] = [host for host in taken["virtual_hosts"] if host["name"] == "shop"]
        weights = {
            one.get("weight", 0)
            for found in shop["routes"]
            for one in found["route"].get("weighted_clusters", {}).get("clusters", ())
            if one["name"] in ("default/web/2", boundary.alias("new").name)
        }
        # What was decided at the first hop, and a key, stand beside the share.
        assert weights <= {weight, 10_000} and weight in weights
        assert table.is_boundary_shown(boundary) and table.is_split_shown(ResourceKey("parent"))
        assert step is not True or table.refusal(ResourceKey("bad")) == "no"


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(EndpointState)), max_size=9))
def test_each_address_stands_once_with_its_latest_state(entries: list[tuple[int, EndpointState]]) -> None:
    wants = [EndpointWant(cluster="c", address="::1", port=port, state=state) for port, state in entries]
    assignment = translate.assignment("c", wants)
    shown = {
        entry["endpoint"]["address"]["socket_address"]["port_value"]: entry["health_status"]
        for entry in assignment["endpoints"][0]["lb_endpoints"]
    }
    assert len(shown) == len(assignment["endpoints"][0]["lb_endpoints"])
    assert {
        port: health.lower().replace("healthy", "active", 1) for port, health in shown.items() if "UN" not in health
    } == {port: state.value for port, state in dict(entries).items() if state != EndpointState.UNHEALTHY}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":80", ("127.0.0.1", 80)),
        ("localhost:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("*:80", ("0.0.0.0", 80)),
    ],
)
def test_the_gateways_address_is_read(text: str, expected: tuple[str, int]) -> None:
    gateway = gateway_of(text)
    assert (gateway.address, gateway.port) == expected


@pytest.mark.parametrize("text", ["", "8080", "a:b", "a:0", "a:70000"])
def test_a_wrong_gateway_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        gateway_of(text)


def test_a_problem_document_carries_the_documented_fields() -> None:
    mappers = golden.cases()["listener"]["filter_chains"][0]["filters"][0]["typed_config"]["local_reply_config"][
        "mappers"
    ]
    bodies = [mapper["body_format_override"]["json_format"] for mapper in mappers]
    assert {"no_route", "no_instance"} <= {body["code"] for body in bodies}
    for body in bodies:
        assert {"type", "title", "status", "code", "detail", "retryable", "host", "path"} == body.keys(), json.dumps(
            body
        )
