"""Holds: a person puts off what happens by itself, in everything, a namespace, or one parent; and lets it go on."""

from __future__ import annotations

from dataclasses import dataclass

from spinyard.core.holds import EVERYTHING, WHOLE, hold_place
from spinyard.core.ids import Uid
from spinyard.core.spec import HoldSpec, Kind
from spinyard.errors import InvalidInput, NotFound
from spinyard.ports.store import NewObject, StoredObject, Transaction
from spinyard.spin.hold import HoldState
from spinyard.usecases.change import Caller
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.refusals import being_deleted, every

WHY_MAX = 500
SECONDS_MAX = 366 * 86400.0
HOLDABLE = {
    "service": Kind.SERVICE,
    "job": Kind.JOB,
    "warmpool": Kind.WARM_POOL,
    "pool": Kind.WARM_POOL,
    "rollout": Kind.ROLLOUT,
    "spinout": Kind.SPINOUT,
}
_SCOPES = "nothing for everything, namespace/NAME, service/NAME, pool/NAME, job/NAME, rollout/NAME or spinout/NAME"


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """`scope` "": everything. `namespace`: of a kind/NAME. `seconds` None: until it is released."""

    scope: str
    namespace: str
    why: str
    seconds: float | None = None


def hold(tx: Transaction, wanted: HoldRequest, caller: Caller, *, uid: Uid) -> tuple[StoredObject, bool]:
    """(the hold, whether it is new). The same scope again: the newest reason and time count. Raises InvalidInput,
    NotFound (nothing of that name lives), Conflict."""
    why = " ".join(wanted.why.split())
    if not why:
        raise InvalidInput("A hold needs a reason.", next_step="Say why: --why 'what the others should know'.")
    if len(why) > WHY_MAX:
        raise InvalidInput(f"The reason is longer than {WHY_MAX} characters.", next_step="Say it shorter.")
    if wanted.seconds is not None and not 0 < wanted.seconds <= SECONDS_MAX:
        raise InvalidInput(
            f"A hold may last more than 0 s and at most {SECONDS_MAX / 86400:.0f} days.",
            next_step="Give another time, or none: then it lasts until it is released.",
        )
    scope = parse_scope(wanted.scope)
    _check_exists(tx, scope, wanted.namespace)
    until = None if wanted.seconds is None else tx.now + wanted.seconds
    spec = HoldSpec(scope, why, caller.actor, until)
    namespace, name = hold_place(scope, wanted.namespace)
    found = tx.find(Kind.HOLD, namespace, name)
    if found is not None and found.row.delete_at is not None:
        raise being_deleted(ObjectId(Kind.HOLD, namespace, name))
    said = f"{scope} held by {caller.actor}: {why}"
    if found is None:
        new = NewObject(uid, Kind.HOLD, namespace, name, spec, HoldState.ACTIVE, b"{}")
        made = tx.insert(new, actor=caller.actor, why=said)
    else:
        # Also one whose time is over and that nobody has ended yet: it is this one then.
        made = tx.update(found.row.uid, actor=caller.actor, why=said, reason="HoldChanged", spec=spec)
    _wake(tx, scope, wanted.namespace)
    return made, found is None or _is_over(found, tx.now)


def release_hold(tx: Transaction, scope: str, namespace: str, caller: Caller) -> StoredObject:
    """Raises InvalidInput, NotFound (not held)."""
    scope = parse_scope(scope)
    place, name = hold_place(scope, namespace)
    found = tx.find(Kind.HOLD, place, name)
    if found is None or found.row.delete_at is not None or _is_over(found, tx.now):
        where = "" if scope == EVERYTHING or scope.startswith(WHOLE) else f" in namespace {namespace}"
        raise NotFound(f"{scope} is not held{where}.", next_step="See what is: spinyard get holds -A.")
    why = f"{scope} released by {caller.actor}"
    done = tx.update(found.row.uid, actor=caller.actor, why=why, reason="ReleaseRequested", delete=True)
    _wake(tx, scope, namespace)
    return done


def holds(tx: Transaction, namespace: str | None) -> list[StoredObject]:
    """Those in force over something of that namespace, or all."""
    found = [one for one in every(tx, Kind.HOLD) if one.row.delete_at is None and not _is_over(one, tx.now)]
    return [one for one in found if namespace is None or _scope(one) == EVERYTHING or one.row.namespace == namespace]


def parse_scope(text: str) -> str:
    """As it is stored. Raises InvalidInput."""
    if text in ("", EVERYTHING):
        return EVERYTHING
    word, slash, name = text.partition("/")
    kind = word.lower()
    if not slash or not name or "/" in name:
        raise InvalidInput(f"{text!r} is not a scope of holds.", next_step=f"Give {_SCOPES}.")
    if kind == WHOLE:
        return f"{WHOLE}/{name}"
    if kind not in HOLDABLE:
        raise InvalidInput(f"{text!r} cannot be held: nothing is started by a {word}.", next_step=f"Give {_SCOPES}.")
    return f"{HOLDABLE[kind].lower()}/{name}"


def _check_exists(tx: Transaction, scope: str, namespace: str) -> None:
    """A name that is misspelt would hold nothing, and nobody would see it."""
    if scope == EVERYTHING:
        return
    word, _, name = scope.partition("/")
    if word == WHOLE:
        if not tx.select(None, namespace=name, limit=1):
            raise NotFound(f"There is nothing in namespace {name}.", next_step="See `spinyard get all -A`.")
    elif tx.find(HOLDABLE[word], namespace, name) is None:
        raise NotFound(
            f"There is no {HOLDABLE[word]} {name} in namespace {namespace}.",
            next_step=f"See `spinyard get {word} -n {namespace}`.",
        )


def _wake(tx: Transaction, scope: str, namespace: str) -> None:
    word, _, name = scope.partition("/")
    if scope == EVERYTHING:
        tx.wake_parents()
    elif word == WHOLE:
        tx.wake_parents(namespace=name)
    else:
        tx.wake_parents(namespace=namespace, kind=HOLDABLE[word], name=name)


def _is_over(found: StoredObject, now: float) -> bool:
    spec = found.row.spec
    assert isinstance(spec, HoldSpec)
    return spec.until is not None and spec.until <= now


def _scope(found: StoredObject) -> str:
    assert isinstance(found.row.spec, HoldSpec)
    return found.row.spec.scope
