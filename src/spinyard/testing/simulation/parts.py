"""What a simulation is given: the store, the pretended world and its providers, and a narrow look into the tables
of the store for the checks, which must not believe the store's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from spinyard.core.ids import ResourceKey
from spinyard.core.want import Want
from spinyard.ports.clock import Clock
from spinyard.ports.prober import Prober
from spinyard.ports.provider import Provider
from spinyard.ports.store import Store


class Draw(Protocol):
    """Which fault a call has (its name, or None), and how long such things take."""

    def draw(self, operation: str, key: str) -> str | None: ...

    def seconds(self, limit: float) -> float: ...


class Thing(Protocol):
    want: Want
    created_at: float
    ready_at: float

    def running(self, now: float) -> bool: ...


class World(Protocol):
    watch: Callable[[str, str], None]
    ready_seconds: float

    @property
    def things(self) -> Mapping[str, Any]: ...

    def create(self, key: str, want: Want, now: float) -> None: ...

    def find(self, key: str, now: float) -> Any | None: ...

    def ready(self, key: str, now: float) -> bool: ...

    def kill(self, key: str, now: float) -> bool: ...

    def vanish(self, key: str, now: float) -> bool: ...

    def sicken(self, key: str, now: float, seconds: float) -> bool: ...


class FakeProvider(Provider, Protocol):
    answers: bool
    refuses: bool
    underway: Mapping[str, int]

    def hint(self, key: ResourceKey) -> None: ...


class FakeProxy(Provider, Protocol):
    up: bool

    @property
    def entries(self) -> Mapping[ResourceKey, Any]: ...

    def active_requests(self, key: ResourceKey) -> int: ...

    def hint(self, key: ResourceKey) -> None: ...

    def restore(self, wants: Iterable[tuple[ResourceKey, Want]]) -> None: ...


class ObjectFacts(NamedTuple):
    """Flags are 0 and 1, here and below, as in the tables: thousands of these are made in each run."""

    uid: str
    kind: str
    name: str
    state: str
    version: int
    token: int
    holder: str
    deleting: int
    force: int
    finished: int
    status: str
    spec: str
    outcome: str
    reason: str
    why: str
    owner: str
    digest: str
    created_at: float
    wake_at: float | None


class MemberFacts(NamedTuple):
    """An instance of a pool, claimed or not. `claim`: whose part it was given."""

    uid: str
    owner: str
    pool: str
    claim: str
    state: str
    deleting: int
    failed: int
    digest: str


class RolloutFacts(NamedTuple):
    """A Rollout that has not finished."""

    uid: str
    service: str
    state: str


class LedgerFacts(NamedTuple):
    key: str
    provider: str
    wanted: int
    closed: int
    retained: int


class Peek(Protocol):
    """Reads the tables directly."""

    def object(self, uid: str) -> ObjectFacts | None: ...

    def objects(self, *, owner: str | None = None, finished: bool = False) -> Sequence[ObjectFacts]: ...

    def resource(self, key: str) -> LedgerFacts | None: ...

    def ledger(self) -> Sequence[LedgerFacts]:
        """Rows that are not closed."""
        ...

    def reservations(self, uid: str) -> int: ...

    def members(self) -> Sequence[MemberFacts]:
        """Those that have not finished."""
        ...

    def rollouts(self) -> Sequence[RolloutFacts]:
        """Those that have not finished."""
        ...

    def held(self, scope: str) -> int: ...

    def template(self, digest: str) -> str: ...


class Parts(Protocol):
    def store(self, clock: Clock) -> Store: ...

    def peek(self, store: Store) -> Peek: ...

    def world(self, *, ready_seconds: float, stop_seconds: float) -> World: ...

    def provider(
        self, world: World, clock: Clock, faults: Draw, *, late_arrival_seconds: float, list_lag_seconds: float
    ) -> FakeProvider: ...

    def proxy(
        self,
        clock: Clock,
        healthy: Callable[[ResourceKey], bool],
        faults: Draw,
        *,
        acknowledge_seconds: float,
        drain_seconds: float,
    ) -> FakeProxy: ...

    def prober(self, world: World, clock: Clock, faults: Draw) -> Prober: ...
