"""Which Rollout is meant, and which one runs. A Service has at most one that runs."""

from __future__ import annotations

from difflib import get_close_matches

from spinyard.core.ids import Uid
from spinyard.core.spec import Kind, RolloutSpec, ServiceSpec
from spinyard.errors import Conflict, NotFound
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spin.rollout.status import RolloutState, RolloutStatus, decode_rollout_status
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.refusals import every

SERVICE_LABEL = "spinyard.dev/service"
KEPT_LOOK_MAX = 10
"""kept ones of a Service that are looked at for its newest; an earlier Service of that name may have had some"""
NAMES_MAX = 200
"""kept ones that a name is compared with when nothing has it"""
RETREATING = frozenset({RolloutState.RETREATING, RolloutState.REMOVING, RolloutState.ROLLED_BACK})


def rollout_spec(found: StoredObject) -> RolloutSpec:
    assert isinstance(found.row.spec, RolloutSpec)
    return found.row.spec


def rollout_status(found: StoredObject) -> RolloutStatus:
    return decode_rollout_status(found.row.status)


def is_over(found: StoredObject) -> bool:
    return found.finished_at is not None


def goes_back(found: StoredObject) -> bool:
    row = found.row
    return row.state in RETREATING or bool(rollout_spec(found).abort) or row.delete_at is not None


def is_promoted(running: StoredObject, service: StoredObject) -> bool:
    """What it brought is the Service's already: whatever is wished for from then on is a plain change."""
    spec = service.row.spec
    assert isinstance(spec, ServiceSpec)
    is_part = spec.rollout is not None and spec.rollout.rollout_uid == running.row.uid
    return running.row.state == RolloutState.PROMOTING and not is_part


def may_roll_out(service: StoredObject) -> bool:
    """Only then a Rollout is looked for."""
    spec = service.row.spec
    return isinstance(spec, ServiceSpec) and (spec.strategy is not None or spec.rollout is not None)


def running_of(tx: Transaction, service: StoredObject) -> StoredObject | None:
    return running_rollout(tx, service.row.namespace, service.row.uid) if may_roll_out(service) else None


def running_rollout(tx: Transaction, namespace: str, service: Uid) -> StoredObject | None:
    return running_rollouts(tx, namespace).get(service)


def running_rollouts(tx: Transaction, namespace: str | None) -> dict[str, StoredObject]:
    """By the uid of their Services."""
    return {rollout_spec(found).service_uid: found for found in every(tx, Kind.ROLLOUT, namespace=namespace)}


def find_rollout(tx: Transaction, namespace: str, name: str) -> StoredObject:
    """`name` of a Service: its running or else newest Rollout; or a Rollout's own. Raises NotFound."""
    service = tx.find(Kind.SERVICE, namespace, name)
    there = every(tx, Kind.ROLLOUT, namespace=namespace)
    kept = tx.select(
        Kind.ROLLOUT,
        namespace=namespace,
        labels={SERVICE_LABEL: name},
        finished=True,
        newest_first=True,
        limit=KEPT_LOOK_MAX,
    )
    named = tx.select(Kind.ROLLOUT, namespace=namespace, finished=None, after=f"{namespace}/{name}/", limit=1)
    of_service = [r for r in (*there, *kept) if _is_of(r, name, service)]
    found = of_service or [r for r in (*there, *named) if r.row.name == name]
    if found:
        return max(found, key=lambda r: (not is_over(r), r.row.created_at, r.row.uid))
    if service is not None:
        raise NotFound(
            f"Service {namespace}/{name} has no rollout.",
            code="no_rollout",
            next_step="One is made when a Service with `spec.rollout` is applied with another template.",
        )
    newest = tx.select(Kind.ROLLOUT, namespace=namespace, finished=None, newest_first=True, limit=NAMES_MAX)
    names = sorted({n for r in (*there, *newest) for n in (r.row.name, rollout_spec(r).service)})
    near = get_close_matches(name, names, n=1)
    raise NotFound(
        f"There is no Rollout, and no Service, {name!r} in namespace {namespace!r}.",
        next_step=f"Did you mean {near[0]}?"
        if near
        else f"List what there is: `spinyard get rollouts -n {namespace}`.",
        details={"suggestion": near[0]} if near else {},
    )


def rollout_running(service: ObjectId, running: StoredObject, what: str) -> Conflict:
    """`what` is refused as long as that Rollout runs."""
    row = running.row
    if goes_back(running) or row.state == RolloutState.PROMOTING:
        next_step = f"It ends soon (`spinyard get rollout {row.name} -w -n {row.namespace}`): repeat then."
    else:
        next_step = f"Let it end, or go back first: `spinyard rollout abort {row.name} -n {row.namespace}`."
    spec = rollout_spec(running)
    return Conflict(
        f"Rollout {row.name} of {service} runs (it is {row.state}, to {spec.template_digest}): "
        f"{what} is refused meanwhile.",
        code="rollout_running",
        next_step=next_step,
        details={"rollout": row.name, "state": row.state, "from": spec.old_digest, "to": spec.template_digest},
    )


def _is_of(rollout: StoredObject, name: str, service: StoredObject | None) -> bool:
    """Those of an earlier Service of the same name are not its own."""
    spec = rollout_spec(rollout)
    return spec.service == name and (service is None or spec.service_uid == service.row.uid)
