"""Whatever was wished in between: what Envoy is told follows from what is wished now."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule, BoundaryWant, EndpointState, EndpointWant, RouteWant, Split
from spinyard.proxy import proto
from spinyard.proxy.doors import Doors
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.translate_listener import Gateway
from spinyard.proxy.wanted import Wanted
from spinyard.proxy.wishes import Told
from spinyard.proxy.xds import XdsServer
from spinyard.proxy.xds_stream import CLUSTER, EXTENSION, ROUTES

KEYS = st.sampled_from("abc")
SERVICES = st.sampled_from(["n/web", "n/thumbs", "n/other", ""])
CLUSTERS = st.sampled_from(["c1", "c2", "c3"])
JWKS = '{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag"}]}'

# No two of them have a host in common: whose it is then depends on who had it first.
HOSTS: dict[str, tuple[str, ...]] = {"a": ("shop",), "b": (), "c": ("*", "x.shop")}
routes = {
    key: st.builds(
        RouteWant,
        cluster=CLUSTERS,
        service=SERVICES,
        hosts=st.sampled_from([(), hosts]),
        path_prefix=st.sampled_from(["/", "/api"]),
        by_host=st.booleans(),
        split=st.sampled_from([None, Split(cluster="new", weight=7)]),
    )
    for key, hosts in HOSTS.items()
}
endpoints = st.builds(
    EndpointWant,
    cluster=CLUSTERS,
    address=st.just("127.0.0.1"),
    port=st.integers(1, 3),
    state=st.sampled_from(EndpointState),
)
boundaries = st.builds(
    BoundaryWant,
    cluster=st.sampled_from(["spinout/n/a/1", "spinout/n/b/2"]),
    parent=st.sampled_from(["n/web", "n/other"]),
    unit=st.just("n/thumbs"),
    rules=st.sampled_from(
        [
            (BoundaryRule(path="/api/x"),),
            (BoundaryRule(path="/*", mirrored=True),),
            (BoundaryRule(path="/api/*", weighted=False),),
        ]
    ),
    weight=st.sampled_from([0, 100]),
    mirror=st.sampled_from([0, 100]),
    sticky=st.sampled_from([Sticky(), Sticky(header="x-user")]),
    host=st.sampled_from(["", "a.internal", "x.shop"]),
    jwks=st.sampled_from(["", JWKS]),
)
# A key names one kind of thing for as long as it lives, as in the ledger.
operations = st.lists(
    st.one_of(
        *(
            st.tuples(st.just(ResourceKey(f"{key}/route")), st.one_of(st.none(), wants))
            for key, wants in routes.items()
        ),
        st.tuples(st.builds(lambda key: ResourceKey(f"{key}/endpoint"), KEYS), st.one_of(st.none(), endpoints)),
        st.tuples(st.builds(lambda key: ResourceKey(f"{key}/boundary"), KEYS), st.one_of(st.none(), boundaries)),
        st.just(None),
    ),
    max_size=25,
)


# So that most histories have a boundary in force.
BEGINNING: tuple[tuple[ResourceKey, Told], ...] = (
    (ResourceKey("a/route"), RouteWant(cluster="c1", service="n/web", hosts=("shop",))),
    (ResourceKey("b/route"), RouteWant(cluster="c2", service="n/thumbs")),
    (
        ResourceKey("a/boundary"),
        BoundaryWant(
            cluster="spinout/n/a/1",
            parent="n/web",
            unit="n/thumbs",
            rules=(BoundaryRule(path="/x"),),
            host="a.internal",
        ),
    ),
)


def empty() -> tuple[Wanted, XdsServer]:
    xds = XdsServer(Path("/nowhere"), "test", SystemClock(), 1, lambda moved: None)
    inside = Inside(8081, Path("/r/local"), comparator_socket=Path("/r/compare"))
    Doors(xds, SystemClock(), Gateway("127.0.0.1", 8080), inside, None)
    wanted = Wanted(xds, SystemClock(), inside, lambda: None)
    wanted.flush()
    return wanted, xds


@settings(max_examples=60, deadline=None)
@given(operations)
def test_what_is_told_follows_from_the_wishes_alone(steps: list[tuple[ResourceKey, Told | None] | None]) -> None:
    wanted, xds = empty()
    for step in (*BEGINNING, *steps):
        if step is None:
            wanted.flush()
        elif step[1] is None:
            wanted.remove(step[0])
        else:
            wanted.put(step[0], step[1])
    wanted.flush()
    anew, fresh = empty()
    for key, wish in wanted.wishes.items():
        anew.put(key, wish.want)
    anew.flush()
    for kind in (ROUTES, EXTENSION):
        assert _bodies(xds, kind) == _bodies(fresh, kind)
    # What was left is kept until nothing is under way in it; what is wanted is all there, and shares as it should.
    for name, resource in fresh.catalogue.wanted[CLUSTER].items():
        if "@" in name:
            kept = xds.catalogue.wanted[CLUSTER][name]
            assert (kept.body, kept.endpoints) == (resource.body, resource.endpoints)
            assert kept.endpoints in xds.catalogue.wanted[CLUSTER]
    for name in _named(fresh.catalogue.wanted[ROUTES]["gateway"].body):
        assert name.startswith("~") or name in xds.catalogue.wanted[CLUSTER], "no route names what is not there"


def _bodies(xds: XdsServer, kind: str) -> dict[str, bytes]:
    return {name: resource.body for name, resource in xds.catalogue.wanted[kind].items()}


def _named(routes: bytes) -> set[str]:
    """The clusters that these routes name."""
    found: set[str] = set()
    for host in proto.decode("envoy.config.route.v3.RouteConfiguration", routes).get("virtual_hosts", ()):
        for route in host["routes"]:
            action = route.get("route", {})
            found |= {action["cluster"]} if "cluster" in action else set()
            found |= {side["name"] for side in action.get("weighted_clusters", {}).get("clusters", ())}
    return found
