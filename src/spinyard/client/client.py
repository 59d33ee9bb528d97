"""What can be asked of a server, one method each. Objects are plain JSON data as docs/api.md describes them."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from spinyard.client.problems import error_from_problem
from spinyard.client.sse import SentEvent, sent_events
from spinyard.client.transport import Address, Response, Transport
from spinyard.errors import Unreachable, UserError

Json = dict[str, Any]

PAGES_MAX = 5000
LOG_SILENCE_SECONDS = 3600.0
EXEC_SILENCE_SECONDS = 60.0
"""of a running command: the server sends something every ten seconds"""


@dataclass(frozen=True, slots=True)
class Output:
    """`type`: stdout, stderr or exit. `why`: when something else than the command itself ended it."""

    type: str
    data: bytes = b""
    exit_code: int = 0
    why: str = ""


class Client:
    """Every method raises from the tree of `spinyard.errors`; nothing answering is Unreachable.

    `patience_seconds` is asked when nothing answers: how long to go on trying.
    Changes take an optional `key` (Idempotency-Key): with it they are sent again over a broken connection.
    """

    def __init__(
        self,
        address: Address | Callable[[], Address],
        *,
        actor: str = "",
        patience_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        locate = (lambda: address) if isinstance(address, Address) else address
        self._transport = Transport(locate, patience_seconds=patience_seconds)
        self._actor = actor

    # -- reading -----------------------------------------------------------------------------------------------------

    def get(self, kind: str, namespace: str, name: str, *, finished: bool = False) -> Json:
        """Raises NotFound. With `finished`, a kept record of an object that is gone counts too."""
        return self._json("GET", _path(kind, namespace, name), query={"finished": "all" if finished else None})

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        owner: str = "",
        finished: str = "",
    ) -> Json:
        """All pages as one List. `finished`: true, false or all; empty: the server's default for the kind."""
        query: dict[str, object] = {"labelSelector": _selector(labels), "owner": owner, "finished": finished}
        return self._pages(_path(kind, namespace), query)

    def events(
        self,
        *,
        involved: str = "",
        owner: str = "",
        namespace: str = "",
        limit: int | None = None,
        newest: bool = False,
    ) -> Json:
        """`involved`: Kind/namespace/name, or a uid. Oldest first unless `newest`."""
        query: dict[str, object] = {"involved": involved, "owner": owner, "namespace": namespace, "limit": limit}
        query["newest"] = "true" if newest else None
        return self._json("GET", "/v1/events", query=query)

    def explain(self, kind: str, namespace: str, name: str) -> Json:
        return self._json("GET", _path(kind, namespace, name) + "/explain")

    def traces(
        self,
        *,
        service: str = "",
        side: str = "",
        failed: bool = False,
        slower_than_seconds: float = 0.0,
        slowest: bool = False,
        limit: int = 50,
    ) -> Json:
        """Of the recent past, the newest first or the slowest."""
        query: dict[str, object] = {"service": service, "side": side, "failed": "true" if failed else None}
        query |= {"slowerThan": slower_than_seconds or None, "order": "slowest" if slowest else None, "limit": limit}
        return self._json("GET", "/v1/traces", query=query)

    def trace(self, trace_id: str) -> Json:
        return self._json("GET", f"/v1/traces/{quote(trace_id, safe='')}")

    def info(self) -> Json:
        return self._json("GET", "/v1/info")

    def is_ready(self) -> bool:
        """Whether /readyz says yes; raises Unreachable when nothing answers."""
        return bool(self._transport.request("GET", "/readyz", timeout_seconds=3.0).status == 200)

    def resources(self, *, owner: str = "") -> Json:
        """Ledger rows that are not closed."""
        return self._pages("/v1/resources", {"owner": owner})

    def orphans(self) -> Json:
        return self._json("GET", "/v1/orphans")

    # -- changing ----------------------------------------------------------------------------------------------------

    def apply(
        self,
        objects: Sequence[Json],
        *,
        applied_set: str = "",
        prune: bool = False,
        prune_selector: Mapping[str, str] | None = None,
        dry_run: bool = False,
        key: str = "",
    ) -> Json:
        """ApplyResult, or with `dry_run` the Plan."""
        body: Json = {"objects": list(objects), "prune": prune}
        if applied_set:
            body["appliedSet"] = applied_set
        if prune_selector:
            body["pruneSelector"] = dict(prune_selector)
        return self._json("POST", "/v1/apply", query={"dryRun": "plan" if dry_run else None}, body=body, key=key)

    def delete(self, kind: str, namespace: str, name: str, *, force: bool = False, key: str = "") -> Json:
        query = {"force": "true" if force else None}
        return self._json("DELETE", _path(kind, namespace, name), query=query, key=key)

    def scale(self, namespace: str, name: str, replicas: int, *, key: str = "") -> Json:
        return self._json("POST", _path("Service", namespace, name) + "/scale", body={"replicas": replicas}, key=key)

    def restart(self, namespace: str, name: str, *, key: str = "") -> Json:
        return self._json("POST", _path("Service", namespace, name) + "/restart", key=key)

    def claim(
        self, namespace: str, pool: str, body: Json | None = None, *, wait_seconds: float = 0.0, key: str = ""
    ) -> Json:
        """`body`: name, labels, owner, env, files, ttl, wait. Answers when the claim is ready or has failed, or after
        `wait_seconds` (at most 60)."""
        query = {"wait": f"{min(wait_seconds, 60.0):g}" if wait_seconds else None}
        path = _path("WarmPool", namespace, pool) + "/claims"
        return self._json("POST", path, query=query, body=body or {}, key=key, timeout_seconds=wait_seconds + 15.0)

    def renew(self, namespace: str, claim: str, ttl: float | str | None, *, key: str = "") -> Json:
        return self._json("POST", _path("Claim", namespace, claim) + "/renew", body={"ttl": ttl}, key=key)

    def pool_stats(self, namespace: str, pool: str) -> Json:
        """Claims of the last hour by five minutes, and the age of warm members."""
        return self._json("GET", _path("WarmPool", namespace, pool) + "/stats")

    def rollout(
        self, namespace: str, name: str, verb: str, *, full: bool = False, why: str = "", key: str = ""
    ) -> Json:
        """`verb`: promote, pause, resume, abort or rollback; `name` of a Rollout, or of its Service. Answers with the
        Rollout; rollback with a RollbackResult, whose `did` is "aborted" or "changed"."""
        body: Json | None = {"full": full} if verb == "promote" else {"why": why} if verb == "abort" else None
        return self._json("POST", _path("Rollout", namespace, name) + f"/{verb}", body=body, key=key)

    def rollout_plan(self, namespace: str, name: str) -> Json:
        """What another template of that Service would go through."""
        return self._json("GET", _path("Rollout", namespace, name) + "/plan")

    def spinout(self, namespace: str, name: str, verb: str, body: Mapping[str, object], *, key: str = "") -> Json:
        """`verb`: start, approve, hold, resume, abort or promote. Answers with the Spinout."""
        return self._json("POST", _path("Spinout", namespace, name) + f"/{verb}", body=dict(body), key=key)

    def spinout_token(self, namespace: str, name: str, side: str, seconds: float, *, key: str = "") -> Json:
        """A SideToken: `token`, and the `header` it is sent in."""
        body = {"side": side, "forSeconds": seconds}
        return self._json("POST", _path("Spinout", namespace, name) + "/token", body=body, key=key)

    def spinout_plan(self, namespace: str, name: str) -> Json:
        """What it would go through, what each step needs, and what is refused."""
        return self._json("GET", _path("Spinout", namespace, name) + "/plan")

    def spinout_history(self, namespace: str, name: str) -> Json:
        """All of it, oldest first, with its verification."""
        path = _path("Spinout", namespace, name) + "/history"
        found = self._json("GET", path)
        more = found["metadata"]["continue"]
        for _ in range(PAGES_MAX):
            if not more:
                break
            page = self._json("GET", path, query={"continue": more})
            found["items"] += page["items"]
            found["verification"], more = page["verification"], page["metadata"]["continue"]
        found["metadata"]["continue"] = more
        return found

    def spinout_diffs(self, namespace: str, name: str) -> Json:
        """What copied requests were answered differently: counts by field, and samples."""
        return self._json("GET", _path("Spinout", namespace, name) + "/diffs")

    def spinout_verify(self, namespace: str, name: str) -> Json:
        return self._json("GET", _path("Spinout", namespace, name) + "/verify")

    def hold(self, scope: str, namespace: str, why: str, *, for_seconds: float | None = None, key: str = "") -> Json:
        """`scope`: "" for everything, namespace/NAME, or kind/NAME of `namespace`."""
        body = {"scope": scope, "namespace": namespace, "why": why, "forSeconds": for_seconds}
        return self._json("POST", "/v1/holds", body=body, key=key)

    def release_hold(self, scope: str, namespace: str, *, key: str = "") -> Json:
        return self._json("DELETE", "/v1/holds", query={"scope": scope, "namespace": namespace}, key=key)

    def holds(self, namespace: str | None = None) -> Json:
        return self._json("GET", "/v1/holds", query={"namespace": namespace})

    def execute(self, namespace: str, spin: str, command: Sequence[str], *, timeout_seconds: float) -> Json:
        body = {"command": list(command), "timeoutSeconds": timeout_seconds}
        path = _path("Spin", namespace, spin) + "/exec"
        return self._json("POST", path, body=body, timeout_seconds=timeout_seconds + 15.0)

    @contextmanager
    def run_command(
        self, namespace: str, spin: str, command: Sequence[str], *, timeout_seconds: float
    ) -> Iterator[Iterator[Output]]:
        """What the command writes, while it runs; its end is the last one, or the connection broke. Leaving the context
        ends the command."""
        body = {"command": list(command), "timeoutSeconds": timeout_seconds, "stream": True}
        with self._transport.stream(
            _path("Spin", namespace, spin) + "/exec",
            accept="application/x-ndjson",
            timeout_seconds=EXEC_SILENCE_SECONDS,
            method="POST",
            body=json.dumps(body, separators=(",", ":")).encode(),
        ) as lines:
            yield _outputs(lines)

    def gc(self, *, dry_run: bool) -> Json:
        return self._json("POST", "/v1/gc", query={"dryRun": "true" if dry_run else None}, timeout_seconds=120.0)

    def backup(self, path: str) -> Json:
        return self._json("POST", "/v1/backup", body={"path": path}, timeout_seconds=600.0)

    # -- streams -----------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(
        self,
        kind: str,
        namespace: str | None = None,
        name: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        resume: str = "",
    ) -> Iterator[Iterator[SentEvent]]:
        """ADDED, MODIFIED and DELETED with the object as data. Ends when the connection does: begin again with the last
        id as `resume`; Expired means: list again."""
        query: dict[str, object] = {"watch": "true", "resume": resume, "labelSelector": _selector(labels)}
        with self._transport.stream(_path(kind, namespace, name), query) as lines:
            yield sent_events(lines)

    @contextmanager
    def watch_events(
        self, *, involved: str = "", owner: str = "", namespace: str = "", resume: str = ""
    ) -> Iterator[Iterator[SentEvent]]:
        query: dict[str, object] = {"watch": "true", "resume": resume, "involved": involved}
        query |= {"owner": owner, "namespace": namespace}
        with self._transport.stream("/v1/events", query) as lines:
            yield sent_events(lines)

    @contextmanager
    def logs(
        self, namespace: str, spin: str, *, follow: bool = False, tail: int | None = None, part: str = ""
    ) -> Iterator[Iterator[bytes]]:
        """Lines, each with its newline."""
        query: dict[str, object] = {"follow": "true" if follow else None, "tail": tail, "part": part}
        timeout = LOG_SILENCE_SECONDS if follow else None
        path = _path("Spin", namespace, spin) + "/logs"
        with self._transport.stream(path, query, accept="text/plain", timeout_seconds=timeout) as lines:
            yield lines

    # -- inside ------------------------------------------------------------------------------------------------------

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Json | None = None,
        key: str = "",
        timeout_seconds: float | None = None,
    ) -> Json:
        answer = self._request(method, path, query, body, key, timeout_seconds).json()
        return answer if isinstance(answer, dict) else {"items": answer}

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: Json | None,
        key: str,
        timeout_seconds: float | None,
    ) -> Response:
        headers = {"X-Spinyard-Actor": self._actor} if self._actor and method != "GET" else {}
        if key:
            headers["Idempotency-Key"] = key
        content = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        return self._transport.request(
            method, path, query=query, body=content, headers=headers, timeout_seconds=timeout_seconds
        )

    def _pages(self, path: str, query: Mapping[str, object]) -> Json:
        page = self._json("GET", path, query=query)
        items = list(page.get("items", []))
        first = page
        for _ in range(PAGES_MAX):
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                break
            page = self._json("GET", path, query={**query, "continue": token})
            items += page.get("items", [])
        # The first page's token: a watch from it misses nothing of the later pages either.
        version = (first.get("metadata") or {}).get("resourceVersion", "")
        return {**first, "items": items, "metadata": {"continue": "", "resourceVersion": version}}


def _outputs(lines: Iterator[bytes]) -> Iterator[Output]:
    for line in lines:
        said = json.loads(line)
        if said["type"] == "error":
            raise error_from_problem(int(said["problem"]["status"]), said["problem"])
        if said["type"] == "exit":
            yield Output("exit", exit_code=int(said["exitCode"]), why=str(said["why"]))
            return
        if said["type"] != "heartbeat":
            yield Output(str(said["type"]), b64decode(said["data"]))
    raise Unreachable(
        "the connection broke while the command ran: it was ended, and what it had done is not known",
        code="stream_broken",
        next_step="look with `spinyard get`, then run it again",
    )


_PLURALS = {
    "Service": "services",
    "Job": "jobs",
    "Template": "templates",
    "Spin": "spins",
    "WarmPool": "warmpools",
    "Claim": "claims",
    "Rollout": "rollouts",
    "Spinout": "spinouts",
}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")


def _path(kind: str, namespace: str | None, name: str = "") -> str:
    for word in (namespace, name):
        if word and not _NAME.fullmatch(word):
            raise UserError(
                f"{word!r} is not a name", code="invalid_request", next_step="names have letters, digits and dashes"
            )
    place = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"/v1{place}/{_PLURALS[kind]}" + (f"/{quote(name)}" if name else "")


def _selector(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{name}={value}" for name, value in (labels or {}).items())
