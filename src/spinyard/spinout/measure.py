"""From what the data plane says and counts to evidence and figures. What cannot be told is said and decides
nothing."""

from __future__ import annotations

import msgspec

from spinyard.core.figures import NOTHING, Reading, buckets_between, figures, since
from spinyard.core.observed import ClusterTraffic, Traffic, Unknown
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import Objective
from spinyard.core.verdict import (
    ALPHA_MIN,
    Counts,
    Evidence,
    Histogram,
    Increment,
    LatencyEvidence,
    LatencyIncrement,
    fold,
    fold_latency,
    of_cumulative,
)
from spinyard.core.verdict.burn import BurnObjective, add, pack, unpack
from spinyard.spinout.lately import with_lately
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.stalled import with_stall
from spinyard.spinout.status import SpinoutStatus

IDLE_SECONDS = 5.0
"""how often it is written that nobody asked"""


def observed(s: SpinoutSnapshot) -> SpinoutStatus:
    """The status with all that this look tells, but no decision."""
    status = s.with_endpoints(shown(s))
    status = instances(s, measured(s.having(status)))
    # A clock that went back must not make seconds of hours.
    return msgspec.structs.replace(
        status,
        step_begun_at=min(status.step_begun_at, s.now),
        progressed_at=min(status.progressed_at, s.now),
        weight_asked_at=min(status.weight_asked_at, s.now),
        attempt_at=min(status.attempt_at, s.now),
    )


def shown(s: SpinoutSnapshot) -> SpinoutStatus:
    """What the data plane has confirmed stays believed while it cannot be asked: nobody else changes it."""
    status = s.status
    if not status.is_bounded:
        return status
    if s.is_confirmed and not s.missing:
        return msgspec.structs.replace(
            status,
            shown_serial=status.serial,
            shown_weight=status.weight,
            step_begun_at=status.step_begun_at or s.now,
            last_error="",
            last_error_class="",
        )
    if status.shown_serial == status.serial and (s.is_other or s.missing):
        # It was lost: what lies between this look and the next was at no weight that can be told.
        return msgspec.structs.replace(status, shown_serial=0, reading=None, step_reading=None)
    return status


def is_shown(status: SpinoutStatus) -> bool:
    return status.is_bounded and status.shown_serial == status.serial > 0


def measured(s: SpinoutSnapshot) -> SpinoutStatus:
    """With what came since the last reading: folded when it is one stretch at one weight."""
    status, traffic = s.status, s.traffic
    if not is_shown(status):
        return status
    if isinstance(traffic, Unknown):
        return msgspec.structs.replace(status, blind_since=status.blind_since or s.now)
    if traffic.at < status.step_begun_at:
        # From before this weight was confirmed.
        return status
    reading = read_from(s, traffic)
    before = status.reading if status.reading is not None and status.reading.epoch == reading.epoch else None
    base = before or Reading(reading.epoch, reading.at, reading.serial, NOTHING, NOTHING)
    step = Increment(reading.serial, since(base.old, reading.old), since(base.new, reading.new))
    if not (step.old.is_usable and step.new.is_usable):
        # It is no base for the next one: what follows would be counted twice.
        return msgspec.structs.replace(status, blind_since=status.blind_since or s.now)
    status = msgspec.structs.replace(status, blind_since=0.0)
    if before is not None and before.serial == reading.serial:
        status = with_stall(status, before, reading)
        if (before.old, before.new) == (reading.old, reading.new) and status.step_reading is not None:
            # Nothing happened: nothing is written, but now and then that nobody asked.
            return burnt(s.having(status), reading.at, step.new) if is_idle_long(status, reading.at) else status
        status = with_lately(status, before, reading, limit=alone_limit(s, status), alpha=alpha_of(s))
        status = folded(s.having(status), before, reading, step)
    begun = status.step_reading
    if begun is None or (begun.epoch, begun.serial) != (reading.epoch, reading.serial):
        begun = reading
    return msgspec.structs.replace(
        status,
        reading=reading,
        step_reading=begun,
        old=figures(begun.old, reading.old, reading.at - begun.at),
        new=figures(begun.new, reading.new, reading.at - begun.at),
    )


def read_from(s: SpinoutSnapshot, traffic: Traffic) -> Reading:
    old, new = (traffic.clusters.get(name, NOTHING) for name in (s.old_cluster, s.new_cluster))
    return Reading(traffic.epoch, traffic.at, s.status.weight_serial, old, new)


def folded(s: SpinoutSnapshot, before: Reading, reading: Reading, step: Increment) -> SpinoutStatus:
    status = burnt(s, reading.at, step.new)
    if not status.weight:
        return status
    if status.weight < WEIGHT_ALL:
        evidence = status.evidence or Evidence(margin_of(s))
        status = msgspec.structs.replace(status, evidence=fold(evidence, step))
    if not s.spec.gates.latency:
        return status
    increment = LatencyIncrement(
        reading.serial,
        status.weight / WEIGHT_ALL,
        histogram_between(before.old, reading.old),
        histogram_between(before.new, reading.new),
    )
    return msgspec.structs.replace(status, latency=fold_latency(status.latency or LatencyEvidence(), increment))


def burnt(s: SpinoutSnapshot, at: float, new: Counts) -> SpinoutStatus:
    """No requests are data too: nobody asked."""
    status, objective = s.status, s.spec.gates.objective
    if objective is None or not status.weight:
        return status
    try:
        series = add(unpack(status.burn), burn_objective(objective), at=at, good=new.requests - new.failures,
                     bad=new.failures)  # fmt: skip
    except ValueError:
        # No objective: its gate says so.
        return status
    return msgspec.structs.replace(status, burn=pack(series), burnt_at=at)


def is_idle_long(status: SpinoutStatus, at: float) -> bool:
    return bool(status.burn) and at - status.burnt_at >= IDLE_SECONDS


def burn_objective(objective: Objective) -> BurnObjective:
    """ValueError when it is none."""
    return BurnObjective(
        objective.target,
        objective.window_seconds,
        events_min=max(1, objective.events_min),
        errors_min=max(1, objective.errors_min),
    )


def margin_of(s: SpinoutSnapshot) -> float:
    """What a file may not say must not stop a decision: the judge takes margins between 0 and 1 alone."""
    return min(max(s.spec.gates.margin, 1e-6), 0.999)


def alpha_of(s: SpinoutSnapshot) -> float:
    return min(max(s.spec.gates.alpha, ALPHA_MIN), 0.5)


def before_of(status: SpinoutStatus) -> Counts:
    """What the parent did, before and on the way."""
    return status.baseline_counts + (status.evidence.old if status.evidence is not None else Counts())


def alone_limit(s: SpinoutSnapshot, status: SpinoutStatus) -> float:
    """Of the unit's failures, at full weight."""
    return min(0.999, before_of(status).rate + margin_of(s))


def histogram_between(before: ClusterTraffic, after: ClusterTraffic) -> Histogram:
    """In milliseconds."""
    if before.latency and [bound for bound, _ in before.latency] != [bound for bound, _ in after.latency]:
        return Histogram()
    return of_cumulative([(bound * 1000.0, count) for bound, count in buckets_between(before, after)])


def instances(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    """What is known of both sides' instances, and since when the unit has none although requests may go there."""
    old, new = s.in_traffic(s.spec.parent_uid), s.in_traffic(s.spec.unit_uid)
    alive = s.standing(s.spec.parent_uid).replicas, s.standing(s.spec.unit_uid).replicas
    # By the weight that was last confirmed, or is asked for: one of both is in force.
    is_missing = new == 0 and max(status.weight, status.shown_weight) > 0
    return msgspec.structs.replace(
        status,
        missing_since=min(status.missing_since or s.now, s.now) if is_missing else 0.0,
        old=msgspec.structs.replace(status.old, ready=old or 0, alive=alive[0]),
        new=msgspec.structs.replace(status.new, ready=new or 0, alive=alive[1]),
    )
