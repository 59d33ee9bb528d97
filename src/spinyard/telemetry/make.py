"""One span of OTLP, in either encoding, to one of ours: cut to its limits, and without what may be a secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spinyard.core.trace import SIDE, Span, SpanKind, Value

SPANS_MAX: Final = 5_000
"""of one export; what is above is rejected"""
ATTRIBUTES_MAX: Final = 48
KEY_CHARACTERS_MAX: Final = 128
TEXT_CHARACTERS_MAX: Final = 512
NAME_CHARACTERS_MAX: Final = 256
NANOSECONDS_MAX: Final = 2**63 - 1

KINDS: Final[tuple[SpanKind, ...]] = ("internal", "internal", "server", "client", "producer", "consumer")
"""by number; 0 is unspecified"""
STATUS_ERROR: Final = 2

_HEX: Final = frozenset("0123456789abcdef")
# Addresses are kept without their query, and headers not at all: tokens and passwords travel there.
_ADDRESSES: Final = frozenset({"http.url", "http.target", "url.full"})
# The last four are Envoy's, and say nothing here.
_DROPPED: Final = frozenset({"url.query", "node_id", "zone", "component", "upstream_cluster.name"})
_NOTHING: Final = ("", "-")
_FLAGS: Final = "response_flags"
_DROPPED_PREFIXES: Final = ("http.request.header.", "http.response.header.", "rpc.grpc.request.metadata.")


class Rejected(Exception):
    """Why this one span is not kept."""


@dataclass(frozen=True, slots=True)
class Raw:
    """What both readers find. `attributes` may be long: it is read no further than the limit."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    status: int
    message: str
    attributes: Iterable[tuple[str, Value]]


def make_span(raw: Raw, about: Mapping[str, Value]) -> Span:
    """`about`: of the resource. Raises Rejected."""
    trace_id, span_id = _identity(raw.trace_id, 32, "trace id"), _identity(raw.span_id, 16, "span id")
    parent = raw.parent_id.lower()
    parent_id = _identity(parent, 16, "parent span id") if parent.strip("0") else ""
    if not 0 < raw.start_ns <= NANOSECONDS_MAX or not 0 <= raw.end_ns <= NANOSECONDS_MAX:
        raise Rejected("a span has no time, or one that is out of range")
    attributes = bounded(raw.attributes)
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        name=_text(raw.name, NAME_CHARACTERS_MAX) or "-",
        kind=KINDS[raw.kind] if 0 <= raw.kind < len(KINDS) else "internal",
        service=str(about.get("service.name") or "unknown_service"),
        start_ns=raw.start_ns,
        end_ns=max(raw.start_ns, raw.end_ns),
        side=str(attributes.get(SIDE) or about.get(SIDE) or ""),
        error=raw.status == STATUS_ERROR,
        message=_text(raw.message, TEXT_CHARACTERS_MAX),
        attributes=attributes,
    )


def bounded(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """The first ones of them, each cut to its limit."""
    out: dict[str, Value] = {}
    for key, value in pairs:
        if len(out) >= ATTRIBUTES_MAX:
            break
        if not key or key in _DROPPED or key.startswith(_DROPPED_PREFIXES):
            continue
        if value in _NOTHING and key != _FLAGS:
            continue
        if isinstance(value, str):
            value = value.partition("?")[0] if key in _ADDRESSES else value
            value = _text(value, TEXT_CHARACTERS_MAX)
        out[_text(key, KEY_CHARACTERS_MAX)] = value
    return out


def _identity(text: str, length: int, what: str) -> str:
    found = text.lower()
    if len(found) != length or not _HEX.issuperset(found) or not found.strip("0"):
        raise Rejected(f"a span has no valid {what}")
    return found


def _text(text: str, limit: int) -> str:
    """On one line, and nothing in it steers a terminal."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return cut if cut.isprintable() else "".join(c if c.isprintable() else " " for c in cut)
