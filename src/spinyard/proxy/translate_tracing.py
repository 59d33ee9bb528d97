"""PURE. How Envoy traces: what it records, and where it tells it.

A request that comes with a sampled `traceparent` is recorded, one that says "not sampled" is not, whatever the share
is; the share decides for those that bring none. Envoy sends in batches and drops what the receiver does not take:
requests never wait for it.

Envoy since 1.39 records a request with a sampled `traceparent` only if its own dice say so too, and else tells those
behind it that the trace is not sampled, which cuts it in two (envoy#45830). A header of its own counts as "yes":
`decided_by_caller` sets that one for whoever brings a `traceparent`, and nobody behind sees it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from spinyard.core.trace import CLUSTER, GATEWAY_SERVICE, SIDE
from spinyard.proxy.translate import TYPES
from spinyard_sdk.wire import SIDE_HEADER

Dict = dict[str, Any]

RECEIVER: Final = "spinyard-otlp"
"""name of Envoy's cluster; also what it writes as Host"""
FORCING_HEADER: Final = "x-client-trace-id"
BATCH_SPANS: Final = 64
BATCH_MILLISECONDS: Final = 500
SEND_SECONDS: Final = 2


def receiver_cluster(socket: Path) -> Dict:
    """Static: the server listens on a socket in its home."""
    pipe = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    return {
        "name": RECEIVER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": RECEIVER, "endpoints": [{"lb_endpoints": [pipe]}]},
        # Spans that nobody takes must not pile up.
        "circuit_breakers": {"thresholds": [{"max_connections": 2, "max_pending_requests": 16, "max_requests": 16}]},
    }


def tracing(share: float) -> Dict:
    """For the connection manager. `share`: 0 to 1, of the requests that come without a traceparent."""
    return {
        "random_sampling": {"value": round(share * 100, 4)},
        "client_sampling": {"value": 100},
        "spawn_upstream_span": True,
        # Without the query: tokens travel there.
        "operation": "%REQ(:METHOD)% %PATH(NQ)%",
        "upstream_operation": "to %UPSTREAM_CLUSTER%",
        "max_path_tag_length": 256,
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": TYPES + "envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": GATEWAY_SERVICE,
                "http_service": {
                    "http_uri": {
                        "uri": f"http://{RECEIVER}/v1/traces",
                        "cluster": RECEIVER,
                        "timeout": f"{SEND_SECONDS}s",
                    }
                },
            },
        },
        "custom_tags": [
            {"tag": SIDE, "request_header": {"name": SIDE_HEADER}},
            {"tag": CLUSTER, "value": "%UPSTREAM_CLUSTER%"},
        ],
    }


def decided_by_caller() -> list[Dict]:
    """Mutations of a request's headers before anything looks at them."""
    header = {"header": {"key": FORCING_HEADER, "value": "%REQ(TRACEPARENT)%"}}
    return [{"remove": FORCING_HEADER}, {"append": {**header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}]


def always() -> Dict:
    """For a route whose requests are all recorded, but for those that say they are not: beside `match` and `route`."""
    whole = {"numerator": 100, "denominator": "HUNDRED"}
    return {"tracing": {"client_sampling": whole, "random_sampling": whole, "overall_sampling": whole}}


def runtime() -> Dict:
    return {
        "tracing.opentelemetry.flush_interval_ms": BATCH_MILLISECONDS,
        "tracing.opentelemetry.min_flush_spans": BATCH_SPANS,
    }
