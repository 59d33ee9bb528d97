"""Idempotency keys: the same request with the same key happens once, and answers with the same object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from spinyard.core.ids import Uid
from spinyard.errors import KeyReused
from spinyard.ports.store import KeyRecord, StoredObject, Transaction


@dataclass(frozen=True, slots=True)
class KeyUse:
    """`key` "" means that the caller gave none."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Done:
    """`uid`: the object the key is bound to, "" for a request about many. `response`: what is kept of the answer."""

    uid: Uid
    response: bytes = b""
    created: bool = False
    replayed: bool = False
    stored: StoredObject | None = None
    """the object as this transaction left it"""


def fingerprint(method: str, path: str, query: str, body: bytes) -> str:
    parts = (method.encode(), path.encode(), query.encode(), body)
    return hashlib.sha256(b"\x00".join(hashlib.sha256(p).digest() for p in parts)).hexdigest()


def once(tx: Transaction, use: KeyUse, work: Callable[[Transaction], Done]) -> Done:
    """Key and effect are one transaction: either both are there or neither. Raises KeyReused."""
    if not use.key:
        return work(tx)
    record = tx.find_key(use.key)
    if record is None:
        done = work(tx)
        tx.put_key(KeyRecord(use.key, use.fingerprint, done.uid, done.response, tx.now))
        return done
    if record.fingerprint != use.fingerprint:
        raise KeyReused(
            f"Idempotency-Key {use.key!r} was used for another request.",
            next_step="Take a new key for a new request; repeat a request unchanged with its old key.",
        )
    return Done(record.uid, record.response, replayed=True)
