"""Requests continue the caller's trace inside of a web application."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

from spinyard_sdk import tracing_export
from spinyard_sdk.tracing import child, current
from spinyard_sdk.tracing_export import Span
from spinyard_sdk.tracing_web import AsgiTracing, WsgiTracing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Span]:
    spans: list[Span] = []
    monkeypatch.setattr(tracing_export, "record", spans.append)
    return spans


async def ask(app: Callable[..., Awaitable[None]], headers: list[tuple[str, str]], path: str = "/photos") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    encoded = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"token=x", "headers": encoded}
    await AsgiTracing(app)(scope, receive, send)
    return sent


async def answers(scope: Any, receive: Any, send: Any) -> None:
    with child("inside"):
        await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_a_request_is_a_span_of_the_callers_trace(recorded: list[Span]) -> None:
    assert [one["type"] for one in await ask(answers, [("traceparent", SAMPLED), ("x-spinyard-side", "unit")])] == [
        "http.response.start",
        "http.response.body",
    ]
    inside, request = recorded
    assert (request.trace_id, request.parent_id, request.kind) == (TRACE, SPAN, "server")
    assert (request.name, request.error) == ("GET /photos", "")
    assert request.attributes == {
        "http.request.method": "GET",
        "url.path": "/photos",
        "spinyard.side": "unit",
        "http.response.status_code": 200,
    }
    assert inside.parent_id == request.span_id
    assert current() is None


@pytest.mark.parametrize(
    "headers",
    [[("traceparent", SAMPLED), ("traceparent", SAMPLED)], [("traceparent", "nonsense")], []],
    ids=["two", "broken", "none"],
)
async def test_without_one_valid_caller_a_trace_begins(
    headers: list[tuple[str, str]], recorded: list[Span], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPINYARD_TRACE_SHARE", "1")
    await ask(answers, headers)
    assert recorded[-1].parent_id == "" and recorded[-1].trace_id != TRACE


async def test_an_answer_of_500_and_an_exception_are_failures(recorded: list[Span]) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("a secret")

    async def unwell(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 503, "headers": []})

    with pytest.raises(KeyError):
        await ask(broken, [("traceparent", SAMPLED)])
    await ask(unwell, [("traceparent", SAMPLED)])
    assert [one.error for one in recorded] == ["KeyError", "503"]


def call(app: Callable[..., Iterable[bytes]], headers: dict[str, str]) -> tuple[str, bytes]:
    environ: dict[str, Any] = {"PATH_INFO": "/ph\u00c3\u00b6tos", "QUERY_STRING": "token=x", **headers}
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO()
    statuses: list[str] = []
    body = WsgiTracing(app)(environ, lambda status, *rest: statuses.append(status))
    try:
        text = b"".join(body)
    finally:
        body.close()  # type: ignore[attr-defined]
    return statuses[0], text


def test_wsgi_is_traced_until_its_body_is_closed(recorded: list[Span]) -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            for part in (b"a", b"b"):
                with child("part"):
                    yield part

        def close(self) -> None:
            closed.append(len(recorded))

    def app(environ: Any, start: Any) -> Any:
        start("200 OK", [])
        with child("inside"):
            return Body()

    assert call(app, {"HTTP_TRACEPARENT": SAMPLED, "HTTP_X_SPINYARD_SIDE": "parent"}) == ("200 OK", b"ab")
    *others, request = recorded
    assert (request.trace_id, request.parent_id, request.name) == (TRACE, SPAN, "GET /phötos")
    assert request.attributes["spinyard.side"] == "parent"
    assert {one.parent_id for one in others} == {request.span_id}
    assert closed == [3] and current() is None


def test_a_wsgi_application_that_breaks_is_a_failure(recorded: list[Span]) -> None:
    def early(environ: Any, start: Any) -> Any:
        raise KeyError

    def late(environ: Any, start: Any) -> Any:
        start("200 OK", [])
        yield b"a"
        raise ValueError

    for app, expected in ((early, KeyError), (late, ValueError)):
        with pytest.raises(expected):
            call(app, {"HTTP_TRACEPARENT": SAMPLED})
    assert [one.error for one in recorded] == ["KeyError", "ValueError"]
    assert current() is None
