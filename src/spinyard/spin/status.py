"""States of a Spin, the transitions between them, and what is remembered from pass to pass."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

import msgspec

from spinyard.core.machine import Machine, edges


class State(StrEnum):
    PENDING = "pending"
    PLANNED = "planned"
    PROVISIONING = "provisioning"
    BOOTSTRAPPING = "bootstrapping"
    WARM = "warm"
    REGISTERING = "registering"
    READY = "ready"
    SERVING = "serving"
    DRAINING = "draining"
    TERMINATING = "terminating"
    CLEANING = "cleaning"
    TERMINATED = "terminated"
    FAILED = "failed"
    LEAKED = "leaked"


TRANSITIONS = Machine(
    name="Spin",
    initial=State.PENDING,
    terminal=frozenset({State.TERMINATED}),
    edges=edges(
        {
            State.PENDING: [State.PLANNED, State.FAILED, State.TERMINATING],
            State.PLANNED: [State.PROVISIONING, State.TERMINATING],
            State.PROVISIONING: [State.BOOTSTRAPPING, State.FAILED, State.TERMINATING],
            State.BOOTSTRAPPING: [State.WARM, State.REGISTERING, State.READY, State.FAILED, State.TERMINATING],
            State.WARM: [State.REGISTERING, State.READY, State.FAILED, State.TERMINATING],
            State.REGISTERING: [State.SERVING, State.FAILED, State.DRAINING],
            State.READY: [State.SERVING, State.FAILED, State.DRAINING, State.TERMINATING],
            State.SERVING: [State.READY, State.FAILED, State.DRAINING],
            State.DRAINING: [State.TERMINATING],
            State.FAILED: [State.TERMINATING],
            State.TERMINATING: [State.CLEANING, State.LEAKED],
            State.CLEANING: [State.TERMINATED, State.LEAKED],
            State.LEAKED: [State.TERMINATED],
            State.TERMINATED: [],
        }
    ),
)

UP = frozenset({State.READY, State.SERVING})
"""started, healthy when last seen, and meant to stay"""
STARTING = frozenset({State.PENDING, State.PLANNED, State.PROVISIONING, State.BOOTSTRAPPING, State.REGISTERING})
ENDING = frozenset({State.DRAINING, State.FAILED, State.TERMINATING, State.CLEANING, State.LEAKED})


RETRY_SECONDS_MAX = 60.0
"""nothing is put off for longer"""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_at: float = 0.0


class ExitRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int | None = None
    signal: int | None = None
    peak_memory_bytes: int = 0
    cpu_seconds: float = 0.0


class SpinStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`timeline`: (state, entered at), one entry per change, the last 24. `attempts` and `last_error*` are of the
    present state. `retry_at`: no action is repeated before, however
    often it is looked at. `step`: bootstrap steps done. `diagnostics`: what was found when it failed (log tail,
    reply)."""

    since: float = 0.0
    phase_at: float = 0.0
    """when the present part of the state began (a bootstrap step, the wait for one probe); 0: with the state"""
    attempts: int = 0
    retry_at: float = 0.0
    last_error: str = ""
    last_error_class: str = ""
    step: int = 0
    started: bool = False
    probed: bool = False
    smoke_passed: bool = False
    claim_step: int = 0
    """of a claimed member: 0 probe again, 1 its file, 2 its hook, 3 done"""
    errand_seen: bool = False
    """its errand was there: when it is absent now, it is not started again"""
    address: str = ""
    ports: dict[str, int] = {}
    conditions: tuple[Condition, ...] = ()
    timeline: tuple[tuple[str, float], ...] = ()
    exit: ExitRecord | None = None
    diagnostics: str = ""
    stuck: bool = False
    unknown: bool = False
    failing_since: float = 0.0
    metered_seconds: float = 0.0


@lru_cache(maxsize=4096)
def decode_status(blob: bytes) -> SpinStatus:
    """Frozen, so the two decodings of one pass may share it."""
    return _DECODER.decode(blob) if blob else SpinStatus()


def encode_status(status: SpinStatus) -> bytes:
    return _ENCODER.encode(status)


def in_time(status: SpinStatus, now: float) -> SpinStatus:
    """A clock that went back must not make waits of seconds and deadlines of minutes ones of hours."""
    latest = max(status.since, status.phase_at, status.failing_since, status.retry_at - RETRY_SECONDS_MAX)
    if latest <= now:
        return status
    return msgspec.structs.replace(
        status,
        since=min(status.since, now),
        phase_at=min(status.phase_at, now),
        failing_since=min(status.failing_since, now),
        retry_at=min(status.retry_at, now + RETRY_SECONDS_MAX) if status.since <= now else 0.0,
    )


def with_condition(status: SpinStatus, kind: str, value: bool, reason: str, message: str, now: float) -> SpinStatus:
    changed = conditions_with(status.conditions, kind, value, reason, message, now)
    return status if changed is status.conditions else msgspec.structs.replace(status, conditions=changed)


def conditions_with(
    conditions: tuple[Condition, ...], kind: str, value: bool, reason: str, message: str, now: float
) -> tuple[Condition, ...]:
    """With that condition set, last; the same object when nothing changes. Its transition time moves only when its
    value does."""
    wanted = "True" if value else "False"
    before = next((condition for condition in conditions if condition.type == kind), None)
    if before is not None and (before.status, before.reason, before.message) == (wanted, reason, message):
        return conditions
    at = before.last_transition_at if before is not None and before.status == wanted else now
    others = tuple(condition for condition in conditions if condition.type != kind)
    return (*others, Condition(kind, wanted, reason, message, at))


_DECODER = msgspec.json.Decoder(SpinStatus)
_ENCODER = msgspec.json.Encoder()
