"""The server process.

Order at start: the store (which locks it), the epoch (which fences whoever was here before), the data plane from the
ledger, then Envoy, the engine and the API. `run/server.json` is written last: what it names answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from importlib.metadata import version
from typing import Any

import structlog
import uvicorn
import uvloop

from spinyard.api.connection import BoundedConnection
from spinyard.clock import SystemClock
from spinyard.errors import SystemFailure
from spinyard.settings import Settings
from spinyard.wiring.api_deps import app_of
from spinyard.wiring.assemble import assembled
from spinyard.wiring.collector import calm_collector
from spinyard.wiring.gateway import start_gateway
from spinyard.wiring.token import is_own_token, rotate_token


def serve(settings: Settings) -> int:
    """The server in the foreground, until SIGTERM or SIGINT. Raises from our tree when it cannot start."""
    configure_logs()
    calm_collector()
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:

    for directory in (settings.home, settings.run_dir, settings.log_dir, settings.data_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_own_token(settings.token_file):
        rotate_token(settings)
    settings.server_file.unlink(missing_ok=True)
    async with assembled(settings) as parts:
        listener = _listen(settings.api)
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        stopping = asyncio.Event()
        problems: list[str] = ["starting"]
        app = app_of(parts, url, lambda: problems[0] if problems else "")
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
            lifespan="off",
            loop="uvloop",
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        tasks = [
            asyncio.create_task(_api(server, listener), name="api"),
            asyncio.create_task(parts.traces.serve(stopping), name="traces"),
            asyncio.create_task(parts.watch.run(), name="watch"),
            asyncio.create_task(stopping.wait(), name="signal"),
        ]
        try:
            await start_gateway(parts)
            problems.clear()
            parts.context.failpoint("ready:before")
            _write_server_file(settings, url)
            parts.context.failpoint("ready:after")
            # Last: what there is to catch up with must not keep callers waiting. The data plane serves meanwhile.
            tasks.append(asyncio.create_task(parts.engine.run(), name="engine"))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            settings.server_file.unlink(missing_ok=True)
            app.state.streams.close()
            server.should_exit = True
            await asyncio.gather(tasks[0], return_exceptions=True)
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return 0


async def _api(server: Any, listener: socket.socket) -> None:
    """uvicorn without its own signal handling: ours stops everything in order."""
    with contextlib.suppress(asyncio.CancelledError):
        await server._serve([listener])


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, or asyncio leaves out TCP_NODELAY and each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as cause:
        listener.close()
        failure = SystemFailure(
            f"the API cannot listen on {address}: {cause.strerror}",
            code="api_port_taken",
            next_step="give another address with --api, or 127.0.0.1:0 for any free port",
        )
        failure.fault = "user"
        raise failure from cause
    return listener


def _write_server_file(settings: Settings, url: str) -> None:
    data = {
        "url": url,
        "pid": os.getpid(),
        "gateway": settings.gateway,
        "version": version("spinyard"),
        "started_at": SystemClock().now(),
    }
    fresh = settings.server_file.with_suffix(".new")
    fresh.write_text(json.dumps(data) + "\n")
    fresh.replace(settings.server_file)


def configure_logs() -> None:
    """One JSON object a line on stdout, which the keeper keeps in bounded files."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )
