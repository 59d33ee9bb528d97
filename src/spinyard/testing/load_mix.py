"""What load is asked for, and whether it may be had: loopback only, bounded in count and time."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

RATE_MAX = 5_000.0
SECONDS_MAX = 3_600.0
REQUESTS_MAX = 1_000_000
CONNECTIONS_MAX = 1_024
TIMEOUT_SECONDS_MAX = 120.0
MIX_MAX = 100
BODY_BYTES_MAX = 16 * 1024 * 1024
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})  # no HEAD: the parser would wait for its body
RESERVED_HEADERS = frozenset({"connection", "content-length", "idempotency-key", "transfer-encoding"})
COUNTED_HEADERS = ("x-gallery-instance", "x-gallery-version", "x-gallery-not-ready")


class LoadRefusedError(ValueError):
    """What was asked for is not allowed or not understood; the text says what is."""


class MixEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """One kind of request. `{n}` in path and body is the request's number; `{name}` in the path a variable's value."""

    path: str
    method: str = "GET"
    name: str = ""
    weight: float = 1.0
    headers: dict[str, str] = {}
    body: str | None = None
    body_file: str | None = None
    json: object | msgspec.UnsetType = msgspec.UNSET
    idempotency_key: bool = False
    expect: list[int] = []  # statuses that count as success; empty means 200-399


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    requests: list[MixEntry]
    variables: dict[str, list[str]] = {}


@dataclass(frozen=True, slots=True)
class LoadSpec:
    url: str
    rate: float
    seconds: float
    mix: Mix = field(default_factory=lambda: Mix(requests=[MixEntry(path="/")]))
    host: str = ""
    connections_max: int = 256
    timeout_seconds: float = 10.0
    seed: int = 1
    counted_headers: tuple[str, ...] = COUNTED_HEADERS
    apart_header: str = ""  # an unexpected status that comes with it is set apart: it was wanted
    timed_header: str = ""  # of its values the first and the last time are kept


def read_mix(text: str) -> Mix:
    """JSON itself, or the name of a file with it: a list of requests, or {"requests": […], "variables": {…}}."""
    try:
        data = text.encode() if text.lstrip()[:1] in ("[", "{") else Path(text).read_bytes()
        if data.lstrip()[:1] == b"[":
            return Mix(requests=msgspec.json.decode(data, type=list[MixEntry]))
        return msgspec.json.decode(data, type=Mix)
    except (OSError, msgspec.MsgspecError, UnicodeError) as wrong:
        raise LoadRefusedError(f"the mix cannot be read: {wrong}") from wrong


@dataclass(frozen=True, slots=True)
class Shot:
    """A mix entry made ready: what does not change from one request to the next."""

    entry: MixEntry
    name: str
    head: str
    body: bytes
    expect: frozenset[int]

    def is_expected(self, status: int) -> bool:
        return status in self.expect if self.expect else 200 <= status < 400


@dataclass(frozen=True, slots=True)
class Target:
    address: str
    port: int
    name: str  # for the Host header, unless another is given

    @property
    def label(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{address}:{self.port}"


def read_target(url: str) -> Target:
    parts = urlsplit(url)
    try:
        port = parts.port or 80
    except ValueError as wrong:
        raise LoadRefusedError(f"{url!r} has no valid port") from wrong
    name = parts.hostname or ""
    if parts.scheme != "http" or not name or parts.path not in ("", "/") or parts.query:
        raise LoadRefusedError(f"{url!r}: the target is written http://HOST:PORT, paths belong into the mix")
    # Names are not looked up: only what is loopback by definition (RFC 6761) is loopback here.
    address = "127.0.0.1" if name == "localhost" or name.endswith(".localhost") else name
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise LoadRefusedError(f"{name!r} is not loopback: load goes to 127.0.0.0/8, ::1 or localhost only")
    return Target(address, port, parts.netloc)


def check_spec(spec: LoadSpec) -> None:
    """Raises LoadRefusedError for whatever a run would refuse."""
    for name, value, most in (
        ("rate", spec.rate, RATE_MAX),
        ("seconds", spec.seconds, SECONDS_MAX),
        ("rate x seconds", spec.rate * spec.seconds, REQUESTS_MAX),
        ("connections", spec.connections_max, CONNECTIONS_MAX),
        ("timeout", spec.timeout_seconds, TIMEOUT_SECONDS_MAX),
    ):
        if not 0 < value <= most:
            raise LoadRefusedError(f"{name} must be more than 0 and at most {most:g}, it is {value:g}")
    if not 1 <= len(spec.mix.requests) <= MIX_MAX:
        raise LoadRefusedError(f"a mix has 1 to {MIX_MAX} requests, this one has {len(spec.mix.requests)}")
    if not all(spec.mix.variables.values()):
        raise LoadRefusedError("every variable of the mix needs at least one value")
    if _unclean(spec.host):
        raise LoadRefusedError("the Host header holds a control character")
    read_target(spec.url)
    for index, entry in enumerate(spec.mix.requests):
        make_shot(entry, index, spec.host)


def make_shot(entry: MixEntry, index: int, host: str) -> Shot:
    name = entry.name or f"{entry.method} {entry.path}"
    bodies = [body for body in (entry.body, entry.body_file, entry.json) if body not in (None, msgspec.UNSET)]
    texts = (entry.path, *entry.headers, *entry.headers.values())
    if entry.method not in METHODS:
        raise LoadRefusedError(f"request {index}: method {entry.method!r} is not one of {', '.join(sorted(METHODS))}")
    if not entry.path.startswith("/") or " " in entry.path or any(_unclean(text) for text in texts):
        raise LoadRefusedError(f"request {index}: path begins with / and has no spaces; headers are printable ASCII")
    if not 0 < entry.weight < float("inf") or len(bodies) > 1:
        raise LoadRefusedError(f"request {index}: weight is more than 0, and only one of body, bodyFile, json is given")
    own = {key.lower(): value for key, value in entry.headers.items()}
    if taken := RESERVED_HEADERS & own.keys():
        raise LoadRefusedError(f"request {index}: the header {min(taken)} is written by the generator")
    headers = {"host": host, "user-agent": "spinyard-load", "accept": "*/*"}
    if entry.json is not msgspec.UNSET:
        headers["content-type"] = "application/json"
    headers |= own
    head = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    return Shot(entry, name, head, _body(entry, index), frozenset(entry.expect))


def _body(entry: MixEntry, index: int) -> bytes:
    if entry.body_file is not None:
        try:
            body = Path(entry.body_file).read_bytes()
        except OSError as missing:
            raise LoadRefusedError(f"request {index}: {missing}") from missing
    elif entry.json is not msgspec.UNSET:
        body = msgspec.json.encode(entry.json)
    else:
        body = (entry.body or "").encode()
    if len(body) > BODY_BYTES_MAX:
        raise LoadRefusedError(f"request {index}: a body has at most {BODY_BYTES_MAX} bytes")
    return body


def _unclean(text: str) -> bool:
    return not (text.isascii() and (text.isprintable() or not text))


def running_sum(weights: Sequence[float]) -> list[float]:
    return [sum(weights[: index + 1]) for index in range(len(weights))]
