"""A parent that asks its unit through the gateway, or the unit itself: both with the SDK, one as ASGI, one as WSGI."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import time
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from spinyard_sdk import tracing
from spinyard_sdk.tracing_web import AsgiTracing, WsgiTracing


def unit(environ: dict[str, Any], start: Any) -> list[bytes]:
    with tracing.child("render", attributes={"size": 400}):
        time.sleep(0.002)
    failed = environ["PATH_INFO"] == "/broken"
    start("500 Broken" if failed else "200 OK", [("content-type", "text/plain")])
    return [b"unit\n"]


async def parent(scope: Any, receive: Any, send: Any) -> None:
    status, body = 200, b"ok\n"
    if scope["path"] != "/ready":
        with tracing.child("ask the unit", "client") as span:
            headers = {"host": "unit.localhost"}
            tracing.inject(headers)
            connection = http.client.HTTPConnection(os.environ["GATEWAY"], timeout=10)
            connection.request("GET", scope["path"], headers=headers)
            answer = connection.getresponse()
            status, body = answer.status, b"parent, " + answer.read()
            span.set("http.response.status_code", status)
            connection.close()
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    # With an end of its own it sends what it recorded last; uvicorn and gunicorn do the same.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.argv[1] == "unit":
        make_server("127.0.0.1", port, WsgiTracing(unit), Threads, Quiet).serve_forever()  # type: ignore[arg-type]
    else:
        import uvicorn

        uvicorn.run(AsgiTracing(parent), host="127.0.0.1", port=port, log_level="warning", lifespan="off")
