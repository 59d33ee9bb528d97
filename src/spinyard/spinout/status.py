"""Phases of a Spinout, and what is remembered from pass to pass."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spinyard.core.figures import Gate, Reading, SideFigures
from spinyard.core.ids import ResourceKey
from spinyard.core.machine import Machine, edges
from spinyard.core.verdict import Counts, Evidence, LatencyEvidence


class SpinoutState(StrEnum):
    """A phase is the last thing that was reached; what the next one needs is under way."""

    PROPOSED = "proposed"
    ANALYSED = "analysed"
    DECIDED = "decided"
    """go; no-go ends in abandoned, postpone stays analysed"""
    CONTRACTED = "contracted"
    SCAFFOLDED = "scaffolded"
    """the unit is available; its boundary becomes known to the data plane, at weight 0"""
    INSTRUMENTED = "instrumented"
    """both sides are counted by the data plane; the baseline comes in"""
    BASELINED = "baselined"
    SHADOWING = "shadowing"
    """safe requests are copied to the unit, and the answers compared"""
    RAMPING = "ramping"
    SWITCHED = "switched"
    """all requests of the boundary go to the unit, and its gates have passed there"""
    SOAKING = "soaking"
    RETIRING = "retiring"
    """the parent may shrink; the unit's own route takes over, and the old code goes"""
    COMPLETED = "completed"
    HELD = "held"
    """nothing rises; guards run; `held_from` is the phase that it goes on with"""
    ROLLING_BACK = "rolling_back"
    """the weight 0 is written, and counts when the unit's counter stands still"""
    ROLLED_BACK = "rolled_back"
    """every request is the parent's; `start` begins another attempt"""
    ABANDONED = "abandoned"


S = SpinoutState
FORWARD = (S.PROPOSED, S.ANALYSED, S.DECIDED, S.CONTRACTED, S.SCAFFOLDED, S.INSTRUMENTED, S.BASELINED, S.SHADOWING,
           S.RAMPING, S.SWITCHED, S.SOAKING, S.RETIRING, S.COMPLETED)  # fmt: skip
BACK = (S.HELD, S.ROLLING_BACK)
TRANSITIONS = Machine(
    name="Spinout",
    initial=S.PROPOSED,
    terminal=frozenset({S.COMPLETED, S.ABANDONED}),
    edges=edges(
        {
            S.PROPOSED: [S.ANALYSED, *BACK],
            S.ANALYSED: [S.DECIDED, *BACK],
            S.DECIDED: [S.CONTRACTED, *BACK],
            S.CONTRACTED: [S.SCAFFOLDED, *BACK],
            S.SCAFFOLDED: [S.INSTRUMENTED, *BACK],
            S.INSTRUMENTED: [S.BASELINED, *BACK],
            S.BASELINED: [S.SHADOWING, S.RAMPING, *BACK],
            S.SHADOWING: [S.RAMPING, *BACK],
            S.RAMPING: [S.SWITCHED, *BACK],
            S.SWITCHED: [S.SOAKING, *BACK],
            S.SOAKING: [S.RETIRING, *BACK],
            S.RETIRING: [S.COMPLETED, *BACK],
            S.COMPLETED: [],
            S.HELD: [*(phase for phase in FORWARD if phase is not S.COMPLETED), S.ROLLING_BACK],
            S.ROLLING_BACK: [S.ROLLED_BACK, S.ABANDONED],
            S.ROLLED_BACK: [S.SCAFFOLDED, S.ABANDONED],
            S.ABANDONED: [],
        }
    ),
)


class Passed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A phase or a step that was left. `how`: approved, passed, promoted, waived or failed."""

    phase: str
    begun_at: float
    left_at: float
    how: str
    why: str
    weight: int = 0
    old: SideFigures = SideFigures()
    new: SideFigures = SideFigures()


class Proven(msgspec.Struct, frozen=True):
    """Whether a gate was seen to fail on evidence that is bad beyond doubt, under the present configuration."""

    name: str
    ok: bool
    why: str


class SpinoutStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`weight`, `mirror`, `serial`: what is asked of the data plane; `shown_weight`: what it last confirmed, with
    `shown_serial`. `evidence` accumulates over steps, the rest of the figures is of the present step."""

    since: float = 0.0
    observed_generation: int = 0
    attempt: int = 0
    attempt_at: float = 0.0
    step: int = 0
    weight: int = 0
    mirror: int = 0
    shown_weight: int = 0
    shown_serial: int = 0
    serial: int = 0
    weight_serial: int = 0
    highest: int = 0
    """the largest weight of this attempt"""
    was_copied: bool = False
    """copies were asked for in this attempt"""
    is_contracted: bool = False
    """that phase was passed once; another attempt need not pass it again"""
    is_bounded: bool = False
    """the boundary is wanted of the data plane"""
    epoch: int = 0
    """how often the boundary was taken away: a key that was closed is never used again"""
    progressed_at: float = 0.0
    """from when the deadline of a phase or step counts"""
    promoted_before: int = 0
    fully_before: bool = False
    """what a person had let pass before this attempt; it counts for nothing in this one"""
    held_from: str = ""
    held_why: str = ""
    held_reason: str = ""
    held_wish: str = ""
    """what was declared and said when it was held: another wish gets all its time"""
    step_begun_at: float = 0.0
    """when the weight of this step was confirmed; 0: not yet"""
    weight_asked_at: float = 0.0
    evidence: Evidence | None = None
    reading: Reading | None = None
    step_reading: Reading | None = None
    old_version: str = ""
    new_version: str = ""
    routes_digest: str = ""
    """of what the evidence is (see versions)"""
    is_rolling: bool = False
    """instances of the version before may still answer"""
    baseline: SideFigures | None = None
    """the parent's, before anything moved"""
    baseline_counts: Counts = Counts()
    baseline_latency: tuple[tuple[float, int], ...] = ()
    """as ClusterTraffic.latency"""
    latency: LatencyEvidence | None = None
    proofs: tuple[Proven, ...] = ()
    proofs_digest: str = ""
    """the configuration under which they were tried"""
    burn: bytes = b""
    """the series of good and bad requests of the unit, as core.verdict.burn keeps it"""
    burnt_at: float = 0.0
    blind_since: float = 0.0
    lately: Reading | None = None
    """where the stretch of the unit's last requests began, at full weight"""
    stretches: int = 0
    """so many there were, that one too"""
    stalled: Reading | None = None
    """the last one before the unit ended no request any more, although some are under way"""
    missing_since: float = 0.0
    """since when the unit has no instance in traffic although it has a weight"""
    zero_shown_at: float = 0.0
    still: Reading | None = None
    paged: bool = False
    old: SideFigures = SideFigures()
    new: SideFigures = SideFigures()
    gates: tuple[Gate, ...] = ()
    needs: str = ""
    """what the present phase or step still needs, in words"""
    passed: tuple[Passed, ...] = ()
    stopped: str = ""
    """why it went back; empty as long as it did not"""
    stopped_reason: str = ""
    conditions: tuple[str, ...] = ()
    endpoints: tuple[ResourceKey, ...] = ()
    """of parent and unit, where they are external: what to look at"""
    config_digest: str = ""
    last_error: str = ""
    last_error_class: str = ""


_DECODER = msgspec.json.Decoder(SpinoutStatus)


def decode_spinout_status(blob: bytes) -> SpinoutStatus:
    return _DECODER.decode(blob) if blob else SpinoutStatus()


def spinout_cluster(namespace: str, name: str, uid: str) -> str:
    """The base name of its clusters in the data plane (core.want.boundary_cluster)."""
    return f"spinout/{namespace}/{name}/{uid[:8]}"
