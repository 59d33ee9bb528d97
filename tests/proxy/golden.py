"""The wants behind the golden files. To write them anew: python -m tests.proxy.golden, then read the diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from spinyard.core.shift import Sticky
from spinyard.core.spec import Exec, Grpc, HttpGet, Probe, TcpSocket
from spinyard.core.want import BoundaryRule, BoundaryWant, EndpointState, EndpointWant, RouteWant, Split
from spinyard.proxy import (
    bootstrap,
    translate,
    translate_boundaries,
    translate_force,
    translate_inside,
    translate_routes,
)
from spinyard.proxy.translate_boundaries import Boundary
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.translate_listener import gateway_of, listener

FOLDER = Path(__file__).parent.parent / "golden" / "proxy"
HTTP = Probe(
    http_get=HttpGet(path="/ok", headers=(("x-a", "1"), ("Host", "me"))), period_seconds=5, success_threshold=2
)
SHOP = RouteWant(cluster="shop", hosts=("shop.example",), path_prefix="/", probe=HTTP)
API = RouteWant(cluster="api", hosts=("shop.example", "*"), path_prefix="/api/", timeout_seconds=2.5, http2=True)


def split(**sticky: Any) -> dict[str, Any]:
    shop = replace(SHOP, split=Split(cluster="shop-new", weight=500, probe=HTTP, sticky=Sticky(**sticky)))
    return translate_routes.virtual_host("shop.example", {"shop.example": [shop]})


JWKS = '{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag"}]}'
INSIDE = Inside(8081, Path("/home/run/local.sock"), comparator_socket=Path("/home/run/compare.sock"))
BOUNDARY = BoundaryWant(
    cluster="spinout/shop/thumbs/1",
    parent="shop/web",
    unit="shop/thumbs",
    rules=(
        BoundaryRule(path="/thumbs/*", mirrored=True),
        BoundaryRule(path="/photos/{id}/thumb", method="GET"),
        BoundaryRule(path="/upload", method="POST", weighted=False),
    ),
    weight=500,
    mirror=2000,
    sticky=Sticky(header="x-user"),
    host="thumbs.shop.boundary.internal",
    jwks=JWKS,
)


def boundary(**fields: Any) -> Boundary:
    unit = RouteWant(cluster="shop-thumbs", service="shop/thumbs", timeout_seconds=9, http2=True, probe=HTTP)
    return Boundary(replace(BOUNDARY, **fields), replace(SHOP, service="shop/web"), unit, has_comparator=True)


def boundary_host(**fields: Any) -> dict[str, Any]:
    found = boundary(**fields)
    before = {"shop/web": translate_boundaries.routes(found)}
    return translate_routes.virtual_host("shop.example", {"shop.example": [found.parent]}, before=before)


def sdk_host(**fields: Any) -> dict[str, Any]:
    found = boundary(**fields)
    first = translate_boundaries.host_routes(found)
    return translate_routes.virtual_host(found.host, {"*": [API]}, first=first)


def endpoint(port: int, **fields: Any) -> EndpointWant:
    return EndpointWant(cluster="shop", address="127.0.0.1", port=port, **fields)


def cases() -> dict[str, dict[str, Any]]:
    return {
        "cluster_http_probe": translate.cluster(SHOP),
        "cluster_http2_grpc_probe": translate.cluster(RouteWant(cluster="g", http2=True, probe=Probe(grpc=Grpc()))),
        "cluster_tcp_probe": translate.cluster(RouteWant(cluster="t", probe=Probe(tcp_socket=TcpSocket()))),
        "cluster_exec_probe": translate.cluster(RouteWant(cluster="e", probe=Probe(exec=Exec(("true",))))),
        "cluster_by_host": translate.cluster(RouteWant(cluster="pool", hosts=("*.box",), by_host=True)),
        "assignment_by_host": translate.assignment("pool", [endpoint(4, host="C1.box")]),
        "assignment": translate.assignment(
            "shop",
            [
                endpoint(3, state=EndpointState.DRAINING),
                endpoint(1, probe_port=9),
                endpoint(2, state=EndpointState.UNHEALTHY),
                endpoint(1),
            ],
        ),
        "virtual_host": translate_routes.virtual_host("shop.example", {"shop.example": [SHOP, API], "*": [API]}),
        "virtual_host_split": split(),
        "virtual_host_split_header": split(header="x-user"),
        "virtual_host_split_cookie": split(cookie="side"),
        "virtual_host_split_new_cookie": split(cookie="side", no_key_old=False),
        "virtual_host_split_address": split(client_address=True),
        "cluster_boundary_old": translate_boundaries.cluster(boundary().alias("old")),
        "cluster_boundary_new": translate_boundaries.cluster(boundary().alias("new")),
        "cluster_local": translate_inside.clusters(INSIDE)[translate_inside.LOCAL],
        "cluster_shadow": translate_inside.clusters(INSIDE)[translate_inside.SHADOW],
        "virtual_host_boundary": boundary_host(),
        "virtual_host_boundary_at_0": boundary_host(weight=0, mirror=0, jwks="", sticky=Sticky()),
        "virtual_host_sdk": sdk_host(),
        "virtual_host_sdk_at_0": sdk_host(weight=0),
        "listener_inside": translate_inside.listeners(INSIDE, gateway_of("127.0.0.1:8080"))["inside"],
        "listener_local": translate_inside.listeners(INSIDE, gateway_of("127.0.0.1:8080"))["local"],
        "extension_force": translate_force.extension([JWKS]),
        "listener": listener(gateway_of("127.0.0.1:8080")),
        "listener_tls": listener(gateway_of("[::]:8443", "/tls/crt.pem", "/tls/key.pem")),
        "bootstrap": bootstrap.bootstrap(Path("/home/run/xds.sock"), Path("/home/run/envoy-admin.sock")),
    }


def text(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, value in cases().items():
        (FOLDER / f"{name}.json").write_text(text(value))
