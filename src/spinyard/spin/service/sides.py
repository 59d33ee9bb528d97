"""Which of a Service's instances belong to which side of a Rollout, and what is remembered for that.

An instance stays in the cluster that it was made for. So what another side leaves behind must never count as one of
the same template that is made later for a side in use: it is told by its slot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from spinyard.core.ids import Digest
from spinyard.core.observed import ChildGroup, Children
from spinyard.spin.service.crew import next_slot
from spinyard.spin.service.snapshot import ALIVE, BEFORE_RESTART, Fleet, ServiceSnapshot, fleet_of
from spinyard.spin.service.status import Cut, ServiceStatus

OTHER_SIDE = "+other-side"


@dataclass(frozen=True, slots=True)
class Sides:
    """`stable`: of the Service's template, and what is to be replaced by it. `new`: of the running Rollout.
    `abandoned`: of a Rollout that was given up; no request is sent to them."""

    stable: Fleet
    new: Fleet
    abandoned: Fleet


def sides_of(s: ServiceSnapshot) -> Sides:
    part = s.part
    in_use = {s.spec.template_digest, s.target} | ({part.template_digest} if part is not None else set())
    stable: list[ChildGroup] = []
    new: list[ChildGroup] = []
    abandoned: list[ChildGroup] = []
    for group in s.children.groups:
        digest = group.template_digest
        rest: ChildGroup | None = group
        cut = s.status.cuts.get(digest)
        if cut is not None:
            left, rest = below(group, cut.slot) if digest in in_use else (group, None)
            if left is not None and cut.abandoned:
                abandoned.append(left)
            elif left is not None:
                stable.append(replace(left, template_digest=Digest(digest + OTHER_SIDE)))
        if rest is not None:
            (new if part is not None and digest == part.template_digest else stable).append(rest)
    return Sides(fleet_of(Children(tuple(stable)), s.status.first_slot), Fleet(tuple(new)), Fleet(tuple(abandoned)))


def below(group: ChildGroup, slot: int) -> tuple[ChildGroup | None, ChildGroup | None]:
    """(those of smaller slots, the others). Only the listed ones are looked at: in a larger group the rest follows as
    the oldest go."""
    old = tuple(child for child in group.oldest if int(child.slot) < slot)
    kept = tuple(child for child in group.oldest if int(child.slot) >= slot)
    return (
        replace(group, count=len(old), oldest=old) if old else None,
        replace(group, count=group.count - len(old), oldest=kept) if group.count > len(old) else None,
    )


def checked_digests(sides: Sides) -> set[str]:
    """Templates whose instances the data plane checks in the Service's own cluster."""
    alive = (group.template_digest for group in sides.stable.groups if group.state in ALIVE)
    return {digest.removesuffix(BEFORE_RESTART) for digest in alive if OTHER_SIDE not in digest}


def after_rollout(s: ServiceSnapshot) -> ServiceStatus:
    """What an ended Rollout leaves behind. Promoted: its side is the Service's, and all others are to be replaced.
    Given up: what it made is to go. Nothing goes back by itself from what was judged good."""
    status, spec = s.status, s.spec
    shown, part = status.shown, spec.rollout
    cuts = {digest: cut for digest, cut in status.cuts.items() if is_left(s.children, digest, cut)}
    if shown is not None and (part is None or part.rollout_uid != shown.rollout_uid):
        status = msgspec.structs.replace(status, shown=None)
        if shown.template_digest and shown.side != spec.side:
            cuts[shown.template_digest] = Cut(next_slot(s), abandoned=True)
    if status.wiring and spec.side != status.side:
        mine = shown.template_digest if shown is not None and shown.side == spec.side else ""
        others = {str(group.template_digest) for group in s.children.groups if group.template_digest != mine}
        cuts |= {digest: Cut(next_slot(s)) for digest in others}
        if mine and mine == spec.template_digest:
            status = msgspec.structs.replace(status, good=mine)
    return msgspec.structs.replace(status, side=spec.side, cuts=cuts)


def is_left(children: Children, digest: str, cut: Cut) -> bool:
    return any(
        group.template_digest == digest
        and (group.count > len(group.oldest) or any(int(child.slot) < cut.slot for child in group.oldest))
        for group in children.groups
    )
