"""What the tests of a boundary share: a server in a thread, something that stands where Envoy stands, and weights."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

from spinyard_sdk import sides
from spinyard_sdk.flags import Flag
from spinyard_sdk.wire import KEY_HEADER, SHADOW_HEADER, SIDE_HEADER, UNIT, side_of

HOST = "thumbs.default.boundary.internal"


@contextlib.contextmanager
def serving(app: Any) -> Iterator[int]:
    """The port of a real server, in a thread of its own."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server: Any = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


class Middle:
    """Does what Envoy does under the host name of a boundary. `say`: answers that itself instead; `hang`: not now."""

    def __init__(self, unit: Any, weight: int = 10_000) -> None:
        self.unit = unit
        self.weight = weight
        self.say: tuple[int, dict[str, str], bytes] | None = None
        self.hang = threading.Event()
        self.seen: list[dict[str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.seen.append({**headers, ":path": scope["path"]})
        while self.hang.is_set():  # noqa: ASYNC110 -- set from another thread
            await asyncio.sleep(0.01)
        if self.say is not None:
            await _answer(send, *self.say)
        elif self._is_units(headers):
            await self.unit(scope, receive, send)
        else:
            await _answer(send, 421, {SIDE_HEADER: "parent"}, b"local")

    def _is_units(self, headers: dict[str, str]) -> bool:
        if SHADOW_HEADER in headers:
            return True
        if self.weight and headers.get(SIDE_HEADER):
            return headers[SIDE_HEADER] == UNIT
        key = headers.get(KEY_HEADER, "")
        return bool(key) and side_of(key, self.weight) == UNIT


async def _answer(send: Any, status: int, headers: dict[str, str], body: bytes) -> None:
    found = [(name.encode(), value.encode()) for name, value in headers.items()]
    found.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": found})
    await send({"type": "http.response.body", "body": body})


def say_problem(code: str, status: int = 503) -> tuple[int, dict[str, str], bytes]:
    """As Envoy's local replies are (proxy.translate_listener)."""
    body = f'{{"type":"https://spinyard.dev/problems/{code}","code":"{code}","status":{status}}}'.encode()
    return status, {"content-type": "application/problem+json"}, body


def tell(boundary: str, port: int, *, weight: int = 0, shadow: int = 0, host: str = HOST) -> None:
    """As if the control plane had said so."""
    sides._SOURCE._start()
    sides._SOURCE._take({boundary: Flag(weight, shadow, f"127.0.0.1:{port}", host)})


def keys_of(side: str, weight: int, number: int = 3) -> list[str]:
    found = (f"key-{n}" for n in range(100_000))
    return [key for _, key in zip(range(number), (k for k in found if side_of(k, weight) == side), strict=False)]
