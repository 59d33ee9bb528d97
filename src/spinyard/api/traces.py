"""Traces of the recent past: a list, and one with its spans. They are kept in memory only (docs/traces.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.camel import time_text
from spinyard.api.documented import answers
from spinyard.api.render import list_json, respond_json
from spinyard.core.trace import Span
from spinyard.errors import NotFound
from spinyard.ports.traces import TraceFilter, TraceSummary

Word = Annotated[str, Query(max_length=512)]
TraceId = Annotated[str, Path(pattern="^[0-9a-fA-F]{32}$")]


def add_trace_routes(router: APIRouter, calls: Calls) -> None:
    traces = calls.deps.traces

    async def list_traces(
        service: Word = "",
        side: Word = "",
        failed: bool = False,
        slowerThan: Annotated[float, Query(ge=0, le=86_400, allow_inf_nan=False)] = 0.0,
        order: Literal["newest", "slowest"] = "newest",
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> Response:
        """Of the traces still kept. `slowerThan`: seconds, from the first span's begin to the last one's end."""
        wanted = TraceFilter(service, side, failed, slowerThan)
        found = traces.recent(wanted, limit, slowest=order == "slowest")
        return respond_json(list_json([summary_json(one) for one in found]))

    async def get_trace(traceId: TraceId) -> Response:
        """Its spans by time; `offsetSeconds` is since the first one began."""
        spans = traces.find(traceId)
        if not spans:
            raise NotFound(
                f"There is no trace {traceId.lower()} (any more).",
                next_step="Only recent ones are kept, and only of requests that were recorded: spinyard trace ls",
            )
        return respond_json(trace_json(spans))

    documented = answers(404)
    router.get("/v1/traces", responses=answers(), operation_id="listTraces", tags=["traces"])(list_traces)
    router.get("/v1/traces/{traceId}", responses=documented, operation_id="getTrace", tags=["traces"])(get_trace)


def summary_json(found: TraceSummary) -> dict[str, Any]:
    return {
        "traceId": found.trace_id,
        "name": found.name,
        "service": found.service,
        "startedAt": _moment(found.start_ns),
        "seconds": (found.end_ns - found.start_ns) / 1e9,
        "spans": found.spans,
        "failed": found.failed,
        "services": list(found.services),
        "sides": list(found.sides),
    }


def trace_json(spans: Sequence[Span]) -> dict[str, Any]:
    start, end = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    return {
        "apiVersion": "spinyard.dev/v1",
        "kind": "Trace",
        "traceId": spans[0].trace_id,
        "startedAt": _moment(start),
        "seconds": (end - start) / 1e9,
        "spans": [_span_json(span, start) for span in spans],
    }


def _span_json(span: Span, start_ns: int) -> dict[str, Any]:
    return {
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "side": span.side,
        "startTimeUnixNano": str(span.start_ns),
        "offsetSeconds": (span.start_ns - start_ns) / 1e9,
        "seconds": span.seconds,
        "error": span.error,
        "message": span.message,
        "attributes": {key: _plain(value) for key, value in span.attributes.items()},
    }


def _plain(value: object) -> object:
    """JSON has no number for these."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _moment(nanoseconds: int) -> str | None:
    return time_text(nanoseconds / 1e9)
