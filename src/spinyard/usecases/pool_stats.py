"""How a pool did in the last hour, from the kept records of its claims, and how old its members are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spinyard.core.spec import Kind
from spinyard.ports.store import Transaction
from spinyard.spin.status import State
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.views import get_live

STEP_SECONDS = 300.0
STEPS = 12
MEMBERS_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class Step:
    """Claims made within STEP_SECONDS from `since`. `waiting`: they have no member yet."""

    since: float
    warm: int = 0
    cold: int = 0
    failed: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class MemberAge:
    """`idle_seconds`: how long it has been warm without being claimed."""

    name: str
    age_seconds: float
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class PoolStats:
    """`hit_rate`: warm of all that are decided; None when there is none. Members: warm ones, the oldest first."""

    now: float
    steps: tuple[Step, ...]
    members: tuple[MemberAge, ...]
    hit_rate: float | None


def pool_stats(tx: Transaction, id: ObjectId) -> PoolStats:
    """Raises NotFound."""
    uid = get_live(tx, id).row.uid
    # Steps begin at round times, so that a claim stays in its step from one look to the next.
    newest = tx.now // STEP_SECONDS * STEP_SECONDS
    since = newest - (STEPS - 1) * STEP_SECONDS
    counts: list[dict[str, int]] = [{} for _ in range(STEPS)]
    for step, outcome, count in tx.claim_counts(uid, since=since, step_seconds=STEP_SECONDS):
        if 0 <= step < STEPS:
            counts[step][outcome] = count
    steps = tuple(Step(since + n * STEP_SECONDS, **found) for n, found in enumerate(counts))
    spins = tx.select(Kind.SPIN, owner_uid=uid, limit=MEMBERS_SHOWN_MAX)
    members = [
        MemberAge(s.row.name, tx.now - s.row.created_at, tx.now - (s.state_since or s.row.created_at))
        for s in spins
        if s.row.state == State.WARM and s.row.delete_at is None
    ]
    members.sort(key=lambda member: -member.age_seconds)
    return PoolStats(tx.now, steps, tuple(members), _hit_rate(steps))


def _hit_rate(steps: Sequence[Step]) -> float | None:
    warm = sum(step.warm for step in steps)
    decided = warm + sum(step.cold + step.failed for step in steps)
    return warm / decided if decided else None
