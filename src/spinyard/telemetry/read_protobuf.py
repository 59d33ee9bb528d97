"""OTLP in protobuf, by the generated code of opentelemetry-proto. That lives in protobuf's common pool; Envoy's
messages have a private one, so the two never meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

from spinyard.core.trace import Value
from spinyard.errors import InvalidInput
from spinyard.telemetry.make import Raw, bounded
from spinyard.telemetry.wire import check_size

NESTED_MAX = 4
PARTS_MAX = 64


def read_protobuf(body: bytes) -> Iterator[tuple[Raw, dict[str, Value]]]:
    """Each span with its resource. Raises InvalidInput, TooLarge: at once, not while spans are taken."""
    check_size(body)
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise InvalidInput(
            "The body is not an ExportTraceServiceRequest in protobuf.",
            code="invalid_otlp",
            next_step="Send OTLP/HTTP: application/x-protobuf, or application/json.",
        ) from error
    return _spans(request)


def _spans(request: ExportTraceServiceRequest) -> Iterator[tuple[Raw, dict[str, Value]]]:
    for part in request.resource_spans:
        about = bounded(_pairs(part.resource.attributes))
        for scope in part.scope_spans:
            for span in scope.spans:
                yield _raw(span), about


def _raw(span: Message) -> Raw:
    return Raw(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=span.status.code,
        message=span.status.message,
        attributes=_pairs(span.attributes),
    )


def _pairs(attributes: Iterable[KeyValue]) -> Iterator[tuple[str, Value]]:
    for pair in attributes:
        yield pair.key, _value(pair.value)


def _value(value: AnyValue, depth: int = 0) -> Value:
    """What is made of parts becomes a short text."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bytes_value":
            return f"({len(value.bytes_value)} bytes)"
        case "array_value" if depth < NESTED_MAX:
            parts = [str(_value(one, depth + 1)) for one in value.array_value.values[:PARTS_MAX]]
            return f"[{', '.join(parts)}]"
        case "kvlist_value" if depth < NESTED_MAX:
            fields = [f"{one.key}: {_value(one.value, depth + 1)}" for one in value.kvlist_value.values[:PARTS_MAX]]
            return f"{{{', '.join(fields)}}}"
        case None:
            return ""
        case _:
            return "…"
