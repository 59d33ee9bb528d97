"""States of a Job."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spinyard.core.machine import Machine, edges
from spinyard.spin.status import Condition


class JobState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


J = JobState
TRANSITIONS = Machine(
    name="Job",
    initial=J.PENDING,
    terminal=frozenset({J.TERMINATED}),
    edges=edges(
        {
            J.PENDING: [J.RUNNING, J.FAILED, J.TERMINATING],
            J.RUNNING: [J.SUCCEEDED, J.FAILED, J.TERMINATING],
            J.SUCCEEDED: [J.TERMINATING],
            J.FAILED: [J.TERMINATING],
            J.TERMINATING: [J.TERMINATED],
            J.TERMINATED: [],
        }
    ),
)


class JobStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`outcome` is Succeeded, Failed or empty. `attempt`: spins started so far."""

    since: float = 0.0
    observed_generation: int = 0
    attempt: int = 0
    outcome: str = ""
    last_error: str = ""
    last_error_class: str = ""
    finished_at: float = 0.0
    conditions: tuple[Condition, ...] = ()
    looks_for: str = ""
    """how it comes to a member of its pool (Binding, Cold or Waiting), and after which attempt"""


_DECODER = msgspec.json.Decoder(JobStatus)


def decode_job_status(blob: bytes) -> JobStatus:
    return _DECODER.decode(blob) if blob else JobStatus()
