"""The flags, for instances: on the port where they send their spans, so that there is one address to be told."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from spinyard.api.deps import Notifier
from spinyard.api.ofrep import PREFIX, OfrepApp, OfrepDeps
from spinyard.ports.clock import Clock
from spinyard.ports.store import Store
from spinyard.wiring.threads import Threads


def open_flags(store: Store, threads: Threads, notifier: Notifier, clock: Clock, inside: str = "") -> OfrepApp:
    """`inside`: host:port where Envoy takes calls of our own instances; empty: nowhere, and the SDK stays local."""
    return OfrepApp(OfrepDeps(store, threads.read, notifier, clock, lambda: inside))


def beside(flags: OfrepApp, other: ASGIApp) -> ASGIApp:
    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        is_flag = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (flags if is_flag else other)(scope, receive, send)

    return both
