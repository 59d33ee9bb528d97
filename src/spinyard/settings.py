"""One frozen Settings, made once at the edge and passed in. Environment variables: SPINYARD_HOME only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    gateway: str = "127.0.0.1:8080"
    api: str = "127.0.0.1:0"
    database_url: str = ""
    """empty: SQLite in the home"""
    gateway_tls_certificate: str = ""
    gateway_tls_key: str = ""
    port_range: tuple[int, int] = (20000, 29999)
    otlp: str = "127.0.0.1:0"
    """where instances send their spans, loopback only; port 0: any, and then always the same; empty: nowhere"""
    trace_share: float = 0.01
    """of the requests that come to the gateway without a traceparent, how many are traced"""
    traces_bytes_max: int = 64 << 20
    traces_seconds_max: float = 3600.0
    lease_seconds: float = 15.0
    poll_seconds: float = 0.25
    sweep_seconds: float = 30.0
    sweep_grace_seconds: float = 60.0
    inventory_seconds: float = 30.0
    in_flight_max: int = 512
    batch_max: int = 256
    body_bytes_max: int = 1 << 20
    page_max: int = 200
    finished_keep_max: int = 10_000
    events_keep_max: int = 200_000
    events_keep_seconds: float = 7 * 86400.0

    @property
    def run_dir(self) -> Path:
        return self.home / "run"

    @property
    def keeper_socket(self) -> Path:
        return self.run_dir / "keeper.sock"

    @property
    def xds_socket(self) -> Path:
        return self.run_dir / "xds.sock"

    @property
    def admin_socket(self) -> Path:
        return self.run_dir / "envoy-admin.sock"

    @property
    def otlp_socket(self) -> Path:
        return self.run_dir / "otlp.sock"

    @property
    def server_file(self) -> Path:
        """JSON: url, pid, gateway, started_at, version. Written by the server when it answers."""
        return self.run_dir / "server.json"

    @property
    def token_file(self) -> Path:
        return self.home / "token"

    @property
    def store_file(self) -> Path:
        return self.home / "spinyard.db"

    @property
    def log_dir(self) -> Path:
        return self.home / "logs"

    @property
    def data_dir(self) -> Path:
        return self.home / "data"


def default_home() -> Path:
    """SPINYARD_HOME, or `~/.spinyard`."""
    return Path(os.environ.get("SPINYARD_HOME") or Path.home() / ".spinyard").expanduser().absolute()
