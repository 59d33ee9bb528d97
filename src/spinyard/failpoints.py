"""Named places in the server where crash tests make it fail. Off unless SPINYARD_FAILPOINT is set; then it says where:

    PLACE[@N][=MODE], more of them separated by commas

At the N-th passing of that place (first: 1) the server is killed with SIGKILL, or with `=raise` the passing fails, or
with `=sleep:SECONDS` everything in this process stands still for so long. Each entry fires once in the life of a home:
the keeper starts the server again with the same environment, and it must get past that place then. `list` alone writes
every place that is passed to `run/failpoints.seen`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spinyard.engine.context import no_failpoint
from spinyard.errors import SystemFailure

FIRED = "failpoints.fired"
SEEN = "failpoints.seen"
LISTED_MAX = 100_000


class InjectedFailure(SystemFailure):
    code = "injected_failure"


@dataclass(slots=True)
class _Entry:
    text: str
    place: str
    left: int
    mode: str


def failpoints(text: str, run_dir: Path) -> Callable[[str], None]:
    """What to call at each place. Raises ValueError when the text makes no sense."""
    if not text:
        return no_failpoint
    if text == "list":
        return _list(run_dir / SEEN)
    fired_file = run_dir / FIRED
    fired = set(fired_file.read_text().splitlines()) if fired_file.exists() else set()
    entries = [_parse(word) for word in text.split(",") if word not in fired]

    def at(here: str) -> None:
        for entry in entries:
            if entry.place != here:
                continue
            entry.left -= 1
            if entry.left == 0:
                with fired_file.open("a") as file:
                    file.write(entry.text + "\n")
                _fire(entry)

    return at


def _parse(text: str) -> _Entry:
    head, _, mode = text.partition("=")
    place, _, count = head.partition("@")
    name, _, seconds = mode.partition(":")
    known = name in ("", "kill", "raise") or (name == "sleep" and float(seconds) > 0)
    if not place or not known or (count and int(count) < 1):
        raise ValueError(f"SPINYARD_FAILPOINT: {text!r} is not PLACE[@N][=kill|raise|sleep:SECONDS]")
    return _Entry(text, place, int(count or 1), mode)


def _fire(entry: _Entry) -> None:
    name, _, seconds = entry.mode.partition(":")
    if name == "raise":
        raise InjectedFailure(f"failpoint {entry.text}")
    if name == "sleep":
        time.sleep(float(seconds))
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _list(file: Path) -> Callable[[str], None]:
    output = file.open("a", buffering=1)
    written = 0

    def at(here: str) -> None:
        nonlocal written
        written += 1
        if written <= LISTED_MAX:
            output.write(here + "\n")

    return at
