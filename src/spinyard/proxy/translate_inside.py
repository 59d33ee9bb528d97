"""PURE. What is for our own instances only: a listener on loopback whose word on the side of a request counts, the
answer "local" to calls of the SDK, the way to who compares answers, and the socket where that one asks.

Inside is who comes by that listener. It marks each request; the gateway takes the mark, as all `x-spinyard-*`, from
everybody else. Both use the same routes, so a weight is still one write.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from spinyard.proxy.translate import CONNECT_TIMEOUT, HTTP_OPTIONS, TYPES
from spinyard.proxy.translate_listener import HTTP_CONNECTIONS, Gateway, insiders, listener
from spinyard.proxy.translate_sides import OVERWRITE, SPINOUT

Dict = dict[str, Any]

LISTENER = "inside"
LOCAL_LISTENER = "local"
ASKED_LISTENER = "asked"
# Not names that a Service's cluster can have: those begin with a namespace.
LOCAL = "~local"
SHADOW = "~shadow"
MARK = "x-spinyard-inside"
LOCAL_STATUS = 421
LOCAL_BODY = "local"
SOCKET_PATH_MAX = 100
SHADOWS_MAX = 256
"""copies under way at once; more are dropped, so a comparator that hangs costs no more than this"""
SHADOW_SECONDS_MAX = 30


@dataclass(frozen=True, slots=True)
class Inside:
    """`port`: on loopback, for calls of our own instances. `local_socket`: Envoy's own, for its answer "local".
    `comparator_socket`: where copies go, and nobody need listen there; None: nothing is copied. `asked_socket`: where
    whoever compares asks again, with what users sent: a port could be somebody else's while Envoy is away."""

    port: int
    local_socket: Path
    address: str = "127.0.0.1"
    comparator_socket: Path | None = None
    asked_socket: Path | None = None


def inside_problem(inside: Inside) -> str:
    """Why Envoy, or we, would not take this, or empty."""
    if not ip_address(inside.address).is_loopback:
        return f"calls from inside are taken on loopback only, not on {inside.address}"
    if not 0 < inside.port < 65536:
        return f"{inside.port} is not a port"
    sockets = (inside.local_socket, inside.comparator_socket, inside.asked_socket)
    long = [path for path in sockets if path is not None and len(str(path)) > SOCKET_PATH_MAX]
    return f"{long[0]} is too long for the path of a socket" if long else ""


def listeners(inside: Inside, gateway: Gateway) -> dict[str, Dict]:
    door = Gateway(inside.address, inside.port, trace_share=gateway.trace_share)
    mark = {"header": {"key": MARK, "value": "1"}, "append_action": OVERWRITE}
    found = {LISTENER: listener(door, LISTENER, insiders(mark)), LOCAL_LISTENER: _local_listener(inside)}
    if inside.asked_socket is not None:
        asked = listener(door, ASKED_LISTENER, insiders(mark))
        found[ASKED_LISTENER] = {**asked, "address": _own(inside.asked_socket)}
    return found


def clusters(inside: Inside) -> dict[str, Dict]:
    found = {LOCAL: _pipe(LOCAL, inside.local_socket)}
    if inside.comparator_socket is not None:
        shadow = _pipe(SHADOW, inside.comparator_socket)
        shadow["circuit_breakers"] = {
            "thresholds": [
                {"max_connections": SHADOWS_MAX, "max_pending_requests": SHADOWS_MAX, "max_requests": SHADOWS_MAX}
            ]
        }
        options = shadow["typed_extension_protocol_options"][HTTP_OPTIONS]
        options["common_http_protocol_options"] = {"max_stream_duration": f"{SHADOW_SECONDS_MAX}s"}
        found[SHADOW] = shadow
    return found


def local_answer() -> Dict:
    """Of a route: do it yourself. The header tells it from an answer of the unit."""
    told = {"header": {"key": SPINOUT.header, "value": SPINOUT.old}, "append_action": OVERWRITE}
    return {
        "direct_response": {"status": LOCAL_STATUS, "body": {"inline_string": LOCAL_BODY}},
        "response_headers_to_add": [told],
    }


def _local_listener(inside: Inside) -> Dict:
    """For Envoy itself: a weight can be shared between clusters only, so the answer has to be one."""
    host = {"name": "local", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **local_answer()}]}
    connections = {
        "@type": HTTP_CONNECTIONS,
        "stat_prefix": LOCAL_LISTENER,
        "route_config": {"name": LOCAL_LISTENER, "virtual_hosts": [host]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPES + "envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": LOCAL_LISTENER,
        "address": _own(inside.local_socket),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]}
        ],
    }


def _own(path: Path) -> Dict:
    return {"pipe": {"path": str(path), "mode": 0o600}}


def _pipe(name: str, path: Path) -> Dict:
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(path)}}}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": TYPES + HTTP_OPTIONS,
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
