"""The store as the engine and the use cases see it. Synchronous: called in the one writer thread (every method that
says *write*) or in a reader thread (*read*); the simulation calls it inline. Rows of the database never leave it.

Fencing: `commit` writes a row only where (uid, lease_token, resource_version) all match. Zero rows means stop, quietly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

from spinyard.core.chain import Record, RecordDraft
from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.observed import Children, Held, ObjectBrief, Peer, PoolView, Starts, Unknown
from spinyard.core.plan import BindMember, Plan, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, ObjectSpec, TemplateSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Lease:
    uid: Uid
    token: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A plan for a row as it was observed. `release`: give the lease back in the same statement, due at plan.wake_at
    (or at once when wake_seq moved meanwhile). `owner_wake_seconds`: how long its owner's wake may be put off
    (debounce)."""

    row: ObjectRow
    plan: Plan
    release: bool
    actor: str = "engine"


@dataclass(frozen=True, slots=True)
class Committed:
    """Applied. `row` is the row after the commit (same lease unless released)."""

    row: ObjectRow
    commit_seq: int


@dataclass(frozen=True, slots=True)
class Stale:
    """The row changed under us, or the lease is not ours any more: nothing was written."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A reservation was refused: nothing of this row was written. `why` names scope, limit and current sum."""

    why: str


CommitResult = Committed | Stale | Refused


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object with everything a view may show."""

    row: ObjectRow
    annotations: Mapping[str, str]
    why: str
    """the sentence of its last plan"""
    reason: str
    wake_at: float | None
    attempts_until: float = 0.0
    finished_at: float | None = None
    commit_seq: int = 0
    state_since: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredEvent:
    commit_seq: int
    index: int
    """order within the commit; (commit_seq, index) is unique and ordered"""
    at: float
    uid: Uid
    kind: Kind
    namespace: str
    name: str
    owner_uid: Uid | None
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    actor: str
    state: str
    """the object's state after this commit"""


@dataclass(frozen=True, slots=True)
class NewObject:
    uid: Uid
    kind: Kind
    namespace: str
    name: str
    spec: ObjectSpec
    state: str
    status: bytes
    template_digest: Digest = Digest("")
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    wake: bool = True
    """False for kinds that nobody drives (Template), and for what has nothing to decide before `due_at`"""
    due_at: float | None = None
    owner_uid: Uid | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An Idempotency-Key, bound to an object. `fingerprint` is the hash of method, path and body."""

    key: str
    fingerprint: str
    uid: Uid
    response: bytes
    created_at: float


class Transaction(Protocol):
    """One write transaction of a use case: everything or nothing, one commit_seq for all of it. Reads see its
    writes."""

    @property
    def now(self) -> float: ...

    def find(self, kind: Kind, namespace: str, name: str) -> StoredObject | None:
        """The live (not finished) object of that name, or else None. Like all here but `find_uid` and `update` without
        its resources and reservations."""
        ...

    def find_uid(self, uid: Uid) -> StoredObject | None: ...

    def select(
        self,
        kind: Kind | None,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        owner_uid: Uid | None = None,
        finished: bool | None = False,
        after: str = "",
        limit: int = 200,
        newest_first: bool = False,
    ) -> Sequence[StoredObject]:
        """Ordered by (namespace, name, uid); `after` is the last "namespace/name/uid" of the page before.
        `newest_first`: by the time they were made, and there is no page after. `finished` None: both. With labels
        all must match."""
        ...

    def changed(
        self, kind: Kind, *, namespace: str | None = None, after: tuple[int, str], limit: int = 200
    ) -> Sequence[StoredObject]:
        """Objects whose (commit_seq, uid) is after `after`, in that order, finished ones too: what a watch sends. Every
        commit that changes anything a view may show sets the row's commit_seq; taking or extending a lease does not."""
        ...

    def insert(self, new: NewObject, *, actor: str, why: str) -> StoredObject:
        """Writes event Created. Raises Conflict(already_exists) when a live object of that kind and name exists."""
        ...

    def update(
        self,
        uid: Uid,
        *,
        actor: str,
        why: str,
        reason: str,
        spec: ObjectSpec | None = None,
        template_digest: Digest | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        delete: bool = False,
        force: bool = False,
        paused: bool | None = None,
        finish: bool = False,
    ) -> StoredObject:
        """None means unchanged. A changed spec raises generation; any change raises resource_version and wake_seq and
        makes the row due now. `delete` is monotone. Writes an event with `reason` and `why`. `finish`: for kinds that
        nobody drives (a deleted Template): the record is finished at once, and its name is free."""
        ...

    def put_template(self, digest: Digest, template: TemplateSpec) -> None: ...

    def template(self, digest: Digest) -> TemplateSpec | None: ...

    def find_key(self, key: str) -> KeyRecord | None: ...

    def put_key(self, record: KeyRecord) -> None: ...

    def bind_member(self, claim: Uid, change: BindMember) -> Uid | None:
        """The member that now belongs to the claim, or None when there was none to have (or it has one)."""
        ...

    def claims_ahead(self, claim: Uid) -> int:
        """How many claims of the same pool have waited longer for a member."""
        ...

    def claim_counts(
        self, pool: Uid, *, since: float, step_seconds: float
    ) -> Sequence[tuple[int, Literal["warm", "cold", "failed", "waiting"], int]]:
        """(step, what became of them, how many) of the pool's claims made since then, by kept records; step 0 begins at
        `since`. A claim that was released before it had a member is not counted."""
        ...

    def wake_parents(self, *, namespace: str = "", kind: Kind | None = None, name: str = "") -> None:
        """What starts others (Services, Jobs, WarmPools, Rollouts) looks again: one that is named at once, many at a
        pace of 400 a second. Empty: all."""
        ...

    def close_resource(self, key: ResourceKey, *, actor: str, why: str) -> None:
        """For the sweep and for retained directories that a person removed."""
        ...

    def event(self, uid: Uid, type: Literal["Normal", "Warning"], reason: str, message: str, *, actor: str) -> None: ...

    def record(self, uid: Uid, draft: RecordDraft, actor: str) -> None:
        """Appends to the object's hash chain (core.chain). Raises NotFound, and InvalidInput when the body is too
        long. What a plan does is recorded by its commit (Plan.records); this is for what a person did."""
        ...


class Store(Protocol):
    # -- engine ----------------------------------------------------------------------------------------------------

    def claim(self, *, holder: str, now: float, lease_seconds: float, limit: int) -> Sequence[ObjectRow]:
        """*write*. Rows that are due (wake_at <= now), not finished, of known kinds, with no live lease; oldest wake
        first. Each gets lease_token + 1 and lease_until. Loaded with template, open resources and reservations."""
        ...

    def extend(self, leases: Sequence[Lease], *, until: float) -> Sequence[Lease]:
        """*write*. Returns those that are still ours."""
        ...

    def reload(self, lease: Lease, known: ObjectRow | None = None) -> ObjectRow | None:
        """*read*. The row as it is now, or None when the lease is not ours any more. `known` itself, when nobody has
        changed or woken it since."""
        ...

    def release(self, leases: Sequence[tuple[Lease, int, float | None]], *, now: float) -> None:
        """*write*. (lease, wake_seq as observed, wake_at): gives the lease back without any other change; due at once
        when wake_seq has moved (a parent: after its pause). None: never due by itself."""
        ...

    def commit(self, batch: Sequence[Commit], *, now: float) -> Sequence[CommitResult]:
        """*write*. One transaction, one commit_seq, one result per commit, in order. A row that fails for a reason of
        its own (refused, poisoned) harms only itself."""
        ...

    def wake(self, uids: Sequence[Uid], *, now: float) -> None:
        """*write*. Due now, wake_seq + 1. Unknown or finished uids are ignored."""
        ...

    def catch_up(self, *, now: float) -> None:
        """*write*. At the start of a server: hints were missed, so every unfinished row becomes due once: what was in
        hand or due at once, what was at rest at a pace of 400 a second. Leases of a store that only one process may
        open at a time are given back (their tokens stay: a zombie is still fenced). Times of starts and failures that a
        clock that went back left in the future are brought back to now."""
        ...

    def children(self, owner: Uid) -> Children:
        """*read*."""
        ...

    def brief(self, kind: Kind, namespace: str, name: str) -> ObjectBrief | None:
        """*read*. The newest object of that name, a finished one only when no live one exists."""
        ...

    def pool(self, uid: Uid, *, warm_state: str) -> PoolView | None:
        """*read*. None when there is no live pool of that uid."""
        ...

    def peer(self, uid: Uid) -> Peer | Unknown | None:
        """*read*. Another object, as long as it is not finished. Unknown: it is there, and this code cannot read it."""
        ...

    def held(self, namespace: str, kind: Kind, name: str, *, now: float) -> Held | None:
        """*read*. The hold in force over that object at `now`, or None. Of several, the one that lasts longest."""
        ...

    def starts(self, template_digest: Digest, scope: str, *, limit: int) -> Starts:
        """*read*. The last `limit` starts of the template that came to an end, and who holds the reservation of
        `scope` (its name is the uid of the trial)."""
        ...

    def next_due(self, *, now: float) -> float | None:
        """*read*. The smallest wake_at of any claimable row."""
        ...

    # -- sweep and data plane ----------------------------------------------------------------------------------------

    def resources(self, keys: Sequence[ResourceKey]) -> Mapping[ResourceKey, Resource]:
        """*read*. Ledger rows, closed ones too. A key that was never written is not in the answer."""
        ...

    def open_resources(self, *, provider: str | None = None, after: str = "", limit: int = 1000) -> Sequence[Resource]:
        """*read*. Not closed, by key; with stored_want. For the data plane at start and for the sweep."""
        ...

    def open_keys(
        self, *, provider: str, after: str = "", limit: int = 5000
    ) -> Sequence[tuple[ResourceKey, bool, float]]:
        """*read*. (key, wanted, created_at) of what open_resources lists: the sweep compares all of them."""
        ...

    # -- use cases ---------------------------------------------------------------------------------------------------

    def transact(self, work: Callable[[Transaction], T], *, now: float) -> T:
        """*write*. Runs `work` in one transaction; an exception rolls all of it back."""
        ...

    def transact_many(self, works: Sequence[Callable[[Transaction], T]], *, now: float) -> Sequence[T]:
        """*write*. All of them in one durable transaction, each with a commit_seq of its own; an exception of any rolls
        all of it back, so that they can be tried one by one."""
        ...

    def read(self, work: Callable[[Transaction], T], *, now: float) -> T:
        """*read*. The same view, writes forbidden (SystemFailure)."""
        ...

    def events(
        self,
        *,
        after: tuple[int, int] = (0, 0),
        uid: Uid | None = None,
        owner_uid: Uid | None = None,
        namespace: str | None = None,
        limit: int = 200,
        newest_first: bool = False,
    ) -> Sequence[StoredEvent]:
        """*read*. In order of (commit_seq, index), strictly after `after`. Raises Expired when `after` is older than
        the pruned history (and not (0, 0))."""
        ...

    def records(self, uid: Uid, *, after: int = 0, limit: int = 200) -> Sequence[Record]:
        """*read*. The object's hash chain in order, those with seq > `after`. They stay as long as the object does."""
        ...

    def last_record(self, uid: Uid) -> tuple[int, str]:
        """*read*. (seq, hash) of the last record that was written, remembered apart from it; (0, "") for none."""
        ...

    def commit_seq(self) -> int:
        """*read*. The newest."""
        ...

    def counts(self) -> Mapping[tuple[str, str], int]:
        """*read*. Unfinished objects by (kind, state), for metrics."""
        ...

    def prune(self, *, now: float, finished_keep_max: int, events_keep_max: int, events_keep_seconds: float) -> int:
        """*write*. Finished records past their keep time or count (with their closed resources), old events, old keys,
        templates nobody refers to. Bounded work per call; returns how many rows went."""
        ...

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def installation(self) -> str:
        """This installation's id, made at the first open."""
        ...

    def backup(self, path: str) -> None:
        """*write*. A consistent copy (SQLite: VACUUM INTO or the backup API) at path, which must not exist."""
        ...

    def close(self) -> None: ...
