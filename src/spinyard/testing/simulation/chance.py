"""Random numbers from a seed, in streams of their own: drawing from one never moves another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


class Chance:
    """splitmix64 (Steele, Lea, Flood 2014), begun from a hash of `seed`."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._state = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")

    def stream(self, name: str) -> Chance:
        return Chance(f"{self._seed}/{name}")

    def fraction(self) -> float:
        """In [0, 1)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((z ^ (z >> 31)) >> 11) / (1 << 53)

    def below(self, count: int) -> int:
        return int(self.fraction() * count)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.fraction()

    def happens(self, probability: float) -> bool:
        return probability > 0.0 and self.fraction() < probability

    def choose(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]
