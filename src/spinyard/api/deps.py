"""Everything the API needs, passed in by wiring."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from spinyard.core.ids import Uid
from spinyard.core.observed import ShadowFound
from spinyard.ports.clock import Clock
from spinyard.ports.store import Store
from spinyard.ports.traces import NoTraces, TraceReader
from spinyard.ports.traffic import NoTraffic, TrafficReader
from spinyard.spinout.compare import Sample
from spinyard.usecases.declared import Declared

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Bounds, each of one server process."""

    body_bytes_max: int = 1 << 20
    body_seconds: float = 10.0
    depth_max: int = 32
    page_max: int = 200
    objects_max: int = 500
    requests_per_second: float = 2000.0
    burst_max: int = 4000
    in_flight_max: int = 512
    streams_max: int = 64
    wait_seconds_max: float = 60.0
    poll_seconds: float = 1.0
    heartbeat_seconds: float = 10.0


class Run(Protocol):
    """Runs blocking work in a thread that may use the store."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class Notifier(Protocol):
    async def wait(self, after: int, timeout: float) -> None:
        """Returns when the newest commit_seq is above `after`, or after `timeout` seconds. May return too early."""
        ...


@dataclass(frozen=True, slots=True)
class PreflightResult:
    check: str
    status: Literal["ok", "warning", "failed"]
    object: str
    """Kind/namespace/name, or empty"""
    message: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Stray:
    """Something that carries our tag and that nobody wants."""

    key: str
    provider: str
    description: str
    why: str


@dataclass(frozen=True, slots=True)
class Swept:
    key: str
    provider: str
    action: str
    why: str


@dataclass(frozen=True, slots=True)
class ExecResult:
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class ExecPart:
    """A piece of what a command wrote; `started`, without data, is the first one; `exit` the last one. `why`: when
    something else than itself ended it."""

    type: Literal["started", "stdout", "stderr", "exit"]
    data: bytes = b""
    exit_code: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the engine for /metrics. Labels must be few and bounded: never a uid or a name."""

    name: str
    value: float
    help: str = ""
    type: Literal["counter", "gauge"] = "gauge"
    labels: tuple[tuple[str, str], ...] = ()


class ShadowReader(Protocol):
    """What the comparison of copied requests found. `boundary`: its cluster's base name."""

    def found(self, boundary: str) -> ShadowFound | None:
        """None: nothing has been compared since this server began."""
        ...

    def samples(self, boundary: str) -> Sequence[Sample]:
        """The newest last, redacted."""
        ...


class NoShadow:
    def found(self, boundary: str) -> ShadowFound | None:
        return None

    def samples(self, boundary: str) -> Sequence[Sample]:
        return ()


Preflight = Callable[[Sequence[Declared]], Awaitable[Sequence[PreflightResult]]]


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """`token` is asked at every request, so that a rotated one counts at once. `hint` wakes the engine after a write.
    `log_dir` is the directory with the log files of a spin; `hosts`: what may be in Host beside the loopback names.
    `ready`: empty when the server can do its work, else why not. The other callables may be slow: they are awaited."""

    store: Store
    clock: Clock
    run_write: Run
    run_read: Run
    token: Callable[[], str]
    hint: Callable[[], None]
    notifier: Notifier
    log_dir: Callable[[Uid], Path]
    execute: Callable[[Uid, Sequence[str], float], Awaitable[ExecResult]]
    """raises InvalidInput (command_not_found, command_not_executable)"""
    stream: Callable[[Uid, Sequence[str], float], AsyncGenerator[ExecPart, None]]
    """as execute, its output as it comes; closing it ends the command"""
    orphans: Callable[[], Awaitable[Sequence[Stray]]]
    sweep: Callable[[bool], Awaitable[Sequence[Swept]]]
    info: Callable[[], Mapping[str, object]]
    waiting: Callable[[int], None] = lambda count: None
    """told how many changes wait to be written, when one more does"""
    ready: Callable[[], str] = str
    figures: Callable[[], Sequence[Figure]] = tuple
    preflight: tuple[Preflight, ...] = ()
    traffic: TrafficReader = field(default_factory=NoTraffic)
    traces: TraceReader = field(default_factory=NoTraces)
    shadow: ShadowReader = field(default_factory=NoShadow)
    side_key: Callable[[], str] = str
    """the private key of the tokens that let a tester choose a side of a spinout; empty: none are made"""
    hosts: frozenset[str] = frozenset()
    limits: ApiLimits = field(default_factory=ApiLimits)
