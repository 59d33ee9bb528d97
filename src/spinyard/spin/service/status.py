"""States of a Service, and what is remembered from pass to pass."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spinyard.core.machine import Machine, edges
from spinyard.core.spec import Probe
from spinyard.spin.status import Condition


class ServiceState(StrEnum):
    PENDING = "pending"
    PROGRESSING = "progressing"
    AVAILABLE = "available"
    DEGRADED = "degraded"
    TERMINATING = "terminating"
    TERMINATED = "terminated"


S = ServiceState
TRANSITIONS = Machine(
    name="Service",
    initial=S.PENDING,
    terminal=frozenset({S.TERMINATED}),
    edges=edges(
        {
            S.PENDING: [S.PROGRESSING, S.AVAILABLE, S.TERMINATING],
            S.PROGRESSING: [S.AVAILABLE, S.DEGRADED, S.TERMINATING],
            S.AVAILABLE: [S.PROGRESSING, S.DEGRADED, S.TERMINATING],
            S.DEGRADED: [S.AVAILABLE, S.PROGRESSING, S.TERMINATING],
            S.TERMINATING: [S.TERMINATED],
            S.TERMINATED: [],
        }
    ),
)


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the data plane has confirmed of a Rollout's part, and the new side's instances as last seen."""

    rollout_uid: str = ""
    serial: int = -1
    """of the part whose weight was confirmed"""
    weight: int = 0
    ready: int = 0
    """instances of the new template in traffic"""
    alive: int = 0
    """not ended; 0 with `ending` 0: nothing of the new side is left"""
    ending: int = 0
    why: str = ""
    """what the data plane says when it does not confirm"""
    failing: str = ""
    """why no instance of the new side is started now: the last failure, while it is waited after it, or a directory"""
    template_digest: str = ""
    side: str = ""
    """of the part, once instances may have been made for it"""


class Left(StrEnum):
    HERE = "here"
    """in the Service's cluster, when a Rollout begins to bring the template that they are of"""
    BEFORE_PROMOTION = "before-promotion"
    """in the cluster that was the Service's"""
    ABANDONED = "abandoned"
    """in the cluster of a Rollout that was given up"""


class Cut(msgspec.Struct, frozen=True):
    """Instances of smaller slots than this, and not of smaller ones than the cut before, are left of something that has
    ended: they do not count as of their template."""

    slot: int
    left: Left


class Owed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Starts that are still due to what a person asked for; under a hold only these are made."""

    wish: str = ""
    count: int = 0


class ServiceStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`target`: the template being rolled to, with the restart mark. `good`: the last one that was fully available, to
    which a failed roll goes back. `given_up`: the target that did not get ready. `spawned`: children ever created; it
    names the next slot."""

    since: float = 0.0
    observed_generation: int = 0
    replicas: int = 0
    ready: int = 0
    updated: int = 0
    starting: int = 0
    ending: int = 0
    target: str = ""
    good: str = ""
    given_up: str = ""
    spawned: int = 0
    progressed_at: float = 0.0
    best_updated_ready: int = 0
    rolls_paused: bool = False
    """it was paused in the middle of a roll: that time does not count"""
    wiring: str = ""
    """how its instances are reached; a change of that replaces them, as a restart does"""
    first_slot: int = 0
    """instances of smaller slots are to be replaced, whatever they are made of"""
    probes: dict[str, Probe | None] = {}
    """what the data plane checks, by template: of the present one and of those that still run"""
    epochs: dict[str, int] = {}
    """by part: how often it was dropped; a key that was closed is never used again"""
    kept_directories: tuple[str, ...] = ()
    """those that the last template which had them asked to retain"""
    route_acknowledged: bool = False
    restarted_at: float = 0.0
    """the restart that `first_slot` stands for"""
    last_error: str = ""
    last_error_class: str = ""
    owed: dict[str, Owed] = {}
    """by template: of the present one, and of a running Rollout's"""
    conditions: tuple[Condition, ...] = ()
    stuck: bool = False
    attempts: int = 0
    shown: Shown | None = None
    """set while a Rollout has a part in it"""
    side: str = ""
    """of the wish before this one; another one is a promotion"""
    cuts: dict[str, tuple[Cut, ...]] = {}
    """by template, with rising slots, as long as such instances are there"""


_DECODER = msgspec.json.Decoder(ServiceStatus)


def decode_service_status(blob: bytes) -> ServiceStatus:
    return _DECODER.decode(blob) if blob else ServiceStatus()
