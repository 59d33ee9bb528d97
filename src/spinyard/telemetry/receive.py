"""An export, from its body to the store, and what the protocol answers. https://opentelemetry.io/docs/specs/otlp/"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spinyard.core.trace import Span
from spinyard.errors import SpinyardError
from spinyard.ports.traces import Taken
from spinyard.telemetry.make import SPANS_MAX, Rejected, make_span
from spinyard.telemetry.read_json import read_json
from spinyard.telemetry.read_protobuf import read_protobuf
from spinyard.telemetry.store import TraceStore

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
IN_THREAD_BYTES: Final = 16 * 1024

_INVALID_ARGUMENT, _UNAVAILABLE = 3, 14


class Receiver:
    """One export is read at a time: many at once would only take more memory."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._one = asyncio.Lock()

    async def take(self, body: bytes, media_type: str) -> Taken:
        """Raises InvalidInput, TooLarge; then nothing of it was kept."""
        async with self._one:
            if len(body) > IN_THREAD_BYTES:
                spans, taken = await asyncio.to_thread(read, body, media_type)
            else:
                spans, taken = read(body, media_type)
        refused = self._store.add(spans)
        if not refused:
            return taken
        why = taken.why or "a trace has more spans than are kept of one"
        return Taken(taken.accepted - refused, taken.rejected + refused, why)


def read(body: bytes, media_type: str) -> tuple[list[Span], Taken]:
    """Raises InvalidInput, TooLarge."""
    found = read_json(body) if media_type == JSON else read_protobuf(body)
    spans: list[Span] = []
    rejected = 0
    why = ""
    for raw, about in found:
        if len(spans) + rejected >= SPANS_MAX:
            rejected += 1
            why = why or f"an export may have {SPANS_MAX} spans"
            continue
        try:
            spans.append(make_span(raw, about))
        except Rejected as reason:
            rejected += 1
            why = why or str(reason)
    return spans, Taken(len(spans), rejected, why)


def answer(taken: Taken, media_type: str) -> bytes:
    """The ExportTraceServiceResponse; `partial_success` only when something was rejected."""
    if media_type == JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(taken.rejected), "errorMessage": taken.why}}
        return msgspec.json.encode(partial if taken.rejected else {})
    response = ExportTraceServiceResponse()
    if taken.rejected:
        response.partial_success.rejected_spans = taken.rejected
        response.partial_success.error_message = taken.why
    return response.SerializeToString()


def refusal(error: SpinyardError, media_type: str) -> bytes:
    """A google.rpc.Status, as the protocol wants it for every 4xx and 5xx."""
    code = _UNAVAILABLE if error.retryable else _INVALID_ARGUMENT
    message = f"{error.message} {error.next_step}".strip()[:500]
    if media_type == JSON:
        return msgspec.json.encode({"code": code, "message": message})
    text = message.encode()
    # Two fields, written by hand: its generated code would be a dependency of its own.
    return bytes((0x08, code, 0x12)) + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
