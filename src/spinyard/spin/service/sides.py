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
from spinyard.spin.service.status import Cut, Left, ServiceStatus

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
        pieces, rest = pieces_of(group, s.status.cuts.get(digest, ()), in_use=digest in in_use)
        for left, piece in pieces:
            if left is Left.ABANDONED:
                abandoned.append(piece)
            else:
                mark = BEFORE_RESTART if left is Left.HERE else OTHER_SIDE
                stable.append(replace(piece, template_digest=Digest(digest + mark)))
        if rest is not None:
            (new if part is not None and digest == part.template_digest else stable).append(rest)
    return Sides(fleet_of(Children(tuple(stable)), s.status.first_slot), Fleet(tuple(new)), Fleet(tuple(abandoned)))


def pieces_of(
    group: ChildGroup, cuts: tuple[Cut, ...], *, in_use: bool
) -> tuple[list[tuple[Left, ChildGroup]], ChildGroup | None]:
    """(what is left of something, the others)."""
    pieces: list[tuple[Left, ChildGroup]] = []
    rest: ChildGroup | None = group
    for cut in cuts:
        piece, rest = below(rest, cut.slot) if rest is not None else (None, None)
        pieces += [(cut.left, piece)] if piece is not None else []
    if cuts and rest is not None and not rest.oldest and not in_use:
        # Nothing of this template is made now, so those that are not listed are no newer.
        return [*pieces, (cuts[-1].left, rest)], None
    return pieces, rest


def below(group: ChildGroup, slot: int) -> tuple[ChildGroup | None, ChildGroup | None]:
    """(those of smaller slots, the others). Only the listed ones are looked at: in a larger group the rest follows as
    the oldest go."""
    old = tuple(child for child in group.oldest if int(child.slot) < slot)
    kept = tuple(child for child in group.oldest if int(child.slot) >= slot)
    return (
        replace(group, count=len(old), oldest=old) if old else None,
        replace(group, count=group.count - len(old), oldest=kept) if group.count > len(old) else None,
    )


def in_own_cluster(fleet: Fleet) -> Fleet:
    """Without those that are left of another side: no request is sent to them."""
    return Fleet(tuple(group for group in fleet.groups if OTHER_SIDE not in group.template_digest))


def checked_digests(sides: Sides) -> set[str]:
    """Templates whose instances the data plane checks in the Service's own cluster."""
    alive = (group.template_digest for group in sides.stable.groups if group.state in ALIVE)
    return {digest.partition("+")[0] for digest in alive if OTHER_SIDE not in digest}


def remembered_sides(s: ServiceSnapshot) -> ServiceStatus:
    """What a Rollout leaves behind. Promoted: its side is the Service's, and all others are to be replaced. Given up:
    what it made is to go. When it begins: what there is of its template is not its own. Nothing goes back by itself
    from what was judged good."""
    status, spec = s.status, s.spec
    shown, part = status.shown, spec.rollout
    cuts = {digest: kept for digest, known in status.cuts.items() if (kept := still_there(s.children, digest, known))}
    if shown is not None and (part is None or part.rollout_uid != shown.rollout_uid):
        status = msgspec.structs.replace(status, shown=None)
        if shown.template_digest and shown.side != spec.side:
            add_cut(cuts, s, shown.template_digest, Left.ABANDONED)
    if status.wiring and spec.side != status.side:
        mine = shown.template_digest if shown is not None and shown.side == spec.side else ""
        cuts = {digest: tuple(moved(cut) for cut in known) for digest, known in cuts.items()}
        for digest in {str(group.template_digest) for group in s.children.groups} - {mine}:
            add_cut(cuts, s, digest, Left.BEFORE_PROMOTION)
        if mine and mine == spec.template_digest:
            status = msgspec.structs.replace(status, good=mine)
    if status.shown is None and s.part is not None:
        add_cut(cuts, s, s.part.template_digest, Left.HERE)
    return msgspec.structs.replace(status, side=spec.side, cuts=cuts)


def add_cut(cuts: dict[str, tuple[Cut, ...]], s: ServiceSnapshot, digest: str, left: Left) -> None:
    known, slot = cuts.get(digest, ()), next_slot(s)
    is_there = any(group.template_digest == digest for group in s.children.groups)
    if is_there and all(cut.slot < slot for cut in known):
        cuts[digest] = (*known, Cut(slot, left))


def moved(cut: Cut) -> Cut:
    return msgspec.structs.replace(cut, left=Left.BEFORE_PROMOTION) if cut.left is Left.HERE else cut


def still_there(children: Children, digest: str, cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """Those that an instance may be below of."""
    groups = [group for group in children.groups if group.template_digest == digest]
    if any(group.count > len(group.oldest) for group in groups):
        return cuts
    lowest = min((int(child.slot) for group in groups for child in group.oldest), default=None)
    return () if lowest is None else tuple(cut for cut in cuts if lowest < cut.slot)
