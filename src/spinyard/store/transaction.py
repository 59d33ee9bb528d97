"""What use cases do in one transaction. Intent is written here; status is written by the lease holder only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from spinyard.core.chain import RECORD_BYTES_MAX, RecordDraft
from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.plan import BindMember, Reservation, Resource
from spinyard.core.spec import Kind, ObjectSpec, TemplateSpec
from spinyard.errors import Conflict, InvalidInput, KeyReused, NotFound, SystemFailure
from spinyard.ports.store import KeyRecord, NewObject, StoredObject
from spinyard.store import holds, pools, records
from spinyard.store.codec import (
    STORED_COLUMNS,
    Templates,
    Unreadable,
    json_text,
    label_pairs,
    row_from,
    stored_from,
)
from spinyard.store.commit_sql import NEXT_SEQ
from spinyard.store.leases import LeaseStatements, load_attached
from spinyard.store.link import Link, Sql, insert_into
from spinyard.store.schema import keys, labels, objects, resources

_STORED = [objects.c[name] for name in STORED_COLUMNS.split(", ")]
PAGE_MAX = 10_000

# Made once: what every use case runs costs more to put together than to execute.
_ONE = f"SELECT {STORED_COLUMNS} FROM objects WHERE "  # noqa: S608 -- our own names
_FIND = Sql(f"{_ONE} kind = :kind AND namespace = :namespace AND name = :name AND finished = 0")
_FIND_UID = Sql(f"{_ONE} uid = :uid")
_CHILDREN = Sql(
    f"{_ONE} owner_uid = :owner_uid AND kind = :kind AND finished = 0 ORDER BY namespace, name, uid LIMIT :limit"
)
_LIVING = Sql(f"{_ONE} kind = :kind AND finished = 0 ORDER BY namespace, name, uid LIMIT :limit")
_NEXT_SEQ = Sql(NEXT_SEQ)
_INSERT = Sql(
    insert_into(
        "objects",
        "uid, kind, namespace, name, state, template_digest, owner_uid, spec, status, labels, annotations, wake_seq, "
        "wake_at, created_at, state_since, reason, why, commit_seq",
    )
)
_INSERT_EVENT = Sql(
    insert_into(
        "events",
        "commit_seq, idx, at, uid, kind, namespace, name, owner_uid, type, reason, message, actor, state",
    )
)
_ABOUT = Sql("SELECT kind, namespace, name, owner_uid, state FROM objects WHERE uid = :uid")
_FORGET_LABELS = Sql("DELETE FROM labels WHERE uid = :uid")
_HAS_TEMPLATE = Sql("SELECT 1 FROM templates WHERE digest = :digest")
_INSERT_TEMPLATE = Sql(insert_into("templates", "digest, spec, created_at"))
_INSERT_LABEL = Sql(insert_into("labels", "uid, key, value"))
_EXISTS = Sql("SELECT 1 FROM objects WHERE kind = :kind AND namespace = :namespace AND name = :name AND finished = 0")


class About(NamedTuple):
    kind: str
    namespace: str
    name: str
    owner_uid: str | None
    state: str


class SqlTransaction:
    """One commit_seq, taken at the first write; event indexes count up within it."""

    def __init__(
        self,
        connection: Link,
        statements: LeaseStatements,
        cache: Templates,
        *,
        now: float,
        driven: frozenset[str],
        writable: bool,
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._pools = statements.pools
        self._cache = cache
        self._now = now
        self._driven = driven
        self._writable = writable
        self._seq = 0
        self._index = 0

    @property
    def now(self) -> float:
        return self._now

    # -- reads ---------------------------------------------------------------------------------------------------------

    def find(self, kind: Kind, namespace: str, name: str) -> StoredObject | None:
        wanted = {"kind": str(kind), "namespace": namespace, "name": name}
        return next(iter(self._load(_FIND, wanted, whole=False)), None)

    def find_uid(self, uid: Uid) -> StoredObject | None:
        return next(iter(self._load(_FIND_UID, {"uid": uid})), None)

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
        plain = not (namespace or labels or after or newest_first)
        if kind is not None and finished is False and plain:
            wanted = {"kind": str(kind), "owner_uid": owner_uid, "limit": min(limit, PAGE_MAX)}
            return self._load(_LIVING if owner_uid is None else _CHILDREN, wanted, whole=False)
        c = objects.c
        kinds = [str(kind)] if kind is not None else [str(k) for k in Kind]
        query = sa.select(*_STORED).where(c.kind.in_(kinds))
        if namespace is not None:
            query = query.where(c.namespace == namespace)
        if owner_uid is not None:
            query = query.where(c.owner_uid == owner_uid)
        if finished is not None:
            query = query.where(c.finished == (1 if finished else 0))
        for key, value in sorted((labels or {}).items()):
            query = query.where(c.uid.in_(_uids_labelled(key, value)))
        if after:
            parts = after.split("/")
            if len(parts) != 3:
                raise InvalidInput(
                    f"not a place in a list: {after!r}", next_step="use the `continue` value of the page before"
                )
            query = query.where(sa.tuple_(c.namespace, c.name, c.uid) > sa.tuple_(*parts))
        order = (c.created_at.desc(), c.uid) if newest_first else (c.namespace, c.name, c.uid)
        return self._load(query.order_by(*order).limit(min(limit, PAGE_MAX)), whole=False)

    def changed(
        self, kind: Kind, *, namespace: str | None = None, after: tuple[int, str], limit: int = 200
    ) -> Sequence[StoredObject]:
        c = objects.c
        query = sa.select(*_STORED).where(c.kind == str(kind), sa.tuple_(c.commit_seq, c.uid) > sa.tuple_(*after))
        if namespace is not None:
            query = query.where(c.namespace == namespace)
        return self._load(query.order_by(c.commit_seq, c.uid).limit(min(limit, PAGE_MAX)), whole=False)

    def template(self, digest: Digest) -> TemplateSpec | None:
        return self._cache.get(self._connection, digest)

    def find_key(self, key: str) -> KeyRecord | None:
        found = self._connection.execute(sa.select(keys).where(keys.c.key == key)).one_or_none()
        if found is None:
            return None
        return KeyRecord(
            key=found.key,
            fingerprint=found.fingerprint,
            uid=Uid(found.uid),
            response=bytes(found.response),
            created_at=found.created_at,
        )

    # -- writes --------------------------------------------------------------------------------------------------------

    def insert(self, new: NewObject, *, actor: str, why: str) -> StoredObject:
        seq = self._begin_write()
        taken = {"kind": str(new.kind), "namespace": new.namespace, "name": new.name}
        if self._connection.execute(_EXISTS, taken).first() is not None:
            raise Conflict(
                f"{new.kind} {new.namespace}/{new.name} exists already",
                code="already_exists",
                next_step="apply a change to it, or choose another name",
            )
        self._connection.execute(
            _INSERT,
            {
                "uid": new.uid,
                "kind": str(new.kind),
                "namespace": new.namespace,
                "name": new.name,
                "state": new.state,
                "template_digest": new.template_digest,
                "owner_uid": new.owner_uid,
                "spec": json_text(new.spec),
                "status": new.status.decode(),
                "labels": json_text(label_pairs(new.labels)),
                "annotations": json_text(dict(new.annotations)),
                "wake_seq": 1 if new.wake else 0,
                "wake_at": self._now if new.wake else new.due_at,
                "created_at": self._now,
                "state_since": self._now,
                "reason": "Created",
                "why": why,
                "commit_seq": seq,
            },
        )
        if new.labels:
            self._put_labels(new.uid, new.labels)
        about = About(str(new.kind), new.namespace, new.name, new.owner_uid, new.state)
        self._write_event(new.uid, about, "Normal", "Created", why, actor)
        return self._load(_FIND_UID, {"uid": new.uid}, whole=False)[0]

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
        """Nothing changed: no event either."""
        seq = self._begin_write()
        before = self._get(uid)
        row = before.row
        if before.finished_at is not None:
            raise NotFound(f"{row.kind} {row.namespace}/{row.name} is gone", next_step="create it anew")
        changes: dict[str, Any] = {}
        if spec is not None and spec != row.spec:
            changes["spec"] = json_text(spec)
            changes["generation"] = row.generation + 1
        if template_digest is not None and template_digest != row.template_digest:
            changes["template_digest"] = template_digest
        if labels is not None and label_pairs(labels) != row.labels:
            changes["labels"] = json_text(label_pairs(labels))
        if annotations is not None and dict(annotations) != dict(before.annotations):
            changes["annotations"] = json_text(dict(annotations))
        if delete and row.delete_at is None:
            changes |= {"delete_at": self._now, "deleting": 1}
        if force and not row.force:
            changes["force"] = 1
        if paused is not None and paused != row.paused:
            changes["paused"] = 1 if paused else 0
        if finish:
            assert row.kind not in self._driven, "the end of a driven object is its lease holder's to commit"
            changes |= {"finished": 1, "finished_at": self._now, "keep_until": self._now, "wake_at": None}
        if not changes:
            return before
        if row.kind in self._driven:
            due = self._now if before.wake_at is None else min(before.wake_at, self._now)
            changes |= {"wake_seq": objects.c.wake_seq + 1, "wake_at": due}
        changes |= {"resource_version": objects.c.resource_version + 1, "commit_seq": seq}
        self._connection.execute(objects.update().where(objects.c.uid == uid).values(changes))
        if "labels" in changes and labels is not None:
            self._put_labels(uid, labels)
        self.event(uid, "Normal", reason, why, actor=actor)
        return self._get(uid)

    def put_template(self, digest: Digest, template: TemplateSpec) -> None:
        self._begin_write()
        if self._connection.execute(_HAS_TEMPLATE, {"digest": digest}).first() is None:
            template_row = {"digest": digest, "spec": json_text(template), "created_at": self._now}
            self._connection.execute(_INSERT_TEMPLATE, template_row)

    def put_key(self, record: KeyRecord) -> None:
        """The same key and fingerprint again replaces the response."""
        self._begin_write()
        before = self.find_key(record.key)
        values = {"uid": record.uid, "response": record.response}
        if before is None:
            self._connection.execute(
                keys.insert().values(
                    key=record.key, fingerprint=record.fingerprint, created_at=record.created_at, **values
                )
            )
            return
        if before.fingerprint != record.fingerprint:
            raise KeyReused(
                "this Idempotency-Key was used with another request", next_step="use a new key for a new request"
            )
        self._connection.execute(keys.update().where(keys.c.key == record.key).values(values))

    def bind_member(self, claim: Uid, change: BindMember) -> Uid | None:
        seq = self._begin_write()
        bound = pools.bind(self._connection, self._pools, claim, change, seq=seq, now=self._now)
        if bound is None:
            return None
        # The pool counts one less now, and fills up again: once for all that are taken within its pause.
        pool = json_text([(change.pool, 0, 0)])
        self._connection.execute(self._statements.wake_owners, {"rows": pool, "now": self._now})
        about = About(bound.kind, bound.namespace, bound.name, claim, bound.state)
        self._write_event(Uid(bound.uid), about, "Normal", "Claimed", f"claimed by {change.part.claim_name}", "claim")
        return Uid(bound.uid)

    def claims_ahead(self, claim: Uid) -> int:
        return pools.claims_ahead(self._connection, self._pools, claim)

    def claim_counts(
        self, pool: Uid, *, since: float, step_seconds: float
    ) -> Sequence[tuple[int, Literal["warm", "cold", "failed", "waiting"], int]]:
        return pools.claim_counts(self._connection, self._pools, pool, since, step_seconds)

    def wake_parents(self, *, namespace: str = "", kind: Kind | None = None, name: str = "") -> None:
        self._begin_write()
        holds.wake_parents(self._connection, namespace=namespace, kind=kind, name=name, now=self._now)

    def close_resource(self, key: ResourceKey, *, actor: str, why: str) -> None:
        """What was retained is no longer: the closed row stays as any other, until it is pruned."""
        seq = self._begin_write()
        c = resources.c
        owner = self._connection.execute(
            resources.update()
            .where(c.key == key, c.closed_at.is_(None) | (c.retained == 1))
            .values(closed_at=sa.func.coalesce(c.closed_at, self._now), wanted=0, retained=0, commit_seq=seq)
            .returning(c.owner_uid)
        ).scalar_one_or_none()
        if owner is not None:
            self._connection.execute(self._statements.wake, {"uids": json_text([owner]), "now": self._now})
            self._tell(Uid(owner), "Normal", "ResourceClosed", f"{key}: {why}", actor)

    def event(self, uid: Uid, type: Literal["Normal", "Warning"], reason: str, message: str, *, actor: str) -> None:
        self._begin_write()
        if not self._tell(uid, type, reason, message, actor):
            raise _not_found(uid)

    def record(self, uid: Uid, draft: RecordDraft, actor: str) -> None:
        self._begin_write()
        if self._connection.execute(_ABOUT, {"uid": uid}).first() is None:
            raise _not_found(uid)
        if len(draft.body) > RECORD_BYTES_MAX:
            raise InvalidInput(
                f"a record of {len(draft.body)} bytes in the history of {uid}; at most {RECORD_BYTES_MAX}",
                next_step="shorten the evidence, or name where it is kept",
            )
        records.append(self._connection, uid, (draft,), actor=actor, now=self._now)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _begin_write(self) -> int:
        if not self._writable:
            raise SystemFailure("a write in a read of the store", code="internal")
        if self._seq == 0:
            self._seq = int(self._connection.execute(_NEXT_SEQ).scalar_one())
        return self._seq

    def _get(self, uid: Uid) -> StoredObject:
        found = self.find_uid(uid)
        if found is None:
            raise _not_found(uid)
        return found

    def _load(
        self, query: Sql | sa.Executable, wanted: Mapping[str, object] | None = None, *, whole: bool = True
    ) -> list[StoredObject]:
        records = self._connection.execute(query, wanted or {}).all()
        if not records:
            return []
        kept: Mapping[str, list[Resource]] = {}
        reserved: Mapping[str, list[Reservation]] = {}
        if whole:
            kept, reserved, _ = load_attached(self._connection, self._statements, [record[0] for record in records])
        found = self._cache.find(self._connection, (record[15] for record in records))
        out = []
        for record in records:
            uid = record[0]
            try:
                row = row_from(record, found.get(record[15]), tuple(kept.get(uid, ())), tuple(reserved.get(uid, ())))
            except Unreadable:
                continue
            out.append(stored_from(record, row))
        return out

    def _put_labels(self, uid: Uid, wanted: Mapping[str, str]) -> None:
        self._connection.execute(_FORGET_LABELS, {"uid": uid})
        if wanted:
            self._connection.execute(
                _INSERT_LABEL, [{"uid": uid, "key": key, "value": value} for key, value in sorted(wanted.items())]
            )

    def _tell(self, uid: Uid, type: str, reason: str, message: str, actor: str) -> bool:
        about = self._connection.execute(_ABOUT, {"uid": uid}).one_or_none()
        if about is None:
            return False
        self._write_event(uid, About(*about), type, reason, message, actor)
        return True

    def _write_event(self, uid: Uid, about: About, type: str, reason: str, message: str, actor: str) -> None:
        self._connection.execute(
            _INSERT_EVENT,
            {
                "commit_seq": self._seq,
                "idx": self._index,
                "at": self._now,
                "uid": uid,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "owner_uid": about.owner_uid,
                "type": type,
                "reason": reason,
                "message": message.replace("\x00", "�"),
                "actor": actor,
                "state": about.state,
            },
        )
        self._index += 1


def _uids_labelled(key: str, value: str) -> sa.Select[tuple[str]]:
    return sa.select(labels.c.uid).where(labels.c.key == key, labels.c.value == value)


def _not_found(uid: Uid) -> NotFound:
    return NotFound(f"no object has the uid {uid}", next_step="list the objects again")
