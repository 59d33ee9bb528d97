"""What a person may ask of a Rollout: promote, pause, resume, abort, rollback. NAME as in `find_rollout`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from spinyard.core.ids import Digest, Uid
from spinyard.core.spec import Kind, ServiceSpec
from spinyard.errors import Conflict
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spin.rollout.status import RolloutState
from spinyard.usecases import change
from spinyard.usecases.change import Caller
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.plan import check_match
from spinyard.usecases.refusals import being_deleted
from spinyard.usecases.rollouts import (
    find_rollout,
    goes_back,
    is_over,
    is_promoted,
    rollout_running,
    rollout_spec,
    rollout_status,
    running_rollout,
)

WHY_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class RolledBack:
    """`did` "aborted": the running Rollout goes back. "changed": it was promoted, and its Service, which is `stored`
    then, has the old template again."""

    did: Literal["aborted", "changed"]
    stored: StoredObject
    message: str


def promote(tx: Transaction, namespace: str, name: str, caller: Caller, *, full: bool = False) -> StoredObject:
    """The present step is left without asking the judge; `full`: and all others. The guards hold nevertheless."""
    found = _running(tx, namespace, name, caller, "promote")
    spec = rollout_spec(found)
    if found.row.state == RolloutState.PROMOTING:
        return found
    if full:
        after, what = replace(spec, promoted_fully=True), "Promoted fully"
    else:
        step = rollout_status(found).step
        after, what = replace(spec, promoted=max(spec.promoted, step + 1)), f"Step {step + 1} promoted"
    return tx.update(
        found.row.uid, actor=caller.actor, why=f"{what} by {caller.actor}.", reason="PromoteRequested", spec=after
    )


def pause(tx: Transaction, namespace: str, name: str, caller: Caller, *, paused: bool) -> StoredObject:
    """A paused one keeps its weight; its guards hold."""
    found = _running(tx, namespace, name, caller, "pause" if paused else "resume")
    id = ObjectId(Kind.ROLLOUT, namespace, found.row.name)
    return change.pause(tx, id, Caller(caller.actor), paused=paused)


def abort(tx: Transaction, namespace: str, name: str, caller: Caller, *, why: str = "") -> StoredObject:
    """Back to 0 %. Of one that goes back, or is back, nothing more is asked: the first word stays."""
    found = find_rollout(tx, namespace, name)
    check_match(found, caller.if_match)
    if is_over(found):
        if found.row.state == RolloutState.ROLLED_BACK:
            return found
        raise _is_over(found, "abort")
    if found.row.state == RolloutState.PROMOTING:
        raise Conflict(
            f"{_id(found)} is promoted: there is nothing left to abort.",
            code="rollout_promoted",
            next_step=_back(found),
        )
    spec = rollout_spec(found)
    if spec.abort:
        return found
    words = why.strip()[:WHY_CHARACTERS_MAX] or f"by {caller.actor}"
    return tx.update(
        found.row.uid,
        actor=caller.actor,
        why=f"Abort: {words}",
        reason="AbortRequested",
        spec=replace(spec, abort=words),
    )


def rollback(tx: Transaction, namespace: str, name: str, caller: Caller) -> RolledBack:
    """One that runs is aborted. Of one that is promoted, or succeeded, the Service gets the old template, as a rolling
    change."""
    found = find_rollout(tx, namespace, name)
    check_match(found, caller.if_match)
    promoted = found.row.state == RolloutState.PROMOTING
    if not is_over(found) and not promoted:
        stored = abort(tx, namespace, found.row.name, Caller(caller.actor), why=f"rolled back by {caller.actor}")
        return RolledBack("aborted", stored, f"{found.row.name} was running: it is aborted, and goes back to 0 %.")
    if not promoted and found.row.state != RolloutState.SUCCEEDED:
        raise _is_over(found, "roll back")
    spec = rollout_spec(found)
    service = _service_of(tx, found, spec.template_digest)
    before = service.row.spec
    assert isinstance(before, ServiceSpec)
    if tx.template(spec.old_digest) is None:
        raise Conflict(
            f"{spec.old_digest}, the template before {found.row.name}, is not kept any more.",
            code="template_gone",
            next_step="Apply the old version from its file.",
        )
    stored = tx.update(
        service.row.uid,
        actor=caller.actor,
        why=f"Back to {spec.old_digest}, the template before {found.row.name}, by {caller.actor}.",
        reason="RollbackRequested",
        # What the name stood for then is known by its content only.
        spec=replace(before, template_digest=spec.old_digest, template_ref=""),
        template_digest=spec.old_digest,
    )
    was = "is promoted" if promoted else "had succeeded"
    message = f"{found.row.name} {was}: {spec.service} goes back to {spec.old_digest}, instance by instance."
    return RolledBack("changed", stored, message)


def _running(tx: Transaction, namespace: str, name: str, caller: Caller, verb: str) -> StoredObject:
    found = find_rollout(tx, namespace, name)
    check_match(found, caller.if_match)
    if is_over(found):
        raise _is_over(found, verb)
    if found.row.delete_at is not None:
        raise being_deleted(_id(found))
    if goes_back(found):
        raise Conflict(
            f"{_id(found)} goes back ({rollout_spec(found).abort or rollout_status(found).stopped}): "
            f"{verb} would change nothing.",
            code="rollout_retreating",
            next_step="When it is back, apply the Service again for a new rollout.",
        )
    return found


def _service_of(tx: Transaction, rollout: StoredObject, digest: Digest) -> StoredObject:
    """Of a Rollout that is promoted or succeeded, as long as what it brought is what runs. Raises Conflict."""
    spec = rollout_spec(rollout)
    id = ObjectId(Kind.SERVICE, rollout.row.namespace, spec.service)
    service = tx.find_uid(Uid(spec.service_uid))
    if service is None or service.finished_at is not None:
        raise Conflict(
            f"{id}, which {rollout.row.name} was of, is gone.",
            code="service_gone",
            next_step="Apply the Service, with the version that you want.",
        )
    if service.row.delete_at is not None:
        raise being_deleted(id)
    running = running_rollout(tx, rollout.row.namespace, service.row.uid)
    if running is not None and not (running.row.uid == rollout.row.uid and is_promoted(running, service)):
        raise rollout_running(id, running, f"going back from {rollout.row.name}")
    if service.row.template_digest == spec.old_digest:
        raise Conflict(
            f"{id} has {spec.old_digest}, the template before {rollout.row.name}, already.",
            code="template_changed",
            next_step="Nothing: it is back.",
        )
    if service.row.template_digest != digest:
        raise Conflict(
            f"{id} has another template by now ({service.row.template_digest}, {rollout.row.name} brought {digest}).",
            code="template_changed",
            next_step="Roll back the newest rollout, or apply the version that you want.",
        )
    return service


def _is_over(found: StoredObject, verb: str) -> Conflict:
    row = found.row
    succeeded = row.state == RolloutState.SUCCEEDED
    return Conflict(
        f"{_id(found)} is over: it has {'succeeded' if succeeded else 'gone back'}; there is nothing to {verb}.",
        code="rollout_over",
        next_step=_back(found) if succeeded else "Apply the Service again for a new rollout.",
    )


def _back(found: StoredObject) -> str:
    return f"`spinyard rollout rollback {found.row.name} -n {found.row.namespace}` brings the version before back."


def _id(found: StoredObject) -> ObjectId:
    return ObjectId(Kind.ROLLOUT, found.row.namespace, found.row.name)
