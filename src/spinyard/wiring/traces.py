"""Where spans arrive: a socket in the home for Envoy, a loopback port for the instances, who read their flags there
too; and where spans are kept."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from spinyard.api.connection import BoundedConnection
from spinyard.api.ofrep import OfrepApp
from spinyard.api.otlp import OtlpApp, OtlpDeps
from spinyard.errors import SystemFailure
from spinyard.ports.clock import Clock
from spinyard.settings import Settings
from spinyard.telemetry.receive import Receiver, answer, refusal
from spinyard.telemetry.store import TraceStore
from spinyard.wiring.flags import beside

_log = structlog.get_logger(__name__)

BACKLOG_MAX = 256


@dataclass(frozen=True, slots=True)
class Traces:
    """`address`: what instances are told, `http://host:port`; empty when none is offered to them."""

    store: TraceStore
    app: OtlpApp
    listeners: tuple[socket.socket, ...]
    address: str
    flags: OfrepApp | None = None

    async def serve(self, stopping: asyncio.Event) -> None:
        """Until told to stop."""
        config = uvicorn.Config(
            self.app if self.flags is None else beside(self.flags, self.app),
            http=BoundedConnection,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="uvloop",
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        server: Any = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve(list(self.listeners)), name="otlp")
        waiting: list[asyncio.Task[Any]] = [asyncio.create_task(stopping.wait())]
        if self.flags is not None:
            waiting.append(asyncio.create_task(self.flags.board.follow(), name="flags"))
        try:
            done, _ = await asyncio.wait([serving, *waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waiting:
                task.cancel()
            if self.flags is not None:
                self.flags.streams.close()
            server.should_exit = True
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


def open_traces(settings: Settings, clock: Clock, flags: OfrepApp | None = None) -> Traces:
    """Raises SystemFailure: otlp_port_taken, otlp_not_loopback."""
    store = TraceStore(clock, bytes_max=settings.traces_bytes_max, age_seconds_max=settings.traces_seconds_max)
    app = OtlpApp(OtlpDeps(Receiver(store), answer, refusal, clock))
    listeners = [_unix(settings.otlp_socket)]
    address = ""
    if settings.otlp:
        listeners.append(_loopback(settings))
        address = "http://{}:{}".format(*_shown(listeners[-1]))
    return Traces(store, app, tuple(listeners), address, flags)


def _unix(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG_MAX)
    return listener


def _loopback(settings: Settings) -> socket.socket:
    """The port that is written down is taken again after a restart: instances that run were told it."""
    host, _, port = settings.otlp.rpartition(":")
    host = host.strip("[]")
    _check_loopback(settings.otlp, host)
    file = settings.run_dir / "otlp-port"
    before = _remembered(file) if port == "0" else 0
    for number in (before, int(port)) if before else (int(port),):
        try:
            listener = _bound(host, number)
        except OSError as cause:
            if number == before:
                _log.warning("otlp_port_lost", port=number, why=f"{cause.strerror}: instances that run go on without")
                continue
            raise _taken(settings.otlp, cause) from cause
        break
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{listener.getsockname()[1]}\n")
    os.replace(fresh, file)
    return listener


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # At once: two that only bind do not notice each other. Who connects early waits until we serve.
        listener.listen(BACKLOG_MAX)
    except OSError:
        listener.close()
        raise
    return listener


def _shown(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return (f"[{host}]" if ":" in host else host), port


def _remembered(file: Path) -> int:
    try:
        number = int(file.read_text())
    except (OSError, ValueError):
        return 0
    return number if 0 < number < 65536 else 0


def _check_loopback(address: str, host: str) -> None:
    # A name is none: it may mean another machine tomorrow.
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    failure = SystemFailure(
        f"spans cannot be taken on {address}: whoever connects may send them, so only loopback is possible",
        code="otlp_not_loopback",
        next_step='set "otlp" in settings.json to 127.0.0.1:PORT, or to "" for none',
    )
    failure.fault = "user"
    raise failure


def _taken(address: str, cause: OSError) -> SystemFailure:
    failure = SystemFailure(
        f"spans cannot be taken on {address}: {cause.strerror}",
        code="otlp_port_taken",
        next_step='set "otlp" in settings.json to another port, or 127.0.0.1:0 for any free one',
    )
    failure.fault = "user"
    return failure
