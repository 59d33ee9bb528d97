"""Where a call goes, decided per call: local, remote, or local with a comparison. And what became of calls, counted.

What a process believes about weights may be old. That is harmless: Envoy has the last word on every remote call, and
at a weight that went down it answers "local".
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from spinyard_sdk.context import Request
from spinyard_sdk.flags import Flag, Reader, reader_from_environment
from spinyard_sdk.functions import Function
from spinyard_sdk.wire import PARENT, UNIT, Side, side_of

_log: Final = logging.getLogger("spinyard_sdk")


class Mode(Enum):
    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Choice:
    """`flag` is there for everything but LOCAL. `side`: what was decided before us."""

    mode: Mode
    flag: Flag | None = None
    key: str = ""
    side: Side | None = None


@dataclass(slots=True)
class Counts:
    """Of one boundary in this process. Calls while there is neither weight nor shadow are not counted.

    `remote`: answered by the unit. `local`: the parent's by weight. `fell_back`: would have been the unit's and ran
    here, by why (`told`: Envoy said that the key is the parent's). `failed`: RemoteErrors, by code."""

    local: int = 0
    remote: int = 0
    fell_back: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    compared: int = 0
    different: int = 0
    not_compared: dict[str, int] = field(default_factory=dict)


class State:
    """Of one boundary in this process. `is_idle` is what every call looks at first: nothing to decide."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.flag: Flag | None = None
        self.is_idle = False
        self.is_served_here = False
        """this process is the unit: it calls itself directly"""
        self.counts = Counts()
        self._said: set[str] = set()

    def take(self, flag: Flag | None) -> None:
        self.flag = flag
        self.is_idle = self.is_served_here or flag is None or flag.is_idle

    def count(self, where: dict[str, int], why: str) -> None:
        where[why] = where.get(why, 0) + 1

    def fell_back(self, function: Function, why: str, words: str = "") -> None:
        self.count(self.counts.fell_back, why)
        # What a person must mend is said once; the rest is what fallbacks are for.
        if words and why not in self._said:
            self._said.add(why)
            _log.warning("%s.%s runs here instead of in its unit: %s", self.name, function.name, words)


LOCAL: Final = Choice(Mode.LOCAL)


def choose(
    state: State, function: Function, request: Request | None, args: Sequence[Any], kw: Mapping[str, Any]
) -> Choice:
    """What was decided at the first hop wins. A call without a key is the parent's."""
    _SOURCE.settle(state)
    flag = state.flag
    if state.is_served_here or flag is None or not (flag.gateway and flag.host):
        return LOCAL
    side = request.side if request is not None else None
    if side == PARENT and not flag.shadow:
        return LOCAL
    key = _key(state, function, request, args, kw)
    if side is None and key:
        side = side_of(key, flag.weight)
    if side == UNIT:
        return Choice(Mode.REMOTE, flag, key, request.side if request is not None else None)
    if function.safe and key and side_of(key, flag.shadow) == UNIT:
        return Choice(Mode.BOTH, flag, key)
    state.counts.local += 1
    return LOCAL


def _key(state: State, function: Function, request: Request | None, args: Sequence[Any], kw: Mapping[str, Any]) -> str:
    """The function's own, else the request's."""
    if function.key is None:
        return request.key if request is not None else ""
    try:
        key = function.key_of(args, kw)
    except Exception as error:  # noqa: BLE001 -- the program's own lambda: a call must not fail for its sake
        state.fell_back(function, "no_key", f"its key failed with {type(error).__name__}")
        return ""
    if not key:
        state.fell_back(function, "no_key", "its key is empty, or cannot stand in a header (printable ASCII)")
    return key


class _Source:
    """The reader of this process. Fork: a child has no thread, so it starts one of its own with its first call, and
    believes until then what its parent process knew."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._is_started = False
        self._flags: Mapping[str, Flag] = {}

    def state(self, name: str) -> State:
        with self._lock:
            return self._states.setdefault(name, State(name))

    def settle(self, state: State) -> None:
        if not self._is_started:
            self._start()
        if not (state.is_idle or state.flag):
            with self._lock:
                state.take(self._flags.get(state.name))

    def ready(self, seconds: float) -> bool:
        """Whether the control plane has been heard within that time; at once without SPINYARD_FLAGS."""
        if not self._is_started:
            self._start()
        return self._reader is None or self._reader.heard.wait(seconds)

    def states(self) -> Mapping[str, State]:
        return dict(self._states)

    def restart(self) -> None:
        """After a fork. What is known stays known. The reader stays untouched: its locks may have been held."""
        self._lock = threading.Lock()
        self._reader, self._is_started = None, False
        for state in self._states.values():
            state.is_idle = False

    def forget(self) -> None:
        """As if nothing had ever been heard."""
        if self._reader is not None:
            self._reader.stop()
        self._flags = {}
        for state in self._states.values():
            state.flag = None
        self.restart()

    def _start(self) -> None:
        with self._lock:
            if self._is_started:
                return
            self._is_started = True
            self._reader = reader_from_environment(self._take)
            for state in self._states.values():
                state.take(state.flag)
            if self._reader is not None:
                # At the end of the interpreter no thread can be started any more.
                with contextlib.suppress(RuntimeError):
                    self._reader.thread.start()

    def _take(self, flags: Mapping[str, Flag]) -> None:
        with self._lock:
            self._flags = flags
            for state in self._states.values():
                state.take(flags.get(state.name))


_SOURCE: Final = _Source()


def state_of(name: str) -> State:
    return _SOURCE.state(name)


def wait_ready(seconds: float) -> bool:
    """For the start of a program that wants its first call to be on the right side already: True once the weights are
    known, or when there is nobody to ask."""
    return _SOURCE.ready(seconds)


def counts() -> Mapping[str, Counts]:
    return {name: state.counts for name, state in _SOURCE.states().items()}


os.register_at_fork(after_in_child=_SOURCE.restart)
