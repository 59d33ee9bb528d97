"""Parallel run: the parent has answered, and the unit is asked the same beside it, to compare.

Two threads, a bounded queue, a deadline for each; what has no room is dropped and counted, so a unit that hangs costs
the caller nothing. Values are never kept: a sample says where two answers differ, and what sort of thing stood there.
"""

from __future__ import annotations

import contextvars
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from spinyard_sdk import tracing
from spinyard_sdk.exchange import Lost, NotSent, exchange
from spinyard_sdk.flags import Flag
from spinyard_sdk.functions import RAISED, Codec, Function, codec_of
from spinyard_sdk.remote import make_call
from spinyard_sdk.sides import State
from spinyard_sdk.wire import PARENT, SIDE_HEADER

THREADS: Final = 2
QUEUE_MAX: Final = 64
QUEUE_BYTES_MAX: Final = 16 << 20
COMPARE_SECONDS: Final = 5.0
SAMPLES_MAX: Final = 50
PLACES_MAX: Final = 20
"""differences that are looked for in one answer"""
VISITS_MAX: Final = 100_000
TEXT_MAX: Final = 100

_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """`path`: where, as in `$.items[3].name`. `parent`, `unit`: what stood there, never its value."""

    function: str
    path: str
    parent: str
    unit: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What both are asked, taken down before the parent's function could change its arguments."""

    state: State
    function: Function
    codec: Codec
    flag: Flag
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Task:
    ask: Ask
    local: bytes
    context: contextvars.Context

    @property
    def size(self) -> int:
        return len(self.ask.body) + len(self.local)


class Comparisons:
    def __init__(self) -> None:
        self._tasks: queue.Queue[_Task] = queue.Queue(QUEUE_MAX)
        self._lock = threading.Lock()
        self._bytes = 0
        self._threads: list[threading.Thread] = []
        self.samples: dict[str, deque[Difference]] = {}

    def ask(
        self, state: State, function: Function, flag: Flag, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Ask | None:
        """None when there is no room, or no form for the arguments: then the call is only local."""
        if self._tasks.full() or self._bytes >= QUEUE_BYTES_MAX:
            state.count(state.counts.not_compared, "no_room")
            return None
        try:
            codec = codec_of(function)
            return Ask(state, function, codec, flag, key, codec.encode(args, kwargs))
        except TypeError:
            state.count(state.counts.not_compared, "no_form")
            return None

    def returned(self, ask: Ask, value: Any) -> None:
        try:
            self._offer(ask, ask.codec.encode_result(value))
        except TypeError:
            ask.state.count(ask.state.counts.not_compared, "no_form")

    def raised(self, ask: Ask, error: Exception) -> None:
        problem = ask.codec.encode_exception(error)
        if problem is None:
            # Not part of the contract: nothing says what the unit should do.
            ask.state.count(ask.state.counts.not_compared, "parent_failed")
        else:
            self._offer(ask, msgspec.json.encode(_of_exception(problem)))

    def wait_idle(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._tasks.unfinished_tasks:
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        return True

    def _offer(self, ask: Ask, local: bytes) -> None:
        task = _Task(ask, local, contextvars.copy_context())
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            ask.state.count(ask.state.counts.not_compared, "no_room")
            return
        with self._lock:
            self._bytes += task.size
            if len(self._threads) < THREADS:
                thread = threading.Thread(target=self._run, name="spinyard-compare", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            state = task.ask.state
            try:
                task.context.run(self._compare, task)
            except Exception as error:  # noqa: BLE001 -- one comparison must not end all
                state.count(state.counts.not_compared, type(error).__name__)
            finally:
                with self._lock:
                    self._bytes -= task.size
                self._tasks.task_done()

    def _compare(self, task: _Task) -> None:
        ask, counts = task.ask, task.ask.state.counts
        about: dict[str, tracing.Value] = {"spinyard.shadow": True, "spinyard.boundary": ask.function.boundary}
        with tracing.child(f"{ask.function.boundary}/{ask.function.name}", "client", about) as span:
            seconds = min(COMPARE_SECONDS, ask.function.timeout_seconds)
            call = make_call(ask.function, ask.flag, ask.body, ask.key, seconds, shadow=True)
            try:
                answer = exchange(call, time.monotonic() + seconds)
            except (NotSent, Lost) as error:
                span.fail(type(error).__name__)
                ask.state.count(counts.not_compared, type(error).__name__)
                return
        if answer.status == 421 and answer.headers.get(SIDE_HEADER) == PARENT:
            ask.state.count(counts.not_compared, "told")
            return
        unit = _answer(answer.status, answer.body)
        counts.compared += 1
        found = list(differences(msgspec.json.decode(task.local), unit))
        if found:
            counts.different += 1
            kept = self.samples.setdefault(ask.state.name, deque(maxlen=SAMPLES_MAX))
            kept.extend(Difference(ask.function.name, *one) for one in found)


def differences(parent: Any, unit: Any) -> Iterator[tuple[str, str, str]]:
    """(path, the parent's, the unit's): PLACES_MAX at most. Values of JSON."""
    left = [("$", parent, unit)]
    found = visits = 0
    while left and found < PLACES_MAX and visits < VISITS_MAX:
        path, one, other = left.pop()
        visits += 1
        if isinstance(one, dict) and isinstance(other, dict):
            names = sorted(one.keys() | other.keys(), reverse=True)
            left += [
                (f"{path}.{name[:TEXT_MAX]}", one.get(name, _NOTHING), other.get(name, _NOTHING)) for name in names
            ]
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            left += [(f"{path}[{at}]", one[at], other[at]) for at in reversed(range(len(one)))]
        elif one is not other and (type(one) is not type(other) or one != other):
            found += 1
            yield path, _sort(one), _sort(other)


def _sort(value: Any) -> str:
    if value is _NOTHING:
        return "absent"
    if isinstance(value, str | list | dict):
        return f"{ {str: 'text', list: 'list', dict: 'object'}[type(value)] } of {len(value)}"
    return "null" if value is None else {bool: "boolean", int: "integer", float: "number"}[type(value)]


def _answer(status: int, body: bytes) -> Any:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"status": status}
    if status == 200:
        return found
    if isinstance(found, dict) and str(found.get("type", "")).startswith(RAISED):
        return _of_exception(found)
    return {"status": status}


def _of_exception(problem: Mapping[str, Any]) -> dict[str, Any]:
    return {"raised": problem.get("type"), "args": problem.get("args")}


COMPARISONS: Final = Comparisons()


def samples() -> Mapping[str, tuple[Difference, ...]]:
    """The last differences of each boundary in this process."""
    return {name: tuple(kept) for name, kept in COMPARISONS.samples.items()}


def _after_fork() -> None:
    # Its locks may have been held, and its threads are not here.
    COMPARISONS.__init__()  # type: ignore[misc]


os.register_at_fork(after_in_child=_after_fork)
