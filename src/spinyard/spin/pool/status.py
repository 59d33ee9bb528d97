"""States of a WarmPool."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spinyard.core.machine import Machine, edges
from spinyard.spin.status import Condition


class PoolState(StrEnum):
    PENDING = "pending"
    FILLING = "filling"
    READY = "ready"
    DEGRADED = "degraded"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


P = PoolState
TRANSITIONS = Machine(
    name="WarmPool",
    initial=P.PENDING,
    terminal=frozenset({P.TERMINATED}),
    edges=edges(
        {
            P.PENDING: [P.FILLING, P.READY, P.DEGRADED, P.TERMINATING],
            P.FILLING: [P.READY, P.DEGRADED, P.TERMINATING],
            P.READY: [P.FILLING, P.DEGRADED, P.TERMINATING],
            P.DEGRADED: [P.FILLING, P.READY, P.TERMINATING],
            P.TERMINATING: [P.TERMINATED],
            P.TERMINATED: [],
        }
    ),
)


class PoolStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`min`, `max`: in force now, by the schedule. `warm`: claimable. `held`: live members, claimed ones too.
    `waiting`: claims without a member. `spawned`: members ever made; it names the next slot. `wish`: what a person last
    asked for; `asked`: so many starts are still due to that, and are made under a hold too."""

    since: float = 0.0
    observed_generation: int = 0
    min: int = 0
    max: int = 0
    warm: int = 0
    starting: int = 0
    stale: int = 0
    held: int = 0
    waiting: int = 0
    spawned: int = 0
    wish: str = ""
    asked: int = 0
    last_error: str = ""
    last_error_class: str = ""
    conditions: tuple[Condition, ...] = ()
    attempts: int = 0
    stuck: bool = False


_DECODER = msgspec.json.Decoder(PoolStatus)


def decode_pool_status(blob: bytes) -> PoolStatus:
    return _DECODER.decode(blob) if blob else PoolStatus()
