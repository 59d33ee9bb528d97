"""What the parts of a simulation see of the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from spinyard.ports.clock import Clock
from spinyard.ports.domain import Domain
from spinyard.ports.prober import Prober
from spinyard.ports.provider import Provider
from spinyard.ports.store import Store
from spinyard.testing.simulation.parts import FakeProvider, FakeProxy, Peek, World
from spinyard.testing.simulation.scenario import Scenario
from spinyard.testing.virtual import VirtualClock


class Stage(Protocol):
    """`clock` jumps, `steady` does not. `checks` is a Checks, `users` a Users, `living` the control planes that run:
    named loosely, for they are made with a Stage themselves."""

    scenario: Scenario
    store: Store
    peek: Peek
    world: World
    proxy: FakeProxy
    provider: FakeProvider
    providers: Mapping[str, Provider]
    domains: Sequence[Domain]
    prober: Prober
    clock: VirtualClock
    checks: Any
    traffic: Any
    users: Any
    jumped: float
    proxy_was_reset: bool

    @property
    def steady(self) -> Clock: ...

    @property
    def faults(self) -> Any: ...

    @property
    def living(self) -> Sequence[Any]: ...

    @property
    def loop_time(self) -> float: ...

    def log(self, text: str) -> None: ...

    def reached(self, what: str) -> None: ...

    def broken(self, what: str, detail: str) -> None: ...

    def crashes_at(self, name: str) -> bool: ...

    def restart_later(self) -> None: ...

    def disk_fault(self) -> str: ...

    def after(self, seconds: float, work: Callable[[], None]) -> None: ...
