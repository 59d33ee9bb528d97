# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""What is thrown away, a bounded number of rows per call.

Never: an object that is not finished, a ledger row that is not closed or is retained, an event of the newest commit (a
watch stands there), a template that something alive may still go back to.
"""

from __future__ import annotations

from spinyard.core.spec import Kind
from spinyard.store.codec import json_text
from spinyard.store.dialect import Words
from spinyard.store.link import Link, Sql

ROWS_MAX = 1000
"""of each sort, per call"""
COUNTED_APART = (Kind.ROLLOUT, Kind.SPINOUT)
COUNTED_APART_KEEP_MAX = 1000
"""finished ones of each such kind, whatever else is kept"""
KEYS_KEEP_SECONDS = 48 * 3600.0
TEMPLATES_KEEP_SECONDS = 24 * 3600.0
LEDGER_KEEP_SECONDS = 24 * 3600.0
"""of closed rows whose object is gone already"""

_NO_OPEN = "NOT EXISTS (SELECT 1 FROM resources r WHERE r.owner_uid = o.uid AND r.closed_at IS NULL AND r.retained = 0)"


class PruneStatements:
    def __init__(self, words: Words) -> None:
        uids = words.values("uids")
        self.too_old = Sql(
            f"SELECT uid FROM objects o WHERE finished = 1 AND keep_until <= :now AND {_NO_OPEN} "
            "ORDER BY keep_until LIMIT :limit"
        )
        self.finished = Sql("SELECT COUNT(*) FROM objects WHERE finished = 1")
        self.apart = [
            (Sql(f"SELECT COUNT(*) FROM objects WHERE finished = 1 AND kind = '{kind}'"), _oldest(f"kind = '{kind}'"))
            for kind in COUNTED_APART
        ]
        self.too_many = _oldest(" AND ".join(f"kind <> '{kind}'" for kind in COUNTED_APART))
        self.forget = [
            Sql(f"DELETE FROM labels WHERE uid IN {uids}"),
            Sql(f"DELETE FROM resources WHERE owner_uid IN {uids} AND closed_at IS NOT NULL AND retained = 0"),
            *(Sql(f"DELETE FROM {table} WHERE uid IN {uids}") for table in ("records", "record_heads")),
            Sql(f"DELETE FROM objects WHERE uid IN {uids}"),
        ]
        self.newest = Sql("SELECT commit_seq FROM sequence WHERE id = 1")
        self.events = Sql("SELECT COUNT(*) FROM (SELECT 1 FROM events LIMIT :limit) AS counted")
        self.oldest_events = Sql(
            "SELECT commit_seq, idx FROM events WHERE commit_seq < :newest ORDER BY commit_seq, idx LIMIT :limit"
        )
        self.old_events = Sql(
            "SELECT commit_seq, idx FROM (SELECT commit_seq, idx, at FROM events WHERE commit_seq < :newest "
            "ORDER BY commit_seq, idx LIMIT :limit) AS oldest WHERE at < :before ORDER BY commit_seq, idx"
        )
        self.forget_events = Sql("DELETE FROM events WHERE (commit_seq, idx) <= (:seq, :idx)")
        self.note_pruned = Sql("UPDATE sequence SET pruned_seq = :seq, pruned_index = :idx WHERE id = 1")
        self.keys = Sql(
            "DELETE FROM keys WHERE key IN "
            "(SELECT key FROM keys WHERE created_at < :before ORDER BY created_at LIMIT :limit)"
        )
        self.ledger = Sql(
            "DELETE FROM resources WHERE key IN (SELECT key FROM resources r WHERE closed_at < :before "
            "AND retained = 0 AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.uid = r.owner_uid) "
            "ORDER BY closed_at LIMIT :limit)"
        )
        named = f"{words.contains('o.spec', 't.digest')} OR {words.contains('o.status', 't.digest')}"
        self.templates = Sql(
            "DELETE FROM templates WHERE digest IN (SELECT digest FROM templates t WHERE created_at < :before "
            "AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.template_digest = t.digest) "
            f"AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.owner_uid IS NULL "
            f"AND (o.finished = 0 OR o.kind = '{Kind.ROLLOUT}') AND ({named})) "
            "ORDER BY created_at LIMIT :limit)"
        )


def prune(
    connection: Link,
    sql: PruneStatements,
    *,
    now: float,
    finished_keep_max: int,
    events_keep_max: int,
    events_keep_seconds: float,
) -> int:
    gone = _prune_finished(connection, sql, now, finished_keep_max)
    gone += _prune_events(connection, sql, now - events_keep_seconds, events_keep_max)
    for statement, keep_seconds in (
        (sql.keys, KEYS_KEEP_SECONDS),
        (sql.ledger, LEDGER_KEEP_SECONDS),
        (sql.templates, TEMPLATES_KEEP_SECONDS),
    ):
        gone += connection.execute(statement, {"before": now - keep_seconds, "limit": ROWS_MAX}).rowcount
    return gone


def _prune_finished(connection: Link, sql: PruneStatements, now: float, keep_max: int) -> int:
    uids = set(connection.execute(sql.too_old, {"now": now, "limit": ROWS_MAX}).scalars())
    old = len(uids)
    apart = [(int(connection.execute(count).scalar_one()), oldest) for count, oldest in sql.apart]
    others = int(connection.execute(sql.finished).scalar_one()) - sum(count for count, _ in apart)
    limits = [(oldest, count - COUNTED_APART_KEEP_MAX) for count, oldest in apart]
    for statement, excess in ((sql.too_many, others - keep_max), *limits):
        if excess > old:
            uids.update(connection.execute(statement, {"limit": min(excess, ROWS_MAX)}).scalars())
    if not uids:
        return 0
    parameter = {"uids": json_text(sorted(uids))}
    return sum(connection.execute(statement, parameter).rowcount for statement in sql.forget)


def _oldest(condition: str) -> Sql:
    return Sql(
        f"SELECT uid FROM objects o WHERE finished = 1 AND {condition} AND {_NO_OPEN} "
        "ORDER BY finished_at, uid LIMIT :limit"
    )


def _prune_events(connection: Link, sql: PruneStatements, before: float, keep_max: int) -> int:
    """From the oldest on, without a gap, so one position tells a watch whether it missed something."""
    newest = connection.execute(sql.newest).scalar_one()
    excess = int(connection.execute(sql.events, {"limit": keep_max + ROWS_MAX}).scalar_one()) - keep_max
    bounds = {"newest": newest, "limit": ROWS_MAX}
    places = [tuple(row) for row in connection.execute(sql.old_events, bounds | {"before": before}).all()]
    if excess > len(places):
        places = [tuple(row) for row in connection.execute(sql.oldest_events, bounds | {"limit": excess}).all()]
    if not places:
        return 0
    last = {"seq": places[-1][0], "idx": places[-1][1]}
    connection.execute(sql.note_pruned, last)
    return connection.execute(sql.forget_events, last).rowcount
