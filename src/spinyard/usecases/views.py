"""What is shown: objects with their templates, found by name, listed in pages, or as they changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from spinyard.core.ids import Uid
from spinyard.core.spec import Kind, TemplateSpec
from spinyard.errors import InvalidInput, NotFound
from spinyard.ports.store import Store, StoredObject, Transaction
from spinyard.spin.status import UP, State
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.rollouts import find_rollout, may_roll_out, running_of, running_rollouts

LABEL = re.compile(r"([A-Za-z0-9._/-]+)\s*==?\s*([A-Za-z0-9._-]*)")
SETTLED: Mapping[Kind, frozenset[str]] = {
    Kind.SERVICE: frozenset({"available"}),
    Kind.JOB: frozenset({"succeeded", "failed"}),
    Kind.SPIN: frozenset({"ready", "serving"}),
    Kind.TEMPLATE: frozenset({"active"}),
    Kind.WARM_POOL: frozenset({"ready"}),
    Kind.CLAIM: frozenset({"ready", "failed"}),
    Kind.ROLLOUT: frozenset({"succeeded", "rolled_back"}),
    Kind.SPINOUT: frozenset({"completed", "held", "rolled_back", "abandoned"}),
}


MEMBERS_MAX = 8
"""spins looked at of one claim: those it was given in turn and that are not gone yet"""
HELD = UP | {State.WARM, State.PROVISIONING, State.BOOTSTRAPPING, State.REGISTERING}


@dataclass(frozen=True, slots=True)
class ObjectView:
    """`status` is the domain's own, as plain data. Of a Claim: `member`, the instance that it holds, and
    `place_in_queue`, from 1, when it waits for one. Of a Service: the `rollout` that runs."""

    stored: StoredObject
    template: TemplateSpec | None
    status: Mapping[str, Any]
    member: StoredObject | None = None
    place_in_queue: int | None = None
    rollout: StoredObject | None = None

    @property
    def id(self) -> ObjectId:
        row = self.stored.row
        return ObjectId(row.kind, row.namespace, row.name)

    @property
    def is_finished(self) -> bool:
        return self.stored.finished_at is not None


@dataclass(frozen=True, slots=True)
class PageView:
    """`next` is the token of the next page, "" on the last one."""

    items: tuple[ObjectView, ...]
    next: str


@dataclass(frozen=True, slots=True)
class ListRequest:
    """`finished` None: both."""

    kind: Kind
    namespace: str | None = None
    labels: Mapping[str, str] | None = None
    owner_uid: Uid | None = None
    finished: bool | None = False
    after: str = ""
    limit: int = 200


def view(tx: Transaction, stored: StoredObject) -> ObjectView:
    digest = stored.row.template_digest
    template = stored.row.template or (tx.template(digest) if digest else None)
    shown = with_member(tx, ObjectView(stored, template, status_of(stored)))
    return replace(shown, rollout=running_of(tx, stored))


def with_member(tx: Transaction, found: ObjectView) -> ObjectView:
    """Of a Claim that lives: what it holds, or its place. Anything else as it is."""
    row = found.stored.row
    if row.kind is not Kind.CLAIM or found.is_finished:
        return found
    members = [m for m in tx.select(Kind.SPIN, owner_uid=row.uid, limit=MEMBERS_MAX) if m.row.state in HELD]
    if members:
        return replace(found, member=members[0])
    waits = row.state == "pending" and row.delete_at is None
    return replace(found, place_in_queue=tx.claims_ahead(row.uid) + 1) if waits else found


def list_page(tx: Transaction, request: ListRequest) -> PageView:
    found = tx.select(
        request.kind,
        namespace=request.namespace,
        labels=request.labels,
        owner_uid=request.owner_uid,
        finished=request.finished,
        after=request.after,
        limit=request.limit,
    )
    row = found[-1].row if len(found) == request.limit else None
    return PageView(_views(tx, found), f"{row.namespace}/{row.name}/{row.uid}" if row else "")


def changes_page(
    tx: Transaction, kind: Kind, *, namespace: str | None, after: tuple[int, str], limit: int
) -> tuple[ObjectView, ...]:
    return _views(tx, tx.changed(kind, namespace=namespace, after=after, limit=limit))


def get_view(store: Store, id: ObjectId, *, now: float, deleted: bool = False) -> ObjectView:
    """The live one; else the newest finished record, when nobody asked for its deletion or with `deleted`.

    Raises NotFound.
    """
    found = find_view(store, id, now=now, deleted=deleted)
    if found is None:
        raise not_found(id)
    return found


def get_named(store: Store, id: ObjectId, *, now: float, deleted: bool = False) -> ObjectView:
    """As `get_view`; a Rollout may be named by its Service too: its running or else newest one."""
    try:
        return get_view(store, id, now=now, deleted=deleted)
    except NotFound:
        if id.kind is not Kind.ROLLOUT:
            raise
    return store.read(lambda tx: view(tx, find_rollout(tx, id.namespace, id.name)), now=now)


def find_view(store: Store, id: ObjectId, *, now: float, deleted: bool = False) -> ObjectView | None:
    live = store.read(lambda tx: _find_live(tx, id), now=now)
    if live is not None:
        return live
    brief = store.brief(id.kind, id.namespace, id.name)
    if brief is None:
        return None
    record = store.read(lambda tx: _find_uid(tx, brief.uid), now=now)
    if record is None or (is_deleted(record.stored) and not deleted):
        return None
    return record


def get_live(tx: Transaction, id: ObjectId) -> StoredObject:
    """Raises NotFound."""
    found = tx.find(id.kind, id.namespace, id.name)
    if found is None:
        raise not_found(id)
    return found


def is_deleted(stored: StoredObject) -> bool:
    return stored.finished_at is not None and stored.row.delete_at is not None


def is_settled(found: ObjectView) -> bool:
    """What `?wait` waits for: a Service available (or gone back) at this generation; a Job ended; a Spin up."""
    row = found.stored.row
    if found.is_finished or row.kind is Kind.TEMPLATE:
        return True
    if row.kind is not Kind.SPIN and int(found.status.get("observed_generation", 0)) < row.generation:
        return False
    went_back = any(c.get("reason") == "RolledBack" for c in conditions(found.status))
    return went_back or row.state in SETTLED[row.kind]


def conditions(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = status.get("conditions", ())
    return [c for c in found if isinstance(c, Mapping)] if isinstance(found, list | tuple) else []


def not_found(id: ObjectId) -> NotFound:
    return NotFound(
        f"There is no {id.kind} {id.name!r} in namespace {id.namespace!r}.",
        next_step=f"List what there is: `spinyard get {id.kind.lower()}s -n {id.namespace}`.",
    )


def parse_labels(text: str) -> dict[str, str]:
    """`a=b,c=d`. Raises InvalidInput."""
    out: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        found = LABEL.fullmatch(part)
        if found is None:
            raise InvalidInput(
                f"The label selector {part[:100]!r} is not of the form key=value.",
                next_step="Write it as `key=value,other=value`; other operators do not exist.",
            )
        out[found.group(1)] = found.group(2)
    return out


def _find_live(tx: Transaction, id: ObjectId) -> ObjectView | None:
    found = tx.find(id.kind, id.namespace, id.name)
    return view(tx, found) if found else None


def _find_uid(tx: Transaction, uid: Uid) -> ObjectView | None:
    found = tx.find_uid(uid)
    return view(tx, found) if found else None


def _views(tx: Transaction, found: Sequence[StoredObject]) -> tuple[ObjectView, ...]:
    """Many objects share few templates: each is read once."""
    templates: dict[str, TemplateSpec | None] = {"": None}
    out = []
    for stored in found:
        digest = stored.row.template_digest
        if digest not in templates:
            templates[digest] = stored.row.template or tx.template(digest)
        out.append(with_member(tx, ObjectView(stored, templates[digest], status_of(stored))))
    return _with_rollouts(tx, out)


def _with_rollouts(tx: Transaction, found: Sequence[ObjectView]) -> tuple[ObjectView, ...]:
    """All running ones are read once, and only when there can be one."""
    if not any(may_roll_out(one.stored) for one in found):
        return tuple(found)
    namespaces = {one.stored.row.namespace for one in found}
    running = running_rollouts(tx, namespaces.pop() if len(namespaces) == 1 else None)
    return tuple(replace(one, rollout=running.get(one.stored.row.uid)) for one in found)


def status_of(stored: StoredObject) -> Mapping[str, Any]:
    """A status that a newer version wrote in another shape is not shown rather than refused."""
    try:
        decoded = msgspec.json.decode(stored.row.status) if stored.row.status else {}
    except msgspec.DecodeError:
        return {}
    return decoded if isinstance(decoded, dict) else {}
