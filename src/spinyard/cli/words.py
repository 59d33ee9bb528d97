"""Times, sizes and states in the words and colours that every output uses."""

from __future__ import annotations

import os
import re
import sys
from calendar import timegm
from typing import IO, Final

from spinyard.cli.exits import Usage

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_STAMP: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d+)?(?:[Zz]|\+00:00)?")

GOOD, BUSY, BAD, DIM = "32", "33", "31", "2"
_COLOURS: Final = {
    **dict.fromkeys(("serving", "ready", "available", "succeeded", "warm", "ok", "retained", "completed"), GOOD),
    **dict.fromkeys(
        ("failed", "leaked", "stuck", "degraded", "unknown", "crashloopbackoff", "rolled_back", "rolling_back"), BAD
    ),
    **dict.fromkeys(("terminated", "deleted", "stopped", "abandoned"), DIM),
}


def seconds_of(text: str) -> float:
    """`90`, `90s`, `1m30s`, `2h`: seconds."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Usage(f"{text!r} is not a duration", next_step="write it like 30s, 5m, 1h30m")
    return float(sum(float(number) * _UNITS[unit] for number, unit in parts))


def epoch_of(stamp: object) -> float | None:
    """Seconds since the epoch of an RFC 3339 stamp in UTC; None for anything else."""
    match = _STAMP.fullmatch(stamp) if isinstance(stamp, str) else None
    if match is None:
        return None
    whole = timegm(tuple(int(part) for part in match.groups()[:6]))
    return whole + float(match.group(7) or 0)


def duration(seconds: float) -> str:
    """Two units at most: 0.4s, 12s, 3m05s, 2h10m, 4d3h."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m{int(seconds % 60):02d}s"
    if seconds < 86400:
        return f"{int(seconds // 3600)}h{int(seconds % 3600 // 60):02d}m"
    return f"{int(seconds // 86400)}d{int(seconds % 86400 // 3600)}h"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def age(stamp: object, now: float) -> str:
    at = epoch_of(stamp)
    if at is None:
        return "-"
    seconds = max(0.0, now - at)
    return f"{seconds:.0f}s" if seconds < 120 else duration(seconds)


def clock_time(stamp: object) -> str:
    """Hours, minutes, seconds and tenths in UTC."""
    text = str(stamp or "")
    return text[11:19] if epoch_of(stamp) is not None else text


def byte_size(count: object) -> str:
    if not isinstance(count, (int, float)) or count <= 0:
        return "-"
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def is_live(stream: IO[str]) -> bool:
    """A terminal that can be redrawn."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def may_colour(stream: IO[str]) -> bool:
    return is_live(stream) and not os.environ.get("NO_COLOR")


def colour_of(state: str) -> str:
    return _COLOURS.get(state.lower(), BUSY)


def paint(text: str, colour: str, stream: IO[str] | None = None) -> str:
    if not colour or not may_colour(stream or sys.stdout):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"
