"""The wants behind the golden files. To write them anew: python -m tests.proxy.golden, then read the diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from spinyard.core.shift import Sticky
from spinyard.core.spec import Exec, Grpc, HttpGet, Probe, TcpSocket
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Split
from spinyard.proxy import bootstrap, translate, translate_routes
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
