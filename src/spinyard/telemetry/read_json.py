"""OTLP in JSON, as the specification says and as programs really write it: ids in hex of any case, 64-bit numbers as
texts or numbers, enums as numbers or names, field names in camelCase or snake_case, null for what is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from spinyard.core.trace import Value
from spinyard.errors import InvalidInput, TooLarge
from spinyard.telemetry.make import Raw, bounded

PARTS_MAX: Final = 200_000
"""lists and objects in a body: they, not bytes, are what reading costs"""
NESTED_MAX: Final = 4
SHOWN_MAX: Final = 64

_KINDS: Final = {
    "SPAN_KIND_UNSPECIFIED": 0,
    "SPAN_KIND_INTERNAL": 1,
    "SPAN_KIND_SERVER": 2,
    "SPAN_KIND_CLIENT": 3,
    "SPAN_KIND_PRODUCER": 4,
    "SPAN_KIND_CONSUMER": 5,
}
_STATUSES: Final = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_OUT_OF_RANGE: Final = -1

Json = Mapping[str, Any]


def read_json(body: bytes) -> Iterator[tuple[Raw, dict[str, Value]]]:
    """Each span with its resource. Raises InvalidInput, TooLarge: at once, not while spans are taken."""
    if body.count(b"[") + body.count(b"{") > PARTS_MAX:
        raise TooLarge(f"The JSON has more than {PARTS_MAX} lists and objects.", next_step="Send fewer spans at once.")
    try:
        request = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(str(error)) from error
    if not isinstance(request, dict):
        raise _broken("it is not an object")
    return _spans(request)


def _spans(request: Json) -> Iterator[tuple[Raw, dict[str, Value]]]:
    for part in _objects(request, "resourceSpans", "resource_spans"):
        about = bounded(_pairs(_objects(_object(part, "resource"), "attributes")))
        for scope in _objects(part, "scopeSpans", "scope_spans"):
            for span in _objects(scope, "spans"):
                yield _raw(span), about


def _raw(span: Json) -> Raw:
    status = _object(span, "status")
    return Raw(
        trace_id=_text(_field(span, "traceId", "trace_id")),
        span_id=_text(_field(span, "spanId", "span_id")),
        parent_id=_text(_field(span, "parentSpanId", "parent_span_id")),
        name=_text(_field(span, "name")),
        kind=_enum(_field(span, "kind"), _KINDS),
        start_ns=_integer(_field(span, "startTimeUnixNano", "start_time_unix_nano")),
        end_ns=_integer(_field(span, "endTimeUnixNano", "end_time_unix_nano")),
        status=_enum(_field(status, "code"), _STATUSES),
        message=_text(_field(status, "message")),
        attributes=_pairs(_objects(span, "attributes")),
    )


def _pairs(attributes: Iterable[Json]) -> Iterator[tuple[str, Value]]:
    for pair in attributes:
        yield _text(_field(pair, "key")), _value(_object(pair, "value"))


def _value(value: Json, depth: int = 0) -> Value:
    """What is made of parts becomes a short text."""
    for name, found in value.items():
        if found is None:
            continue
        match name:
            case "stringValue" | "string_value":
                return _text(found)
            case "boolValue" | "bool_value":
                return found is True or found == "true"
            case "intValue" | "int_value":
                return _integer(found)
            case "doubleValue" | "double_value":
                return _double(found)
            case "bytesValue" | "bytes_value":
                return f"({_bytes_of(_text(found))} bytes)"
            case "arrayValue" | "array_value":
                return f"[{', '.join(_parts(found, depth))}]" if depth < NESTED_MAX else "…"
            case "kvlistValue" | "kvlist_value":
                return f"{{{', '.join(_fields(found, depth))}}}" if depth < NESTED_MAX else "…"
            case _:
                continue  # of a later version of the protocol
    return ""


def _parts(found: object, depth: int) -> Iterator[str]:
    inside = found if isinstance(found, dict) else {}
    for one in _objects(inside, "values")[:SHOWN_MAX]:
        yield str(_value(one, depth + 1))


def _fields(found: object, depth: int) -> Iterator[str]:
    inside = found if isinstance(found, dict) else {}
    for one in _objects(inside, "values")[:SHOWN_MAX]:
        yield f"{_text(_field(one, 'key'))}: {_value(_object(one, 'value'), depth + 1)}"


def _field(of: Json, *names: str) -> Any:
    return next((of[name] for name in names if of.get(name) is not None), None)


def _object(of: Json, name: str) -> Json:
    found = of.get(name)
    return found if isinstance(found, dict) else {}


def _objects(of: Json, *names: str) -> list[Json]:
    found = _field(of, *names)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


def _integer(found: object) -> int:
    """0 for what is no number; what no 64 bits can hold is out of range for whoever checks it."""
    if isinstance(found, str):
        digits = found.strip()
        if len(digits) > 20 or not digits.removeprefix("-").isascii() or not digits.removeprefix("-").isdecimal():
            return 0
        return int(digits)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return 0
    return int(found) if abs(found) < 2**64 else _OUT_OF_RANGE


def _double(found: object) -> float:
    if isinstance(found, int | float):
        return float(found) if abs(found) < 1e308 else float("inf")
    return {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(_text(found), 0.0)


def _enum(found: object, names: Mapping[str, int]) -> int:
    return names.get(found.strip().upper(), _integer(found)) if isinstance(found, str) else _integer(found)


def _bytes_of(base64: str) -> int:
    return len(base64.rstrip("=")) * 3 // 4


def _broken(why: str) -> InvalidInput:
    return InvalidInput(
        f"The body is not an ExportTraceServiceRequest in JSON: {why[:200]}.",
        code="invalid_otlp",
        next_step="Send OTLP/HTTP: application/json, or application/x-protobuf.",
    )
