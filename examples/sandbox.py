"""A member of a pool: answers with what its claim brought, read from the directory that Spinyard tells it."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

CLAIM = Path(os.environ["SPINYARD_CLAIM_DIR"]) / "claim.json"


class Sandbox(BaseHTTPRequestHandler):
    def do_GET(self):
        claim = json.loads(CLAIM.read_text()) if CLAIM.exists() else None
        body = json.dumps({"pid": os.getpid(), "claim": claim}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Sandbox).serve_forever()
