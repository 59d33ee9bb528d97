"""Which columns each kind shows, narrow and wide."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from spinyard.cli.output import dig, state_of
from spinyard.cli.rollout_view import percent_of, percent_text, rate_text, rollout_view
from spinyard.cli.spinout_view import spinout_view
from spinyard.cli.streams import is_utf8
from spinyard.cli.words import age, duration, epoch_of

Json = Mapping[str, Any]
Column = tuple[str, Callable[[Json, float], str]]


def headers_of(kind: str, *, wide: bool, all_namespaces: bool) -> list[str]:
    return [name for name, _ in _columns(kind, wide, all_namespaces)]


def row_of(item: Json, kind: str, now: float, *, wide: bool, all_namespaces: bool) -> list[str]:
    return [read(item, now) for _, read in _columns(kind, wide, all_namespaces)]


def ready_count(item: Json) -> str:
    """`2/3`: available instances of those wanted."""
    if dig(item, "spec", "external"):
        return "external"
    ready = dig(item, "status", "readyReplicas") or dig(item, "status", "ready") or 0
    wanted = dig(item, "spec", "replicas")
    return f"{ready}/{1 if wanted is None else wanted}"


def why(item: Json) -> str:
    reason = str(dig(item, "status", "reason") or "")
    message = " ".join(str(dig(item, "status", "message") or "").splitlines())
    if not reason or not message or message.lower().startswith(reason.lower()):
        return message or reason
    return f"{reason}: {message}"


def hosts(item: Json) -> str:
    route = dig(item, "spec", "route")
    if not isinstance(route, Mapping):
        return ""
    prefix = str(route.get("pathPrefix") or "/")
    return ",".join(f"{host}{prefix if prefix != '/' else ''}" for host in route.get("hosts") or [])


def _text(*path: str) -> Callable[[Json, float], str]:
    return lambda item, _now: str(dig(item, *path) or "")


def _owner(item: Json, _now: float) -> str:
    service = dig(item, "spec", "serviceName") or dig(item, "metadata", "labels", "spinyard.dev/service")
    name = str(dig(item, "metadata", "name") or "")
    return str(service or name.rpartition("-")[0])


def _ports(item: Json, _now: float) -> str:
    ports = dig(item, "status", "ports") or {}
    return ",".join(f"{name}:{number}" for name, number in ports.items()) if isinstance(ports, Mapping) else ""


def _of(count: object, whole: object) -> str:
    return f"{count or 0}/{whole or 0}"


def hit_rate(item: Json) -> str:
    """Of the claims of the last hour, those that found a warm member. `stats` is what `get` adds."""
    rate = dig(item, "stats", "hitRate")
    return f"{rate:.0%}" if isinstance(rate, int | float) else ""


def picture(item: Json) -> str:
    """A bar for every five minutes of the last hour, the newest at the right; a dot where nobody claimed."""
    steps = dig(item, "stats", "steps") or ()
    totals = [sum(step.get(word, 0) for word in ("warm", "cold", "failed", "waiting")) for step in steps]
    most = max(totals, default=0)
    if not most:
        return ""
    bars, none = ("▁▂▃▄▅▆▇█", "·") if is_utf8(sys.stdout) else ("12345678", ".")
    return "".join(bars[(count * len(bars) - 1) // most] if count else none for count in totals)


def _longest(item: Json, field: str) -> str:
    members = dig(item, "stats", "members") or ()
    seconds = [member[field] for member in members]
    return duration(max(seconds)) if seconds else ""


def _left(item: Json, now: float) -> str:
    at = epoch_of(dig(item, "status", "expiresAt"))
    return "" if at is None else duration(at - now)


def _claim_url(item: Json) -> str:
    place = dig(item, "status", "placeInQueue")
    if place:
        return f"place {place} in the queue"
    return str(dig(item, "status", "member", "url") or why(item))


def _rollout_step(item: Json, _now: float) -> str:
    steps = dig(item, "spec", "strategy", "steps") or ()
    return f"{min(int(dig(item, 'status', 'step') or 0) + 1, len(steps))}/{len(steps)}"


def _rollout_weight(item: Json, _now: float) -> str:
    """What is confirmed; with what is asked for, as long as that is another."""
    asked, shown = (percent_text(percent_of(dig(item, "status", field))) for field in ("weight", "shownWeight"))
    return shown if asked == shown else f"{shown} (asked: {asked})"


def _success(side: str) -> Callable[[Json, float], str]:
    def read(item: Json, now: float) -> str:
        view = rollout_view(item, now)
        found = view.old if side == "old" else view.new
        return f"{rate_text(found.success)} of {found.requests}" if found.requests else ""

    return read


_NAME: Final[Column] = ("NAME", _text("metadata", "name"))
_STATE: Final[Column] = ("STATE", lambda item, _now: state_of(item))
_AGE: Final[Column] = ("AGE", lambda item, now: age(dig(item, "metadata", "creationTimestamp"), now))
_WHY: Final[Column] = ("REASON", lambda item, _now: why(item))

_NOW: Final[Column] = ("NOW", lambda item, now: rollout_view(item, now).last_words)
_SPINOUT_NOW: Final[Column] = ("NOW", lambda item, now: spinout_view(item, now).last_words)

_NARROW: Final[Mapping[str, Sequence[Column]]] = {
    "Service": (
        _NAME,
        ("READY", lambda item, _now: ready_count(item)),
        _STATE,
        _AGE,
        ("HOSTS", lambda i, _n: hosts(i)),
    ),
    "Rollout": (
        _NAME,
        _STATE,
        ("SERVICE", _text("spec", "service")),
        ("STEP", _rollout_step),
        ("WEIGHT", _rollout_weight),
        ("OLD", _success("old")),
        ("NEW", _success("new")),
        _AGE,
        _NOW,
    ),
    "Spinout": (
        _NAME,
        _STATE,
        ("PARENT", _text("spec", "parent")),
        ("UNIT", _text("spec", "unit")),
        ("WEIGHT", _rollout_weight),
        ("PARENT OK", _success("old")),
        ("UNIT OK", _success("new")),
        _AGE,
        _SPINOUT_NOW,
    ),
    "Spin": (_NAME, _STATE, ("SERVICE", _owner), _AGE, _WHY),
    "WarmPool": (
        _NAME,
        _STATE,
        ("WARM", lambda item, _now: _of(dig(item, "status", "warm"), dig(item, "status", "min"))),
        ("HELD", lambda item, _now: _of(dig(item, "status", "held"), dig(item, "status", "max"))),
        ("WAITING", _text("status", "waiting")),
        ("HITS", lambda item, _now: hit_rate(item)),
        ("IDLE", lambda item, _now: _longest(item, "idleSeconds")),
        ("AGE", _AGE[1]),
        ("LAST HOUR", lambda item, _now: picture(item)),
    ),
    "Claim": (
        _NAME,
        _STATE,
        ("POOL", _text("spec", "pool")),
        ("MEMBER", _text("status", "member", "name")),
        _AGE,
        ("LEFT", lambda item, now: _left(item, now)),
        ("URL", lambda item, _now: _claim_url(item)),
    ),
    "Job": (_NAME, _STATE, ("OUTCOME", _text("status", "outcome")), _AGE, _WHY),
    "Template": (_NAME, _AGE, ("DIGEST", _text("spec", "templateDigest"))),
}
_WIDE: Final[Mapping[str, Sequence[Column]]] = {
    "Service": (("OWNER", _text("spec", "owner")), ("UID", _text("metadata", "uid")), _WHY),
    "Spin": (("PORTS", _ports), ("UID", _text("metadata", "uid")), _WHY),
    "Rollout": (
        ("FROM", _text("spec", "oldTemplateDigest")),
        ("TO", _text("spec", "templateDigest")),
        ("UID", _text("metadata", "uid")),
        _NOW,
    ),
    "Spinout": (
        ("ATTEMPT", _text("status", "attempt")),
        ("OWNER", _text("spec", "owner")),
        ("UID", _text("metadata", "uid")),
        _SPINOUT_NOW,
    ),
    "Job": (("OWNER", _text("spec", "owner")), ("UID", _text("metadata", "uid")), _WHY),
    "WarmPool": (
        ("OLDEST", lambda item, _now: _longest(item, "ageSeconds")),
        ("OWNER", _text("spec", "owner")),
        ("UID", _text("metadata", "uid")),
        _WHY,
    ),
    "Claim": (("OWNER", _text("spec", "owner")), ("UID", _text("metadata", "uid")), _WHY),
    "Template": (("UID", _text("metadata", "uid")),),
}


def _columns(kind: str, wide: bool, all_namespaces: bool) -> list[Column]:
    columns = list(_NARROW[kind])
    if wide:
        columns = [column for column in columns if column not in (_WHY, _NOW, _SPINOUT_NOW)] + list(_WIDE[kind])
    if all_namespaces:
        columns.insert(0, ("NAMESPACE", _text("metadata", "namespace")))
    return columns
