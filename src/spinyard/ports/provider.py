"""A provider of external things: four verbs, each safe to call twice, and values that say what it can promise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Observed
from spinyard.core.want import Want


@dataclass(frozen=True, slots=True)
class Capabilities:
    """`late_arrival_seconds`: how long after a caller gave up a create may still take effect.
    `list_lag_seconds`: how far observations may be behind reality. Both 0: one Absent is proof.
    `kinds`: the kinds of Want it takes. `scope`: only replicas in this scope may drive it.
    `at_once`: its verbs answer from memory and never wait, so the engine need not guard them against silence.
    """

    scope: str
    kinds: frozenset[str]
    late_arrival_seconds: float = 0.0
    list_lag_seconds: float = 0.0
    at_once: bool = False

    @property
    def gone_after_seconds(self) -> float:
        return self.late_arrival_seconds + self.list_lag_seconds


@dataclass(frozen=True, slots=True)
class Owned:
    """One thing that carries this installation's tag. `key` is its create token. `up` False: it is there and has
    ended."""

    key: ResourceKey
    description: str = ""
    up: bool = True


class Provider(Protocol):
    """All methods may be slow or fail; the engine bounds them in time and turns failures into values.

    ensure   the same key twice is one thing; does not wait for it to be up; a different want for the same key replaces
             what can be replaced (endpoint state, route) and is ignored for what cannot (a running process).
             Raises ProviderFailure with an ErrorClass.
    observe  Present | Absent | Unknown. Must return Unknown rather than guess. Never changes anything.
    remove   starts the end of it, returns at once; only a later Absent means that it is gone. Removing what is absent
             is fine. `now`: without grace.
    owned    everything tagged as this installation's, whether the store knows it or not.
    changes  an endless stream of keys that may have changed: hints only, may be lost, may be repeated.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    async def ensure(self, key: ResourceKey, want: Want) -> None: ...

    async def observe(self, key: ResourceKey) -> Observed: ...

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None: ...

    async def owned(self) -> Sequence[Owned]: ...

    def changes(self) -> AsyncIterator[ResourceKey]: ...
