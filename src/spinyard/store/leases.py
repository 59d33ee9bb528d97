# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Who works on what: claim, extend, release, wake.

A leased row stays due, so that it is claimed again when its holder dies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from spinyard.core.plan import Reservation, Resource
from spinyard.core.row import ObjectRow
from spinyard.ports.store import Lease
from spinyard.store.codec import (
    OBJECT_COLUMNS,
    RESOURCE_COLUMNS,
    Record,
    Templates,
    Unreadable,
    has_readable_want,
    json_text,
    resource_from,
    row_from,
)
from spinyard.store.dialect import Words
from spinyard.store.link import Link, Sql
from spinyard.store.pools import PoolStatements

CATCH_UP_PER_SECOND = 400.0
PARENT_PAUSE_SECONDS = 0.05
"""a parent runs at most once in this time, however many children want it"""


class LeaseStatements:
    def __init__(self, words: Words, known: str) -> None:
        """`known`: a condition that is true for rows of kinds and states this code can drive."""
        self.pools = PoolStatements(words)
        lease = (("uid", "text"), ("token", "int"))
        by_due = words.by_index("ix_objects_due")
        due = f"finished = 0 AND wake_at IS NOT NULL AND wake_at <= :now AND lease_until <= :now AND {known}"
        self.claim = Sql(
            "UPDATE objects SET lease_token = lease_token + 1, lease_until = :until, lease_holder = :holder, "
            f"passed_at = :now WHERE uid IN (SELECT uid FROM objects {by_due} WHERE {due} "
            f"ORDER BY wake_at, uid LIMIT :limit {words.skip_locked}) RETURNING {OBJECT_COLUMNS}, wake_at"
        )
        self.extend = Sql(
            f"UPDATE objects SET lease_until = :until FROM {words.rows('rows', lease)} AS b "
            "WHERE objects.uid = b.uid AND objects.lease_token = b.token AND objects.lease_until > 0 "
            "AND objects.finished = 0 RETURNING objects.uid, objects.lease_token"
        )
        self.release = Sql(
            "UPDATE objects SET lease_until = 0, lease_holder = '', wake_at = CASE "
            "WHEN objects.wake_seq = b.wake_seq THEN b.wake_at "
            f"WHEN objects.has_children = 1 THEN {words.least}(objects.passed_at, :now) + {PARENT_PAUSE_SECONDS} "
            "ELSE COALESCE(objects.wake_at, 0) END "
            f"FROM {words.rows('rows', (*lease, ('wake_seq', 'int'), ('wake_at', 'float')))} AS b "
            "WHERE objects.uid = b.uid AND objects.lease_token = b.token AND objects.lease_until > 0 "
            "AND objects.finished = 0"
        )
        self.wake = Sql(
            f"UPDATE objects SET wake_seq = wake_seq + 1, wake_at = {words.least}(COALESCE(wake_at, :now), :now) "
            f"WHERE uid IN {words.values('uids')} AND finished = 0"
        )
        self.wake_owners = wake_owners(words)
        # One process at a time may open SQLite, so whoever held a lease is gone: its token stays, which fences it.
        freed = ", lease_until = 0, lease_holder = ''" if words.name == "sqlite" else ""
        # What was in hand or due goes first; what was at rest follows at a pace that leaves room for new wishes.
        later = f"{words.least}(COALESCE(objects.wake_at, b.at), b.at)"
        self.catch_up = Sql(
            f"UPDATE objects SET wake_seq = objects.wake_seq + 1{freed}, wake_at = CASE WHEN objects.lease_until > 0 "
            f"OR objects.wake_at <= :now THEN :now ELSE {later} END FROM (SELECT uid, :now + "
            f"row_number() OVER (ORDER BY uid) / {CATCH_UP_PER_SECOND} AS at FROM objects WHERE finished = 0) AS b "
            "WHERE objects.uid = b.uid"
        )
        # Else the newest records are in the future, and hide those of the present. How long it was up stays.
        self.not_in_the_future = Sql(
            "UPDATE objects SET resource_version = resource_version + 1, "
            "failed_at = CASE WHEN failed_at > :now THEN :now ELSE failed_at END, "
            "served_at = CASE WHEN failed_at > :now THEN served_at - (failed_at - :now) "
            "WHEN served_at > :now THEN :now ELSE served_at END WHERE failed_at > :now OR served_at > :now"
        )
        self.next_due = Sql(
            f"SELECT wake_at FROM objects {by_due} WHERE finished = 0 AND wake_at IS NOT NULL AND lease_until <= :now "
            f"AND {known} ORDER BY wake_at LIMIT 1"
        )
        self.reload = Sql(
            f"SELECT {OBJECT_COLUMNS} FROM objects WHERE uid = :uid AND lease_token = :token AND lease_until > 0 "
            "AND finished = 0"
        )
        self.unchanged = Sql(
            "SELECT 1 FROM objects WHERE uid = :uid AND lease_token = :token AND lease_until > 0 AND finished = 0 "
            "AND resource_version = :version AND wake_seq = :wake_seq"
        )
        self.resources = Sql(
            f"SELECT {RESOURCE_COLUMNS} FROM resources WHERE owner_uid IN {words.values('uids')} AND closed_at IS NULL "
            "ORDER BY key"
        )
        self.reservations = Sql(
            "SELECT owner_uid, scope, name, amount, slot FROM reservations "
            f"WHERE owner_uid IN {words.values('uids')} ORDER BY owner_uid, scope, name"
        )


def wake_owners(words: Words) -> Sql:
    """Who owns what has changed looks, after its pause; rows: owner, finished children, of these with success."""
    soon = f"{words.greatest}(:now, {words.least}(objects.passed_at, :now) + {PARENT_PAUSE_SECONDS})"
    return Sql(
        f"UPDATE objects SET wake_seq = objects.wake_seq + 1, "
        f"wake_at = {words.least}(COALESCE(objects.wake_at, {soon}), {soon}), "
        "finished_children = objects.finished_children + b.finished, "
        "succeeded_children = objects.succeeded_children + b.succeeded "
        f"FROM {words.rows('rows', (('uid', 'text'), ('finished', 'int'), ('succeeded', 'int')))} AS b "
        "WHERE objects.uid = b.uid AND objects.finished = 0"
    )


def known_condition(kinds: Mapping[str, frozenset[str] | None]) -> str:
    """Kinds and states are our own identifiers, never input."""
    parts = []
    for kind, states in sorted(kinds.items()):
        part = f"kind = '{_word(kind)}'"
        if states is not None:
            part += " AND state IN (" + ", ".join(f"'{_word(state)}'" for state in sorted(states)) + ")"
        parts.append(f"({part})")
    return "(" + " OR ".join(parts) + ")"


def load_attached(
    connection: Link, statements: LeaseStatements, uids: Sequence[str]
) -> tuple[Mapping[str, list[Resource]], Mapping[str, list[Reservation]], frozenset[str]]:
    """Open resources, reservations, and the owners of resources that this code cannot read."""
    parameter = {"uids": json_text(sorted(uids))}
    resources: dict[str, list[Resource]] = defaultdict(list)
    reservations: dict[str, list[Reservation]] = defaultdict(list)
    unreadable = set()
    for record in connection.execute(statements.resources, parameter).all():
        resources[record[1]].append(resource_from(record))
        if not has_readable_want(record):
            unreadable.add(record[1])
    for owner, scope, name, amount, slot in connection.execute(statements.reservations, parameter).all():
        reservations[owner].append(Reservation(scope=scope, name=name, amount=amount, slot=slot))
    return resources, reservations, frozenset(unreadable)


def load_rows(
    connection: Link,
    statements: LeaseStatements,
    templates: Templates,
    records: Sequence[Record],
) -> list[ObjectRow]:
    """Whole rows in the order given; those that this code cannot read are left out."""
    if not records:
        return []
    resources, reservations, unreadable = load_attached(connection, statements, [record[0] for record in records])
    found = templates.find(connection, (record[15] for record in records))
    rows = []
    for record in records:
        uid = record[0]
        if uid in unreadable or (record[15] in found and found[record[15]] is None):
            continue
        try:
            row = row_from(
                record, found.get(record[15]), tuple(resources.get(uid, ())), tuple(reservations.get(uid, ()))
            )
        except Unreadable:
            continue
        rows.append(row)
    return rows


def claim(
    connection: Link,
    statements: LeaseStatements,
    templates: Templates,
    *,
    holder: str,
    now: float,
    lease_seconds: float,
    limit: int,
) -> list[ObjectRow]:
    """A row that turns out unreadable keeps the lease it just got: it is asked again only when that has lapsed."""
    parameters = {"now": now, "until": now + lease_seconds, "holder": holder, "limit": limit}
    records = connection.execute(statements.claim, parameters).all()
    in_order = sorted(records, key=lambda record: (record[-1], record[0]))
    return load_rows(connection, statements, templates, in_order)


def is_unchanged(connection: Link, statements: LeaseStatements, lease: Lease, known: ObjectRow) -> bool:
    """Whoever writes to a row moves its version, to what belongs to it its wake_seq."""
    seen = {"version": known.resource_version, "wake_seq": known.wake_seq}
    parameters = {"uid": lease.uid, "token": lease.token, **seen}
    return connection.execute(statements.unchanged, parameters).first() is not None


def extend(connection: Link, statements: LeaseStatements, leases: Sequence[Lease], *, until: float) -> list[Lease]:
    rows = json_text([(lease.uid, lease.token) for lease in leases])
    ours = {(uid, token) for uid, token in connection.execute(statements.extend, {"rows": rows, "until": until}).all()}
    return [lease for lease in leases if (lease.uid, lease.token) in ours]


def release(
    connection: Link,
    statements: LeaseStatements,
    leases: Sequence[tuple[Lease, int, float | None]],
    *,
    now: float,
) -> None:
    rows = json_text([(lease.uid, lease.token, wake_seq, wake_at) for lease, wake_seq, wake_at in leases])
    connection.execute(statements.release, {"rows": rows, "now": now})


def _word(text: str) -> str:
    assert text.replace("-", "").replace("_", "").isalnum(), text
    return text
