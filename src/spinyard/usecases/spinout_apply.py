"""A declared Spinout against what is there: its two Services, other Spinouts of the parent, and how far it is itself.

What people did with the verbs, and what the server filled in, is carried over, whatever is declared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from spinyard.core.spec import Kind, ServiceSpec
from spinyard.core.spinout import SpinoutSpec
from spinyard.errors import Conflict, InvalidInput
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.routes import overlapping, route_text
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.refusals import every, problem, raise_problems
from spinyard.usecases.spinouts import has_weight, is_over, spinout_id, spinout_spec, spinout_status

Problems = list[dict[str, object]]


def refuse_misplaced(tx: Transaction, declared: Sequence[Declared]) -> None:
    """Parent and unit are there, or declared beside it, and have routes; no other Spinout of the parent carries the
    same requests. Raises InvalidInput with all problems."""
    problems: Problems = []
    others = _others(tx, declared)
    for index, one in enumerate(declared):
        if not isinstance(one.spec, SpinoutSpec):
            continue
        for field, name in (("parent", one.spec.parent), ("unit", one.spec.unit)):
            problems += _service_problems(tx, declared, one, f"objects[{index}].spec.{field}", field, name)
        problems += _overlaps(one, one.spec, others, f"objects[{index}].spec.boundary.routes")
        others.append((one.id, one.spec))
    raise_problems(problems)


def onto_stored_spinout(id: ObjectId, declared: SpinoutSpec, before: StoredObject) -> SpinoutSpec:
    """The spec to store. Raises Conflict (spinout_in_traffic, spinout_over)."""
    stored = spinout_spec(before)
    spec = replace(
        declared,
        parent_uid=stored.parent_uid if declared.parent == stored.parent else "",
        unit_uid=stored.unit_uid if declared.unit == stored.unit else "",
        approvals=stored.approvals,
        started=stored.started,
        promoted=stored.promoted,
        promoted_fully=stored.promoted_fully,
        abort=stored.abort,
        capacity_floor=stored.capacity_floor,
        jwks=stored.jwks,
    )
    if spec == stored:
        return spec
    if is_over(before):
        raise Conflict(
            f"{id} is {before.row.state}: what is over is not changed.",
            code="spinout_over",
            next_step=f"Delete it (`spinyard delete spinout/{id.name} -n {id.namespace}`) and apply again.",
        )
    if has_weight(before):
        _refuse_in_traffic(id, spec, stored, before)
    return spec


def with_services(tx: Transaction, namespace: str, spec: SpinoutSpec) -> SpinoutSpec:
    """With the Services that its names mean now. Those it runs with stay."""
    parent, unit = (tx.find(Kind.SERVICE, namespace, name) for name in (spec.parent, spec.unit))
    assert parent is not None and unit is not None, "looked at before"
    return replace(spec, parent_uid=spec.parent_uid or parent.row.uid, unit_uid=spec.unit_uid or unit.row.uid)


def _refuse_in_traffic(id: ObjectId, spec: SpinoutSpec, stored: SpinoutSpec, before: StoredObject) -> None:
    kept = spinout_status(before).step + 1
    changed = [
        what
        for what, is_other in (
            ("another parent", spec.parent != stored.parent),
            ("another unit", spec.unit != stored.unit),
            ("other routes", spec.routes != stored.routes),
            ("another key, which would move people to the other side,", spec.key != stored.key),
            ("whether writes are forwarded", spec.forward_to_owner != stored.forward_to_owner),
            ("other steps up to the present one", spec.steps[:kept] != stored.steps[:kept]),
        )
        if is_other
    ]
    if changed:
        raise Conflict(
            f"{id} is {before.row.state}, and requests go to its unit: {' and '.join(changed)} is refused meanwhile.",
            code="spinout_in_traffic",
            next_step=f"Go back first: `spinyard spinout abort {id.name} -n {id.namespace} --why '...'`, apply when it "
            "is rolled back, and start it again.",
            details={"state": before.row.state, "weight": spinout_status(before).weight / 100},
        )


def _service_problems(
    tx: Transaction, declared: Sequence[Declared], one: Declared, path: str, field: str, name: str
) -> Problems:
    spec = _service(tx, declared, one.namespace, name)
    if spec is None:
        names = [found.row.name for found in every(tx, Kind.SERVICE, namespace=one.namespace)]
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        message = f"{one.id}: there is no Service {name} in namespace {one.namespace}{hint}"
        return [problem(path, "service_not_found", message, "the name of a Service, there or in the same request")]
    if spec.route is None:
        what = "which requests it has" if field == "parent" else "how its instances are reached"
        message = f"{one.id}: Service {name} has no route, so the gateway does not know {what}"
        return [problem(path, "no_route", message, "a Service with spec.route")]
    return []


def _service(tx: Transaction, declared: Sequence[Declared], namespace: str, name: str) -> ServiceSpec | None:
    for one in declared:
        if isinstance(one.spec, ServiceSpec) and (one.namespace, one.name) == (namespace, name):
            return one.spec
    found = tx.find(Kind.SERVICE, namespace, name)
    if found is None or found.row.delete_at is not None or not isinstance(found.row.spec, ServiceSpec):
        return None
    return found.row.spec


def _others(tx: Transaction, declared: Sequence[Declared]) -> list[tuple[ObjectId, SpinoutSpec]]:
    """Those that are not declared anew, and not over."""
    own = {one.id for one in declared}
    namespaces = {one.namespace for one in declared if one.kind is Kind.SPINOUT}
    return [
        (spinout_id(found), spinout_spec(found))
        for namespace in namespaces
        for found in every(tx, Kind.SPINOUT, namespace=namespace)
        if spinout_id(found) not in own and not is_over(found)
    ]


def _overlaps(one: Declared, spec: SpinoutSpec, others: Sequence[tuple[ObjectId, SpinoutSpec]], path: str) -> Problems:
    out: Problems = []
    for id, other in others:
        if (id.namespace, other.parent) != (one.namespace, spec.parent):
            continue
        for mine, theirs in overlapping(spec.routes, other.routes):
            message = (
                f"{one.id}: {route_text(mine)} and {route_text(theirs)} of {id} have requests in common: each request "
                "of a parent has one way"
            )
            out.append(
                problem(path, "overlapping_routes", message, f"routes that {id} does not have, or one of the two")
            )
    return out


def refuse_unready(tx: Transaction, found: StoredObject) -> tuple[StoredObject, StoredObject]:
    """(parent, unit) as they are when it starts. Raises InvalidInput (service_not_found, no_route)."""
    row, spec = found.row, spinout_spec(found)
    declared = Declared(Kind.SPINOUT, row.namespace, row.name, spec)
    problems = [
        one
        for field, name in (("parent", spec.parent), ("unit", spec.unit))
        for one in _service_problems(tx, (), declared, f"spec.{field}", field, name)
    ]
    if problems:
        raise InvalidInput(
            str(problems[0]["message"]) + ".",
            code=str(problems[0]["code"]),
            next_step="Apply that Service, or correct the Spinout, then start again.",
            details={"errors": problems},
        )
    parent, unit = (tx.find(Kind.SERVICE, row.namespace, name) for name in (spec.parent, spec.unit))
    assert parent is not None and unit is not None
    return parent, unit
