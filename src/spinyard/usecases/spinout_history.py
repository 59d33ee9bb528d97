"""The history of a Spinout, and whether it is still what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spinyard.core.chain import Break, Record, first_break
from spinyard.core.ids import Uid
from spinyard.ports.store import Store

PAGE = 200


@dataclass(frozen=True, slots=True)
class Verification:
    """`records`: how many are there. `head`: hash of the last one as it is remembered apart from the records."""

    records: int
    head: str
    broken: Break | None

    @property
    def is_whole(self) -> bool:
        return self.broken is None


def history(store: Store, uid: Uid, *, after: int, limit: int) -> Sequence[Record]:
    return store.records(uid, after=after, limit=limit)


def verify(store: Store, uid: Uid) -> Verification:
    """Every hash is computed anew, and the end is compared with what was remembered of it. Records that come while it
    is read are not looked at."""
    seq, head = store.last_record(uid)
    seen: list[Record] = []

    def each() -> Iterator[Record]:
        after = 0
        while after < seq:
            page = store.records(uid, after=after, limit=PAGE)
            if not page:
                return
            for record in page:
                if record.seq > seq:
                    return
                seen[:] = [record]
                yield record
            after = page[-1].seq

    found = first_break(each())
    last = seen[-1] if seen else None
    if found is None and (last.seq if last else 0) < seq:
        found = Break((last.seq if last else 0) + 1, f"the end is missing: {seq} records were written")
    if found is None and last is not None and last.hash != head:
        found = Break(last.seq, "the last record is not the one that was written last")
    return Verification(seq, head, found)
