"""The ways in which a provider lets its caller down. Which one, and when, is decided by whoever injects it."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Protocol


class Fault(StrEnum):
    LOST_REQUEST = "lost_request"
    """never arrived; the caller waits until it gives up"""
    LOST_REPLY = "lost_reply"
    """took effect; the caller hears nothing"""
    LATE_ARRIVAL = "late_arrival"
    """takes effect after the caller gave up"""
    DUPLICATE = "duplicate"
    """arrives twice"""
    SLOW = "slow"
    THROTTLED = "throttled"
    ERROR = "error"
    """refused with an error of the provider's own"""
    STALE_READ = "stale_read"
    """answers with what was true a while ago"""
    PARTIAL = "partial"
    """made by halves: it is there, will never be ready, and the caller is told of a failure"""
    HINT_LOST = "hint_lost"


class Faults(Protocol):
    def draw(self, operation: str, key: str) -> Fault | None:
        """The fault of this call, or None. `operation`: ensure, observe, remove, owned, hint, probe, and the
        same with `proxy-` before it for the data plane."""
        ...

    def seconds(self, limit: float) -> float:
        """A duration for a fault, in [0, limit)."""
        ...


class NoFaults:
    def draw(self, operation: str, key: str) -> Fault | None:
        return None

    def seconds(self, limit: float) -> float:
        return 0.0


class RateLimit:
    """So many changes a second of one provider, and `burst` of them at once: what comes too fast is refused.
    `asked` and `refused` count, by operation."""

    def __init__(self, per_second: float, *, burst: int = 1, retry_after_seconds: float | None = None) -> None:
        self.per_second = per_second
        self.retry_after_seconds = retry_after_seconds
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._burst = burst
        self._tokens = float(burst)
        self._at = 0.0

    def take(self, operation: str, now: float) -> bool:
        """False: refused."""
        self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._at) * self.per_second)
        self._at = now
        self.asked[operation] += 1
        if self._tokens < 1.0:
            self.refused[operation] += 1
            return False
        self._tokens -= 1.0
        return True
