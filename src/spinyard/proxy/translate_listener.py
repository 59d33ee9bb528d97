"""PURE. The gateway's listener: what is the same for every route.

Follows Envoy's advice for edge proxies; the words a caller meets when there is no route or no instance stand here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spinyard.proxy import translate_force, translate_tracing
from spinyard.proxy.translate import ADS, BUFFER_BYTES_MAX, HOST_KEY, SUBSET_NAMESPACE, TYPES

Dict = dict[str, Any]

LISTENER = "gateway"
ROUTES = "gateway"
HTTP_CONNECTIONS = TYPES + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where users come in. Certificate and key: PEM files, both or none. `trace_share`: 0 to 1, of the requests without
    a traceparent that are recorded; None: nothing is traced."""

    address: str
    port: int
    certificate_file: str = ""
    key_file: str = ""
    trace_share: float | None = None


def gateway_of(
    address: str, certificate_file: str = "", key_file: str = "", trace_share: float | None = None
) -> Gateway:
    """From `host:port` (`[::1]:8080` for IPv6; no host: loopback). Raises ValueError."""
    host, colon, port = address.rpartition(":")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host.strip("[]"))
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not HOST:PORT")
    if bool(certificate_file) != bool(key_file):
        raise ValueError("TLS needs a certificate and a key, only one of them was given")
    if trace_share is not None and not 0 <= trace_share <= 1:
        raise ValueError(f"a share of traces is 0 to 1, not {trace_share}")
    return Gateway(host, int(port), certificate_file, key_file, trace_share)


def listener(gateway: Gateway, name: str = LISTENER, mutations: list[Dict] | None = None) -> Dict:
    """`mutations`: of a request's headers before anything looks at them; else those for outsiders."""
    connections = _http_connections(gateway, name, outsiders() if mutations is None else mutations)
    chain: Dict = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}]}
    if gateway.certificate_file:
        chain["transport_socket"] = _tls(gateway)
    return {
        "name": name,
        "address": {"socket_address": {"address": gateway.address, "port_value": gateway.port}},
        # With SO_REUSEPORT a second Envoy on the same port would not be refused, and take half of the requests.
        "enable_reuse_port": False,
        "connection_balance_config": {"exact_balance": {}},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES_MAX,
        "filter_chains": [chain],
    }


def _tls(gateway: Gateway) -> Dict:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": TYPES + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": gateway.certificate_file},
                        "private_key": {"filename": gateway.key_file},
                    }
                ],
            },
        },
    }


def _http_connections(gateway: Gateway, stat_prefix: str, mutations: list[Dict]) -> Dict:
    traced = {} if gateway.trace_share is None else {"tracing": translate_tracing.tracing(gateway.trace_share)}
    return {
        **traced,
        "@type": HTTP_CONNECTIONS,
        "stat_prefix": stat_prefix,
        "codec_type": "AUTO",
        "rds": {"route_config_name": ROUTES, "config_source": ADS},
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "early_header_mutation_extensions": [_early(mutations, is_traced=bool(traced))],
        "http_filters": [
            translate_force.http_filter(),
            _host_for_subsets(),
            _grpc_statuses(),
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": TYPES + "envoy.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 200,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 1 << 16,
            "initial_connection_window_size": 1 << 20,
            "allow_connect": True,
        },
        "max_request_headers_kb": 60,
        "request_headers_timeout": "10s",
        # Until the whole request is there, or the answer has begun.
        "request_timeout": "300s",
        # Until a route is chosen; the routes have their own, longer one, for streams that are silent for a while.
        "stream_idle_timeout": "300s",
        "drain_timeout": "5s",
        "delayed_close_timeout": "1s",
        "local_reply_config": local_replies(),
    }


def _host_for_subsets() -> Dict:
    """The host name without its port, for clusters whose endpoints each have a name of their own; others never look.
    As the client wrote it: one that does not write it in lower case, as browsers do, is not understood here."""
    return {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": TYPES + "envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [
                {
                    "header": ":authority",
                    "on_header_present": {
                        "metadata_namespace": SUBSET_NAMESPACE,
                        "key": HOST_KEY,
                        "type": "STRING",
                        "regex_value_rewrite": {"pattern": {"regex": "^([^:]*)(:[0-9]+)?$"}, "substitution": "\\1"},
                    },
                }
            ],
        },
    }


def _grpc_statuses() -> Dict:
    """Counted by cluster, not by method: those are without bound. A failed gRPC call is an HTTP answer of 200."""
    return {
        "name": "envoy.filters.http.grpc_stats",
        "typed_config": {
            "@type": TYPES + "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
            "individual_method_stats_allowlist": {},
        },
    }


def outsiders() -> list[Dict]:
    """Nothing they say of what we say among ourselves is believed; a tester's token speaks for itself."""
    ours = {"safe_regex": {"regex": all_but("x-spinyard-", translate_force.HEADER.removeprefix("x-spinyard-"))}}
    return [_without({"prefix": "x-envoy-", "ignore_case": True}), _without(ours)]


def insiders(mark: Dict) -> list[Dict]:
    """`mark`: a header that tells them from outsiders."""
    return [_without({"prefix": "x-envoy-", "ignore_case": True}), {"append": mark}]


def all_but(prefix: str, kept: str) -> str:
    """A pattern, for whole names, of those that begin with `prefix`, other than `prefix` + `kept`."""
    shorter = [f"{kept[:length]}([^{kept[length]}].*)?" for length in range(len(kept))]
    return f"{prefix}({'|'.join([*shorter, kept + '.+'])})"


def _without(key_matcher: Dict) -> Dict:
    return {"remove_on_match": {"key_matcher": key_matcher}}


def _early(mutations: list[Dict], *, is_traced: bool) -> Dict:
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": TYPES + "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": mutations + (translate_tracing.decided_by_caller() if is_traced else []),
        },
    }


@dataclass(frozen=True, slots=True)
class _Reply:
    flags: tuple[str, ...]
    code: str
    title: str
    detail: str
    retryable: bool


_REPLIES = (
    _Reply(
        ("NR",),
        "no_route",
        "No route",
        "No route takes this host and path. See the routes with: spinyard get service",
        False,
    ),
    _Reply(
        ("UH", "NC"),
        "no_instance",
        "No instance",
        "The service of this route has no instance that is ready. It is known to be so only now; try again.",
        True,
    ),
    _Reply(
        ("UF",),
        "instance_unreachable",
        "Instance unreachable",
        "No connection to an instance of this service could be made; nothing of the request was sent.",
        True,
    ),
    _Reply(("UO",), "overloaded", "Overloaded", "Too many requests to this service at once.", True),
    _Reply(
        ("UC", "UR", "URX", "LR"),
        "connection_lost",
        "Connection lost",
        "The connection to the instance was lost before it answered; the request may have been carried out.",
        False,
    ),
    _Reply(
        ("UT", "SI"), "timeout", "Timeout", "The instance did not answer within the time limit of the route.", False
    ),
)


# Envoy itself says 401 to a bad token only.
_FORCE_REFUSED = _Reply(
    (),
    "force_refused",
    "Side not forced",
    f"The token in {translate_force.HEADER} does not choose a side here: %RESPONSE_CODE_DETAILS%. It may have expired, "
    "or be of another spinout. Make a new one with: spinyard spinout token",
    False,
)


def local_replies() -> Dict:
    """Only what Envoy itself says; an application's own 404 or 503 passes untouched."""
    is_401 = {"comparison": {"op": "EQ", "value": {"default_value": 401, "runtime_key": "spinyard.no_such_key"}}}
    mappers = [_mapper(reply, {"response_flag_filter": {"flags": list(reply.flags)}}) for reply in _REPLIES]
    return {"mappers": [*mappers, _mapper(_FORCE_REFUSED, {"status_code_filter": is_401})]}


def _mapper(reply: _Reply, which: Dict) -> Dict:
    result: Dict = {
        "filter": which,
        "body_format_override": {
            "json_format": {
                "type": f"https://spinyard.dev/problems/{reply.code}",
                "title": reply.title,
                "status": "%RESPONSE_CODE%",
                "code": reply.code,
                "detail": reply.detail,
                "retryable": reply.retryable,
                "host": "%REQ(:AUTHORITY):200%",
                "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):200%",
            },
            "content_type": "application/problem+json",
        },
    }
    if reply.retryable:
        result["headers_to_add"] = [
            {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ]
    return result
