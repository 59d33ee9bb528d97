"""What a request brings along reaches the calls that are made for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spinyard_sdk.context import REQUEST, AsgiRequests, Request, WsgiRequests, deadline, remaining, request_of
from spinyard_sdk.tracing import current

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {
    "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    "x-spinyard-side": "unit",
    "x-spinyard-key": "someone",
    "x-spinyard-timeout-ms": "500",
}


def check() -> None:
    request, trace, left = REQUEST.get(), current(), remaining()
    assert request is not None
    assert trace is not None
    assert left is not None
    assert (request.side, request.key, trace.trace_id, 0 < left <= 0.5) == ("unit", "someone", TRACE, True)


def test_a_request_of_asgi_goes_on() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        check()
        seen.append(await asyncio.to_thread(lambda: check()))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        seen.append(message["status"])

    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    asyncio.run(AsgiRequests(app)(scope, lambda: None, send))  # type: ignore[arg-type,return-value]
    assert seen == [None, 200]
    assert REQUEST.get() is None


def test_a_request_of_wsgi_goes_on() -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        check()
        start_response("200 OK", [])
        return [b"done"]

    environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in HEADERS.items()}
    told: list[str] = []
    body = WsgiRequests(app)({"REQUEST_METHOD": "GET", **environ}, lambda status, headers: told.append(status))
    assert (b"".join(body), told) == (b"done", ["200 OK"])
    assert REQUEST.get() is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Request()),
        ({"x-spinyard-side": "old"}, Request()),
        ({"x-spinyard-side": "unit, parent"}, Request()),
        ({"x-spinyard-timeout-ms": "-1"}, Request()),
        ({"x-spinyard-timeout-ms": "9" * 40}, Request()),
        ({"x-spinyard-timeout-ms": "٣"}, Request()),
    ],
)
def test_what_is_not_understood_counts_as_absent(headers: dict[str, str], expected: Request) -> None:
    assert request_of(headers) == expected


def test_the_sooner_deadline_holds() -> None:
    assert remaining() is None
    with deadline(0.5):
        with deadline(60):
            left = remaining()
            assert left is not None
            assert left <= 0.5
        with deadline(-1):
            assert remaining() == 0.0
    assert remaining() is None
