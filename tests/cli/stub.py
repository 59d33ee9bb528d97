"""A small real HTTP server that speaks the parts of docs/api.md which these tests need, with objects that come to their
goal after a few looks. It stands in for the server only here; tests/e2e drives the real one.
"""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]

TOKEN = "stub-token"
KINDS = {
    "services": "Service",
    "jobs": "Job",
    "templates": "Template",
    "spins": "Spin",
    "warmpools": "WarmPool",
    "claims": "Claim",
    "rollouts": "Rollout",
    "spinouts": "Spinout",
}


def make_object(kind: str, name: str, *, namespace: str = "default", spec: Json | None = None, **status: Any) -> Json:
    return {
        "apiVersion": "spinyard.dev/v1",
        "kind": kind,
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{kind.lower()}-{name}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00.000Z",
        },
        "spec": spec or {},
        "status": {"state": "pending", "observedGeneration": 1, "conditions": [], **status},
    }


def problem(status: int, code: str, detail: str, **more: Any) -> tuple[int, Json]:
    return status, {"type": "about:blank", "status": status, "code": code, "detail": detail, "fault": "user"} | more


def ran(code: int, out: bytes = b"", err: bytes = b"", why: str = "") -> tuple[int, bytes]:
    """What the server says of a command."""
    pieces = [{"type": name, "data": b64encode(data).decode()} for name, data in (("stdout", out), ("stderr", err))]
    lines = [*pieces, {"type": "heartbeat"}, {"type": "exit", "exitCode": code, "why": why}]
    return 200, b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Stub:
    """`objects` by (kind, namespace, name). `looks_until_done`: GETs of an object until its state is `final_state`.
    `failures`: answers that come before any other. `drop`: how many requests to answer with a closed connection."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Json] = {}
        self.logs: dict[str, bytes] = {}
        self.events: list[Json] = []
        self.resources: list[Json] = []
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        """(method, path, query, headers in lower case, body)"""
        self.failures: list[tuple[int, Json]] = []
        self.drop = 0
        self.looks_until_done = 2
        self.final_state = "available"
        self.deletes_finish = True
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self._looks: dict[tuple[str, str, str], int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Stub:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def write_home(self, home: Path) -> None:
        (home / "run").mkdir(parents=True, exist_ok=True)
        server = {"url": self.url, "pid": 1, "gateway": "127.0.0.1:8080", "version": "0.1.0", "started_at": 0}
        (home / "run" / "server.json").write_text(json.dumps(server))
        (home / "token").write_text(TOKEN + "\n")

    def add(self, item: Json) -> Json:
        meta = item["metadata"]
        self.objects[(item["kind"], meta["namespace"], meta["name"])] = item
        return item

    def sent(self, method: str) -> list[tuple[str, dict[str, str], dict[str, str], Any]]:
        return [(path, query, headers, body) for verb, path, query, headers, body in self.requests if verb == method]

    # -- answers -----------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if self.failures:
            return self.failures.pop(0)
        if (method, path) in self.answers:
            return self.answers[(method, path)]
        if (method, path) == ("POST", "/v1/apply"):
            return self._apply(query, body)
        if path == "/v1/events":
            return 200, _list(self.events)
        if path == "/v1/resources":
            return 200, _list(self.resources)
        if path == "/readyz":
            return 200, {}
        return self._object(method, path, query, body)

    def _object(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        parts = path.removeprefix("/v1/").split("/")
        namespace, rest = (parts[1], parts[2:]) if parts[0] == "namespaces" else (None, parts)
        kind = KINDS.get(rest[0])
        if kind is None:
            return problem(404, "not_found", f"no such path {path}")
        if len(rest) == 1:
            return 200, _list(self._select(kind, namespace, query))
        key = (kind, namespace or "default", rest[1])
        item = self.objects.get(key)
        if item is None:
            return problem(404, "not_found", f"There is no {kind} {rest[1]!r}.", nextStep="List what there is.")
        if method == "DELETE":
            item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:01.000Z"
            if self.deletes_finish:
                del self.objects[key]
            return 202, item
        if rest[2:] == ["scale"]:
            item["spec"]["replicas"] = body["replicas"]
        elif method == "GET" and len(rest) == 2:
            self._advance(key, item)
        return 200, item

    def _select(self, kind: str, namespace: str | None, query: dict[str, str]) -> list[Json]:
        labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        return [
            item
            for (its_kind, its_namespace, _), item in sorted(self.objects.items())
            if its_kind == kind
            and namespace in (None, its_namespace)
            and labels.items() <= item["metadata"].get("labels", {}).items()
            and query.get("owner", "") in ("", *(o["uid"] for o in item["metadata"].get("ownerReferences", [])))
        ]

    def _advance(self, key: tuple[str, str, str], item: Json) -> None:
        """Only what was applied here moves; objects put in by a test stay as they are."""
        if key not in self._looks:
            return
        self._looks[key] += 1
        item["metadata"]["resourceVersion"] = str(1 + self._looks[key])
        if self._looks[key] >= self.looks_until_done:
            item["status"]["state"] = self.final_state

    def _apply(self, query: dict[str, str], body: Json) -> tuple[int, Any]:
        results = []
        for document in body["objects"]:
            meta = document["metadata"]
            key = (document["kind"], meta["namespace"], meta["name"])
            result = "unchanged" if key in self.objects else "created"
            if query.get("dryRun") == "plan":
                action = "unchanged" if key in self.objects else "create"
                results.append({"action": action, "kind": key[0], "namespace": key[1], "name": key[2], "diff": []})
                continue
            item = self.objects.get(key) or self.add(make_object(*key[::2], namespace=key[1], spec=document["spec"]))
            self._looks.setdefault(key, 0)
            results.append({"result": result, "object": json.loads(json.dumps(item))})
        if query.get("dryRun") == "plan":
            return 200, {"kind": "Plan", "changes": results, "preflight": []}
        return 200, {"kind": "ApplyResult", "results": results}


def _list(items: list[Json]) -> Json:
    meta = {"continue": "", "resourceVersion": "7.0"}
    return {"apiVersion": "spinyard.dev/v1", "kind": "List", "items": items, "metadata": meta}


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.requests.append((self.command, parts.path, query, headers, body))
            if stub.drop > 0:
                stub.drop -= 1
                self.close_connection = True
                return
            if headers.get("authorization") != f"Bearer {TOKEN}" and parts.path != "/readyz":
                self._send(*problem(401, "unauthenticated", "The token is wrong."))
            elif parts.path.endswith("/logs"):
                self._text(stub.logs.get(parts.path.split("/")[-2], b""), "text/plain")
            elif query.get("watch") == "true":
                data = "".join(
                    f"id: 8.{n}\nevent: {kind}\ndata: {json.dumps(item)}\n\n"
                    for n, (kind, item) in enumerate(stub.answers.get(("WATCH", parts.path), (200, []))[1])
                )
                self._text(data.encode(), "text/event-stream")
            else:
                self._send(*stub.answer(self.command, parts.path, query, body))

        do_GET = do_POST = do_PUT = do_DELETE = _any

        def _send(self, status: int, data: Any) -> None:
            if isinstance(data, bytes):
                self._text(data, "application/x-ndjson", status)
                return
            content = "application/problem+json" if status >= 400 else "application/json"
            self._text(json.dumps(data).encode(), content, status)

        def _text(self, content: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet: what was asked is in stub.requests."""

    return Handler
