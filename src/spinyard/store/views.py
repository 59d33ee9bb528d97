# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Reads of the engine, the data plane and the watches. Nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.observed import ChildBrief, ChildFailure, ChildGroup, Children, ObjectBrief
from spinyard.core.plan import Resource
from spinyard.core.spec import Kind
from spinyard.errors import Expired
from spinyard.ports.store import StoredEvent
from spinyard.spin.crash_loop import FAILURES_MAX
from spinyard.store.codec import RESOURCE_COLUMNS, json_text, resource_from
from spinyard.store.dialect import Words
from spinyard.store.link import Link, Sql
from spinyard.store.schema import events as events_table

OLDEST_MAX = 16
_KINDS = frozenset(Kind)


class ViewStatements:
    def __init__(self, words: Words) -> None:
        self.groups = Sql(
            "SELECT state, template_digest, deleting, COUNT(*) FROM objects WHERE owner_uid = :owner AND finished = 0 "
            "GROUP BY state, template_digest, deleting ORDER BY state, template_digest, deleting"
        )
        self.oldest = Sql(
            "SELECT uid, slot, created_at FROM objects WHERE owner_uid = :owner AND finished = 0 AND state = :state "
            "AND template_digest = :digest AND deleting = :deleting "
            f"ORDER BY created_at, uid LIMIT {OLDEST_MAX}"
        )
        self.failures = Sql(
            "SELECT uid, template_digest, failed_at, served_at, outcome, failed_why FROM objects "
            f"WHERE owner_uid = :owner AND failed_at IS NOT NULL ORDER BY failed_at DESC, uid LIMIT {FAILURES_MAX}"
        )
        self.served = Sql(
            "SELECT template_digest, MAX(served_at) FROM objects WHERE owner_uid = :owner AND served_at IS NOT NULL "
            "GROUP BY template_digest ORDER BY template_digest"
        )
        self.parent = Sql("SELECT slot_high, finished_children, succeeded_children FROM objects WHERE uid = :owner")
        self.brief = Sql(
            "SELECT uid, state, delete_at FROM objects WHERE kind = :kind AND namespace = :namespace AND name = :name "
            "ORDER BY finished, created_at DESC, uid LIMIT 1"
        )
        self.resources = Sql(f"SELECT {RESOURCE_COLUMNS} FROM resources WHERE key IN {words.values('keys')}")
        self.open = Sql(
            f"SELECT {RESOURCE_COLUMNS} FROM resources WHERE closed_at IS NULL AND key > :after "
            "ORDER BY key LIMIT :limit"
        )
        self.open_of = Sql(
            f"SELECT {RESOURCE_COLUMNS} FROM resources WHERE closed_at IS NULL AND key > :after "
            "AND provider = :provider ORDER BY key LIMIT :limit"
        )
        self.open_keys = Sql(
            "SELECT key, wanted, created_at FROM resources WHERE closed_at IS NULL AND provider = :provider "
            "AND key > :after ORDER BY key LIMIT :limit"
        )
        self.sequence = Sql("SELECT commit_seq, pruned_seq, pruned_index FROM sequence WHERE id = 1")
        self.counts = Sql("SELECT kind, state, COUNT(*) FROM objects WHERE finished = 0 GROUP BY kind, state")


def children(connection: Link, sql: ViewStatements, owner: Uid) -> Children:
    parameter: dict[str, Any] = {"owner": owner}
    groups = []
    for state, digest, deleting, count in connection.execute(sql.groups, parameter).all():
        alike = parameter | {"state": state, "digest": digest, "deleting": deleting}
        oldest = tuple(
            ChildBrief(
                uid=uid,
                slot=slot,
                state=state,
                template_digest=digest,
                deleting=deleting == 1,
                created_at=created_at,
            )
            for uid, slot, created_at in connection.execute(sql.oldest, alike).all()
        )
        groups.append(
            ChildGroup(state=state, template_digest=digest, deleting=deleting == 1, count=count, oldest=oldest)
        )
    failures = tuple(
        ChildFailure(
            uid=uid, template_digest=digest, failed_at=failed_at, served_at=served_at, outcome=outcome, message=message
        )
        for uid, digest, failed_at, served_at, outcome, message in connection.execute(sql.failures, parameter).all()
    )
    served = tuple((Digest(digest), at) for digest, at in connection.execute(sql.served, parameter).all())
    parent = connection.execute(sql.parent, parameter).one_or_none()
    highest_slot, finished, succeeded = parent if parent is not None else (-1, 0, 0)
    return Children(
        groups=tuple(groups),
        failures=failures,
        last_served_at=served,
        highest_slot=highest_slot,
        finished=finished,
        succeeded=succeeded,
    )


def brief(connection: Link, sql: ViewStatements, kind: Kind, namespace: str, name: str) -> ObjectBrief | None:
    parameters = {"kind": str(kind), "namespace": namespace, "name": name}
    found = connection.execute(sql.brief, parameters).one_or_none()
    return None if found is None else ObjectBrief(uid=found[0], state=found[1], deleting=found[2] is not None)


def resources(connection: Link, sql: ViewStatements, keys: Sequence[ResourceKey]) -> Mapping[ResourceKey, Resource]:
    records = connection.execute(sql.resources, {"keys": json_text(sorted(keys))}).all()
    return {ResourceKey(record[0]): resource_from(record) for record in records}


def open_resources(
    connection: Link, sql: ViewStatements, provider: str | None, after: str, limit: int
) -> list[Resource]:
    parameters: dict[str, Any] = {"after": after, "limit": limit}
    if provider is None:
        return [resource_from(record) for record in connection.execute(sql.open, parameters).all()]
    parameters["provider"] = provider
    return [resource_from(record) for record in connection.execute(sql.open_of, parameters).all()]


def open_keys(
    connection: Link, sql: ViewStatements, provider: str, after: str, limit: int
) -> list[tuple[ResourceKey, bool, float]]:
    records = connection.execute(sql.open_keys, {"provider": provider, "after": after, "limit": limit}).all()
    return [(key, wanted == 1, created_at) for key, wanted, created_at in records]


def events(
    connection: Link,
    sql: ViewStatements,
    *,
    after: tuple[int, int],
    uid: Uid | None,
    owner_uid: Uid | None,
    namespace: str | None,
    limit: int,
    newest_first: bool,
) -> list[StoredEvent]:
    columns = events_table.c
    _, pruned_seq, pruned_index = connection.execute(sql.sequence).one()
    if after != (0, 0) and after < (pruned_seq, pruned_index):
        raise Expired(
            f"events after {after[0]}.{after[1]} are no longer kept",
            next_step="list the objects again and watch from the commit_seq of that list",
            details={"commit_seq": pruned_seq, "index": pruned_index},
        )
    place = (columns.commit_seq, columns.idx)
    query = sa.select(
        columns.commit_seq, columns.idx, columns.at, columns.uid, columns.kind, columns.namespace, columns.name,
        columns.owner_uid, columns.type, columns.reason, columns.message, columns.actor, columns.state,
    ).where(sa.tuple_(*place) > sa.tuple_(*after))  # fmt: skip
    if uid is not None:
        query = query.where(columns.uid == uid)
    if owner_uid is not None:
        query = query.where(columns.owner_uid == owner_uid)
    if namespace is not None:
        query = query.where(columns.namespace == namespace)
    order = [column.desc() for column in place] if newest_first else list(place)
    records = connection.execute(query.order_by(*order).limit(limit)).all()
    return [_event(record) for record in records if record[4] in _KINDS]


def _event(record: Sequence[Any]) -> StoredEvent:
    seq, index, at, uid, kind, namespace, name, owner_uid, type_, reason, message, actor, state = record
    return StoredEvent(
        commit_seq=seq,
        index=index,
        at=at,
        uid=uid,
        kind=Kind(kind),
        namespace=namespace,
        name=name,
        owner_uid=owner_uid,
        type=type_,
        reason=reason,
        message=message,
        actor=actor,
        state=state,
    )
