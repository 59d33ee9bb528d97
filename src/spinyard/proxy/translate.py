"""PURE. Wants to clusters and their endpoints, as the dicts Envoy's JSON form knows.

Limits and times were chosen for services of one machine or network; the surprising ones say why.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import EndpointState, EndpointWant, RouteWant

Dict = dict[str, Any]

TYPES = "type.googleapis.com/"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
ADS: Dict = {"ads": {}, "resource_api_version": "V3"}

CONNECT_TIMEOUT = "1s"
# Shorter than the keep-alive of common servers (gunicorn 2 s, uvicorn and Node 5 s): a connection that the server
# closes in the moment Envoy writes to it would lose a request that must not be retried.
UPSTREAM_IDLE_TIMEOUT = "1s"
BUFFER_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 10_000
REQUESTS_MAX = 20_000
RETRIES_MAX = 1_024  # Envoy's own default is 3: retries of a killed instance would be refused
UNHEALTHY_INTERVAL_SECONDS = 0.25
SUBSET_NAMESPACE = "envoy.lb"
HOST_KEY = "host"


def cluster(want: RouteWant) -> Dict:
    """The cluster of a route: endpoints by EDS, health by the probe, never a request to an unhealthy endpoint."""
    result: Dict = {
        "name": want.cluster,
        "type": "EDS",
        "eds_cluster_config": {"service_name": want.cluster, "eds_config": ADS},
        "connect_timeout": CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES_MAX,
        "ignore_health_on_host_removal": True,
        # By default Envoy tells its workers of a changed health, draining too, up to a second late; 0 is at once.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": CONNECTIONS_MAX,
                    "max_pending_requests": REQUESTS_MAX,
                    "max_requests": REQUESTS_MAX,
                    "max_retries": RETRIES_MAX,
                }
            ]
        },
        "outlier_detection": _outlier_detection(),
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 30, "keepalive_interval": 5}
        },
        "typed_extension_protocol_options": {HTTP_OPTIONS: _http_options(want.http2)},
    }
    check = health_check(want.probe, http2=want.http2)
    if check is not None:
        result["health_checks"] = [check]
    if want.by_host:
        # A name that no endpoint has gets nothing, not somebody else's instance. That a name has one endpoint at most
        # makes one more among hundreds a third cheaper in each of Envoy's threads.
        selector = {"keys": [HOST_KEY], "single_host_per_subset": True}
        result["lb_subset_config"] = {"fallback_policy": "NO_FALLBACK", "subset_selectors": [selector]}
    return result


def _outlier_detection() -> Dict:
    """Only what we see ourselves, a refused or silent connect, ejects, and never more than half: answers of 5xx are the
    application's own business, and the wrong ejection of all would be our outage."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "0.5s",
        "base_ejection_time": "1s",
        "max_ejection_time": "5s",
        "max_ejection_percent": 50,
    }


def _http_options(http2: bool) -> Dict:
    protocol: Dict = (
        {
            "http2_protocol_options": {
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 1 << 20,
                "initial_connection_window_size": 1 << 24,
            }
        }
        if http2
        else {"http_protocol_options": {}}
    )
    return {
        "@type": TYPES + HTTP_OPTIONS,
        "common_http_protocol_options": {"idle_timeout": UPSTREAM_IDLE_TIMEOUT},
        "explicit_http_config": protocol,
    }


def health_check(probe: Probe | None, *, http2: bool) -> Dict | None:
    """The active check that stands for the probe; None where Envoy cannot make it (exec), then the endpoint's own state
    says it. The very first check of a new endpoint is made at once, and one success makes it healthy."""
    if probe is None or probe.exec is not None:
        return None
    period = max(probe.period_seconds, 0.1)
    # `no_traffic_interval` counts, before the others, for unhealthy endpoints of a cluster that had no request yet.
    unhealthy = _seconds(min(period, UNHEALTHY_INTERVAL_SECONDS))
    check: Dict = {
        "timeout": _seconds(max(probe.timeout_seconds, 0.05)),
        "interval": _seconds(period),
        "no_traffic_interval": unhealthy,
        "no_traffic_healthy_interval": _seconds(period),
        "unhealthy_interval": unhealthy,
        "healthy_threshold": max(probe.success_threshold, 1),
        "unhealthy_threshold": max(probe.failure_threshold, 1),
        "reuse_connection": False,
    }
    if probe.http_get is not None:
        check["http_health_check"] = _http_check(probe.http_get)
    elif probe.grpc is not None and http2:
        check["grpc_health_check"] = {"service_name": probe.grpc.service, "authority": "localhost"}
    else:
        check["tcp_health_check"] = {}
    return check


def _http_check(get: HttpGet) -> Dict:
    """`retriable_statuses`: without it Envoy ignores the failure threshold on an unexpected status."""
    check: Dict = {
        "host": get.host or "localhost",
        "path": get.path or "/",
        "expected_statuses": [{"start": 200, "end": 400}],
        "retriable_statuses": [{"start": 100, "end": 200}, {"start": 400, "end": 600}],
    }
    headers = [(name, value) for name, value in get.headers if name.lower() != "host"]
    check["host"] = next((value for name, value in get.headers if name.lower() == "host"), check["host"])
    if headers:
        check["request_headers_to_add"] = [
            {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for name, value in headers
        ]
    return check


_HEALTH = {
    EndpointState.ACTIVE: "HEALTHY",
    EndpointState.UNHEALTHY: "UNHEALTHY",
    EndpointState.DRAINING: "DRAINING",
}


def assignment(cluster_name: str, endpoints: Iterable[EndpointWant]) -> Dict:
    return {
        "cluster_name": cluster_name,
        "endpoints": [{"lb_endpoints": [lb_endpoint(want) for want in in_order(endpoints)]}],
    }


def in_order(endpoints: Iterable[EndpointWant]) -> list[EndpointWant]:
    """The endpoints of one cluster, in a stable order. Of two with one address the later one counts: a port is given
    out again only after its holder is gone."""
    by_address = {(want.address, want.port): want for want in endpoints}
    return [by_address[address] for address in sorted(by_address)]


def lb_endpoint(want: EndpointWant) -> Dict:
    endpoint: Dict = {"address": {"socket_address": {"address": want.address, "port_value": want.port}}}
    if want.probe_port and want.probe_port != want.port:
        endpoint["health_check_config"] = {"port_value": want.probe_port}
    result: Dict = {"endpoint": endpoint, "health_status": _HEALTH[want.state]}
    if want.host:
        # The only one under its name: out of the balancing there is nobody to take over, so it is not checked.
        endpoint.setdefault("health_check_config", {})["disable_active_health_check"] = True
        if want.state == EndpointState.ACTIVE:
            # Who gets no requests leaves the name to the next one.
            result["metadata"] = {"filter_metadata": {SUBSET_NAMESPACE: {HOST_KEY: want.host.lower()}}}
    return result


def is_address(text: str) -> bool:
    """EDS takes numbers, not names."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
