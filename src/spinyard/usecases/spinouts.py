"""Which Spinout is meant, and what one that has begun keeps others from doing to its parent and its unit."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from spinyard.core.spec import Kind, ServiceSpec
from spinyard.core.spinout import Approval, SpinoutSpec
from spinyard.errors import Conflict, NotFound
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import FORWARD, SpinoutState, SpinoutStatus, decode_spinout_status
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.refusals import every

S = SpinoutState
OVER = frozenset({S.COMPLETED, S.ABANDONED})
SHRINKS = frozenset({S.RETIRING})
"""the parent need not be able to take everything back any more"""
BY_PEOPLE = (S.ANALYSED, S.DECIDED, S.CONTRACTED, S.COMPLETED)
"""phases that are reached because somebody says so; the others because the engine has seen it"""


def spinout_spec(found: StoredObject) -> SpinoutSpec:
    assert isinstance(found.row.spec, SpinoutSpec)
    return found.row.spec


def spinout_status(found: StoredObject) -> SpinoutStatus:
    return decode_spinout_status(found.row.status)


def spinout_id(found: StoredObject) -> ObjectId:
    return ObjectId(Kind.SPINOUT, found.row.namespace, found.row.name)


def find_spinout(tx: Transaction, namespace: str, name: str, *, deleted: bool = False) -> StoredObject:
    """The live one, else the newest that is kept; one that was deleted only with `deleted`. Raises NotFound."""
    found = tx.find(Kind.SPINOUT, namespace, name)
    if found is not None:
        return found
    kept = tx.select(Kind.SPINOUT, namespace=namespace, finished=True, newest_first=True)
    for one in kept:
        if one.row.name == name and (deleted or one.row.delete_at is None):
            return one
    names = sorted({one.row.name for one in (*every(tx, Kind.SPINOUT, namespace=namespace), *kept)})
    near = get_close_matches(name, names, n=1)
    raise NotFound(
        f"There is no Spinout {name!r} in namespace {namespace!r}.",
        next_step=f"Did you mean {near[0]}?"
        if near
        else f"List what there is: `spinyard get spinouts -n {namespace}`.",
        details={"suggestion": near[0]} if near else {},
    )


def approved_phases(spec: SpinoutSpec, attempt: int | None = None) -> set[str]:
    """Of that attempt, else of any. The newest word counts: a decision may be another by now."""
    newest: dict[str, Approval] = {}
    for one in spec.approvals:
        if not one.waives and attempt in (None, one.attempt):
            newest[one.phase] = one
    return {phase for phase, one in newest.items() if one.decision in ("", "go")}


def present_phase(found: StoredObject) -> SpinoutState:
    """The last phase that was reached, also of one that is held."""
    held_from = spinout_status(found).held_from
    phase = S(held_from) if found.row.state == S.HELD and held_from else S(found.row.state)
    return phase if phase in FORWARD else S.PROPOSED


def is_over(found: StoredObject) -> bool:
    return found.finished_at is not None or found.row.state in OVER


def goes_back(found: StoredObject) -> bool:
    row = found.row
    return row.state == S.ROLLING_BACK or row.delete_at is not None or (bool(spinout_spec(found).abort) and runs(found))


def runs(found: StoredObject) -> bool:
    """Begun, and not at its end: parent and unit are needed."""
    spec = spinout_spec(found)
    if is_over(found) or not spec.started:
        return False
    begins_again = spec.started > spinout_status(found).attempt and not spec.abort
    return found.row.state != S.ROLLED_BACK or begins_again


def has_weight(found: StoredObject) -> bool:
    """The data plane may send requests to the unit, as far as is known."""
    status = spinout_status(found)
    moves = status.weight > 0 or status.shown_weight > 0 or status.mirror > 0
    return not is_over(found) and (moves or found.row.state == S.ROLLING_BACK)


def running_with(tx: Transaction, service: StoredObject) -> list[StoredObject]:
    """Those that run and have this Service as parent or unit."""
    row = service.row
    if row.kind is not Kind.SERVICE:
        return []
    return [
        one
        for one in every(tx, Kind.SPINOUT, namespace=row.namespace)
        if row.uid in (spinout_spec(one).parent_uid, spinout_spec(one).unit_uid) and runs(one)
    ]


def refuse_fewer(tx: Transaction, service: StoredObject, after: ServiceSpec) -> None:
    """Of a parent that must be able to take everything back, of a unit that has requests. Raises Conflict."""
    before = service.row.spec
    assert isinstance(before, ServiceSpec)
    if after.replicas >= before.replicas and (after.external is None) == (before.external is None):
        return
    name, namespace = service.row.name, service.row.namespace
    for one in running_with(tx, service):
        spec, status, row = spinout_spec(one), spinout_status(one), one.row
        is_parent = spec.parent_uid == service.row.uid
        keeps = row.state not in SHRINKS and status.held_from not in SHRINKS
        if is_parent and keeps and after.external is None and after.replicas < spec.capacity_floor:
            raise Conflict(
                f"Service {namespace}/{name} is the parent of Spinout {row.name}, which is {row.state}: it keeps "
                f"{_instances(spec.capacity_floor)} until soaking is over, so that every request can go back at once; "
                f"{_instances(after.replicas)} would be fewer.",
                code="capacity_floor",
                next_step=f"Wait until it is retiring (`spinyard spinout status {row.name} -n {namespace}`), or go "
                f"back first: `spinyard spinout abort {row.name} -n {namespace} --why '...'`.",
                details={"spinout": row.name, "state": row.state, "capacityFloor": spec.capacity_floor},
            )
        if after.external is None and after.replicas == 0 and has_weight(one):
            # Of a parent that is retiring as well: nobody else can take back what a failing unit has.
            raise _needed(one, f"Service {namespace}/{name}", "no instance at all")


def refuse_deleted(tx: Transaction, deletions: Sequence[StoredObject]) -> None:
    """Neither parent nor unit goes while a Spinout runs. Raises Conflict (in_use)."""
    for service in deletions:
        for one in running_with(tx, service):
            raise _needed(one, f"Service {service.row.namespace}/{service.row.name}", "its deletion")


def spinout_over(found: StoredObject, what: str) -> Conflict:
    id = spinout_id(found)
    return Conflict(
        f"{id} is {found.row.state}: there is nothing left to {what}.",
        code="spinout_over",
        next_step=f"What happened: `spinyard spinout history {id.name} -n {id.namespace}`.",
        details={"state": found.row.state},
    )


def _needed(spinout: StoredObject, service: str, what: str) -> Conflict:
    row, spec = spinout.row, spinout_spec(spinout)
    part = "parent" if service.endswith(f"/{spec.parent}") else "unit"
    return Conflict(
        f"{service} is the {part} of Spinout {row.name}, which is {row.state}: {what} is refused meanwhile.",
        code="in_use",
        next_step=f"Go back first (`spinyard spinout abort {row.name} -n {row.namespace} --why '...'`), or let it be "
        "completed.",
        details={"usedBy": [spinout_id(spinout).path], "state": row.state},
    )


def _instances(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"
