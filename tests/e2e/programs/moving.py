"""A parent or a unit: answers GET /items/{id} as JSON, and is as bad as the file $BAD says now. For `python -I -S`.

The file has words such as `fail=0.2 wrong=1 hang=1 late=0.3 leak=1 unready=1 down=1`. An error that it makes on
purpose says so in a header, so that the load generator can set it apart from what the machinery lost.
"""

import json
import os
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LEAKED: list[bytearray] = []


def badness() -> dict[str, float]:
    try:
        with open(os.environ["BAD"]) as file:
            return {name: float(value) for name, _, value in (word.partition("=") for word in file.read().split())}
    except OSError:
        return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        bad = badness()
        if self.path == "/ready":
            return self.answer(503 if bad.get("unready") else 200, {})
        if bad.get("hang"):
            threading.Event().wait(60)
        if bad.get("late"):
            time.sleep(bad["late"])
        if bad.get("leak"):
            LEAKED.append(bytearray(os.urandom(1024)) * int(bad["leak"] * 1024))
        item = self.path.rpartition("/")[2]
        if random.random() < bad.get("fail", 0.0):
            return self.answer(500, {"item": item}, "x-failed-on-purpose: 1")
        self.answer(200, {"item": item, "price": 2 if bad.get("wrong") else 1})

    def answer(self, status: int, body: object, *more: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-answered-by", os.environ["SIDE"])
        for line in more:
            self.send_header(*line.split(": "))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if badness().get("down"):
    sys.exit(1)
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
