"""What a row found out, in the shape of bench/results/latest.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Scale(StrEnum):
    QUICK = "quick"
    NORMAL = "normal"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Figures:
    p50: float
    p99: float
    max: float
    n: int


@dataclass(frozen=True, slots=True)
class Measured:
    """`ratio` is ours / peer by p50, for each peer. `floor` and `aim` are of this run: where they depend on a peer of
    the same run, they are computed. `notes`: what else was seen, for a reader of the JSON."""

    unit: str
    ours: Figures
    peers: dict[str, Figures]
    floor: float
    aim: float
    ok: bool
    ratio: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def as_json(self, row: str) -> dict[str, Any]:
        return {"id": row, **asdict(self), "ratio": self.ratio or ratios(self.ours, self.peers)}


def figures(values: Sequence[float], digits: int = 2) -> Figures:
    """p50 and p99 by nearest rank."""
    assert values, "a row measured nothing"
    ordered = sorted(values)
    rank = [ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.99)]
    return Figures(round(rank[0], digits), round(rank[1], digits), round(ordered[-1], digits), len(ordered))


def ratios(ours: Figures, peers: dict[str, Figures]) -> dict[str, float]:
    return {name: round(ours.p50 / peer.p50, 3) for name, peer in peers.items() if peer.p50}
