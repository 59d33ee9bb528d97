"""What a decision produces: one frozen value, committed as a whole or not at all.

Order of effects: everything here is durable before the first action runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spinyard.core.actions import Action
from spinyard.core.chain import RecordDraft
from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.spec import ClaimPart, Kind, ObjectSpec, RolloutPart
from spinyard.core.want import Want


@dataclass(frozen=True, slots=True)
class Resource:
    """A ledger row: one external thing, written before it exists, closed only on Absent.

    `wanted` False means: it shall be gone. `stored_want` is kept only where the world is rebuilt from the ledger.
    `absent_at`: the first Absent observation since it was unwanted. `gone_after_seconds`: how far apart two Absent
    observations must be before it counts as gone; 0: one suffices.
    """

    key: ResourceKey
    owner: Uid
    provider: str
    kind: str
    wanted: bool
    stored_want: Want | None = None
    gone_after_seconds: float = 0.0
    absent_at: float | None = None
    closed_at: float | None = None
    retained: bool = False
    created_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """A live reservation held by an object: a number of a range (`slot`), or an amount of a scope."""

    scope: str
    name: str
    amount: int = 1
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Asked for in a plan: refused, with the whole row, when the sum in `scope` would pass `limit`.

    With `low`/`high` set, a free number of that range is taken (`slot`); `exactly` asks for that one.
    """

    scope: str
    name: str
    amount: int = 1
    limit: int | None = None
    low: int | None = None
    high: int | None = None
    exactly: int | None = None


@dataclass(frozen=True, slots=True)
class CreateChild:
    """Unique by uid, which is derived from (owner, slot, generation)."""

    uid: Uid
    kind: Kind
    name: str
    slot: str
    spec: ObjectSpec
    template_digest: Digest
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Sets the child's deletion wish, if it is not set and the child is still ours: a pool's member that was claimed
    meanwhile belongs to the claim. `why` becomes its event. `force`: let go of what cannot be removed."""

    uid: Uid
    why: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class WakeChild:
    """It may go on: due now. Any object: a claimed member tells the pool that its place is free."""

    uid: Uid


@dataclass(frozen=True, slots=True)
class BindMember:
    """Take the oldest child of `pool` that is in `state` and of `template_digest`: in one conditional update it becomes
    ours, with `part` in its spec. When there is none, nothing happens; the next pass sees whether it has a child."""

    pool: Uid
    state: str
    template_digest: Digest
    part: ClaimPart


@dataclass(frozen=True, slots=True)
class SetRollout:
    """`part` becomes the `rollout` of the Service, if it lives, is not being deleted, is still of `old_digest` and has
    no other Rollout's part; else nothing happens, and the next pass sees it. The Service is due at once."""

    service: Uid
    old_digest: Digest
    part: RolloutPart


@dataclass(frozen=True, slots=True)
class EndRollout:
    """Takes the part of that Rollout out of the Service. `promote`: what it rolled out becomes the Service's template
    and its side the Service's, in the same update. Nothing happens when the part is not there any more."""

    service: Uid
    rollout_uid: Uid
    promote: bool


ChildChange = CreateChild | DeleteChild | WakeChild | BindMember | SetRollout | EndRollout


@dataclass(frozen=True, slots=True)
class EventDraft:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`status` is the domain's status, encoded. `wake_at` None: only when somebody asks. `why` becomes the event when
    the state changes. `resources` are upserts of ledger rows by key. `finished`: terminal, the record stays until its
    retention ends; all reservations are returned in the same commit."""

    state: str
    status: bytes
    why: str
    reason: str
    wake_at: float | None
    actions: tuple[Action, ...] = ()
    resources: tuple[Resource, ...] = ()
    requires: tuple[Reserve, ...] = ()
    returns: tuple[Reservation, ...] = ()
    """reservations of its own that are given back now; all others when it is finished"""
    children: tuple[ChildChange, ...] = ()
    events: tuple[EventDraft, ...] = ()
    records: tuple[RecordDraft, ...] = ()
    """for the object's hash chain, in the same commit"""
    finished: bool = False
    keep_seconds: float = 3600.0
    """how long a finished record is kept"""
    unheard: bool = False
    """the owner need not look: the new state is the same to it"""
    failed_at: float | None = None
    served_at: float | None = None
    outcome: str = ""
    """an ErrorClass, or Succeeded, or empty; with failed_at and served_at it is what a parent sees of its children.
    Of these three, empty or None means: as before."""
