# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Reservations: no counters, only live rows that are summed. Called with every other writer waiting (see session)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spinyard.core.ids import Uid, fraction_of
from spinyard.core.plan import Reservation, Reserve
from spinyard.store.codec import json_text
from spinyard.store.dialect import Words
from spinyard.store.link import Link, Sql

_WINDOW = 64
"""numbers of a range looked at first, before the whole range is read"""


class ReserveStatements:
    def __init__(self, words: Words) -> None:
        self.own = Sql(
            f"SELECT owner_uid, scope, name, amount, slot FROM reservations WHERE owner_uid IN {words.values('uids')}"
        )
        self.sums = Sql(
            "SELECT scope, CAST(SUM(amount) AS BIGINT) FROM reservations "
            f"WHERE scope IN {words.values('scopes')} GROUP BY scope"
        )
        self.taken = Sql("SELECT slot FROM reservations WHERE scope = :scope AND slot BETWEEN :low AND :high")
        ranges = words.rows("ranges", (("scope", "text"), ("low", "int"), ("high", "int")))
        self.near = Sql(
            f"SELECT DISTINCT b.scope, r.slot FROM {ranges} AS b JOIN reservations AS r "
            "ON r.scope = b.scope AND r.slot BETWEEN b.low AND b.high"
        )
        self.insert = Sql(
            "INSERT INTO reservations (owner_uid, scope, name, amount, slot) "
            "VALUES (:owner_uid, :scope, :name, :amount, :slot)"
        )
        self.give_back = Sql(
            "DELETE FROM reservations WHERE owner_uid = :owner_uid AND scope = :scope AND name = :name"
        )
        self.delete = Sql(f"DELETE FROM reservations WHERE owner_uid IN {words.values('uids')}")


@dataclass(slots=True)
class _Ledger:
    """What is reserved, as this transaction sees it, its own decisions included."""

    own: dict[tuple[str, str, str], Reservation]
    sums: dict[str, int]
    taken: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    near: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """taken before, in the windows where the owners of this batch begin to look"""
    asked: list[dict[str, object]] = field(default_factory=list)


def reserve(
    connection: Link, statements: ReserveStatements, requests: Sequence[tuple[Uid, Sequence[Reserve]]]
) -> Mapping[Uid, tuple[Reservation, ...] | str]:
    """For each owner all that it asked for, or the words of the first refusal and then nothing of it."""
    uids = json_text(sorted(uid for uid, _ in requests))
    scopes = json_text(sorted({r.scope for _, wanted in requests for r in wanted if r.limit is not None}))
    ledger = _Ledger(
        own={
            (owner, scope, name): Reservation(scope=scope, name=name, amount=amount, slot=slot)
            for owner, scope, name, amount, slot in connection.execute(statements.own, {"uids": uids}).all()
        },
        sums={str(r[0]): int(r[1]) for r in connection.execute(statements.sums, {"scopes": scopes}).all()},
    )
    ranges = sorted({(r.scope, *_window(uid, r)) for uid, wanted in requests for r in wanted if _is_open(r)})
    if ranges:
        for scope, slot in connection.execute(statements.near, {"ranges": json_text(ranges)}).all():
            ledger.near[scope].add(slot)
    answers: dict[Uid, tuple[Reservation, ...] | str] = {}
    for uid, wanted in requests:
        answers[uid] = _reserve_row(connection, statements, ledger, uid, wanted)
    if ledger.asked:
        connection.execute(statements.insert, ledger.asked)
    return answers


def _reserve_row(
    connection: Link, statements: ReserveStatements, ledger: _Ledger, uid: Uid, wanted: Sequence[Reserve]
) -> tuple[Reservation, ...] | str:
    got: list[Reservation] = []
    new: list[Reservation] = []
    for ask in wanted:
        held = ledger.own.get((uid, ask.scope, ask.name)) or next(
            (r for r in new if (r.scope, r.name) == (ask.scope, ask.name)), None
        )
        if held is not None:
            got.append(held)
            continue
        answer = _reserve_one(connection, statements, ledger, uid, ask)
        if isinstance(answer, str):
            for taken in new:
                _give_back(ledger, taken)
            return answer
        new.append(answer)
        got.append(answer)
    for taken in new:
        ledger.own[uid, taken.scope, taken.name] = taken
        ledger.asked.append(
            {"owner_uid": uid, "scope": taken.scope, "name": taken.name, "amount": taken.amount, "slot": taken.slot}
        )
    return tuple(got)


def _reserve_one(
    connection: Link, statements: ReserveStatements, ledger: _Ledger, uid: Uid, ask: Reserve
) -> Reservation | str:
    total = ledger.sums.get(ask.scope, 0)
    if ask.limit is not None and total + ask.amount > ask.limit:
        return f"{ask.scope}: {ask.amount} more would pass the limit of {ask.limit}; {total} are in use"
    slot = None
    if ask.exactly is not None:
        if _is_taken(connection, statements, ledger, ask.scope, ask.exactly):
            return f"{ask.scope}: number {ask.exactly} is taken"
        slot = ask.exactly
    elif ask.low is not None and ask.high is not None:
        slot = _free_slot(connection, statements, ledger, uid, ask, ask.low, ask.high)
        if slot is None:
            return f"{ask.scope}: no free number between {ask.low} and {ask.high}"
    ledger.sums[ask.scope] = total + ask.amount
    if slot is not None:
        ledger.taken[ask.scope].add(slot)
    return Reservation(scope=ask.scope, name=ask.name, amount=ask.amount, slot=slot)


def _give_back(ledger: _Ledger, taken: Reservation) -> None:
    ledger.sums[taken.scope] -= taken.amount
    if taken.slot is not None:
        ledger.taken[taken.scope].discard(taken.slot)


def _is_taken(connection: Link, statements: ReserveStatements, ledger: _Ledger, scope: str, slot: int) -> bool:
    if slot in ledger.taken[scope]:
        return True
    return bool(connection.execute(statements.taken, {"scope": scope, "low": slot, "high": slot}).all())


def _free_slot(
    connection: Link,
    statements: ReserveStatements,
    ledger: _Ledger,
    uid: Uid,
    ask: Reserve,
    low: int,
    high: int,
) -> int | None:
    """The first free number from a place that is the owner's own, going round: neighbours in time do not collide."""
    if high < low:
        return None
    start, end = _window(uid, ask)
    taken, near = ledger.taken[ask.scope], ledger.near[ask.scope]
    free = next((slot for slot in range(start, end + 1) if slot not in near and slot not in taken), None)
    if free is not None:
        return free
    for first, last in ((start, high), (low, start - 1)):
        if first > last:
            continue
        rows = connection.execute(statements.taken, {"scope": ask.scope, "low": first, "high": last}).all()
        busy = {slot for (slot,) in rows} | taken
        free = next((slot for slot in range(first, last + 1) if slot not in busy), None)
        if free is not None:
            return free
    return None


def _is_open(ask: Reserve) -> bool:
    """Asks for any free number of a range."""
    return ask.exactly is None and ask.low is not None and ask.high is not None and ask.low <= ask.high


def _window(uid: Uid, ask: Reserve) -> tuple[int, int]:
    """Where this owner begins to look."""
    assert ask.low is not None and ask.high is not None
    start = ask.low + int(fraction_of(f"{uid}/{ask.name}") * (ask.high - ask.low + 1))
    return start, min(start + _WINDOW - 1, ask.high)
