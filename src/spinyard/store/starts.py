# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""How the last starts of a template went, over all owners. Two short walks along an index each, and mostly only one."""

from __future__ import annotations

import msgspec

from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import StartRecord, Starts, Trial
from spinyard.core.spec import Kind
from spinyard.errors import ErrorClass
from spinyard.spin.errand import NOT_BEGUN
from spinyard.store.link import Link, Sql
from spinyard.store.schema import BROKEN

# What never had the room to begin says nothing about its template, nor does a Job's command that fails about the start
# of the member it ran on. The text is JSON of ours, with a space after the colon or without; what users wrote in it has
# its quotes escaped.
_NOT_BEGUN = ", ".join(f"'{one}'" for one in sorted(NOT_BEGUN - {ErrorClass.QUEUE_TIMEOUT}))
_NO_ERRAND = """spec NOT LIKE '%"errand":{%' AND spec NOT LIKE '%"errand": {%'"""
_A_START = f"(outcome IN ({_NOT_BEGUN}) OR (outcome <> '{ErrorClass.QUEUE_TIMEOUT}' AND {_NO_ERRAND}))"
_FAILED = Sql(
    "SELECT uid, created_at, failed_at, outcome, failed_why, spec FROM objects WHERE template_digest = :digest "
    f"AND {BROKEN} AND {_A_START} AND kind = '{Kind.SPIN}' ORDER BY failed_at DESC, uid LIMIT :limit"
)
_CAME_UP = Sql(
    "SELECT uid, created_at, served_at, '', '', spec FROM objects WHERE template_digest = :digest "
    f"AND served_at IS NOT NULL AND kind = '{Kind.SPIN}' ORDER BY served_at DESC, uid LIMIT :limit"
)
_TRIAL = Sql(
    "SELECT r.owner_uid, r.name, CASE WHEN o.uid IS NULL THEN 1 ELSE 0 END, o.served_at FROM reservations AS r "
    "LEFT JOIN objects AS o ON o.uid = r.name AND o.finished = 0 AND o.deleting = 0 AND o.failed_at IS NULL "
    "WHERE r.scope = :scope LIMIT 1"
)


class _Mark(msgspec.Struct):
    trial: int = 0


_MARK = msgspec.json.Decoder(_Mark)


def starts(link: Link, digest: Digest, scope: str, limit: int) -> Starts:
    """A template without any failure costs one look into an index that holds failures only."""
    asked = {"digest": digest, "limit": limit}
    failed = link.execute(_FAILED, asked).all()
    trial = link.execute(_TRIAL, {"scope": scope}).one_or_none()
    if not failed:
        return Starts(trial=_trial(trial))
    came_up = link.execute(_CAME_UP, asked).all()
    both = [_record(record, failed=True) for record in failed]
    uids = {record.uid for record in both}
    both += [_record(record, failed=False) for record in came_up if record[0] not in uids]
    newest = sorted(both, key=lambda record: (-record.at, record.uid))
    return Starts(tuple(newest[:limit]), _trial(trial))


def _record(record: tuple[str, float, float, str, str, str], *, failed: bool) -> StartRecord:
    uid, created_at, at, outcome, message, spec = record
    return StartRecord(Uid(uid), created_at, at, failed, outcome, message, _MARK.decode(spec).trial)


def _trial(found: tuple[str, str, int, float | None] | None) -> Trial | None:
    return None if found is None else Trial(Uid(found[0]), Uid(found[1]), found[2] == 1, found[3])
