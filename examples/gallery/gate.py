"""The outermost layer: readiness, counters, headers, and the faults that canary acts ask for. Pure ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from examples.gallery.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Questions about the instance itself: answered in every state, never counted as traffic, never failed on purpose.
INSTANCE_PATHS = frozenset({"/healthz", "/version", "/stats"})


class Gate:
    """Lets a request through only while the instance is ready, and remembers each one that should not have come."""

    def __init__(self, app: App, settings: Settings, note_refused: Callable[[], None]) -> None:
        self._app, self._settings, self._note_refused = app, settings, note_refused
        self.is_ready = False  # the store is open
        self.is_stopping = False  # SIGTERM came: requests still get their answer, the probe says no
        self.received = self.refused = self.late = self.failed_on_purpose = self.in_flight = 0
        self._headers = [
            (b"x-gallery-instance", settings.instance.encode("latin-1", "replace")),
            (b"x-gallery-version", settings.version.encode("latin-1", "replace")),
        ]

    def as_dict(self) -> dict[str, object]:
        return {
            "instance": self._settings.instance,
            "version": self._settings.version,
            "ready": self.is_ready and not self.is_stopping,
            "received": self.received,
            "received_while_not_ready": self.refused,
            "received_while_stopping": self.late,
            "failed_on_purpose": self.failed_on_purpose,
            "in_flight": self.in_flight,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        if scope["path"] in INSTANCE_PATHS:
            await self._app(scope, receive, send_with_headers)
            return
        self.received += 1
        self.late += self.is_stopping
        self.in_flight += 1
        try:
            await self._admit(scope, receive, send_with_headers)
        finally:
            self.in_flight -= 1

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.is_ready:
            self.refused += 1
            await asyncio.to_thread(self._note_refused)
            await _refuse(send, 503, "not-ready", [(b"retry-after", b"1"), (b"x-gallery-not-ready", b"1")])
        elif self._must_fail():
            self.failed_on_purpose += 1
            await _refuse(send, 500, "failed-on-purpose", [(b"x-gallery-failed-on-purpose", b"1")])
        else:
            if self._settings.delay_seconds:
                await asyncio.sleep(self._settings.delay_seconds)
            await self._app(scope, receive, send)

    def _must_fail(self) -> bool:
        """Exactly rate x n of the first n requests, evenly spread: the same on each run."""
        rate = self._settings.fail_rate
        return int(self.received * rate) > int((self.received - 1) * rate)


async def _refuse(send: Send, status: int, code: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = json.dumps({"type": "about:blank", "title": code, "status": status, "code": code}).encode()
    kind = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers]})
    await send({"type": "http.response.body", "body": body})
