"""States of a Claim."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spinyard.core.machine import Machine, edges


class ClaimState(StrEnum):
    PENDING = "pending"
    BOUND = "bound"
    READY = "ready"
    FAILED = "failed"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


C = ClaimState
TRANSITIONS = Machine(
    name="Claim",
    initial=C.PENDING,
    terminal=frozenset({C.TERMINATED}),
    edges=edges(
        {
            C.PENDING: [C.BOUND, C.FAILED, C.TERMINATING],
            C.BOUND: [C.PENDING, C.READY, C.FAILED, C.TERMINATING],
            C.READY: [C.FAILED, C.TERMINATING],
            C.FAILED: [C.TERMINATING],
            C.TERMINATING: [C.TERMINATED],
            C.TERMINATED: [],
        }
    ),
)


class ClaimStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`cold`: there was no warm member, one was made for it. `tries`: members it was given so far. `bound_at`,
    `ready_at`: since the epoch."""

    since: float = 0.0
    observed_generation: int = 0
    cold: bool = False
    tries: int = 0
    member: str = ""
    bound_at: float = 0.0
    ready_at: float = 0.0
    last_error: str = ""
    last_error_class: str = ""


_DECODER = msgspec.json.Decoder(ClaimStatus)


def decode_claim_status(blob: bytes) -> ClaimStatus:
    return _DECODER.decode(blob) if blob else ClaimStatus()
