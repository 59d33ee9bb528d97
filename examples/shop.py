"""A web program of which FAIL_PERCENT of the answers are a 500: something for a rollout to judge."""

import os
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = os.environ.get("VERSION", "1")
FAIL = float(os.environ.get("FAIL_PERCENT", "0")) / 100


class Shop(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        failed = self.path != "/healthz" and random.random() < FAIL
        body = f"version {VERSION}{' failed' if failed else ''}\n".encode()
        self.send_response(500 if failed else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Shop).serve_forever()
