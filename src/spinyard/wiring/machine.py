"""What this machine and this home offer."""

from __future__ import annotations

import sys

from spinyard.clock import SystemClock
from spinyard.errors import ServerAlreadyRunning, StoreFailure, SystemFailure
from spinyard.keeper import capabilities
from spinyard.providers.process.preflight import machine_checks
from spinyard.proxy.bootstrap import find_envoy
from spinyard.settings import Settings
from spinyard.wiring.stores import open_store


def doctor(settings: Settings) -> list[dict[str, object]]:
    """What this machine and this home offer; `ok` is True, False or "warn"."""
    checks: list[dict[str, object]] = []

    def add(name: str, ok: object, detail: str, next_step: str = "") -> None:
        checks.append({"name": name, "ok": ok, "detail": detail, "next_step": next_step})

    add("python", True, f"{sys.version.split()[0]} at {sys.executable}")
    try:
        add("envoy", True, str(find_envoy()))
    except SystemFailure as failure:
        add("envoy", False, failure.message, failure.next_step)
    try:
        store = open_store(settings, SystemClock()) if settings.store_file.exists() else None
        add("store", True, "readable" if store is not None else "not made yet")
        if store is not None:
            store.close()
    except (StoreFailure, ServerAlreadyRunning) as failure:
        in_use = failure.code in ("store_locked", "server_already_running")
        add("store", in_use, "in use by the server" if in_use else failure.message, failure.next_step)
    for name, found in capabilities.describe().items():
        add(f"limit {name}", bool(found["enforced"]) or "warn", str(found["how"]))
    for check in machine_checks(settings.home, settings.port_range):
        add(
            check.check,
            True if check.status == "ok" else "warn" if check.status == "warning" else False,
            check.message,
            check.next_step,
        )
    return checks
