"""Small changes of one live object: scale, restart, pause, resume, renew, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from spinyard.core.spec import ClaimSpec, Kind, ServiceSpec
from spinyard.errors import Conflict, InvalidInput
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.apply import delete_one
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.plan import check_match, plan_delete
from spinyard.usecases.pools import CLAIM_OVER, expiry
from spinyard.usecases.refusals import being_deleted
from spinyard.usecases.rollouts import is_promoted, rollout_running, running_of
from spinyard.usecases.spinouts import refuse_deleted, refuse_fewer
from spinyard.usecases.views import get_live

REPLICAS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and at which version they saw the object (None: any)."""

    actor: str
    if_match: int | None = None


Update = Callable[[Transaction, StoredObject], StoredObject]


def scale(tx: Transaction, id: ObjectId, replicas: int, caller: Caller) -> StoredObject:
    """Raises NotFound, Conflict, InvalidInput, PreconditionFailed. The same number again changes nothing."""
    if not 0 <= replicas <= REPLICAS_MAX:
        raise InvalidInput(f"replicas must be 0 to {REPLICAS_MAX}, not {replicas}.", next_step="Ask for such a number.")
    found, spec = _live_service(tx, id, caller)
    if spec.external is not None:
        raise Conflict(
            f"{id} is external: its instances are not ours to scale.", next_step="Change its endpoints instead."
        )
    if spec.replicas == replicas:
        return found
    refuse_fewer(tx, found, replace(spec, replicas=replicas))
    if replicas == 0:
        _refuse_while_running(tx, id, found, "no instance at all")
    return tx.update(
        found.row.uid,
        actor=caller.actor,
        why=f"Scaled from {spec.replicas} to {replicas} by {caller.actor}.",
        reason="Scaled",
        spec=replace(spec, replicas=replicas),
    )


def restart(tx: Transaction, id: ObjectId, caller: Caller) -> StoredObject:
    """Every instance is replaced, by the rules of a rolling update."""
    found, spec = _live_service(tx, id, caller)
    if spec.external is not None:
        raise Conflict(
            f"{id} is external: its instances are not ours to restart.", next_step="Restart them where they run."
        )
    _refuse_while_running(tx, id, found, "a restart")
    return tx.update(
        found.row.uid,
        actor=caller.actor,
        why=f"Restart asked for by {caller.actor}.",
        reason="RestartRequested",
        spec=replace(spec, restarted_at=tx.now),
    )


def pause(tx: Transaction, id: ObjectId, caller: Caller, *, paused: bool) -> StoredObject:
    """A paused object keeps what it has and makes no new instances. The same again changes nothing."""
    found = _live(tx, id, caller)
    if found.row.paused == paused:
        return found
    return tx.update(
        found.row.uid,
        actor=caller.actor,
        why=f"{'Paused' if paused else 'Resumed'} by {caller.actor}.",
        reason="Paused" if paused else "Resumed",
        paused=paused,
    )


def renew(tx: Transaction, id: ObjectId, ttl_seconds: float | None, caller: Caller) -> StoredObject:
    """It ends `ttl_seconds` from now (None: only when it is released). Raises NotFound, Conflict (claim_over)."""
    found = _live(tx, id, caller)
    spec = found.row.spec
    assert isinstance(spec, ClaimSpec)
    expires_at = expiry(ttl_seconds, tx.now)
    is_expired = spec.expires_at is not None and spec.expires_at <= tx.now
    if found.row.state in CLAIM_OVER or is_expired:
        what = "has expired" if is_expired else f"is {found.row.state}"
        raise Conflict(
            f"{id} {what}: what is over cannot be renewed.", code="claim_over", next_step="Claim anew from its pool."
        )
    return tx.update(
        found.row.uid,
        actor=caller.actor,
        why=f"Renewed by {caller.actor}" + (f" for {ttl_seconds:g} s." if ttl_seconds is not None else " for good."),
        reason="Renewed",
        spec=replace(spec, ttl_seconds=ttl_seconds, expires_at=expires_at),
    )


def delete(tx: Transaction, found: StoredObject, caller: Caller, *, force: bool) -> StoredObject:
    """Asks for its end. Raises Conflict (in_use), PreconditionFailed."""
    check_match(found, caller.if_match)
    if found.row.kind is Kind.TEMPLATE and found.finished_at is None:
        plan_delete(tx, found)
    if found.row.kind is Kind.WARM_POOL and found.row.delete_at is None and not force:
        plan_delete(tx, found)
    if found.row.kind is Kind.SERVICE and found.row.delete_at is None and not force:
        refuse_deleted(tx, [found])
    return delete_one(tx, found, actor=caller.actor, force=force)


def _live(tx: Transaction, id: ObjectId, caller: Caller) -> StoredObject:
    found = get_live(tx, id)
    check_match(found, caller.if_match)
    if found.row.delete_at is not None:
        raise being_deleted(id)
    return found


def _refuse_while_running(tx: Transaction, id: ObjectId, service: StoredObject, what: str) -> None:
    running = running_of(tx, service)
    if running is not None and not is_promoted(running, service):
        raise rollout_running(id, running, what)


def _live_service(tx: Transaction, id: ObjectId, caller: Caller) -> tuple[StoredObject, ServiceSpec]:
    found = _live(tx, id, caller)
    assert isinstance(found.row.spec, ServiceSpec), "only Services have these routes"
    return found, found.row.spec
