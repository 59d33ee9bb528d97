# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Pools: what one who wants a member sees, and the one conditional update that gives it.

A claim takes a member by becoming its owner. Nothing is counted beside the rows, so nothing can drift.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from spinyard.core.ids import Uid
from spinyard.core.observed import PoolView
from spinyard.core.plan import BindMember
from spinyard.core.spec import Kind, WarmPoolSpec
from spinyard.store.codec import decode_spec, json_text
from spinyard.store.dialect import Words
from spinyard.store.link import Link, Sql


class Bound(NamedTuple):
    uid: str
    kind: str
    namespace: str
    name: str
    state: str


class PoolStatements:
    def __init__(self, words: Words) -> None:
        if words.name == "sqlite":
            with_part = "json_set(spec, '$.claim', json(:part))"
        else:
            with_part = "CAST(jsonb_set(CAST(spec AS jsonb), '{claim}', CAST(:part AS jsonb)) AS text)"
        self.bind = Sql(
            f"UPDATE objects SET owner_uid = :claim, spec = {with_part}, generation = generation + 1, "
            "resource_version = resource_version + 1, wake_seq = wake_seq + 1, commit_seq = :seq, "
            f"wake_at = {words.least}(COALESCE(wake_at, :now), :now) "
            "WHERE uid = (SELECT uid FROM objects WHERE owner_uid = :pool AND finished = 0 AND deleting = 0 "
            "AND kind = 'Spin' AND state = :state AND template_digest = :digest ORDER BY created_at, uid LIMIT 1 "
            f"{words.skip_locked}) AND NOT EXISTS (SELECT 1 FROM objects AS mine WHERE mine.owner_uid = :claim "
            "AND mine.finished = 0 AND mine.deleting = 0 AND mine.failed_at IS NULL) "
            # The caller may have read the pool before its template changed.
            "AND EXISTS (SELECT 1 FROM objects AS wished WHERE wished.uid = :pool AND wished.finished = 0 "
            "AND wished.deleting = 0 AND wished.template_digest = :digest) "
            "RETURNING uid, kind, namespace, name, state"
        )
        self.find = Sql(
            "SELECT spec, deleting, template_digest FROM objects WHERE uid = :pool AND finished = 0 "
            f"AND kind = '{Kind.WARM_POOL}'"
        )
        self.warm = Sql(
            "SELECT COUNT(*) FROM objects WHERE owner_uid = :pool AND finished = 0 AND deleting = 0 AND kind = 'Spin' "
            "AND state = :state AND template_digest = :digest"
        )
        self.waiting = Sql(
            "SELECT COUNT(*) FROM objects WHERE owner_uid = :pool AND finished = 0 AND deleting = 0 "
            f"AND kind = '{Kind.CLAIM}' AND state = 'pending'"
        )
        self.ahead = Sql(
            "SELECT COUNT(*) FROM objects AS mine JOIN objects AS other ON other.owner_uid = mine.owner_uid "
            f"AND other.kind = '{Kind.CLAIM}' AND other.finished = 0 AND other.deleting = 0 "
            "AND other.state = 'pending' AND (other.created_at, other.uid) < (mine.created_at, mine.uid) "
            "WHERE mine.uid = :claim"
        )
        if words.name == "sqlite":
            cold, bound, step = "json_extract(status, '$.cold')", "json_extract(status, '$.bound_at')", "INTEGER"
        else:
            cold = "CAST(CAST(status AS jsonb)->>'cold' AS boolean)"
            bound, step = "CAST(status AS jsonb)->>'bound_at'", "BIGINT"
        self.counts = Sql(
            "SELECT step, outcome, COUNT(*) FROM (SELECT "
            f"CAST((created_at - :since) / :step_seconds AS {step}) AS step, "
            "CASE WHEN failed_at IS NOT NULL THEN 'failed' "
            f"WHEN {bound} IS NOT NULL AND {cold} THEN 'cold' WHEN {bound} IS NOT NULL THEN 'warm' "
            "WHEN finished = 0 AND deleting = 0 THEN 'waiting' END AS outcome FROM objects "
            f"WHERE owner_uid = :pool AND kind = '{Kind.CLAIM}' AND created_at >= :since) AS claims "
            "WHERE outcome IS NOT NULL GROUP BY step, outcome ORDER BY step, outcome"
        )
        self.held = Sql("SELECT COALESCE(SUM(amount), 0) FROM reservations WHERE scope = :scope")


def bind(
    connection: Link, sql: PoolStatements, claim: Uid, change: BindMember, *, seq: int, now: float
) -> Bound | None:
    parameters = {
        "claim": claim,
        "pool": change.pool,
        "state": change.state,
        "digest": change.template_digest,
        "part": json_text(change.part),
        "seq": seq,
        "now": now,
    }
    found = connection.execute(sql.bind, parameters).one_or_none()
    return None if found is None else Bound(*found)


def pool(connection: Link, sql: PoolStatements, uid: Uid, warm_state: str) -> PoolView | None:
    found = connection.execute(sql.find, {"pool": uid}).one_or_none()
    if found is None:
        return None
    spec = decode_spec(Kind.WARM_POOL, found[0])
    assert isinstance(spec, WarmPoolSpec)
    members = {"pool": uid, "state": warm_state, "digest": found[2]}
    return PoolView(
        uid=uid,
        spec=spec,
        deleting=found[1] == 1,
        warm=connection.execute(sql.warm, members).scalar_one(),
        held=int(connection.execute(sql.held, {"scope": f"pool/{uid}"}).scalar_one()),
        waiting=connection.execute(sql.waiting, {"pool": uid}).scalar_one(),
    )


def claims_ahead(connection: Link, sql: PoolStatements, claim: Uid) -> int:
    return int(connection.execute(sql.ahead, {"claim": claim}).scalar_one())


def claim_counts(
    connection: Link, sql: PoolStatements, pool: Uid, since: float, step_seconds: float
) -> list[tuple[int, Literal["warm", "cold", "failed", "waiting"], int]]:
    asked = {"pool": pool, "since": since, "step_seconds": step_seconds}
    return [(int(step), outcome, int(count)) for step, outcome, count in connection.execute(sql.counts, asked)]
