"""Exports as others send them."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from spinyard.core.trace import Span

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def identity(number: int, length: int = 16) -> str:
    return f"{number:0{length}x}"


def span(number: int = 1, parent: int = 0, trace: str = TRACE, **more: Any) -> Span:
    """Milliseconds `at` and `for_ms` after START."""
    at = START + int(more.pop("at", 0) * 1e6)
    values: dict[str, Any] = {
        "name": f"span {number}",
        "kind": "internal",
        "service": "unit",
        "start_ns": at,
        "end_ns": at + int(more.pop("for_ms", 1) * 1e6),
        **more,
    }
    return Span(trace_id=trace, span_id=identity(number), parent_id=identity(parent) if parent else "", **values)


def json_span(**changes: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "spanId": identity(1),
        "parentSpanId": identity(2),
        "name": "GET /photos",
        "kind": 2,
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 5_000_000),
        "attributes": [
            {"key": "spinyard.side", "value": {"stringValue": "unit"}},
            {"key": "http.response.status_code", "value": {"intValue": "500"}},
            {"key": "ratio", "value": {"doubleValue": 0.5}},
            {"key": "cached", "value": {"boolValue": True}},
            {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}]}}},
            {
                "key": "map",
                "value": {"kvlistValue": {"values": [{"key": "k", "value": {"arrayValue": {"values": []}}}]}},
            },
        ],
        "status": {"code": 2, "message": "it broke"},
        **changes,
    }


def export(*spans: dict[str, Any], service: str = "thumbnails") -> dict[str, Any]:
    about = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [{"scope": {"name": "x"}, "spans": list(spans)}]}]}


def as_json(data: object) -> bytes:
    return json.dumps(data).encode()


def as_protobuf(data: dict[str, Any]) -> bytes:
    """What protobuf's own JSON reads differs in one thing from OTLP's: ids are base64 there."""
    import base64

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(one) for one in value]
        if isinstance(value, dict):
            return {
                key: base64.b64encode(bytes.fromhex(one)).decode()
                if key in ("traceId", "spanId", "parentSpanId")
                else with_base64(one)
                for key, one in value.items()
            }
        return value

    return json_format.ParseDict(with_base64(data), ExportTraceServiceRequest()).SerializeToString()
