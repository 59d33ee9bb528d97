"""How fast a provider may be asked. One bucket for each (scope, verb), unlimited until the provider says "too many".

Then half of what it let through in the last second, and up again step by step (Chiu and Jain, 1989): quickly to nine
tenths of what it bore before, slowly from there on, faster the longer nothing was refused (as CUBIC, RFC 9438). What
gets no token is not sent: it comes back when its turn is about due, the oldest first. A limit that nobody had to wait
for is forgotten. Removals have buckets of their own; when one of them is refused, creations step back too.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from spinyard.core.ids import fraction_of

WINDOW_SECONDS = 1.0
RATE_MIN = 0.2
FORGET_SECONDS = 60.0
"""a limit is forgotten when nobody had to wait for so long"""
RETRY_AFTER_MAX = 600.0
"""seconds; a provider that asks for more is asked again all the same"""
TURN_SECONDS_MAX = 5.0
"""who waits asks again after so long at the latest: the rate may have changed"""
WAITING_MAX = 20_000
STEEP, FLAT = 0.5, 0.01
"""shares by which the rate rises in a second: below nine tenths of the ceiling; above, for each second since the cut"""
BURST_SECONDS = 0.2
"""what was not used for so long may be made up for: rows come back a little late"""


@dataclass(slots=True)
class Bucket:
    """Times are of a steady clock. `rate` None: unlimited."""

    rate: float | None = None
    ceiling: float = 0.0
    next_at: float = 0.0
    blocked_until: float = 0.0
    cut_at: float = float("-inf")
    risen_at: float = 0.0
    waited_at: float = 0.0
    served: int = 0
    asked: int = 0
    waiting: dict[str, tuple[int, float]] = field(default_factory=dict)
    """(number in the queue, when it asks again), the oldest first"""
    passed: deque[float] = field(default_factory=lambda: deque(maxlen=1024))
    """when the provider last said yes"""

    def ask(self, key: str, now: float) -> float | None:
        """None: send it. Else: not now, in so many seconds."""
        if self.rate is None and now >= self.blocked_until:
            return None
        self._rise(now)
        if self.rate is None or (now >= self.next_at and now >= self.blocked_until):
            self._serve(key)
            if self.rate is not None:
                self.next_at = max(self.next_at, now - BURST_SECONDS) + 1 / self.rate
            return None
        self.waited_at = now
        return self._turn(key, now)

    def borne(self, now: float) -> float:
        return sum(1 for at in self.passed if now - at < WINDOW_SECONDS) / WINDOW_SECONDS

    def limited(self, key: str, now: float, retry_after: float | None, *, beside: float = 0.0) -> float:
        """The provider said no. When that key may be sent again, in seconds. `beside`: a rate that others had, and that
        this bucket may take from them."""
        retry_after = min(retry_after or 0.0, RETRY_AFTER_MAX)
        self.blocked_until = max(self.blocked_until, now + retry_after)
        if now - self.cut_at >= WINDOW_SECONDS:
            # Answers to what was sent before the last cut say nothing new.
            bore = self.borne(now) + beside
            self.ceiling = max(RATE_MIN, bore, self.rate or 0.0)
            self.rate = max(RATE_MIN, (bore or self.ceiling) / 2)
            self.cut_at = self.risen_at = self.waited_at = now
        self.risen_at = max(self.risen_at, self.blocked_until)
        self.next_at = max(self.next_at, self.blocked_until)
        return self._turn(key, now)

    def _turn(self, key: str, now: float) -> float:
        rate = self.rate or 1.0
        while self.waiting:
            oldest, (_, due) = next(iter(self.waiting.items()))
            if now - due < 2 * TURN_SECONDS_MAX and len(self.waiting) < WAITING_MAX:
                break
            # It did not come back: its row went, or another worker has it.
            self._serve(oldest)
        number = self.waiting[key][0] if key in self.waiting else self.asked
        self.asked += key not in self.waiting
        first = max(0.0, self.next_at - now, self.blocked_until - now)
        ahead = min(max(0, number - self.served) / rate, TURN_SECONDS_MAX)
        wait = max(0.02, first + ahead * (0.9 + 0.2 * fraction_of(key)))
        self.waiting[key] = (number, now + wait)
        return wait

    def _serve(self, key: str) -> None:
        if self.waiting.pop(key, None) is not None:
            self.served += 1

    def _rise(self, now: float) -> None:
        if self.rate is None or now <= self.risen_at:
            return
        if now - self.waited_at > FORGET_SECONDS:
            self.rate = None
            return
        passed, self.risen_at = now - self.risen_at, now
        knee = 0.9 * self.ceiling
        if self.rate < knee:
            steep = min(passed, (knee - self.rate) / (STEEP * self.ceiling))
            self.rate += STEEP * self.ceiling * steep
            passed -= steep
        # The longer nothing was refused, the less is known of where the limit is.
        self.rate *= 1 + min(STEEP, FLAT * (now - self.cut_at)) * min(passed, 1.0)


class Rates:
    """All buckets of this process. With several replicas each learns its own share."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def ask(self, scope: str, verb: str, key: str, now: float) -> float | None:
        bucket = self._buckets.get((scope, verb))
        return None if bucket is None else bucket.ask(key, now)

    def passed(self, scope: str, verb: str, now: float) -> None:
        bucket = self._buckets.get((scope, verb))
        if bucket is None:
            bucket = self._buckets[scope, verb] = Bucket()
        bucket.passed.append(now)

    def limited(self, scope: str, verb: str, key: str, now: float, retry_after: float | None) -> float:
        bucket = self._buckets.setdefault((scope, verb), Bucket())
        beside = self._step_back(scope, now, retry_after) if verb == REMOVE else 0.0
        return bucket.limited(key, now, retry_after, beside=beside)

    def rate(self, scope: str, verb: str) -> float | None:
        """Per second; None: unlimited."""
        bucket = self._buckets.get((scope, verb))
        return None if bucket is None else bucket.rate

    def _step_back(self, scope: str, now: float, retry_after: float | None) -> float:
        """Where one limit is for all verbs, what is to go goes first. The rate that the others had."""
        had = 0.0
        for (where, verb), bucket in self._buckets.items():
            if where == scope and verb != REMOVE:
                had += bucket.borne(now)
                if bucket.rate is not None:
                    wait = min(retry_after or WINDOW_SECONDS, RETRY_AFTER_MAX)
                    bucket.blocked_until = max(bucket.blocked_until, now + wait)
        return had


REMOVE = "remove"
