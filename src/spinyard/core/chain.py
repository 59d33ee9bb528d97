"""An append-only history in which each record carries the hash of the one before: a change in the middle shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

RECORD_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class RecordDraft:
    """`kind`: what sort of thing happened (transition, verdict, approval, verb ...). `body`: JSON, at most
    RECORD_BYTES_MAX."""

    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """`seq` counts from 1 without gaps. `before`: the hash of the record before, empty for the first."""

    uid: str
    seq: int
    at: float
    actor: str
    kind: str
    body: bytes
    before: str
    hash: str


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain is not what was written, and how that shows."""

    seq: int
    why: str


def link(uid: str, seq: int, at: float, actor: str, draft: RecordDraft, before: str) -> Record:
    return Record(uid, seq, at, actor, draft.kind, draft.body, before,
                  _hash(uid, seq, at, actor, draft.kind, draft.body, before))  # fmt: skip


def first_break(records: Iterable[Record], *, first: int = 1, before: str = "") -> Break | None:
    """None when every record is as it was written and none is missing in between. That none is missing at the end must
    be told from elsewhere: the object remembers its last hash."""
    for record in records:
        if record.seq != first:
            return Break(first, f"record {first} is missing: {record.seq} follows")
        if record.before != before:
            return Break(record.seq, "it does not follow the record before it")
        found = _hash(record.uid, record.seq, record.at, record.actor, record.kind, record.body, record.before)
        if found != record.hash:
            return Break(record.seq, "its content is not what was written")
        first, before = first + 1, record.hash
    return None


def _hash(uid: str, seq: int, at: float, actor: str, kind: str, body: bytes, before: str) -> str:
    parts = (uid, seq, repr(at), actor, kind, body.decode(errors="surrogateescape"), before)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
