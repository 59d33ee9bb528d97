"""How the gallery and what was carried out of it listen, serve with uvicorn, and say what happens."""

from __future__ import annotations

import json
import socket
from typing import Any

import uvicorn

from examples.gallery.gate import Gate

REQUESTS_AT_ONCE_MAX = 1_024  # uvicorn counts idle connections too, and Envoy keeps many
# Envoy keeps idle connections to us for an hour. If we closed them earlier, a request could be on its way at that very
# moment and be lost; uvicorn's default of 5 s does exactly that.
KEEP_ALIVE_SECONDS = 3_900


class _Server(uvicorn.Server):
    """uvicorn, which also tells the gate that the end is near."""

    def __init__(self, config: uvicorn.Config, gate: Gate) -> None:
        super().__init__(config)
        self._gate = gate

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._gate.is_stopping = True
        super().handle_exit(sig, frame)


def serve(gate: Gate, listener: socket.socket, *, grace_seconds: float) -> None:
    """Returns when a signal has ended it and everything in flight was answered."""
    config = uvicorn.Config(
        gate,
        loop="asyncio",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=REQUESTS_AT_ONCE_MAX,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(grace_seconds)),
    )
    _Server(config, gate).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio switches Nagle off only for sockets that name it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener


def say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)
