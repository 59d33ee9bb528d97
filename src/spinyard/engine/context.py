"""What every part of the engine is given, and the figures they keep."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from spinyard.core.observed import LookWatch, ProbeResult
from spinyard.core.spec import Kind
from spinyard.engine.absences import Absences
from spinyard.engine.rates import Rates
from spinyard.ports.clock import Clock
from spinyard.ports.domain import Domain
from spinyard.ports.prober import Prober
from spinyard.ports.provider import Provider
from spinyard.ports.reader import Reader, ReadLook
from spinyard.ports.store import Store
from spinyard.ports.traffic import NoTraffic, TrafficReader

T = TypeVar("T")


class Run(Protocol):
    """Runs a synchronous store call where it belongs: the writer thread, a reader thread, or inline in a simulation."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


class Watch(Protocol):
    """Periodic probes beside the passes; a row's set of watches is what its last pass asked for."""

    def answer(self, uid: str, look: LookWatch) -> ProbeResult: ...

    def keep(self, uid: str, looks: frozenset[LookWatch]) -> None: ...


class NoWatch:
    def answer(self, uid: str, look: LookWatch) -> ProbeResult:
        raise NotImplementedError(f"nothing watches {look.purpose} here")

    def keep(self, uid: str, looks: frozenset[LookWatch]) -> None:
        return


def no_failpoint(name: str) -> None:
    """Failpoints are named places where crash tests end the process."""


@dataclass(slots=True)
class Figures:
    """Counters since start, for /metrics and tests."""

    passes: int = 0
    commits: int = 0
    stale: int = 0
    refused: int = 0
    leases_lost: int = 0
    actions: int = 0
    action_failures: int = 0
    actions_put_off: int = 0
    unknowns: int = 0
    sweeps: int = 0
    swept_at: float = 0.0
    orphans_removed: int = 0
    claimed: int = 0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    holder: str
    lease_seconds: float = 15.0
    poll_seconds: float = 0.25
    linger_seconds: float = 1.0
    in_flight_max: int = 512
    batch_max: int = 256
    observe_seconds: float = 5.0
    action_seconds: float = 8.0
    sweep_seconds: float = 30.0
    sweep_grace_seconds: float = 60.0
    prune_seconds: float = 60.0
    finished_keep_max: int = 10_000
    events_keep_max: int = 200_000
    events_keep_seconds: float = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Context:
    store: Store
    providers: Mapping[str, Provider]
    domains: Mapping[Kind, Domain]
    prober: Prober
    clock: Clock
    write: Run
    read: Run
    settings: EngineSettings
    watch: Watch = field(default_factory=NoWatch)
    traffic: TrafficReader = field(default_factory=NoTraffic)
    readers: Mapping[type[ReadLook], Reader] = field(default_factory=dict)
    failpoint: Callable[[str], None] = no_failpoint
    committed: Callable[[int], None] = lambda seq: None
    figures: Figures = field(default_factory=Figures)
    absences: Absences = field(default_factory=Absences)
    rates: Rates = field(default_factory=Rates)
