"""What is read of an export, in both encodings."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from spinyard.core.trace import Span
from spinyard.errors import InvalidInput, SpinyardError, TooLarge
from spinyard.ports.traces import Taken
from spinyard.proxy import proto
from spinyard.telemetry import make
from spinyard.telemetry.receive import JSON, PROTOBUF, answer, read, refusal
from spinyard.telemetry.wire import check_size
from tests.telemetry.exports import START, TRACE, as_json, as_protobuf, export, identity, json_span

EXPECTED = Span(
    trace_id=TRACE,
    span_id=identity(1),
    parent_id=identity(2),
    name="GET /photos",
    kind="server",
    service="thumbnails",
    start_ns=START,
    end_ns=START + 5_000_000,
    side="unit",
    error=True,
    message="it broke",
    attributes={
        "spinyard.side": "unit",
        "http.response.status_code": 500,
        "ratio": 0.5,
        "cached": True,
        "tags": "[a, 2]",
        "map": "{k: []}",
    },
)


def test_both_encodings_say_the_same() -> None:
    data = export(json_span(), json_span(spanId=identity(7), parentSpanId="", kind=3, status={}))
    from_json, from_protobuf = read(as_json(data), JSON), read(as_protobuf(data), PROTOBUF)
    assert from_json == from_protobuf
    spans, taken = from_json
    assert spans[0] == EXPECTED
    assert (spans[1].parent_id, spans[1].kind, spans[1].error) == ("", "client", False)
    assert taken == Taken(2)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"traceId": TRACE.upper(), "spanId": identity(1).upper()}, id="ids in upper case"),
        pytest.param({"startTimeUnixNano": START, "endTimeUnixNano": START + 5_000_000}, id="times as numbers"),
        pytest.param(
            {"kind": "SPAN_KIND_SERVER", "status": {"code": "STATUS_CODE_ERROR", "message": "it broke"}}, id="names"
        ),
        pytest.param({"kind": "2", "status": {"code": "2", "message": "it broke"}}, id="enums as texts"),
        pytest.param({"events": None, "links": None, "traceState": None, "droppedLinksCount": 3}, id="nulls"),
        pytest.param({"somethingNew": {"a": [1]}}, id="fields of a later version"),
    ],
)
def test_json_is_read_as_programs_write_it(changes: dict[str, Any]) -> None:
    assert read(as_json(export(json_span(**changes))), JSON)[0] == [EXPECTED]


def test_snake_case_is_read_too() -> None:
    span = {"trace_id": TRACE, "span_id": identity(1), "start_time_unix_nano": START, "end_time_unix_nano": START}
    data = {"resource_spans": [{"scope_spans": [{"spans": [span]}]}]}
    (found,) = read(as_json(data), JSON)[0]
    assert (found.trace_id, found.service, found.name) == (TRACE, "unknown_service", "-")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"traceId": ""}, id="no trace id"),
        pytest.param({"traceId": "0" * 32}, id="trace id of zeros"),
        pytest.param({"traceId": TRACE[:-2]}, id="short trace id"),
        pytest.param({"spanId": "g" * 16}, id="span id that is not hex"),
        pytest.param({"spanId": 17}, id="span id that is a number"),
        pytest.param({"parentSpanId": "12"}, id="short parent"),
        pytest.param({"startTimeUnixNano": "0"}, id="no start"),
        pytest.param({"startTimeUnixNano": "-5"}, id="negative start"),
        pytest.param({"endTimeUnixNano": str(2**63)}, id="end out of range"),
        pytest.param({"startTimeUnixNano": "9" * 5000}, id="endless number"),
    ],
)
def test_a_span_that_is_wrong_is_rejected_alone(changes: dict[str, Any]) -> None:
    spans, taken = read(as_json(export(json_span(**changes), json_span(spanId=identity(9)))), JSON)
    assert [span.span_id for span in spans] == [identity(9)]
    assert (taken.accepted, taken.rejected) == (1, 1) and taken.why


def test_an_end_before_the_start_is_the_start() -> None:
    (span,) = read(as_json(export(json_span(endTimeUnixNano="5"))), JSON)[0]
    assert span.end_ns == span.start_ns


def test_queries_and_headers_are_not_kept() -> None:
    pairs = {
        "http.url": "https://shop/basket?token=hunter2",
        "url.full": "https://shop/?password=hunter2",
        "http.target": "/a?hunter2",
        "url.query": "hunter2",
        "http.request.header.authorization": "hunter2",
        "http.response.header.set-cookie": "hunter2",
    }
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in pairs.items()]
    for body, media_type in (
        (as_json(export(json_span(attributes=attributes))), JSON),
        (as_protobuf(export(json_span(attributes=attributes))), PROTOBUF),
    ):
        (span,) = read(body, media_type)[0]
        assert span.attributes == {
            "http.url": "https://shop/basket",
            "url.full": "https://shop/",
            "http.target": "/a",
        }


def test_what_is_long_is_cut_and_what_is_many_is_left() -> None:
    attributes = [{"key": f"{n}" + "k" * 300, "value": {"stringValue": "v" * 5000}} for n in range(100)]
    (span,) = read(as_json(export(json_span(name="n" * 5000, attributes=attributes), service="s" * 5000)), JSON)[0]
    assert len(span.attributes) == make.ATTRIBUTES_MAX
    assert {len(key) for key in span.attributes} == {make.KEY_CHARACTERS_MAX}
    assert {len(str(value)) for value in span.attributes.values()} == {make.TEXT_CHARACTERS_MAX}
    assert (len(span.name), len(span.service)) == (make.NAME_CHARACTERS_MAX, make.TEXT_CHARACTERS_MAX)


def test_nothing_in_a_span_steers_a_terminal() -> None:
    bad = "a\x1b[2Jb\nc\u202ed"
    changes = {"name": bad, "status": {"message": bad}, "attributes": [{"key": bad, "value": {"stringValue": bad}}]}
    (span,) = read(as_json(export(json_span(**changes), service=bad)), JSON)[0]
    texts = [span.name, span.service, span.message, *span.attributes, *map(str, span.attributes.values())]
    assert set(texts) == {"a [2Jb c d"}


def test_an_export_takes_only_so_many_spans() -> None:
    spans = [json_span(spanId=identity(n + 1), attributes=[]) for n in range(make.SPANS_MAX + 3)]
    kept, taken = read(as_json(export(*spans)), JSON)
    assert len(kept) == make.SPANS_MAX
    assert taken == Taken(make.SPANS_MAX, 3, f"an export may have {make.SPANS_MAX} spans")


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


@pytest.mark.parametrize("depth", [3, 20])
def test_nesting_is_read_to_a_depth_only(depth: int) -> None:
    data = export(json_span(attributes=[{"key": "a", "value": nested(depth)}]))
    for body, media_type in ((as_json(data), JSON), (as_protobuf(data), PROTOBUF)):
        (span,) = read(body, media_type)[0]
        assert span.attributes["a"] == ("[[[deep]]]" if depth == 3 else "[[[[…]]]]")


HOSTILE_JSON = {
    "not JSON": b"nonsense",
    "a list": b"[]",
    "half": b'{"resourceSpans": [',
    "deep": b'{"resourceSpans":' + b"[" * 100_000,
    "deep and closed": b'{"resourceSpans":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many parts": b'{"resourceSpans":[' + b"{}," * 300_000 + b"{}]}",
    "latin-1": b'{"resourceSpans": "\xe9"}',
    "empty": b"",
}
HOSTILE_PROTOBUF = {
    "text": b"nonsense",
    "a length beyond the end": b"\x0a\xff\x01\x00",
    "a length beyond all": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    "an endless number": b"\x08" + b"\xff" * 1000,
    "a group": b"\x0b\x0c",
    "many empty resources": b"\x0a\x00" * 500_000,
    "many empty spans": b"\x0a\x84\x89\x7a\x12\x80\x89\x7a" + b"\x12\x00" * 1_000_000,
    "deep": b"\x0a" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused(name: str) -> None:
    with pytest.raises((InvalidInput, TooLarge)):
        read(HOSTILE_JSON[name], JSON)


@pytest.mark.parametrize("name", HOSTILE_PROTOBUF)
def test_hostile_protobuf_is_refused_before_it_takes_memory(name: str) -> None:
    body = HOSTILE_PROTOBUF[name]
    tracemalloc.start()
    try:
        with pytest.raises((InvalidInput, TooLarge)):
            read(body, PROTOBUF)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_an_empty_protobuf_is_an_export_of_nothing() -> None:
    assert read(b"", PROTOBUF) == ([], Taken(0))


def test_the_size_of_a_real_export_is_known() -> None:
    body = as_protobuf(export(*(json_span() for _ in range(100))))
    assert 1_000 < check_size(body) < 3_000
    with pytest.raises(TooLarge):
        check_size(body, 999)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            [
                "resourceSpans", "resource", "attributes", "scopeSpans", "spans", "traceId", "spanId", "key", "value",
                "stringValue", "intValue", "doubleValue", "bytesValue", "arrayValue", "kvlistValue", "values", "kind",
                "status", "code", "startTimeUnixNano", "name",
            ]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(ANYTHING)
def test_any_json_is_read_or_refused(data: Any) -> None:
    span = {**json_span(), "attributes": [{"key": "a", "value": data}], "status": data, "kind": data}
    for body in (as_json(data), as_json(export(span)), as_json({"resourceSpans": data})):
        try:
            spans, taken = read(body, JSON)
        except SpinyardError as error:
            assert 400 <= error.status < 500
        else:
            assert taken.accepted == len(spans)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(noise: bytes, at: int, byte: int) -> None:
    real = bytearray(as_protobuf(export(json_span())))
    real[at % len(real)] = byte
    for body in (noise, bytes(real), bytes(real) + noise):
        try:
            read(body, PROTOBUF)
        except SpinyardError as error:
            assert 400 <= error.status < 500


def test_the_answer_is_that_of_the_protocol() -> None:
    partial = Taken(3, 2, "why")
    found = ExportTraceServiceResponse.FromString(answer(partial, PROTOBUF))
    assert (found.partial_success.rejected_spans, found.partial_success.error_message) == (2, "why")
    assert answer(Taken(3), PROTOBUF) == b"" and answer(Taken(3), JSON) == b"{}"
    assert answer(partial, JSON) == b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"why"}}'


def test_a_refusal_is_a_status_that_real_protobuf_reads() -> None:
    from google.rpc.status_pb2 import Status

    error = TooLarge("x" * 400, next_step="Do.")
    found = Status.FromString(refusal(error, PROTOBUF))
    assert (found.code, found.message) == (3, "x" * 400 + " Do.")
    assert refusal(InvalidInput("No.", retryable=True), JSON) == b'{"code":14,"message":"No."}'


def test_envoys_messages_and_those_of_opentelemetry_do_not_meet() -> None:
    assert proto.encode("envoy.config.cluster.v3.Cluster", {"name": "a"})
    assert ExportTraceServiceRequest.DESCRIPTOR.file.pool is not proto._pool()
