"""Puts the parts together; the only package that names concrete ones.

What it offers loads its own parts when it is called: a command line that needs none of them starts without them.
"""

from __future__ import annotations

from pathlib import Path

from spinyard.settings import Settings


def serve(settings: Settings) -> int:
    """The server in the foreground, until SIGTERM or SIGINT. Raises from our tree when it cannot start."""
    from spinyard.wiring.collector import no_collector_meanwhile

    no_collector_meanwhile()
    from spinyard.wiring import server

    return server.serve(settings)


def doctor(settings: Settings) -> list[dict[str, object]]:
    """What this machine and this home offer; `ok` is True, False or "warn"."""
    from spinyard.wiring import machine

    return machine.doctor(settings)


def restore_backup(settings: Settings, path: Path) -> None:
    from spinyard.wiring import stores

    stores.restore_backup(settings, path)


def rotate_token(settings: Settings) -> None:
    """A new one, 0600, in one rename: there is no moment without a token."""
    from spinyard.wiring import token

    token.rotate_token(settings)
