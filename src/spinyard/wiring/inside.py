"""The listener for calls of our own instances: where it is, and who compares what Envoy copies."""

from __future__ import annotations

import os
import socket
from itertools import chain
from pathlib import Path

from spinyard.core.spec import Kind
from spinyard.core.spinout import SpinoutSpec
from spinyard.engine.context import Run
from spinyard.errors import SystemFailure
from spinyard.ports.clock import Clock
from spinyard.ports.store import Store
from spinyard.proxy.translate_inside import Inside
from spinyard.settings import Settings
from spinyard.shadow.comparator import Comparator
from spinyard.spinout.compare import Rules

ADDRESS = "127.0.0.1"
# Below the range that kernels take ports of outgoing connections from, and below our instances'.
FIRST_PORT, LAST_PORT = 15000, 19999
RULES_SECONDS = 2.0


def inside_of(settings: Settings) -> Inside:
    """The port is the same after every restart: instances were told it, and an Envoy that runs listens there."""
    return Inside(
        port=_port(settings.run_dir / "inside-port"),
        local_socket=settings.run_dir / "local.sock",
        comparator_socket=settings.run_dir / "shadow.sock",
        asked_socket=settings.run_dir / "asked.sock",
    )


def _port(file: Path) -> int:
    try:
        before = int(file.read_text())
        if FIRST_PORT <= before <= LAST_PORT:
            return before
    except (OSError, ValueError):
        pass  # the first start
    first = FIRST_PORT + os.getpid() * 7 % (LAST_PORT - FIRST_PORT)
    for number in chain(range(first, LAST_PORT + 1), range(FIRST_PORT, first)):
        if not _is_free(number):
            continue
        fresh = file.with_suffix(".new")
        fresh.write_text(f"{number}\n")
        os.replace(fresh, file)
        return number
    raise SystemFailure(
        f"every port of {ADDRESS} from {FIRST_PORT} to {LAST_PORT} is taken: none is left for calls from inside",
        code="inside_port_taken",
        next_step="end what listens there",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def comparator_of(inside: Inside, store: Store, read: Run, clock: Clock) -> Comparator:
    assert inside.comparator_socket is not None and inside.asked_socket is not None
    rules = _SpinoutRules(store, read, clock)
    return Comparator(inside.comparator_socket, inside.asked_socket, clock, rules.find)


class _SpinoutRules:
    """What may differ, as the Spinout says now; read once in a moment."""

    def __init__(self, store: Store, read: Run, clock: Clock) -> None:
        self._store, self._read, self._clock = store, read, clock
        self._known: dict[str, tuple[float, Rules | None]] = {}

    async def find(self, boundary: str) -> Rules | None:
        now = self._clock.monotonic()
        known = self._known.get(boundary)
        if known is not None and now - known[0] < RULES_SECONDS:
            return known[1]
        self._known = {name: one for name, one in self._known.items() if now - one[0] < RULES_SECONDS}
        rules = await self._read(lambda: self._rules(boundary))
        self._known[boundary] = (now, rules)
        return rules

    def _rules(self, boundary: str) -> Rules | None:
        _, namespace, name, _ = boundary.split("/", 3)
        found = self._store.read(lambda tx: tx.find(Kind.SPINOUT, namespace, name), now=self._clock.now())
        if found is None or not isinstance(found.row.spec, SpinoutSpec):
            return None
        shadow = found.row.spec.shadow
        return Rules(frozenset(shadow.ignore), frozenset(shadow.unordered), frozenset(shadow.redact))
