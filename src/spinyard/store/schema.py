"""The tables. Narrow and typed where something is looked up or compared, JSON text where it is only carried.

Flags are 0 and 1, so the same statement text serves SQLite and Postgres. Times are seconds since the epoch. Migrations
(`migrations/versions`) make the same tables step by step; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa

READER_VERSION = 2
"""What this code can read. A store whose `min_reader_version` is higher is refused. A new store asks for 1; it asks for
2 from the moment it holds what a reader of 1 (0.1.0) would take for something else and send requests astray by: a route
by host name, a Service whose cluster is that of a promoted side, or requests of a parent that go to its unit."""
FIRST_READER_VERSION = 1
ASK_FOR_2 = "UPDATE meta SET value = '2' WHERE name = 'min_reader_version' AND value = '1'"

HEAD = "0003"
"""the newest migration"""

metadata = sa.MetaData()

# Byte order everywhere: paging compares what ORDER BY sorted, and keys sort alike on both databases.
_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Time: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, _Text, nullable=False, server_default=default)


def _int(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, _Int, nullable=False, server_default=None if default is None else str(default))


def _time(name: str, *, nullable: bool = True) -> sa.Column[float]:
    return sa.Column(name, _Time, nullable=nullable)


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", _Text, primary_key=True),
    _text("value"),
)

sequence = sa.Table(
    "sequence",
    metadata,
    sa.Column("id", _Int, primary_key=True, autoincrement=False),
    _int("commit_seq"),
    # The last event that was pruned: a watch that resumes before it is told so.
    _int("pruned_seq", 0),
    _int("pruned_index", 0),
)

objects = sa.Table(
    "objects",
    metadata,
    sa.Column("uid", _Text, primary_key=True),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    sa.Column("owner_uid", _Text),
    _text("slot", ""),
    _text("state"),
    _text("template_digest", ""),
    _text("spec"),
    _text("status"),
    _text("labels", "[]"),
    _text("annotations", "{}"),
    _int("generation", 1),
    _int("resource_version", 1),
    _int("wake_seq", 0),
    _time("wake_at"),
    _int("lease_token", 0),
    sa.Column("lease_until", _Time, nullable=False, server_default="0"),
    _text("lease_holder", ""),
    sa.Column("passed_at", _Time, nullable=False, server_default="0"),
    _time("created_at", nullable=False),
    _time("state_since", nullable=False),
    _time("delete_at"),
    # 1 with delete_at: parents count their children by it.
    _int("deleting", 0),
    _int("force", 0),
    _int("paused", 0),
    _text("reason", ""),
    _text("why", ""),
    _text("outcome", ""),
    _time("failed_at"),
    _text("failed_why", ""),
    _time("served_at"),
    _int("finished", 0),
    _time("finished_at"),
    _time("keep_until"),
    _int("commit_seq", 0),
    # What a parent must know of its children after their records went.
    _int("has_children", 0),
    _int("slot_high", -1),
    _int("finished_children", 0),
    _int("succeeded_children", 0),
)


def _index(name: str, *columns: sa.Column[object], where: str, unique: bool = False) -> None:
    sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


_c = objects.c
_index("ux_objects_live_name", _c.kind, _c.namespace, _c.name, where="finished = 0", unique=True)
sa.Index("ix_objects_page", _c.namespace, _c.name, _c.uid)
_index("ix_objects_due", _c.wake_at, where="finished = 0 AND wake_at IS NOT NULL")
_index("ix_objects_owner", _c.owner_uid, where="owner_uid IS NOT NULL")
_index(
    "ix_objects_kin",
    _c.owner_uid,
    _c.state,
    _c.template_digest,
    _c.deleting,
    _c.created_at,
    _c.uid,
    _c.finished,  # so that counting reads the index only
    where="finished = 0 AND owner_uid IS NOT NULL",
)
_index("ix_objects_failures", _c.owner_uid, _c.failed_at, where="failed_at IS NOT NULL")
_index("ix_objects_served", _c.owner_uid, _c.template_digest, _c.served_at, where="served_at IS NOT NULL")
# How the last starts of a template went, whoever asked for them: came up, or failed before that or soon after.
BROKEN = "failed_at - COALESCE(served_at, failed_at) < 10"
_index("ix_objects_broken", _c.template_digest, _c.failed_at, where=BROKEN)
_index("ix_objects_came_up", _c.template_digest, _c.served_at, where="served_at IS NOT NULL")
sa.Index("ix_objects_changed", _c.kind, _c.commit_seq, _c.uid)
_index("ix_objects_states", _c.kind, _c.state, _c.finished, where="finished = 0")
_index("ix_objects_kept", _c.keep_until, where="finished = 1")
_index("ix_objects_finished", _c.finished_at, where="finished = 1")

labels = sa.Table(
    "labels",
    metadata,
    sa.Column("key", _Text, primary_key=True),
    sa.Column("value", _Text, primary_key=True),
    sa.Column("uid", _Text, primary_key=True),
    sa.Index("ix_labels_uid", "uid"),
    sqlite_with_rowid=False,
)

resources = sa.Table(
    "resources",
    metadata,
    sa.Column("key", _Text, primary_key=True),
    _text("owner_uid"),
    _text("provider"),
    _text("kind"),
    _int("wanted"),
    sa.Column("stored_want", _Text),
    sa.Column("gone_after_seconds", _Time, nullable=False),
    _time("absent_at"),
    _time("closed_at"),
    _int("retained"),
    _time("created_at", nullable=False),
    _int("commit_seq"),
    sa.Index("ix_resources_owner", "owner_uid"),
    sa.Index("ix_resources_changed", "provider", "commit_seq"),
)
_index("ix_resources_closed", resources.c.closed_at, where="closed_at IS NOT NULL")
_index("ix_resources_open", resources.c.provider, resources.c.key, where="closed_at IS NULL")

reservations = sa.Table(
    "reservations",
    metadata,
    sa.Column("owner_uid", _Text, primary_key=True),
    sa.Column("scope", _Text, primary_key=True),
    sa.Column("name", _Text, primary_key=True),
    _int("amount"),
    sa.Column("slot", _Int),
    sa.Index("ix_reservations_scope", "scope", "amount"),
    sqlite_with_rowid=False,
)
_index("ux_reservations_slot", reservations.c.scope, reservations.c.slot, where="slot IS NOT NULL", unique=True)

events = sa.Table(
    "events",
    metadata,
    sa.Column("commit_seq", _Int, primary_key=True, autoincrement=False),
    sa.Column("idx", _Int, primary_key=True, autoincrement=False),
    _time("at", nullable=False),
    _text("uid"),
    _text("kind"),
    _text("namespace"),
    _text("name"),
    sa.Column("owner_uid", _Text),
    _text("type"),
    _text("reason"),
    _text("message"),
    _text("actor"),
    _text("state"),
    sa.Index("ix_events_uid", "uid", "commit_seq", "idx"),
    sqlite_with_rowid=False,
)
_index("ix_events_owner", events.c.owner_uid, events.c.commit_seq, events.c.idx, where="owner_uid IS NOT NULL")

templates = sa.Table(
    "templates",
    metadata,
    sa.Column("digest", _Text, primary_key=True),
    _text("spec"),
    _time("created_at", nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("key", _Text, primary_key=True),
    _text("fingerprint"),
    _text("uid"),
    sa.Column("response", sa.LargeBinary, nullable=False),
    _time("created_at", nullable=False),
    sa.Index("ix_keys_created", "created_at"),
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("uid", _Text, primary_key=True),
    sa.Column("seq", _Int, primary_key=True, autoincrement=False),
    _time("at", nullable=False),
    _text("actor"),
    _text("kind"),
    _text("body"),
    _text("before_hash"),
    _text("hash"),
)

record_heads = sa.Table(
    "record_heads",
    metadata,
    sa.Column("uid", _Text, primary_key=True),
    _int("seq"),
    # Of the last record: that one is missing at the end shows.
    _text("hash"),
    sqlite_with_rowid=False,
)
