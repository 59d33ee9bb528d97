"""How instances are replaced without care: one Envoy that reads its endpoints from a file, and no draining."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.home import ROOT, environment, first_200, free_port, stop
from spinyard.proxy.bootstrap import find_envoy

EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"
APPLY_SECONDS = 0.05
"""how long Envoy gets to read the file with the new instance before the old one goes"""


@dataclass(slots=True)
class Gateway:
    folder: Path
    command: tuple[str, ...]
    env: dict[str, str]
    address: str
    instances: list[tuple[int, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start_one(self) -> None:
        port = free_port()
        env = environment(self.folder, PORT=str(port), **self.env)
        self.instances.append((port, subprocess.Popen(self.command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)))
        first_200(f"127.0.0.1:{port}", "/healthz", "localhost")

    def replace_one(self) -> None:
        self.start_one()
        self.publish()
        time.sleep(APPLY_SECONDS)
        _, old = self.instances.pop(0)
        self.publish()
        old.send_signal(signal.SIGTERM)
        old.wait(10)

    def publish(self) -> None:
        endpoints = [{"endpoint": {"address": address(port)}} for port, _ in self.instances]
        assignment = {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "app",
            "endpoints": [{"lb_endpoints": endpoints}],
        }
        publish(self.folder, "eds.json", assignment)

    def stop(self) -> None:
        for _, process in self.instances:
            stop(process)


@contextmanager
def naive_gateway(command: tuple[str, ...], replicas: int, env: dict[str, str]) -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir="/tmp") as name:
        folder, port = Path(name), free_port()
        gateway = Gateway(folder, command, env, f"127.0.0.1:{port}")
        try:
            for _ in range(replicas):
                gateway.start_one()
            gateway.publish()
            with envoy(folder, _config(folder, port)):
                first_200(gateway.address, "/healthz", "localhost")
                yield gateway
        finally:
            gateway.stop()


def _config(folder: Path, port: int) -> dict[str, Any]:
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}]
    routing = {"route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}}
    cluster = {
        "name": "app",
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": from_file(folder, "eds.json")},
    }
    return config(port, routing, [cluster])


def config(port: int, routing: dict[str, Any], clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """Of an Envoy with one listener."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{EXTENSIONS}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "naive",
        "http_filters": [router],
        **routing,
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    return {
        "node": {"id": "naive", "cluster": "naive"},
        "static_resources": {
            "listeners": [{"name": "gateway", "address": address(port), "filter_chains": [chain]}],
            "clusters": clusters,
        },
    }


def from_file(folder: Path, name: str) -> dict[str, Any]:
    """Envoy watches the folder for a file that is moved into place."""
    source = {"path": str(folder / name), "watched_directory": {"path": str(folder)}}
    return {"resource_api_version": "V3", "path_config_source": source}


def publish(folder: Path, name: str, resource: dict[str, Any]) -> None:
    fresh = folder / f"{name}.new"
    fresh.write_text(json.dumps({"version_info": str(time.monotonic_ns()), "resources": [resource]}))
    os.replace(fresh, folder / name)


@contextmanager
def envoy(folder: Path, of: dict[str, Any]) -> Iterator[None]:
    (folder / "envoy.json").write_text(json.dumps(of))
    words = [str(find_envoy()), "-c", str(folder / "envoy.json"), "--disable-hot-restart", "--concurrency", "1"]
    process = subprocess.Popen([*words, "--log-level", "error"], stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        stop(process)


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
