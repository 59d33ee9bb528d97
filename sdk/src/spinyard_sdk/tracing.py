"""Trace context for parents and units, after W3C Trace Context: `current()`, `child()`, `inject()`, `extract()`.

Only the standard library. Where the program runs an opentelemetry-sdk of its own, that one's context and spans are used
and nothing of ours is recorded; so both may be called everywhere. A span costs the caller microseconds: it is put into
a bounded queue, and a thread of its own sends it (`tracing_export`) or counts it as dropped.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from spinyard_sdk import tracing_export

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
SHARE_VARIABLE: Final = "SPINYARD_TRACE_SHARE"
SHARE: Final = 0.01
"""of the traces that begin here, how many are recorded; one that came in is recorded when its first hop said so"""
TRACESTATE_CHARACTERS_MAX: Final = 512
ATTRIBUTES_MAX: Final = 32
VALUE_CHARACTERS_MAX: Final = 256

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in which trace we are. Ids in lower-case hex: 32 and 16 characters."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""
    """`tracestate`, as it came"""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """What the headers say; None where they say nothing valid. https://www.w3.org/TR/trace-context/"""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    state = tracestate.strip()
    if len(state) > TRACESTATE_CHARACTERS_MAX or not (state.isascii() and state.isprintable()):
        state = ""
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1), state)


def current() -> TraceContext | None:
    """Of the span that we are in; None outside of every trace."""
    theirs = _their_context()
    return theirs if theirs is not None else _CURRENT.get()


def inject(headers: MutableMapping[str, str]) -> None:
    """Adds `traceparent` (and `tracestate`) for the next hop; outside of every trace nothing is added."""
    context = current()
    if context is None:
        return
    headers[TRACEPARENT] = context.traceparent
    if context.state:
        headers[TRACESTATE] = context.state


def extract(headers: Mapping[str, str]) -> TraceContext | None:
    """From headers with names in lower case."""
    return parse(headers.get(TRACEPARENT, ""), headers.get(TRACESTATE, ""))


def child(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Value] | None = None,
    *,
    parent: TraceContext | None = None,
) -> Child:
    """A span around a `with` block, inside of `parent`, else of where we are, else a trace of its own.

        with tracing.child("render", attributes={"size": 400}) as span:
            span.set("bytes", len(picture))

    An exception that leaves the block marks the span as failed, with its type only: messages hold other people's data.
    """
    return Child(name, kind, attributes, parent)


class Child:
    """What `child` gives. Works across `await`; one object is one span."""

    __slots__ = (
        "_attributes",
        "_before",
        "_kind",
        "_name",
        "_parent",
        "_start",
        "_theirs",
        "_token",
        "context",
        "error",
    )

    def __init__(
        self, name: str, kind: Kind, attributes: Mapping[str, Value] | None, parent: TraceContext | None
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = dict(attributes) if attributes else {}
        self._parent = parent
        self._theirs: Any = None
        self._token: Token[TraceContext | None] | None = None
        self.context: TraceContext
        self.error = ""

    def set(self, name: str, value: Value) -> None:
        if self._theirs is not None:
            self._theirs.span.set_attribute(name, value)
        elif len(self._attributes) < ATTRIBUTES_MAX or name in self._attributes:
            self._attributes[name] = value

    def fail(self, why: str) -> None:
        """The span ends as failed. `why`: a word or two, never data."""
        self.error = why[:VALUE_CHARACTERS_MAX] or "failed"

    def __enter__(self) -> Child:
        self.start()
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not self.error:
            self.fail(kind.__name__)
        self.leave()
        self.end()

    # -- for spans that no `with` can hold: start; enter and leave as often as need be; end ----------------------------

    def enter(self) -> None:
        """From now on it is the current one."""
        self._before = _CURRENT.get()
        self._token = _CURRENT.set(self.context)
        if self._theirs is not None:
            self._theirs.enter()

    def leave(self) -> None:
        if self._theirs is not None:
            self._theirs.leave()
        if self._token is not None:
            try:
                _CURRENT.reset(self._token)
            except ValueError:
                # Left in another context than entered: a generator that somebody else closes.
                _CURRENT.set(self._before)
            self._token = None

    def start(self) -> None:
        otel = _their_sdk()
        if otel is not None:
            self._theirs = _Theirs(otel, self._name, self._kind, self._attributes, self._parent)
            self.context = self._theirs.context
            return
        parent = self._parent or _CURRENT.get()
        self._parent = parent
        if parent is None:
            sampled = _RANDOM.random() < _share()
            self.context = TraceContext(f"{_id(128):032x}", f"{_id(64):016x}", sampled)
        else:
            self.context = TraceContext(parent.trace_id, f"{_id(64):016x}", parent.sampled, parent.state)
        self._start = time.time_ns() if self.context.sampled else 0

    def end(self) -> None:
        if self._theirs is not None:
            self._theirs.end(self.error)
        elif self._start:
            start, self._start = self._start, 0
            tracing_export.record(
                tracing_export.Span(
                    trace_id=self.context.trace_id,
                    span_id=self.context.span_id,
                    parent_id=self._parent.span_id if self._parent else "",
                    state=self.context.state,
                    name=self._name[:VALUE_CHARACTERS_MAX],
                    kind=self._kind,
                    start_ns=start,
                    end_ns=max(start, time.time_ns()),
                    attributes={key: _bounded(value) for key, value in self._attributes.items()},
                    error=self.error,
                )
            )


def _bounded(value: Value) -> Value:
    return value[:VALUE_CHARACTERS_MAX] if isinstance(value, str) else value


# -- ours --------------------------------------------------------------------------------------------------------------

_CURRENT: Final[ContextVar[TraceContext | None]] = ContextVar("spinyard_trace", default=None)
# Not the module's own: a program that seeds that one must not get the ids of yesterday again.
_RANDOM: Final = random.Random()
os.register_at_fork(after_in_child=_RANDOM.seed)


def _id(bits: int) -> int:
    return _RANDOM.getrandbits(bits) or 1


def _share() -> float:
    """Read at each beginning of a trace: those are rare, and tests set it."""
    with contextlib.suppress(ValueError):
        return min(1.0, max(0.0, float(os.environ.get(SHARE_VARIABLE, SHARE))))
    return SHARE


# -- theirs ------------------------------------------------------------------------------------------------------------


def _their_context() -> TraceContext | None:
    otel = sys.modules.get("opentelemetry.trace")
    if otel is None:
        return None
    try:
        found = otel.get_current_span().get_span_context()
    except AttributeError:
        return None  # it is being imported at this moment
    if not found.is_valid:
        return None
    return _of_theirs(found)


def _of_theirs(found: Any) -> TraceContext:
    sampled = bool(found.trace_flags & 1)
    return TraceContext(f"{found.trace_id:032x}", f"{found.span_id:016x}", sampled, found.trace_state.to_header())


def _their_sdk() -> Any:
    """The API's module when a provider that makes spans stands behind it. The API alone, which libraries bring along,
    makes none."""
    otel = sys.modules.get("opentelemetry.trace")
    if otel is None or "opentelemetry.sdk.trace" not in sys.modules:
        return None
    try:
        provider = otel.get_tracer_provider()
        is_empty = isinstance(provider, (otel.ProxyTracerProvider, otel.NoOpTracerProvider))
    except AttributeError:
        return None
    return None if is_empty else otel


class _Theirs:
    """A span of the program's own opentelemetry-sdk."""

    __slots__ = ("_manager", "_otel", "context", "span")

    def __init__(
        self, otel: Any, name: str, kind: Kind, attributes: Mapping[str, Value], parent: TraceContext | None
    ) -> None:
        self._otel = otel
        self._manager: Any = None
        around = None
        if parent is not None:
            state = otel.TraceState.from_header([parent.state]) if parent.state else None
            remote = otel.SpanContext(
                int(parent.trace_id, 16),
                int(parent.span_id, 16),
                is_remote=True,
                trace_flags=otel.TraceFlags(int(parent.sampled)),
                trace_state=state,
            )
            around = otel.set_span_in_context(otel.NonRecordingSpan(remote))
        tracer = otel.get_tracer("spinyard_sdk")
        self.span = tracer.start_span(
            name, context=around, kind=getattr(otel.SpanKind, kind.upper()), attributes=dict(attributes)
        )
        self.context = _of_theirs(self.span.get_span_context())

    def enter(self) -> None:
        self._manager = self._otel.use_span(self.span, end_on_exit=False, record_exception=False)
        self._manager.__enter__()

    def leave(self) -> None:
        manager, self._manager = self._manager, None
        manager.__exit__(None, None, None)

    def end(self, error: str) -> None:
        if error:
            self.span.set_status(self._otel.StatusCode.ERROR, error)
        self.span.end()
