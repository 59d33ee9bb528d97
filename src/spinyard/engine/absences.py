"""Since when each thing has been absent, by the clock that never jumps.

Where creations arrive late, a thing is gone only after two looks that are far enough apart. The ledger's `absent_at` is
wall time, which an operator or NTP may move: it alone would let a jump forward shorten the wait. What is kept here is
lost with the process, and then the wait begins again: late, never early.
"""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, Observed

KEPT_MAX = 20_000
"""keys of things that were closed are not told to us: those that nobody has looked at for longest are forgotten"""


class Absences:
    def __init__(self) -> None:
        self._since: dict[tuple[str, ResourceKey], float] = {}

    def told(self, provider: str, key: ResourceKey, observed: Observed, monotonic: float) -> Observed:
        """`observed` with the time filled in, in seconds."""
        name = (provider, key)
        if not isinstance(observed, Absent):
            if self._since:
                self._since.pop(name, None)
            return observed
        since = self._since.pop(name, monotonic)
        if len(self._since) >= KEPT_MAX:
            del self._since[next(iter(self._since))]
        self._since[name] = since
        return replace(observed, seconds=monotonic - since)

    def forget(self, provider: str, key: ResourceKey) -> None:
        """It is asked for now: that it was not there before says nothing of when it may arrive."""
        self._since.pop((provider, key), None)
