"""Carry out a plan of changes in the transaction it was made in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from spinyard.core.ids import Digest, Uid
from spinyard.core.spec import ClaimSpec, JobSpec, Kind
from spinyard.core.spinout import SpinoutSpec
from spinyard.ports.store import NewObject, StoredObject, Transaction
from spinyard.spinout.status import SpinoutState
from spinyard.usecases.claims import NewClaim, claim
from spinyard.usecases.declared import DeclaredSpec
from spinyard.usecases.plan import ApplyRequest, Change, ChangeAction, plan_apply
from spinyard.usecases.pools import with_pool
from spinyard.usecases.rollout_start import insert_rollout
from spinyard.usecases.spinout_apply import with_services
from spinyard.usecases.spinout_record import record, record_config

INITIAL_STATUS = b"{}"


class ApplyResult(StrEnum):
    CREATED = "created"
    CONFIGURED = "configured"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Applied:
    """`rollout`: the one that was made for the new template."""

    result: ApplyResult
    stored: StoredObject
    rollout: StoredObject | None = None


def apply(tx: Transaction, request: ApplyRequest, *, new_uid: Callable[[], Uid], actor: str) -> tuple[Applied, ...]:
    """Everything or nothing. Raises what `plan_apply` raises."""
    return carry_out(tx, plan_apply(tx, request), new_uid=new_uid, actor=actor)


def carry_out(
    tx: Transaction, changes: Sequence[Change], *, new_uid: Callable[[], Uid], actor: str
) -> tuple[Applied, ...]:
    for change in changes:
        if change.template is not None and change.action in (ChangeAction.CREATE, ChangeAction.UPDATE):
            tx.put_template(change.digest, change.template)
    # What these refer to may be made in the same request.
    order = sorted(range(len(changes)), key=lambda n: changes[n].id.kind in (Kind.CLAIM, Kind.JOB, Kind.SPINOUT))
    done = {n: _carry_out_one(tx, changes[n], new_uid, actor) for n in order}
    return tuple(done[n] for n in range(len(changes)))


def _carry_out_one(tx: Transaction, change: Change, new_uid: Callable[[], Uid], actor: str) -> Applied:
    match change.action:
        case ChangeAction.CREATE:
            return Applied(ApplyResult.CREATED, _create(tx, change, new_uid(), actor))
        case ChangeAction.UPDATE:
            stored = _update(tx, change, actor)
            if change.rollout is None:
                return Applied(ApplyResult.CONFIGURED, stored)
            made = insert_rollout(tx, stored, change.rollout, uid=new_uid(), actor=actor)
            return Applied(ApplyResult.CONFIGURED, stored, made)
        case ChangeAction.UNCHANGED:
            assert change.before is not None
            return Applied(ApplyResult.UNCHANGED, change.before)
        case ChangeAction.DELETE:
            assert change.before is not None
            return Applied(ApplyResult.DELETED, delete_one(tx, change.before, actor=actor))
        case _:
            assert_never(change.action)


def delete_one(tx: Transaction, found: StoredObject, *, actor: str, force: bool = False) -> StoredObject:
    """Monotone: asking again changes nothing, unless it adds force. A Template is gone at once: nobody drives it."""
    row = found.row
    if row.delete_at is not None and (row.force or not force):
        return found
    at_once = row.kind is Kind.TEMPLATE and found.finished_at is None
    stored = tx.update(
        row.uid,
        actor=actor,
        why=f"Deletion {'by force ' if force else ''}asked for by {actor}.",
        reason="DeleteForced" if force else "DeleteRequested",
        delete=True,
        force=force,
        finish=at_once,
    )
    if row.kind is Kind.SPINOUT:
        record(tx, stored, "verb", actor, verb="delete", force=force)
    return stored


def _create(tx: Transaction, change: Change, uid: Uid, actor: str) -> StoredObject:
    assert change.spec is not None
    if isinstance(change.spec, ClaimSpec):
        new_claim = NewClaim(change.id.namespace, change.id.name, change.spec, change.labels, change.annotations)
        return claim(tx, new_claim, uid=uid, actor=actor)
    is_template = change.id.kind is Kind.TEMPLATE
    new = NewObject(
        uid=uid,
        kind=change.id.kind,
        namespace=change.id.namespace,
        name=change.id.name,
        spec=_resolved(tx, change, change.spec),
        state=_first_state(change.id.kind),
        status=INITIAL_STATUS,
        template_digest=change.digest,
        labels=change.labels,
        annotations=change.annotations,
        wake=not is_template,
    )
    stored = tx.insert(new, actor=actor, why=f"Created by {actor}.")
    if change.id.kind is Kind.SPINOUT:
        record_config(tx, stored, actor, "create")
    return stored


def _first_state(kind: Kind) -> str:
    if kind is Kind.SPINOUT:
        return SpinoutState.PROPOSED
    return "active" if kind is Kind.TEMPLATE else "pending"


def _update(tx: Transaction, change: Change, actor: str) -> StoredObject:
    before = change.before
    assert before is not None and change.spec is not None
    spec = _resolved(tx, change, change.spec)
    spec_changed = before.row.spec != spec
    digest = Digest("") if isinstance(change.spec, ClaimSpec | SpinoutSpec) else change.spec.template_digest
    stored = tx.update(
        before.row.uid,
        actor=actor,
        why=f"{'Specification' if spec_changed else 'Labels or annotations'} changed by {actor}.",
        reason="SpecChanged" if spec_changed else "MetadataChanged",
        spec=spec if spec_changed else None,
        template_digest=digest if digest != before.row.template_digest else None,
        labels=change.labels,
        annotations=change.annotations,
    )
    if spec_changed and change.id.kind is Kind.SPINOUT:
        record_config(tx, stored, actor, "change")
    return stored


def _resolved(tx: Transaction, change: Change, spec: DeclaredSpec) -> DeclaredSpec:
    """With what only the server knows."""
    if isinstance(spec, JobSpec) and spec.pool and not spec.pool_uid:
        return with_pool(tx, change.id.namespace, spec)
    if isinstance(spec, SpinoutSpec):
        return with_services(tx, change.id.namespace, spec)
    return spec
