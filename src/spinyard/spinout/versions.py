"""Of whom the evidence is: one version of the parent, one of the unit, one set of routes, judged by one margin.

What another version was seen to do proves nothing of this one: the step begins anew when one of them changes, and once
more when no instance of the version before is left; until then nothing rises, and guards judge the mixture.
"""

from __future__ import annotations

import hashlib

import msgspec

from spinyard.core.figures import SideFigures
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.standing import AVAILABLE
from spinyard.core.verdict import Counts, LatencyEvidence
from spinyard.spinout.measure import margin_of
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.status import SpinoutStatus


def renewed(s: SpinoutSnapshot) -> SpinoutStatus:
    """The status without evidence of anything else than what is there and declared now."""
    status = s.status
    if not status.is_bounded:
        return status
    return with_margin(s, with_versions(s, status))


def with_versions(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    known = status.old_version, status.new_version, status.routes_digest
    # What cannot be seen is no other version.
    old, new = version_of(s, s.spec.parent_uid) or known[0], version_of(s, s.spec.unit_uid) or known[1]
    present = old, new, routes_digest(s)
    is_old, is_new, is_routes = (bool(one) and one != other for one, other in zip(known, present, strict=True))
    status = msgspec.structs.replace(status, old_version=old, new_version=new, routes_digest=present[2])
    is_other = is_new or is_routes or (is_old and status.weight < WEIGHT_ALL)
    has_rolled = status.is_rolling and not rolling(s)
    if not (is_other or has_rolled):
        return status
    if status.weight < WEIGHT_ALL and (is_old or is_routes or status.baseline is None):
        # Of the parent as it is no more. At full weight it has no requests that could show anything else.
        status = msgspec.structs.replace(
            status, baseline=None, baseline_counts=Counts(), baseline_latency=(), evidence=None
        )
    status = msgspec.structs.replace(begun_anew(s, without_evidence(status)), is_rolling=bool(rolling(s)))
    return status


def with_margin(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    """Another margin would judge stakes that were chosen for the one before."""
    is_other = status.evidence is not None and status.evidence.margin != margin_of(s)
    return without_evidence(status) if is_other else status


def without_evidence(status: SpinoutStatus) -> SpinoutStatus:
    """What the parent did stays known: it is the measure at full weight."""
    before = status.evidence.old if status.evidence is not None else Counts()
    return msgspec.structs.replace(status, evidence=None, baseline_counts=status.baseline_counts + before)


def begun_anew(s: SpinoutSnapshot, status: SpinoutStatus) -> SpinoutStatus:
    """The step, with all its time."""
    latency = status.latency
    return msgspec.structs.replace(
        status,
        step_begun_at=0.0,
        progressed_at=s.now,
        reading=None,
        step_reading=None,
        lately=None,
        stalled=None,
        latency=LatencyEvidence(steps=latency.steps, stretches=latency.stretches) if latency is not None else None,
        burn=b"",
        burnt_at=0.0,
        gates=(),
        old=SideFigures(ready=status.old.ready, alive=status.old.alive),
        new=SideFigures(ready=status.new.ready, alive=status.new.alive),
    )


def version_of(s: SpinoutSnapshot, uid: str) -> str:
    """Empty: not known. Of an external Service nobody can tell its version."""
    service = s.service(uid)
    if service is None:
        return ""
    return (
        f"{uid[:8]} external" if service.external is not None else f"{service.template_digest} {service.side}".strip()
    )


def routes_digest(s: SpinoutSnapshot) -> str:
    """Of what is spun out, and of whose."""
    text = msgspec.json.encode((s.spec.parent_uid, s.spec.routes))
    return hashlib.sha256(text).hexdigest()[:16]


def rolling(s: SpinoutSnapshot) -> str:
    """The Service that may still have instances of the version before, or empty."""
    names = ((s.spec.parent_uid, s.spec.parent), (s.spec.unit_uid, s.spec.unit))
    return next((name for uid, name in names if not is_settled(s, uid)), "")


def is_settled(s: SpinoutSnapshot, uid: str) -> bool:
    """It has looked at its present wish, and has what it wishes for."""
    service, peer = s.service(uid), s.peer(uid)
    if service is None or peer is None:
        return False
    has_looked = s.standing(uid).observed_generation == peer.generation
    return service.external is not None or (has_looked and peer.state == AVAILABLE)
