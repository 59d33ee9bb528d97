"""How much there is in an OTLP message, before it is parsed. A message that is there but empty takes two bytes on the
wire and more than a hundred in memory, so a small body could take a lot of it; this walks over the lengths only."""

from __future__ import annotations

from typing import Final

from spinyard.errors import InvalidInput, TooLarge

FIELDS_MAX: Final = 200_000
"""of the levels down to what a span consists of; five thousand spans of forty fields"""

# Field numbers: ExportTraceServiceRequest.resource_spans, ResourceSpans.scope_spans, ScopeSpans.spans.
_DOWN: Final = (1, 2, 2)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_size(body: bytes, fields_max: int = FIELDS_MAX) -> int:
    """The number of fields. Raises TooLarge, and InvalidInput for what is no protobuf."""
    left = fields_max
    rest = [(0, len(body), 0)]
    while rest:
        at, end, level = rest.pop()
        while at < end:
            left -= 1
            if left < 0:
                raise TooLarge(
                    f"The export has more than {fields_max} fields.", next_step="Send fewer spans in one request."
                )
            tag, at = _varint(body, at, end)
            wire = tag & 7
            if wire == _VARINT:
                _, at = _varint(body, at, end)
            elif wire == _FIXED64:
                at += 8
            elif wire == _FIXED32:
                at += 4
            elif wire == _BYTES:
                size, at = _varint(body, at, end)
                if level < len(_DOWN) and tag >> 3 == _DOWN[level] and at + size <= end:
                    rest.append((at + size, end, level))
                    end, level = at + size, level + 1
                else:
                    at += size
            else:
                raise _broken()
            if at > end:
                raise _broken()
    return fields_max - left


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise _broken()


def _broken() -> InvalidInput:
    return InvalidInput(
        "The body is not an ExportTraceServiceRequest in protobuf.",
        code="invalid_otlp",
        next_step="Send OTLP/HTTP: application/x-protobuf, or application/json.",
    )
