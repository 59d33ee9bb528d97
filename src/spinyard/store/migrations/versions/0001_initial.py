"""The tables of 0.1.0."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Time: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "meta",
        sa.Column("name", _Text, primary_key=True),
        sa.Column("value", _Text, nullable=False),
    )
    op.create_table(
        "sequence",
        sa.Column("id", _Int, primary_key=True, autoincrement=False),
        sa.Column("commit_seq", _Int, nullable=False),
        sa.Column("pruned_seq", _Int, nullable=False, server_default="0"),
        sa.Column("pruned_index", _Int, nullable=False, server_default="0"),
    )
    op.create_table(
        "objects",
        sa.Column("uid", _Text, primary_key=True),
        sa.Column("kind", _Text, nullable=False),
        sa.Column("namespace", _Text, nullable=False),
        sa.Column("name", _Text, nullable=False),
        sa.Column("owner_uid", _Text),
        sa.Column("slot", _Text, nullable=False, server_default=""),
        sa.Column("state", _Text, nullable=False),
        sa.Column("template_digest", _Text, nullable=False, server_default=""),
        sa.Column("spec", _Text, nullable=False),
        sa.Column("status", _Text, nullable=False),
        sa.Column("labels", _Text, nullable=False, server_default="[]"),
        sa.Column("annotations", _Text, nullable=False, server_default="{}"),
        sa.Column("generation", _Int, nullable=False, server_default="1"),
        sa.Column("resource_version", _Int, nullable=False, server_default="1"),
        sa.Column("wake_seq", _Int, nullable=False, server_default="0"),
        sa.Column("wake_at", _Time),
        sa.Column("lease_token", _Int, nullable=False, server_default="0"),
        sa.Column("lease_until", _Time, nullable=False, server_default="0"),
        sa.Column("lease_holder", _Text, nullable=False, server_default=""),
        sa.Column("passed_at", _Time, nullable=False, server_default="0"),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("state_since", _Time, nullable=False),
        sa.Column("delete_at", _Time),
        sa.Column("deleting", _Int, nullable=False, server_default="0"),
        sa.Column("force", _Int, nullable=False, server_default="0"),
        sa.Column("paused", _Int, nullable=False, server_default="0"),
        sa.Column("reason", _Text, nullable=False, server_default=""),
        sa.Column("why", _Text, nullable=False, server_default=""),
        sa.Column("outcome", _Text, nullable=False, server_default=""),
        sa.Column("failed_at", _Time),
        sa.Column("failed_why", _Text, nullable=False, server_default=""),
        sa.Column("served_at", _Time),
        sa.Column("finished", _Int, nullable=False, server_default="0"),
        sa.Column("finished_at", _Time),
        sa.Column("keep_until", _Time),
        sa.Column("commit_seq", _Int, nullable=False, server_default="0"),
        sa.Column("has_children", _Int, nullable=False, server_default="0"),
        sa.Column("slot_high", _Int, nullable=False, server_default="-1"),
        sa.Column("finished_children", _Int, nullable=False, server_default="0"),
        sa.Column("succeeded_children", _Int, nullable=False, server_default="0"),
    )
    op.create_index("ix_objects_changed", "objects", ["kind", "commit_seq", "uid"])
    op.create_index(
        "ix_objects_due",
        "objects",
        ["wake_at"],
        sqlite_where=sa.text("finished = 0 AND wake_at IS NOT NULL"),
        postgresql_where=sa.text("finished = 0 AND wake_at IS NOT NULL"),
    )
    op.create_index(
        "ix_objects_failures",
        "objects",
        ["owner_uid", "failed_at"],
        sqlite_where=sa.text("failed_at IS NOT NULL"),
        postgresql_where=sa.text("failed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_objects_finished",
        "objects",
        ["finished_at"],
        sqlite_where=sa.text("finished = 1"),
        postgresql_where=sa.text("finished = 1"),
    )
    op.create_index(
        "ix_objects_kept",
        "objects",
        ["keep_until"],
        sqlite_where=sa.text("finished = 1"),
        postgresql_where=sa.text("finished = 1"),
    )
    op.create_index(
        "ix_objects_kin",
        "objects",
        ["owner_uid", "state", "template_digest", "deleting", "created_at", "uid", "finished"],
        sqlite_where=sa.text("finished = 0 AND owner_uid IS NOT NULL"),
        postgresql_where=sa.text("finished = 0 AND owner_uid IS NOT NULL"),
    )
    op.create_index(
        "ix_objects_owner",
        "objects",
        ["owner_uid"],
        sqlite_where=sa.text("owner_uid IS NOT NULL"),
        postgresql_where=sa.text("owner_uid IS NOT NULL"),
    )
    op.create_index("ix_objects_page", "objects", ["namespace", "name", "uid"])
    op.create_index(
        "ix_objects_served",
        "objects",
        ["owner_uid", "template_digest", "served_at"],
        sqlite_where=sa.text("served_at IS NOT NULL"),
        postgresql_where=sa.text("served_at IS NOT NULL"),
    )
    op.create_index(
        "ix_objects_states",
        "objects",
        ["kind", "state", "finished"],
        sqlite_where=sa.text("finished = 0"),
        postgresql_where=sa.text("finished = 0"),
    )
    op.create_index(
        "ux_objects_live_name",
        "objects",
        ["kind", "namespace", "name"],
        unique=True,
        sqlite_where=sa.text("finished = 0"),
        postgresql_where=sa.text("finished = 0"),
    )
    op.create_table(
        "labels",
        sa.Column("key", _Text, primary_key=True),
        sa.Column("value", _Text, primary_key=True),
        sa.Column("uid", _Text, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_labels_uid", "labels", ["uid"])
    op.create_table(
        "resources",
        sa.Column("key", _Text, primary_key=True),
        sa.Column("owner_uid", _Text, nullable=False),
        sa.Column("provider", _Text, nullable=False),
        sa.Column("kind", _Text, nullable=False),
        sa.Column("wanted", _Int, nullable=False),
        sa.Column("stored_want", _Text),
        sa.Column("gone_after_seconds", _Time, nullable=False),
        sa.Column("absent_at", _Time),
        sa.Column("closed_at", _Time),
        sa.Column("retained", _Int, nullable=False),
        sa.Column("created_at", _Time, nullable=False),
        sa.Column("commit_seq", _Int, nullable=False),
    )
    op.create_index("ix_resources_changed", "resources", ["provider", "commit_seq"])
    op.create_index(
        "ix_resources_closed",
        "resources",
        ["closed_at"],
        sqlite_where=sa.text("closed_at IS NOT NULL"),
        postgresql_where=sa.text("closed_at IS NOT NULL"),
    )
    op.create_index(
        "ix_resources_open",
        "resources",
        ["provider", "key"],
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("ix_resources_owner", "resources", ["owner_uid"])
    op.create_table(
        "reservations",
        sa.Column("owner_uid", _Text, primary_key=True),
        sa.Column("scope", _Text, primary_key=True),
        sa.Column("name", _Text, primary_key=True),
        sa.Column("amount", _Int, nullable=False),
        sa.Column("slot", _Int),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_reservations_scope", "reservations", ["scope", "amount"])
    op.create_index(
        "ux_reservations_slot",
        "reservations",
        ["scope", "slot"],
        unique=True,
        sqlite_where=sa.text("slot IS NOT NULL"),
        postgresql_where=sa.text("slot IS NOT NULL"),
    )
    op.create_table(
        "events",
        sa.Column("commit_seq", _Int, primary_key=True, autoincrement=False),
        sa.Column("idx", _Int, primary_key=True, autoincrement=False),
        sa.Column("at", _Time, nullable=False),
        sa.Column("uid", _Text, nullable=False),
        sa.Column("kind", _Text, nullable=False),
        sa.Column("namespace", _Text, nullable=False),
        sa.Column("name", _Text, nullable=False),
        sa.Column("owner_uid", _Text),
        sa.Column("type", _Text, nullable=False),
        sa.Column("reason", _Text, nullable=False),
        sa.Column("message", _Text, nullable=False),
        sa.Column("actor", _Text, nullable=False),
        sa.Column("state", _Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_events_owner",
        "events",
        ["owner_uid", "commit_seq", "idx"],
        sqlite_where=sa.text("owner_uid IS NOT NULL"),
        postgresql_where=sa.text("owner_uid IS NOT NULL"),
    )
    op.create_index("ix_events_uid", "events", ["uid", "commit_seq", "idx"])
    op.create_table(
        "templates",
        sa.Column("digest", _Text, primary_key=True),
        sa.Column("spec", _Text, nullable=False),
        sa.Column("created_at", _Time, nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("key", _Text, primary_key=True),
        sa.Column("fingerprint", _Text, nullable=False),
        sa.Column("uid", _Text, nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _Time, nullable=False),
    )
    op.create_index("ix_keys_created", "keys", ["created_at"])
