"""Histories that are chained by hashes, one per object."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_Int = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Time: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "records",
        sa.Column("uid", _Text, primary_key=True),
        sa.Column("seq", _Int, primary_key=True, autoincrement=False),
        sa.Column("at", _Time, nullable=False),
        sa.Column("actor", _Text, nullable=False),
        sa.Column("kind", _Text, nullable=False),
        sa.Column("body", _Text, nullable=False),
        sa.Column("before_hash", _Text, nullable=False),
        sa.Column("hash", _Text, nullable=False),
    )
    op.create_table(
        "record_heads",
        sa.Column("uid", _Text, primary_key=True),
        sa.Column("seq", _Int, nullable=False),
        sa.Column("hash", _Text, nullable=False),
        sqlite_with_rowid=False,
    )
