"""What applying a set of objects would change: computed from the store, without changing anything.

`apply` carries out exactly what `plan_apply` says, so a dry run shows the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from spinyard.core.ids import Digest
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    ClaimSpec,
    JobSpec,
    Kind,
    RolloutSpec,
    ServiceSpec,
    TemplateSpec,
    WarmPoolSpec,
    digest_of,
)
from spinyard.core.spinout import SpinoutSpec
from spinyard.errors import Conflict, PreconditionFailed
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.declared import APPLIED_SET, OWN_PREFIX, Declared, DeclaredSpec, ObjectId
from spinyard.usecases.graph import refuse_cycles
from spinyard.usecases.pools import claim_again, refuse_claimed, refuse_poolless, same_pool
from spinyard.usecases.refusals import being_deleted, every, problem, raise_problems
from spinyard.usecases.rollout_start import onto_stored
from spinyard.usecases.spinout_apply import onto_stored_spinout, refuse_misplaced
from spinyard.usecases.spinouts import refuse_deleted, refuse_fewer

JOB_ENDED = frozenset({"succeeded", "failed"})


class ChangeAction(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Change:
    """One object, before and after. `spec`, `template` and `digest` are of after (None for a deletion). With `rollout`
    the template is not written into the Service (`spec` has the one from before): a Rollout to `digest` is made."""

    action: ChangeAction
    id: ObjectId
    before: StoredObject | None = None
    spec: DeclaredSpec | None = None
    template: TemplateSpec | None = None
    digest: Digest = Digest("")
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    rollout: RolloutSpec | None = None


@dataclass(frozen=True, slots=True)
class ApplyRequest:
    """`applied_set`: the name of the whole, "" for none; with `prune` what carries it and is not declared is deleted,
    when it has all labels of `prune_selector`. `if_match`: the resource version the one object must have."""

    declared: tuple[Declared, ...]
    applied_set: str = ""
    prune: bool = False
    prune_selector: Mapping[str, str] = field(default_factory=dict)
    if_match: int | None = None


def plan_apply(tx: Transaction, request: ApplyRequest) -> tuple[Change, ...]:
    """In the order declared, then deletions. Raises InvalidInput with all problems, Conflict, PreconditionFailed."""
    _refuse_twice(request.declared)
    resolved = _resolve_templates(tx, request.declared)
    refuse_cycles(tx, request.declared)
    refuse_poolless(tx, request.declared)
    refuse_misplaced(tx, request.declared)
    changes = [
        _change(tx, one, template, digest, request)
        for one, (template, digest) in zip(request.declared, resolved, strict=True)
    ]
    if request.prune:
        changes += _prunes(tx, request)
        deletions = [c for c in changes if c.action is ChangeAction.DELETE]
        going = [c.before for c in deletions if c.before is not None]
        refuse_claimed(tx, going)
        refuse_deleted(tx, going)
        _refuse_templates_in_use(tx, deletions, changes)
    return tuple(changes)


def plan_delete(tx: Transaction, found: StoredObject) -> Change:
    """Raises Conflict (in_use) for a Template that a live object refers to, and a WarmPool that has claims."""
    row = found.row
    change = Change(ChangeAction.DELETE, ObjectId(row.kind, row.namespace, row.name), before=found)
    refuse_claimed(tx, [found])
    refuse_deleted(tx, [found])
    _refuse_templates_in_use(tx, [change], [change])
    return change


def check_match(found: StoredObject | None, if_match: int | None) -> None:
    """Raises PreconditionFailed when the object is not at the version that the caller saw."""
    if if_match is None:
        return
    version = found.row.resource_version if found else None
    if version != if_match:
        now = "there is no such object" if version is None else f"it is at {version}"
        raise PreconditionFailed(
            f"If-Match asks for resourceVersion {if_match}, but {now}.",
            next_step="Read the object again, look at what changed, and repeat with its resourceVersion.",
        )


def _refuse_twice(declared: Sequence[Declared]) -> None:
    first: dict[ObjectId, int] = {}
    problems = []
    for index, one in enumerate(declared):
        if one.id in first:
            problems.append(
                problem(
                    f"objects[{index}].metadata.name", "duplicate_name", f"{one.id} is declared twice", "a unique name"
                )
            )
        first.setdefault(one.id, index)
    raise_problems(problems)


def _resolve_templates(tx: Transaction, declared: Sequence[Declared]) -> list[tuple[TemplateSpec | None, Digest]]:
    own = {(o.namespace, o.name): o.template for o in declared if o.kind is Kind.TEMPLATE}
    problems: list[dict[str, object]] = []
    out: list[tuple[TemplateSpec | None, Digest]] = []
    for index, one in enumerate(declared):
        ref = one.spec.template_ref if isinstance(one.spec, ServiceSpec | JobSpec | WarmPoolSpec) else ""
        if one.template is not None:
            out.append((one.template, digest_of(one.template)))
            continue
        if not ref:
            out.append((None, Digest("")))
            continue
        template = own.get((one.namespace, ref)) or _stored_template(tx, one.namespace, ref)
        if template is None:
            path = f"objects[{index}].spec.templateRef"
            message = f"{one.id} refers to Template {one.namespace}/{ref}, which does not exist"
            problems.append(problem(path, "template_not_found", message, "the name of a Template of this namespace"))
        elif isinstance(one.spec, ServiceSpec) and one.spec.strategy is not None:
            problems += _fixed_ports(f"objects[{index}].spec.templateRef", one.id, template)
        out.append((template, digest_of(template) if template else Digest("")))
    raise_problems(problems)
    return out


def _fixed_ports(path: str, id: ObjectId, template: TemplateSpec) -> list[dict[str, object]]:
    """An inline template was looked at when it was read."""
    return [
        problem(
            path,
            "fixed_port",
            f"{id} has a rollout: both versions run at the same time, and cannot both open port {port.number}",
            "a Template whose ports have no number",
        )
        for port in template.ports
        if port.number
    ]


def _stored_template(tx: Transaction, namespace: str, name: str) -> TemplateSpec | None:
    found = tx.find(Kind.TEMPLATE, namespace, name)
    if found is None or found.row.delete_at is not None:
        return None
    return tx.template(found.row.template_digest)


def _change(
    tx: Transaction, one: Declared, template: TemplateSpec | None, digest: Digest, request: ApplyRequest
) -> Change:
    found = tx.find(one.kind, one.namespace, one.name)
    check_match(found, request.if_match)
    if found is not None and found.row.delete_at is not None:
        raise being_deleted(one.id)
    spec = one.spec if isinstance(one.spec, ClaimSpec | SpinoutSpec) else replace(one.spec, template_digest=digest)
    if isinstance(spec, ClaimSpec) and found is not None:
        spec = claim_again(one.id, spec, found, tx.now)
    rollout = None
    if found is not None:
        if isinstance(spec, JobSpec):
            spec = same_pool(spec, found)
        if isinstance(spec, SpinoutSpec):
            spec = onto_stored_spinout(one.id, spec, found)
        if isinstance(spec, ServiceSpec):
            refuse_fewer(tx, found, spec)
            spec, rollout = onto_stored(tx, one.id, spec, template, found)
            if rollout is None and spec.template_digest != digest:
                digest = spec.template_digest
                template = tx.template(digest)
        _refuse_rerun(one, found, spec)
    annotations = _annotations(one, found, request.applied_set)
    action = ChangeAction.UPDATE if rollout is not None else _action(one, found, spec, annotations)
    return Change(action, one.id, found, spec, template, digest, dict(one.labels), annotations, rollout)


def _refuse_rerun(one: Declared, before: StoredObject, spec: DeclaredSpec) -> None:
    """A Job runs once. What it did cannot be changed by changing its wish."""
    if isinstance(spec, JobSpec) and before.row.state in JOB_ENDED and before.row.spec != spec:
        raise Conflict(
            f"{one.id} has {before.row.state}: a Job that has ended does not run again with another specification.",
            code="job_ended",
            next_step=f"Delete it (`spinyard delete job/{one.name} -n {one.namespace} --wait`) and apply again.",
        )


def _annotations(one: Declared, before: StoredObject | None, applied_set: str) -> dict[str, str]:
    kept = {k: v for k, v in before.annotations.items() if k.startswith(OWN_PREFIX)} if before else {}
    return {**kept, **one.annotations, **({APPLIED_SET: applied_set} if applied_set else {})}


def _action(
    one: Declared, before: StoredObject | None, spec: DeclaredSpec, annotations: Mapping[str, str]
) -> ChangeAction:
    if before is None:
        return ChangeAction.CREATE
    same = (
        before.row.spec == spec
        and dict(before.row.labels) == dict(one.labels)
        and dict(before.annotations) == dict(annotations)
    )
    return ChangeAction.UNCHANGED if same else ChangeAction.UPDATE


def _prunes(tx: Transaction, request: ApplyRequest) -> list[Change]:
    kept = {one.id for one in request.declared}
    out = []
    for kind in (Kind.CLAIM, Kind.SPINOUT, Kind.SERVICE, Kind.JOB, Kind.WARM_POOL, Kind.TEMPLATE):
        for found in every(tx, kind, labels=request.prune_selector or None):
            row = found.row
            id = ObjectId(row.kind, row.namespace, row.name)
            in_set = found.annotations.get(APPLIED_SET) == request.applied_set
            if in_set and id not in kept and row.delete_at is None and _is_declared(row):
                out.append(Change(ChangeAction.DELETE, id, before=found))
    return out


def _is_declared(row: ObjectRow) -> bool:
    """A Claim is its pool's child, and declared nevertheless."""
    return row.owner_uid is None or row.kind is Kind.CLAIM


def _refuse_templates_in_use(tx: Transaction, deletions: Sequence[Change], changes: Sequence[Change]) -> None:
    going = {c.id for c in deletions}
    after = {c.id: c.spec for c in changes if c.spec is not None}
    for change in deletions:
        if change.id.kind is not Kind.TEMPLATE:
            continue
        users = _users(tx, change.id, going, after)
        if users:
            more = " and others" if len(users) > 5 else ""
            raise Conflict(
                f"{change.id} is used by {', '.join(str(u) for u in users[:5])}{more}.",
                code="in_use",
                next_step="Delete those first, or let them refer to another Template.",
                details={"usedBy": [u.path for u in users[:20]]},
            )


def _users(
    tx: Transaction, template: ObjectId, going: set[ObjectId], after: Mapping[ObjectId, DeclaredSpec]
) -> list[ObjectId]:
    out = []
    for kind in (Kind.SERVICE, Kind.JOB, Kind.WARM_POOL):
        for found in every(tx, kind, namespace=template.namespace):
            id = ObjectId(kind, found.row.namespace, found.row.name)
            spec = after.get(id, found.row.spec)
            refers = isinstance(spec, ServiceSpec | JobSpec | WarmPoolSpec) and spec.template_ref == template.name
            if refers and id not in going and found.row.delete_at is None:
                out.append(id)
    return out
