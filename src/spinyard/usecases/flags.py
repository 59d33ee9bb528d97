"""A Spinout as a feature flag: which side a key is on, as Envoy decides it.

The weight is the lower one of what is asked of the data plane and what it has confirmed: on the way up the flag
follows Envoy, on the way down it goes before it. What a client believes is never the last word; Envoy's is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import SpinoutState
from spinyard.usecases.spinouts import spinout_spec, spinout_status
from spinyard_sdk.wire import PARENT, UNIT, Side, boundary_host, flag_key, side_of

PAGE = 200
FLAGS_MAX = 2_000
S = SpinoutState
NOTHING_MOVES = frozenset(
    {S.PROPOSED, S.ANALYSED, S.DECIDED, S.CONTRACTED, S.SCAFFOLDED, S.INSTRUMENTED, S.ROLLED_BACK, S.ABANDONED}
)


class Reason(StrEnum):
    """OpenFeature's words."""

    SPLIT = "SPLIT"
    STATIC = "STATIC"
    DISABLED = "DISABLED"


class FlagError(StrEnum):
    """OpenFeature's words for why there is no answer."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    GENERAL = "GENERAL"


@dataclass(frozen=True, slots=True)
class Flag:
    """`weight`, `shadow`: parts of 10,000. `version` grows with each weight that is asked of the data plane. `host`:
    under which the SDK calls the unit through Envoy."""

    key: str
    weight: int
    shadow: int = 0
    version: int = 0
    is_disabled: bool = False
    no_key_parent: bool = True
    host: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`error` is set, or all the others."""

    side: Side = PARENT
    reason: Reason = Reason.STATIC
    error: FlagError | None = None
    details: str = ""


def read_flags(tx: Transaction) -> Mapping[str, Flag]:
    """By key. Of Spinouts with one name the live one counts, else the one that was made last; a deleted one is none."""
    newest: dict[str, StoredObject] = {}
    for found in _all(tx):
        if found.row.delete_at is not None and found.finished_at is not None:
            continue
        key = flag_key(found.row.namespace, found.row.name)
        other = newest.get(key)
        if other is None or _rank(found) > _rank(other):
            newest[key] = found
    flags: dict[str, Flag] = {}
    for key, found in sorted(newest.items()):
        # What newer code has written is left alone; it must not take the other flags away.
        with contextlib.suppress(msgspec.MsgspecError):
            flags[key] = flag_of(found)
    return flags


def flag_of(found: StoredObject) -> Flag:
    row, spec, status = found.row, spinout_spec(found), spinout_status(found)
    is_disabled = row.state in NOTHING_MOVES
    # The unit's for good: its routes are its own then, and nobody asks for a weight any more.
    weight = WEIGHT_ALL if row.state == S.COMPLETED else min(status.weight, status.shown_weight)
    return Flag(
        key=flag_key(row.namespace, row.name),
        weight=0 if is_disabled else min(max(weight, 0), WEIGHT_ALL),
        shadow=0 if is_disabled else min(max(status.mirror, 0), WEIGHT_ALL),
        version=status.serial,
        is_disabled=is_disabled,
        no_key_parent=spec.key.no_key_old,
        host=boundary_host(row.namespace, row.name),
    )


def evaluate(flag: Flag, targeting_key: object) -> Evaluation:
    """`targeting_key`: as it came; None: there was none."""
    if targeting_key is not None and not isinstance(targeting_key, str):
        return Evaluation(error=FlagError.INVALID_CONTEXT, details="targetingKey must be a string")
    if not targeting_key:
        if not flag.no_key_parent and not flag.is_disabled:
            why = "this flag has no rule for who has no key; send a targetingKey"
            return Evaluation(error=FlagError.TARGETING_KEY_MISSING, details=why)
        return Evaluation(PARENT, Reason.DISABLED if flag.is_disabled else Reason.STATIC)
    if flag.is_disabled:
        return Evaluation(PARENT, Reason.DISABLED)
    if flag.weight in (0, WEIGHT_ALL):
        return Evaluation(UNIT if flag.weight else PARENT, Reason.STATIC)
    try:
        return Evaluation(side_of(targeting_key, flag.weight), Reason.SPLIT)
    except ValueError:
        why = "targetingKey must be printable ASCII without spaces at its ends: Envoy hashes it as a header"
        return Evaluation(error=FlagError.INVALID_CONTEXT, details=why)


def _rank(found: StoredObject) -> tuple[bool, float]:
    return found.finished_at is None, found.row.created_at


def _all(tx: Transaction) -> Sequence[StoredObject]:
    out: list[StoredObject] = []
    after = ""
    while len(out) < FLAGS_MAX:
        page = tx.select(Kind.SPINOUT, finished=None, after=after, limit=PAGE)
        out += page
        if len(page) < PAGE:
            break
        last = page[-1].row
        after = f"{last.namespace}/{last.name}/{last.uid}"
    return out
