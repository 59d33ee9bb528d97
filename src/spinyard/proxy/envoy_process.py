"""Which Envoy it is, as the kernel knows it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from spinyard.proxy.admin_call import CallFailed

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
# Its timer begins a little after the process does.
MARGIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """`identity`: no other process, now or later, has the same. `takes_over`: it was started to replace another one and
    has not ended that one yet. Asked for counters then, Envoy waits on its main thread for those of the other; and if
    the other has died by itself, it ends with an assertion after ten seconds (seen with 1.40; envoy#7468)."""

    identity: str
    takes_over: bool


def look_at(pid: int) -> EnvoyProcess:
    """Raises CallFailed, OSError."""
    if pid <= 0:
        raise CallFailed("the process behind its admin socket is not known: it is not of this pid namespace")
    boot = (_PROC / "sys/kernel/random/boot_id").read_text()[:8]
    # After the name, which may hold anything but ends with the last ")": start time is the 22nd field of all.
    started = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    up = float((_PROC / "uptime").read_text().split()[0])
    arguments = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    is_successor = _number(arguments, "--restart-epoch") > 0
    window = _number(arguments, "--parent-shutdown-time-s") + MARGIN_SECONDS
    return EnvoyProcess(f"{boot}.{pid}.{started}", is_successor and up - started / _TICKS < window)


def _number(arguments: list[str], name: str) -> float:
    try:
        return float(arguments[arguments.index(name) + 1])
    except (ValueError, IndexError):
        return 0.0
