"""Another template for a Service with a strategy: not written into it, but rolled out by an object of its own.

What the engine wrote into a Service (its side, the part of a running Rollout) is carried over, whatever is declared.
"""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.ids import Uid, child_name
from spinyard.core.spec import DirectoryScope, Kind, RolloutSpec, ServiceSpec, TemplateSpec
from spinyard.errors import Conflict
from spinyard.ports.store import NewObject, StoredObject, Transaction
from spinyard.spin.rollout.status import RolloutState
from spinyard.spin.service.status import decode_service_status
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.rollouts import SERVICE_LABEL, is_promoted, rollout_running, running_of, running_rollout


def onto_stored(
    tx: Transaction, id: ObjectId, declared: ServiceSpec, template: TemplateSpec | None, before: StoredObject
) -> tuple[ServiceSpec, RolloutSpec | None]:
    """The spec to store, and the Rollout to make. Raises Conflict (rollout_running)."""
    stored = before.row.spec
    assert isinstance(stored, ServiceSpec)
    spec = replace(
        declared,
        side=stored.side,
        rollout=stored.rollout,
        restarted_at=max(declared.restarted_at, stored.restarted_at),
    )
    running = running_of(tx, before)
    if running is not None and is_promoted(running, before):
        return spec, None
    if running is not None:
        refuse_while_running(id, spec, stored, running)
        return _with_template_of(spec, stored), None
    if template is None or not is_rolled_out(spec, before):
        return spec, None
    return _with_template_of(spec, stored), _rollout(id, spec, stored, template, before.row.uid)


def is_rolled_out(spec: ServiceSpec, before: StoredObject) -> bool:
    """False: the template is changed in place. So it is where no request could be compared: nothing runs, or no version
    was ever fully available, or it goes back to the one that was before the present one could be."""
    stored = before.row.spec
    assert isinstance(stored, ServiceSpec)
    good = decode_service_status(before.row.status).good
    return (
        spec.strategy is not None
        and spec.route is not None
        and stored.route is not None
        and spec.external is None
        and stored.external is None
        and spec.replicas > 0
        and stored.replicas > 0
        and spec.template_digest != stored.template_digest
        and bool(good)
        and spec.template_digest != good
    )


def refuse_while_running(id: ObjectId, spec: ServiceSpec, stored: ServiceSpec, running: StoredObject) -> None:
    """Raises Conflict (rollout_running) for what cannot be done beside it."""
    rolled = running.row.template_digest
    if spec.external is not None:
        raise rollout_running(id, running, "an external Service instead")
    if spec.template_digest != rolled:
        if spec.template_digest == stored.template_digest:
            raise rollout_running(id, running, f"going back to the template it comes from ({stored.template_digest})")
        raise rollout_running(id, running, f"another template ({spec.template_digest})")
    if spec.strategy is None or spec.route is None:
        raise rollout_running(id, running, "taking away its " + ("rollout" if spec.strategy is None else "route"))
    if stored.route is not None and spec.route.port != stored.route.port:
        raise rollout_running(id, running, "another port of its route, which replaces every instance,")
    if spec.restarted_at != stored.restarted_at:
        raise rollout_running(id, running, "a restart")
    if spec.replicas == 0 and stored.replicas > 0:
        raise rollout_running(id, running, "no instance at all")


def insert_rollout(
    tx: Transaction, service: StoredObject, wanted: RolloutSpec, *, uid: Uid, actor: str
) -> StoredObject:
    row = service.row
    if running_rollout(tx, row.namespace, row.uid) is not None:
        raise Conflict(f"Service {row.namespace}/{row.name} is being rolled out already.", code="rollout_running",
                       next_step="Apply again when that has ended.")  # fmt: skip
    name = child_name(row.name, uid)
    made = tx.insert(
        NewObject(
            uid=uid,
            kind=Kind.ROLLOUT,
            namespace=row.namespace,
            name=name,
            spec=wanted,
            state=RolloutState.PENDING,
            status=b"{}",
            template_digest=wanted.template_digest,
            labels={**dict(row.labels), SERVICE_LABEL: row.name},
        ),
        actor=actor,
        why=f"{wanted.old_digest} to {wanted.template_digest}, applied by {actor}.",
    )
    tx.event(row.uid, "Normal", "RolloutCreated", f"rollout {name} started, to {wanted.template_digest}", actor=actor)
    return made


def _with_template_of(spec: ServiceSpec, stored: ServiceSpec) -> ServiceSpec:
    return replace(spec, template_digest=stored.template_digest, template_ref=stored.template_ref)


def _rollout(id: ObjectId, spec: ServiceSpec, stored: ServiceSpec, template: TemplateSpec, service: Uid) -> RolloutSpec:
    assert spec.strategy is not None
    probe = template.readiness_probe
    return RolloutSpec(
        service=id.name,
        service_uid=service,
        owner=spec.owner,
        template_digest=spec.template_digest,
        template_ref=spec.template_ref,
        old_digest=stored.template_digest,
        strategy=spec.strategy,
        # An exec probe is ours to make: the data plane cannot.
        probe=probe if probe is not None and probe.exec is None else None,
        directories=tuple(d for d in template.data_directories if d.scope is DirectoryScope.SERVICE),
    )
