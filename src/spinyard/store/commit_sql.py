# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""The statements of a group commit: constant texts, one JSON parameter for all rows of the batch."""

from __future__ import annotations

from spinyard.store.dialect import Columns, Words
from spinyard.store.leases import PARENT_PAUSE_SECONDS, wake_owners
from spinyard.store.link import RowSql, Sql
from spinyard.store.reserve import ReserveStatements

NEXT_SEQ = "UPDATE sequence SET commit_seq = commit_seq + 1 WHERE id = 1 RETURNING commit_seq"
FIRST_STATE = "pending"
"""of a child that its parent just made"""

_ROW = (
    ("uid", "text"),
    ("token", "int"),
    ("version", "int"),
    ("wake_seq", "int"),
    ("state", "text"),
    ("status", "text"),
    ("reason", "text"),
    ("why", "text"),
    ("outcome", "text"),
    ("failed_at", "float"),
    ("served_at", "float"),
    ("finished", "flag"),
    ("keep_seconds", "float"),
    ("release", "flag"),
    ("wake_at", "float"),
    ("parent", "flag"),
    ("slot_high", "int"),
)
_CHILD = (
    ("uid", "text"),
    ("kind", "text"),
    ("namespace", "text"),
    ("name", "text"),
    ("owner_uid", "text"),
    ("slot", "text"),
    ("template_digest", "text"),
    ("spec", "text"),
    ("labels", "text"),
)
_RESOURCE = (
    ("key", "text"),
    ("owner_uid", "text"),
    ("provider", "text"),
    ("kind", "text"),
    ("wanted", "flag"),
    ("stored_want", "text"),
    ("gone_after_seconds", "float"),
    ("absent_at", "float"),
    ("closed_at", "float"),
    ("retained", "flag"),
    ("created_at", "float"),
)
_EVENT = (
    ("idx", "int"),
    ("uid", "text"),
    ("kind", "text"),
    ("namespace", "text"),
    ("name", "text"),
    ("owner_uid", "text"),
    ("type", "text"),
    ("reason", "text"),
    ("message", "text"),
    ("actor", "text"),
    ("state", "text"),
)


class CommitStatements:
    def __init__(self, words: Words) -> None:
        self.reserve = ReserveStatements(words)
        self.next_seq = Sql(NEXT_SEQ)
        held = (
            "objects.uid = b.uid AND objects.lease_token = b.token AND objects.resource_version = b.version "
            "AND objects.lease_until > 0 AND objects.finished = 0"
        )
        self.fresh = Sql(
            f"SELECT objects.uid FROM {words.rows('rows', _ROW[:3])} AS b JOIN objects ON {held} "
            f"{words.for_update and 'FOR UPDATE OF objects'}"
        )
        self.update = RowSql(words, _update(words, held, _MILESTONES), _ROW)
        self.update_small = RowSql(words, _update(words, held, ""), _ROW)
        child_columns = ", ".join(name for name, _ in _CHILD)
        self.insert_children = Sql(
            f"INSERT INTO objects ({child_columns}, state, status, reason, why, wake_at, wake_seq, created_at, "
            f"state_since, commit_seq) SELECT {child_columns}, '{FIRST_STATE}', '{{}}', 'Created', "
            f"'created', :now, 1, :now, :now, :seq FROM {words.rows('rows', _CHILD)} AS b "
            "WHERE true ON CONFLICT DO NOTHING RETURNING uid"
        )
        self.insert_label = Sql("INSERT INTO labels (key, value, uid) VALUES (:key, :value, :uid)")
        self.delete_children = Sql(
            "UPDATE objects SET delete_at = COALESCE(objects.delete_at, :now), deleting = 1, "
            f"force = {words.greatest}(objects.force, b.force), resource_version = objects.resource_version + 1, "
            "wake_seq = objects.wake_seq + 1, commit_seq = :seq, "
            f"wake_at = {words.least}(COALESCE(objects.wake_at, :now), :now) "
            f"FROM {words.rows('rows', (('uid', 'text'), ('owner_uid', 'text'), ('force', 'flag')))} AS b "
            "WHERE objects.uid = b.uid AND objects.owner_uid = b.owner_uid AND objects.finished = 0 "
            "AND (objects.delete_at IS NULL OR b.force > objects.force) "
            "RETURNING objects.uid, objects.kind, objects.namespace, objects.name, objects.state"
        )
        self.wake_children = Sql(
            f"UPDATE objects SET wake_seq = wake_seq + 1, wake_at = {words.least}(COALESCE(wake_at, :now), :now) "
            f"WHERE uid IN {words.values('uids')} AND finished = 0"
        )
        columns, values = _names(_RESOURCE)
        changed = ("provider", "kind", "wanted", "stored_want", "gone_after_seconds", "absent_at", "closed_at",
                   "retained", "commit_seq")  # fmt: skip
        self.upsert_resources = RowSql(
            words,
            f"INSERT INTO resources ({columns}, commit_seq) SELECT {values}, :seq "
            "FROM {rows} AS b WHERE true ON CONFLICT (key) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in changed)
            + " WHERE resources.closed_at IS NULL",
            _RESOURCE,
        )
        self.wake_owners = wake_owners(words)
        columns, values = _names(_EVENT)
        self.insert_events = RowSql(
            words,
            f"INSERT INTO events ({columns}, commit_seq, at) SELECT {values}, :seq, :at FROM {{rows}} AS b WHERE true",
            _EVENT,
        )


def _names(columns: Columns) -> tuple[str, str]:
    return ", ".join(name for name, _ in columns), ", ".join(f"b.{name}" for name, _ in columns)


_MILESTONES = (
    "failed_why = CASE WHEN b.failed_at IS NULL OR b.failed_at = objects.failed_at THEN objects.failed_why "
    "ELSE b.why END, "
    "failed_at = COALESCE(b.failed_at, objects.failed_at), "
    "served_at = COALESCE(b.served_at, objects.served_at), "
    "finished = b.finished, "
    "finished_at = CASE WHEN b.finished = 1 THEN :now END, "
    "keep_until = CASE WHEN b.finished = 1 THEN :now + b.keep_seconds END, "
)
"""columns of indexes that only few commits concern: a statement that names them pays for those indexes in every row"""


def _update(words: Words, held: str, milestones: str) -> str:
    """A row that stays leased stays due (its holder may die); one that is given back is due when its plan says, or at
    once when someone asked meanwhile (a parent: after its pause)."""
    parent_due = f"{words.greatest}(:now, {words.least}(objects.passed_at, :now) + {PARENT_PAUSE_SECONDS})"
    return (
        "UPDATE objects SET state = b.state, status = b.status, reason = b.reason, why = b.why, "
        "outcome = CASE WHEN b.outcome = '' THEN objects.outcome ELSE b.outcome END, "
        f"{milestones}"
        "state_since = CASE WHEN b.state = objects.state THEN objects.state_since ELSE :now END, "
        "resource_version = objects.resource_version + 1, commit_seq = :seq, passed_at = :now, "
        "lease_until = CASE WHEN b.finished = 1 OR b.release = 1 THEN 0 ELSE objects.lease_until END, "
        "lease_holder = CASE WHEN b.finished = 1 OR b.release = 1 THEN '' ELSE objects.lease_holder END, "
        "wake_at = CASE WHEN b.finished = 1 THEN NULL WHEN b.release = 0 THEN :now "
        "WHEN objects.wake_seq = b.wake_seq THEN b.wake_at "
        f"WHEN objects.has_children = 1 THEN {parent_due} ELSE :now END, "
        f"has_children = {words.greatest}(objects.has_children, b.parent), "
        f"slot_high = {words.greatest}(objects.slot_high, b.slot_high) "
        f"FROM {{rows}} AS b WHERE {held} "
        "RETURNING objects.uid"
    )
