"""Which columns each kind shows, narrow and wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from spinyard.cli.output import dig, state_of
from spinyard.cli.words import age

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


_NAME: Final[Column] = ("NAME", _text("metadata", "name"))
_STATE: Final[Column] = ("STATE", lambda item, _now: state_of(item))
_AGE: Final[Column] = ("AGE", lambda item, now: age(dig(item, "metadata", "creationTimestamp"), now))
_WHY: Final[Column] = ("REASON", lambda item, _now: why(item))

_NARROW: Final[Mapping[str, Sequence[Column]]] = {
    "Service": (
        _NAME,
        ("READY", lambda item, _now: ready_count(item)),
        _STATE,
        _AGE,
        ("HOSTS", lambda i, _n: hosts(i)),
    ),
    "Spin": (_NAME, _STATE, ("SERVICE", _owner), _AGE, _WHY),
    "Job": (_NAME, _STATE, ("OUTCOME", _text("status", "outcome")), _AGE, _WHY),
    "Template": (_NAME, _AGE, ("DIGEST", _text("spec", "templateDigest"))),
}
_WIDE: Final[Mapping[str, Sequence[Column]]] = {
    "Service": (("OWNER", _text("spec", "owner")), ("UID", _text("metadata", "uid")), _WHY),
    "Spin": (("PORTS", _ports), ("UID", _text("metadata", "uid")), _WHY),
    "Job": (("OWNER", _text("spec", "owner")), ("UID", _text("metadata", "uid")), _WHY),
    "Template": (("UID", _text("metadata", "uid")),),
}


def _columns(kind: str, wide: bool, all_namespaces: bool) -> list[Column]:
    columns = list(_NARROW[kind])
    if wide:
        columns = [column for column in columns if column is not _WHY] + list(_WIDE[kind])
    if all_namespaces:
        columns.insert(0, ("NAMESPACE", _text("metadata", "namespace")))
    return columns
