"""Spans to an OTLP/HTTP receiver, as JSON, by a thread of its own: `record` never waits, and never fails.

Where to: `configure`, else SPINYARD_OTLP, else OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (taken as it is), else
OTEL_EXPORTER_OTLP_ENDPOINT. Without any of them nothing is kept. What the queue has no room for, and what the receiver
does not take in two tries, is dropped and counted.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

QUEUE_MAX: Final = 4096
BATCH_MAX: Final = 256
INTERVAL_SECONDS: Final = 0.5
SEND_SECONDS: Final = 3.0
PAUSE_SECONDS_MAX: Final = 10.0
EXIT_SECONDS: Final = 2.0
ANSWER_BYTES_MAX: Final = 64 * 1024

_KINDS: Final = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}


@dataclass(frozen=True, slots=True)
class Span:
    """Times in nanoseconds since the epoch; `error` is empty for one that went well."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    error: str = ""
    state: str = ""


@dataclass(slots=True)
class Counts:
    """Of this process, since it began."""

    sent: int = 0
    dropped: int = 0
    why: str = ""
    """the last reason for a drop"""


def record(span: Span) -> None:
    """Queued, or counted as dropped. Without an endpoint nothing happens."""
    exporter = _exporter()
    if exporter is not None:
        exporter.put(span)


def flush(seconds: float = EXIT_SECONDS) -> bool:
    """Whether everything recorded so far was sent, or dropped, within that time."""
    return _STATE.exporter is None or _STATE.exporter.flush(seconds)


def counts() -> Counts:
    return _STATE.exporter.counts if _STATE.exporter is not None else Counts()


def configure(endpoint: str, service: str = "") -> None:
    """Instead of the environment: the base address of the receiver, `http://host:port`; empty: nothing is sent."""
    before, _STATE.exporter = _STATE.exporter, None
    if before is not None:
        before.close(EXIT_SECONDS)
    _STATE.is_settled = True
    if endpoint:
        _STATE.exporter = Exporter(_traces_address(endpoint), resource(service))


class Exporter:
    """`put` from any thread. Its own thread starts with the first span, and is a daemon: it never holds the program."""

    def __init__(
        self,
        address: str,
        about: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._address = urlsplit(address)
        self._about = dict(about)
        self._headers = {"content-type": "application/json", **(headers or {})}
        self._queue: deque[Span] = deque()
        self._queue_max = queue_max
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self.counts = Counts()

    def put(self, span: Span) -> None:
        if self._closed or len(self._queue) >= self._queue_max:
            self._drop(1, "the queue is full")
            return
        self._queue.append(span)
        self._idle.clear()
        if self._thread is None:
            self._start()
        if len(self._queue) >= BATCH_MAX:
            self._wake.set()

    def fresh(self) -> Exporter:
        """The same in a forked process, which has no thread; what is queued here is not its own to send."""
        return Exporter(self._address.geturl(), self._about, self._headers, self._queue_max)

    def flush(self, seconds: float) -> bool:
        self._wake.set()
        if self._thread is None or not self._thread.is_alive():
            return not self._queue
        return self._idle.wait(seconds)

    def close(self, seconds: float) -> bool:
        """What is not sent by then stays unsent."""
        self._ending.set()
        done = self.flush(seconds)
        self._closed = True
        self._wake.set()
        return done

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="spinyard-traces", daemon=True)
                # At the end of the interpreter no thread can be started any more.
                with contextlib.suppress(RuntimeError):
                    self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while not self._closed:
            if pause:
                self._ending.wait(pause)
            else:
                self._wake.wait(INTERVAL_SECONDS)
            self._wake.clear()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
                pause = 0.0 if self._deliver(batch) else min(PAUSE_SECONDS_MAX, max(1.0, pause * 2))
                if pause:
                    break
            if not self._queue:
                self._idle.set()
                if self._queue:
                    self._idle.clear()

    def _deliver(self, batch: Sequence[Span]) -> bool:
        body = encode(batch, self._about)
        why = ""
        for _ in range(2):
            try:
                status = self._post(body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._hang_up()
                why = f"{type(error).__name__}: {error}"
                continue
            if 200 <= status < 300:
                self.counts.sent += len(batch)
                return True
            why = f"the receiver answered {status}"
            if status not in (429, 502, 503, 504):
                break
        self._drop(len(batch), why)
        return False

    def _post(self, body: bytes) -> int:
        if self._connection is None:
            self._connection = _connection(self._address)
        path = self._address.path or "/"
        path += f"?{self._address.query}" if self._address.query else ""
        self._connection.request("POST", path, body, self._headers)
        answer = self._connection.getresponse()
        answer.read(ANSWER_BYTES_MAX)
        if not answer.isclosed():
            self._hang_up()
        return answer.status

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _drop(self, number: int, why: str) -> None:
        self.counts.dropped += number
        self.counts.why = why


def encode(spans: Sequence[Span], about: Mapping[str, str]) -> bytes:
    """An ExportTraceServiceRequest in OTLP's JSON: ids in hex, 64-bit numbers as texts."""
    scope = {"scope": {"name": "spinyard_sdk"}, "spans": [_span(span) for span in spans]}
    body = {"resourceSpans": [{"resource": {"attributes": _attributes(about)}, "scopeSpans": [scope]}]}
    return json.dumps(body, separators=(",", ":")).encode()


def resource(service: str = "") -> dict[str, str]:
    """Who we are: OTEL_SERVICE_NAME, else what Spinyard told this instance, else the name of the program."""
    named = service or os.environ.get("OTEL_SERVICE_NAME") or os.environ.get("SPINYARD_SERVICE")
    about = {"service.name": named or os.path.basename(sys.argv[0] if sys.argv else "") or "python"}
    if spin := os.environ.get("SPINYARD_SPIN"):
        about["service.instance.id"] = spin
    return about


def _span(span: Span) -> dict[str, Any]:
    out: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes(span.attributes),
    }
    if span.parent_id:
        out["parentSpanId"] = span.parent_id
    if span.state:
        out["traceState"] = span.state
    if span.error:
        out["status"] = {"code": 2, "message": span.error}
    return out


def _attributes(values: Mapping[str, str | bool | int | float]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | bool | int | float) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": str(value)}


def _connection(address: SplitResult) -> http.client.HTTPConnection:
    """Raises ValueError for what is no address of HTTP."""
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError(f"{address.geturl()!r} is not http://HOST:PORT")
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    return kind(address.hostname, address.port, timeout=SEND_SECONDS)


def _traces_address(base: str) -> str:
    return base.rstrip("/") + "/v1/traces"


def _headers_of(text: str) -> dict[str, str]:
    """`a=b,c=d`, percent-encoded, as OpenTelemetry writes it."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}


# -- the one of this process -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    exporter: Exporter | None = None
    is_settled: bool = False


_STATE: Final = _State()


def _exporter() -> Exporter | None:
    if not _STATE.is_settled:
        _STATE.exporter = _from_environment()
        _STATE.is_settled = True
    return _STATE.exporter


def _from_environment() -> Exporter | None:
    ours = os.environ.get("SPINYARD_OTLP", "")
    if ours:
        return Exporter(_traces_address(ours), resource())
    whole = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    if not (whole or base):
        return None
    headers = _headers_of(os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", ""))
    return Exporter(whole or _traces_address(base), resource(), headers)


def _after_fork() -> None:
    if _STATE.exporter is not None:
        _STATE.exporter = _STATE.exporter.fresh()


def _at_exit() -> None:
    if _STATE.exporter is not None:
        _STATE.exporter.close(EXIT_SECONDS)


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
