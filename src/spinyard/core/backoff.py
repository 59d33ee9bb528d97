"""How long to wait before trying again: exponential, bounded, with jitter that comes from the id, not from chance."""

from __future__ import annotations

from spinyard.core.ids import fraction_of


def backoff_seconds(attempt: int, key: str, *, first: float = 0.1, limit: float = 30.0) -> float:
    """Delay before attempt number `attempt` (1 is the first retry): first * 2**(attempt-1), capped, times
    0.75..1.25."""
    if attempt < 1:
        return 0.0
    base = min(limit, first * float(2 ** min(attempt - 1, 30)))
    return base * (0.75 + 0.5 * fraction_of(f"{key}#{attempt}"))
