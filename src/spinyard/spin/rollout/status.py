"""States of a Rollout, and what is remembered from pass to pass: the asked weight, the counters, the evidence."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from spinyard.core.figures import Gate, Reading, SideFigures
from spinyard.core.machine import Machine, edges
from spinyard.core.verdict import Counts, Evidence


class RolloutState(StrEnum):
    PENDING = "pending"
    """its Service is not settled yet, or another change of it is under way"""
    PREPARING = "preparing"
    """the new side's instances for the present step come up; the weight is still that of the step before"""
    SHIFTING = "shifting"
    """the weight is written; the data plane has not confirmed it"""
    JUDGING = "judging"
    """the weight is confirmed; evidence comes in, or time passes, or a person is waited for"""
    PROMOTING = "promoting"
    """the new template is the Service's; the old instances go"""
    SUCCEEDED = "succeeded"
    RETREATING = "retreating"
    """the weight 0 is written, and counts when the new side's counter stands still"""
    REMOVING = "removing"
    """no request reaches the new side; its instances go"""
    ROLLED_BACK = "rolled_back"


S = RolloutState
TRANSITIONS = Machine(
    name="Rollout",
    initial=S.PENDING,
    terminal=frozenset({S.SUCCEEDED, S.ROLLED_BACK}),
    edges=edges(
        {
            S.PENDING: [S.PREPARING, S.ROLLED_BACK],
            S.PREPARING: [S.SHIFTING, S.RETREATING],
            S.SHIFTING: [S.JUDGING, S.RETREATING],
            S.JUDGING: [S.PREPARING, S.SHIFTING, S.PROMOTING, S.RETREATING],
            S.PROMOTING: [S.SUCCEEDED, S.ROLLED_BACK],
            S.SUCCEEDED: [],
            S.RETREATING: [S.REMOVING, S.ROLLED_BACK],
            S.REMOVING: [S.ROLLED_BACK],
            S.ROLLED_BACK: [],
        }
    ),
)


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step that was left. `how`: passed, promoted (by a person), or failed."""

    weight: int
    begun_at: float
    left_at: float
    how: str
    why: str
    old: SideFigures
    new: SideFigures


class RolloutStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """`step`: index into the strategy's steps. `weight`, `replicas`, `serial`: what is asked of the Service
    (RolloutPart). `weight_serial`: the serial of the last change of weight. `shown_weight`: what was last confirmed.
    `old_side`: names the old side's cluster."""

    since: float = 0.0
    observed_generation: int = 0
    step: int = 0
    weight: int = 0
    shown_weight: int = 0
    replicas: int = 0
    serial: int = 0
    weight_serial: int = 0
    old_side: str = ""
    highest: int = 0
    """the largest weight there ever was"""
    step_begun_at: float = 0.0
    """when the weight of this step was shown; 0: not yet"""
    progressed_at: float = 0.0
    """when the new side last got one more instance into traffic, or was asked for more"""
    best_ready: int = 0
    missing_since: float = 0.0
    """since when no instance of the new side is in traffic although it has a weight; 0: there is one"""
    evidence: Evidence | None = None
    reading: Reading | None = None
    """the last usable one; what came since then is the next increment"""
    step_reading: Reading | None = None
    """the first one of this step"""
    lately: Reading | None = None
    """where the stretch of the new side's last requests began, at full weight"""
    stretches: int = 0
    """so many there were, that one too"""
    before: Counts = Counts()
    """what the old side answered since this began, until it had no request any more"""
    life: Counts = Counts()
    """what its cluster had counted before that"""
    blind_since: float = 0.0
    """since when no counters can be read; 0: they can"""
    zero_shown_at: float = 0.0
    """when the data plane confirmed the weight 0 of the way back; 0: not yet"""
    still: Reading | None = None
    """after the weight 0 was shown: the reading that the next one must equal"""
    old: SideFigures = SideFigures()
    new: SideFigures = SideFigures()
    gates: tuple[Gate, ...] = ()
    needs: str = ""
    """what the present step still needs, in words"""
    steps: tuple[StepRecord, ...] = ()
    stopped: str = ""
    """why it went back; empty as long as it did not"""
    stopped_reason: str = ""
    last_error: str = ""
    last_error_class: str = ""


_DECODER = msgspec.json.Decoder(RolloutStatus)


def decode_rollout_status(blob: bytes) -> RolloutStatus:
    return _DECODER.decode(blob) if blob else RolloutStatus()
