"""Where the server of a home listens, and how to be let in: `run/server.json` and `token`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spinyard.client.client import Client
from spinyard.client.transport import Address
from spinyard.errors import Unauthenticated, Unreachable


@dataclass(frozen=True, slots=True)
class ServerFile:
    url: str
    pid: int
    gateway: str
    version: str


def read_server_file(home: Path) -> ServerFile | None:
    """None when there is none, or none that makes sense (the server writes it last, when it answers)."""
    try:
        data = json.loads((home / "run" / "server.json").read_bytes())
        return ServerFile(str(data["url"]), int(data["pid"]), str(data["gateway"]), str(data.get("version", "")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def from_home(home: Path, *, actor: str = "", patience_seconds: Callable[[], float] = lambda: 0.0) -> Client:
    """A client for the server of that home; whether one runs shows at the first request."""

    def locate() -> Address:
        server = read_server_file(home)
        if server is None:
            raise Unreachable(
                f"no server runs for home {home}",
                next_step="start one with `spinyard server`, or with `spinyard up -f FILE`",
            )
        return Address(server.url, _token(home))

    return Client(locate, actor=actor, patience_seconds=patience_seconds)


def _token(home: Path) -> str:
    path = home / "token"
    try:
        return path.read_text().strip()
    except OSError as cause:
        raise Unauthenticated(
            f"cannot read the token {path}: {cause.strerror}",
            next_step="run as the user who started the server, or give the right --home",
        ) from cause
