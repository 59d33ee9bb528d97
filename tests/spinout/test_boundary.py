"""Which requests move, and whose they are when the boundary is gone: as the gateway decides it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.spec import Route
from spinyard.core.spinout import BoundaryRoute
from spinyard.core.want import RouteWant
from spinyard.proxy.translate_routes import domains_of, fallbacks, virtual_host
from spinyard.spinout.boundary import may_move, not_covered
from tests.spinout.worlds import SPEC, Yard

HOSTS = ("shop.example", "*.example", "*", "Shop.Example")
PREFIXES = ("/", "/shop", "/shop/", "/shop/thumbs", "/thumbs", "/shop/th")
PATHS = ("/shop/thumbs/*", "/thumbs/{id}", "/shop/{what}", "/*")


def winner(host: str, path: str, parent: Route, unit: Route) -> str:
    """What Envoy does with the routes that we give it, once the boundary is gone."""
    wants: dict[str, list[RouteWant]] = {}
    for name, route in (("parent", parent), ("unit", unit)):
        want = RouteWant(cluster=name, hosts=route.hosts, path_prefix=route.path_prefix, service=f"default/{name}")
        for domain in domains_of(want):
            wants.setdefault(domain, []).append(want)
    of = next(name for name in (host, *fallbacks(host)) if name in wants)
    for found in virtual_host(of, {name: wants[name] for name in (of, *fallbacks(of)) if name in wants})["routes"]:
        whole = found["match"].get("path_separated_prefix")
        if whole is None or path == whole or path.startswith(whole + "/"):
            return str(found["route"]["cluster"])
    return ""


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_called_covered_is_routed_to_the_unit(data: st.DataObject) -> None:
    def route() -> Route:
        hosts = data.draw(st.lists(st.sampled_from(HOSTS), min_size=1, unique_by=str.lower))
        return Route(tuple(hosts), data.draw(st.sampled_from(PREFIXES)))

    parent, unit = route(), route()
    path = data.draw(st.sampled_from(PATHS))
    spec = replace(SPEC, routes=(BoundaryRoute(path, "GET"),))
    if not_covered(spec, parent, unit):
        return
    request = path.replace("{id}", "7").replace("{what}", "thumbs").replace("*", "a/b")
    for host in parent.hosts:
        assert winner(host.lower().replace("*.", "a.").replace("*", "other"), request, parent, unit) == "unit"


@pytest.mark.parametrize(
    ("parent", "unit", "path", "why"),
    [
        (Route(("shop.example",)), Route(("*",), "/thumbs"), "/thumbs/*", "has not the host shop.example"),
        (Route(("shop.example",), "/shop"), Route(("shop.example",)), "/shop/thumbs/*", "not more specific"),
        (Route(("shop.example",)), Route(("shop.example",)), "/thumbs/*", "not more specific"),
        (Route(("a", "b")), Route(("a",), "/thumbs"), "/thumbs/*", "has not the host b"),
        (None, Route(("a",), "/thumbs"), "/thumbs/*", "has no route"),
        (Route(("A", "b")), Route(("b", "a", "c"), "/thumbs/"), "/thumbs/{id}", ""),
    ],
)
def test_it_says_why_the_parent_would_keep_them(parent: Route | None, unit: Route, path: str, why: str) -> None:
    found = not_covered(replace(SPEC, routes=(BoundaryRoute(path, "GET"),)), parent, unit)
    assert why in found and bool(why) == bool(found)


def test_it_is_not_completed_while_the_parent_would_get_everything_back() -> None:
    yard = Yard().until("retiring")
    yard.unit.spec = replace(yard.unit.spec, route=Route(("*",), "/photos"))
    yard.approve("completed")
    yard.run(20)
    assert (yard.state, "has not the host gallery.local" in yard.status.needs) == ("retiring", True)
    yard.unit.spec = replace(yard.unit.spec, route=Route(("gallery.local",), "/photos"))
    yard.until("completed")


def test_a_boundary_of_options_alone_has_nothing_to_compare() -> None:
    routes = (BoundaryRoute("/photos", "OPTIONS"),)
    assert may_move(replace(SPEC, routes=routes), routes[0])
    yard = Yard(spec=replace(SPEC, routes=routes)).until("baselined")
    yard.until("ramping")
    assert "no route is safe to copy" in yard.plan.why
