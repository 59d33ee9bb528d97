"""Starts that fail again and again: how often, and how long to wait before the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import Uid
from spinyard.core.observed import FLAP_SECONDS, ChildFailure

CHAIN_SECONDS = 120.0
"""failures further apart than this do not belong to one crash loop"""
ROUND_MAX = 8
"""so many failures are a round, however many instances there are: only the latest few failures are known"""
FAILURES_MAX = 32
"""the latest, that an owner is told of"""
HIDDEN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Consecutive failures of a template, and until when no more instance is started."""

    failures: int
    until: float
    last: ChildFailure | None


def loop_of(
    failures: Sequence[ChildFailure], digest: str, wanted: int, owner: Uid, now: float, *, since: float = 0.0
) -> Loop:
    """`failures`: newest first; those before `since` do not count. Backoff begins when a whole round of `wanted`
    instances has failed; the first replacement is never put off. Failures that a clock that went back left in the
    future are left out: nothing would be started until then. Where there are so many of them that they hide those of
    the present, nothing is started until the store has brought them back."""
    if len(failures) >= FAILURES_MAX and all(failure.failed_at > now for failure in failures):
        hidden = [failure for failure in failures if failure.template_digest == digest]
        return Loop(len(hidden), now + HIDDEN_SECONDS, hidden[0]) if hidden else Loop(0, 0.0, None)
    count = 0
    last: ChildFailure | None = None
    before = now
    for failure in failures:
        if failure.template_digest != digest or failure.failed_at > now:
            continue
        if failure.failed_at < since:
            break
        served = failure.failed_at - failure.served_at if failure.served_at is not None else 0.0
        if before - failure.failed_at > CHAIN_SECONDS or served >= FLAP_SECONDS:
            break
        count += 1
        before = failure.failed_at
        last = last or failure
    rounds = count // max(1, min(wanted, ROUND_MAX)) - 1
    if last is None or rounds < 1:
        return Loop(count, 0.0, last)
    return Loop(count, last.failed_at + backoff_seconds(rounds, owner, first=1.0, limit=60.0), last)
