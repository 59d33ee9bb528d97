"""Which bounds are in force: those of the pool, or of the window that opened last and is still open. Times are UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim

from spinyard.core.spec import PoolWindow, WarmPoolSpec


def bounds(spec: WarmPoolSpec, now: float) -> tuple[int, int, float | None]:
    """(min, max, seconds until they may change, None: never)."""
    minimum, maximum = spec.min, spec.max
    opened_last = float("-inf")
    changes: list[float] = []
    for window in spec.windows:
        opened = last_opening(window, now)
        if opened is not None and now < opened + window.duration_seconds:
            changes.append(opened + window.duration_seconds - now)
            if opened > opened_last:
                opened_last, minimum, maximum = opened, window.min, window.max
        following = next_opening(window, now)
        if following is not None:
            changes.append(following - now)
    return minimum, maximum, min(changes) if changes else None


def last_opening(window: PoolWindow, now: float) -> float | None:
    return _step(window, now, reverse=True)


def next_opening(window: PoolWindow, now: float) -> float | None:
    return _step(window, now, reverse=False)


def _step(window: PoolWindow, now: float, *, reverse: bool) -> float | None:
    at = datetime.fromtimestamp(now, UTC)
    if reverse:
        # It looks strictly before: a window that opens in this very moment is open.
        at += timedelta(microseconds=1)
    found = next(iter(CronSim(window.cron, at, reverse=reverse)), None)
    return None if found is None else found.timestamp()
