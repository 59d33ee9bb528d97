"""One HTTP request at a time over the standard library: no event loop, no pool, little to import.

A request is sent again only when that is safe: reads, and writes that carry an Idempotency-Key, and for these always
with the same key. While the keeper starts a dead server again its address may change, so it is looked up anew.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from spinyard.client.problems import error_from_problem
from spinyard.errors import SystemFailure, Unreachable

RETRY_PAUSE_SECONDS = 0.25
ANSWER_BYTES_MAX = 256 << 20


@dataclass(frozen=True, slots=True)
class Address:
    url: str
    token: str


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    """lower case names"""
    body: bytes

    def json(self) -> Any:
        if not self.body:
            return {}
        try:
            return json.loads(self.body)
        except ValueError as cause:
            raise SystemFailure(
                f"the server answered {self.status} with something that is not JSON",
                code="bad_answer",
                next_step="check that the address is that of a Spinyard server",
            ) from cause


class Transport:
    """`locate` gives the address; it raises Unreachable when there is none. `patience_seconds` is asked when nothing
    answers: how long to go on trying (0: the first refusal is the answer)."""

    def __init__(
        self, locate: Callable[[], Address], *, patience_seconds: Callable[[], float], timeout_seconds: float = 30.0
    ) -> None:
        self._locate = locate
        self._patience_seconds = patience_seconds
        self._timeout_seconds = timeout_seconds

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> Response:
        """The answer of status 2xx; any other status raises the error it stands for."""
        safe = method in ("GET", "HEAD") or "Idempotency-Key" in (headers or {})
        tries_left: int | None = None
        drops_left = 2 if safe else 0
        while True:
            try:
                return self._once(method, path, query, body, headers or {}, timeout_seconds)
            except _Dropped as dropped:
                drops_left -= 1
                if drops_left < 0:
                    raise _lost(method, safe) from dropped.__cause__
            except Unreachable:
                tries_left = self._tries() if tries_left is None else tries_left - 1
                if tries_left <= 0:
                    raise
            time.sleep(RETRY_PAUSE_SECONDS)

    def _tries(self) -> int:
        return int(self._patience_seconds() / RETRY_PAUSE_SECONDS)

    @contextmanager
    def stream(
        self,
        path: str,
        query: Mapping[str, object] | None = None,
        *,
        accept: str = "text/event-stream",
        timeout_seconds: float | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """Lines of an endless answer, as they come. The timeout bounds the silence between two of them."""
        try:
            connection, response = self._send(method, path, query, body, {"Accept": accept}, timeout_seconds)
        except _Dropped as dropped:
            raise Unreachable("the stream broke", code="stream_broken", retryable=True) from dropped.__cause__
        try:
            if response.status >= 300:
                raise _error(_read(response))
            yield _lines(response)
        finally:
            connection.close()

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_seconds: float | None,
    ) -> Response:
        connection, response = self._send(method, path, query, body, headers, timeout_seconds)
        try:
            answer = _read(response)
        except (http.client.HTTPException, OSError) as cause:
            raise _Dropped from cause
        finally:
            connection.close()
        if answer.status >= 300:
            raise _error(answer)
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_seconds: float | None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        address = self._locate()
        connection = _connection(address.url, timeout_seconds or self._timeout_seconds)
        try:
            connection.connect()
        except OSError as cause:
            connection.close()
            raise Unreachable(
                f"nothing answers at {address.url} ({cause.strerror or cause})",
                retryable=True,
                next_step="see `spinyard doctor`, or start it with `spinyard server`",
            ) from cause
        try:
            connection.request(method, _target(path, query), body=body, headers=_headers(address.token, body, headers))
            return connection, connection.getresponse()
        except (http.client.HTTPException, OSError) as cause:
            connection.close()
            raise _Dropped from cause


class _Dropped(Exception):
    """The connection broke, or nothing came in time, after the request may have been sent."""


def _connection(url: str, timeout_seconds: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or "127.0.0.1"
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout_seconds)
    return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_seconds)


def _target(path: str, query: Mapping[str, object] | None) -> str:
    pairs = [(name, value) for name, value in (query or {}).items() if value is not None and value != ""]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _headers(token: str, body: bytes | None, headers: Mapping[str, str]) -> dict[str, str]:
    out = {"Accept": "application/json", "Authorization": f"Bearer {token}", "User-Agent": "spinyard-cli"}
    if body is not None:
        out["Content-Type"] = "application/json"
    out.update(headers)
    return out


def _read(response: http.client.HTTPResponse) -> Response:
    body = response.read(ANSWER_BYTES_MAX)
    return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def _error(answer: Response) -> Exception:
    try:
        problem = json.loads(answer.body) if answer.body else {}
    except ValueError:
        problem = {"detail": answer.body[:300].decode(errors="replace")}
    if not isinstance(problem, dict):
        problem = {}
    return error_from_problem(answer.status, problem, answer.headers.get("retry-after", ""))


def _lost(method: str, safe: bool) -> Unreachable:
    if safe:
        return Unreachable("the connection broke three times", retryable=True, next_step="see `spinyard doctor`")
    return Unreachable(
        f"the connection broke while the answer to a {method} was awaited: it may have been done",
        code="connection_lost",
        next_step="look with `spinyard get` before doing it again",
    )


def _lines(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            line = response.readline(1 << 20)
        except TimeoutError:
            return
        except (http.client.HTTPException, OSError) as cause:
            raise Unreachable("the stream broke", code="stream_broken", retryable=True) from cause
        if not line:
            return
        yield line
