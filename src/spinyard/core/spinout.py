"""What a Spinout asks for: one bounded responsibility of a parent Service, carried over to a unit Service.

Durations are seconds, weights parts of 10,000, shares 0 to 1. Made by `manifest` from YAML; the fields at the end of
`SpinoutSpec` are what people did with the verbs (`spinyard spinout start | approve | hold | abort | promote`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from spinyard.core.shift import WEIGHT_ALL, Sticky


@dataclass(frozen=True, slots=True)
class BoundaryRoute:
    """`method` empty: any. `path`: exact (`/thumbs`), with parts (`/photos/{id}/thumb`), or `/thumbs/*` for everything
    under it. `writes`: the entities that such a request writes."""

    path: str
    method: str = ""
    writes: tuple[str, ...] = ()

    @property
    def is_safe(self) -> bool:
        return self.method in ("GET", "HEAD", "OPTIONS") and not self.writes


@dataclass(frozen=True, slots=True)
class SpinoutStep:
    """`weight` in parts of 10,000. It is left when every gate has passed and `hold_seconds` are over; `wait`: and a
    person has promoted it."""

    weight: int
    hold_seconds: float = 0.0
    wait: bool = False


@dataclass(frozen=True, slots=True)
class LatencyGoal:
    """The quantile of the unit's latency may not be above the parent's by more than `max_ratio` (1.2: a fifth) plus
    `max_seconds_more`; nor, at full weight too, above `max_seconds`. At least one of them is set."""

    quantile: float
    max_ratio: float | None = None
    max_seconds_more: float = 0.0
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Objective:
    """A share of good requests over a window, watched by its burn rate. `events_min`: with fewer nothing is said;
    `errors_min`: with fewer bad ones neither."""

    target: float
    window_seconds: float = 30 * 86400.0
    events_min: int = 50
    errors_min: int = 5


class Bound(StrEnum):
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True)
class ThresholdGate:
    """A figure from elsewhere: `url` is a Prometheus HTTP API, `query` an instant query with one sample as its answer.
    A sample older than `stale_seconds`, NaN or none is missing data."""

    name: str
    url: str
    query: str
    limit: float
    bound: Bound = Bound.MAX
    stale_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class SpinoutGates:
    """`margin`: by how much more of the unit's requests may fail (0.01: one point). `alpha`: how often each verdict may
    be wrong. `trace_join_min`: share of the unit's requests whose trace is whole; None: not judged."""

    margin: float = 0.01
    alpha: float = 0.05
    latency: tuple[LatencyGoal, ...] = ()
    objective: Objective | None = None
    trace_join_min: float | None = None
    thresholds: tuple[ThresholdGate, ...] = ()


@dataclass(frozen=True, slots=True)
class Shadow:
    """Safe requests are copied to the unit, and the answers compared. `share` of them, parts of 10,000. It is passed
    when `compared_min` were compared and no more than `different_max` (share) differ beyond the learned noise.
    `ignore`: fields and headers that may differ; `unordered`: lists whose order does not matter; `redact`: fields that
    are never stored."""

    enabled: bool = True
    share: int = WEIGHT_ALL
    compared_min: int = 50
    different_max: float = 0.0
    ignore: tuple[str, ...] = ()
    unordered: tuple[str, ...] = ()
    redact: tuple[str, ...] = ()


class Inconclusive(StrEnum):
    """What happens when a step has not been decided by its deadline."""

    HOLD = "hold"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Approval:
    """A person let one phase, or one failing gate (`waives`), pass. `evidence`: what it rests on, in words or as the
    text of a file."""

    phase: str
    actor: str
    evidence: str
    at: float
    attempt: int = 0
    waives: str = ""
    """the name of a gate as the status shows it"""
    decision: str = ""
    """of the phase `decided`: go, no-go or postpone; empty: go"""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class SpinoutSpec:
    """`parent`, `unit`: names of Services in the same namespace; the uids are filled in when it is applied.
    `contract`: the text of the OpenAPI document (JSON), `contract_digest` names it. `key` decides the side of a
    request. `forward_to_owner`: the unit hands writes to the parent, so routes that write may have a weight.
    `deadline_seconds`: of every phase that waits for evidence; `abort_deadline_seconds`: to be at 0 % again, else it
    pages. `capacity_floor`: instances of the parent that must stay until soaking ends."""

    parent: str
    unit: str
    routes: tuple[BoundaryRoute, ...]
    owner: str = ""
    escalation: str = ""
    objective: str = ""
    contract: str = ""
    contract_digest: str = ""
    key: Sticky = field(default_factory=Sticky)
    forward_to_owner: bool = False
    steps: tuple[SpinoutStep, ...] = ()
    gates: SpinoutGates = field(default_factory=SpinoutGates)
    shadow: Shadow = field(default_factory=Shadow)
    baseline_seconds: float = 5.0
    baseline_requests: int = 100
    soak_seconds: float = 60.0
    inconclusive: Inconclusive = Inconclusive.HOLD
    deadline_seconds: float = 7 * 86400.0
    abort_deadline_seconds: float = 60.0
    capacity_floor: int = 0
    parent_uid: str = ""
    unit_uid: str = ""
    approvals: tuple[Approval, ...] = ()
    started: int = 0
    """how many times a person said `start`; an attempt begins with each, with nothing promoted"""
    promoted: int = 0
    """so many steps a person has let pass"""
    promoted_fully: bool = False
    abort: str = ""
    """why it is to go back; taken back by the next `start` alone"""
    jwks: str = ""
    """public keys of the tokens that let a tester choose a side"""
