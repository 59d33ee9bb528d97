# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Hash chains of objects: each record follows the one before it, and the head tells where the chain ends.

Every writer holds the row of `sequence` (its commit_seq), so no two of them read the same head.
"""

from __future__ import annotations

from collections.abc import Sequence

from spinyard.core.chain import RECORD_BYTES_MAX, Record, RecordDraft, link
from spinyard.core.ids import Uid
from spinyard.store.link import Link, Sql, insert_into

_COLUMNS = "uid, seq, at, actor, kind, body, before_hash, hash"
_HEAD = Sql("SELECT seq, hash FROM record_heads WHERE uid = :uid")
_INSERT = Sql(insert_into("records", _COLUMNS))
_MOVE_HEAD = Sql(
    "INSERT INTO record_heads (uid, seq, hash) VALUES (:uid, :seq, :hash) "
    "ON CONFLICT (uid) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"
)
_READ = Sql(f"SELECT {_COLUMNS} FROM records WHERE uid = :uid AND seq > :after ORDER BY seq LIMIT :limit")


def append(connection: Link, uid: Uid, drafts: Sequence[RecordDraft], *, actor: str, now: float) -> None:
    """Raises ValueError for a body that is no text or is too long."""
    seq, before = head(connection, uid)
    rows = []
    for draft in drafts:
        if len(draft.body) > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {len(draft.body)} bytes; at most {RECORD_BYTES_MAX}")
        seq += 1
        record = link(uid, seq, now, actor, draft, before)
        before = record.hash
        rows.append(
            {
                "uid": uid,
                "seq": seq,
                "at": now,
                "actor": actor,
                "kind": draft.kind,
                "body": draft.body.decode(),
                "before_hash": record.before,
                "hash": record.hash,
            }
        )
    if rows:
        connection.execute(_INSERT, rows)
        connection.execute(_MOVE_HEAD, {"uid": uid, "seq": seq, "hash": before})


def head(connection: Link, uid: Uid) -> tuple[int, str]:
    """(seq, hash) of the last record; (0, "") when there is none."""
    found = connection.execute(_HEAD, {"uid": uid}).one_or_none()
    return (0, "") if found is None else (found[0], found[1])


def read(connection: Link, uid: Uid, after: int, limit: int) -> list[Record]:
    found = connection.execute(_READ, {"uid": uid, "after": after, "limit": limit}).all()
    return [
        Record(uid, seq, at, actor, kind, body.encode(), before, last)
        for uid, seq, at, actor, kind, body, before, last in found
    ]
