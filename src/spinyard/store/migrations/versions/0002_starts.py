"""Starts of a template, over all owners: for the breaker."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BROKEN = "failed_at - COALESCE(served_at, failed_at) < 10"
_CAME_UP = "served_at IS NOT NULL"


def upgrade() -> None:
    op.create_index(
        "ix_objects_broken",
        "objects",
        ["template_digest", "failed_at"],
        sqlite_where=sa.text(_BROKEN),
        postgresql_where=sa.text(_BROKEN),
    )
    op.create_index(
        "ix_objects_came_up",
        "objects",
        ["template_digest", "served_at"],
        sqlite_where=sa.text(_CAME_UP),
        postgresql_where=sa.text(_CAME_UP),
    )
