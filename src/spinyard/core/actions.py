"""What a plan may ask of the world: a closed union. Each is idempotent, keyed, and bounded in time by the engine."""

from __future__ import annotations

from dataclasses import dataclass

from spinyard.core.ids import ResourceKey
from spinyard.core.want import Want


@dataclass(frozen=True, slots=True)
class Ensure:
    """Make it so; the same key twice is one thing. Does not wait until it is there: the next observation tells."""

    provider: str
    key: ResourceKey
    want: Want


@dataclass(frozen=True, slots=True)
class Remove:
    """Ask for its end. Only a later Absent means that it is gone. `now`: without grace."""

    provider: str
    key: ResourceKey
    now: bool = False


Action = Ensure | Remove
