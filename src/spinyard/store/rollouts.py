# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Rollouts: the part of a Service's spec that its Rollout writes, read and written within the Rollout's own commit."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import msgspec

from spinyard.core.ids import Uid
from spinyard.core.observed import Peer, Unknown
from spinyard.core.plan import EndRollout, SetRollout
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind, RolloutPart, RolloutSpec, ServiceSpec
from spinyard.store.codec import decode_spec, json_text
from spinyard.store.dialect import Words
from spinyard.store.link import Link, Sql
from spinyard.store.schema import ASK_FOR_2


class Told(NamedTuple):
    """The event that a change writes on its Service, in the order of the columns of `events`."""

    uid: str
    kind: str
    namespace: str
    name: str
    owner_uid: str | None
    type: str
    reason: str
    message: str
    actor: str
    state: str


class RolloutStatements:
    def __init__(self, words: Words) -> None:
        self.find = Sql(
            "SELECT spec, namespace, name, owner_uid, state, deleting FROM objects WHERE uid = :uid AND finished = 0 "
            f"AND kind = '{Kind.SERVICE}' {words.for_update}"
        )
        self.write = Sql(
            "UPDATE objects SET spec = :spec, template_digest = :digest, generation = generation + 1, "
            "resource_version = resource_version + 1, wake_seq = wake_seq + 1, commit_seq = :seq, "
            f"wake_at = {words.least}(COALESCE(wake_at, :now), :now) WHERE uid = :uid"
        )
        self.ask_for_2 = Sql(ASK_FOR_2)
        self.peer = Sql(
            "SELECT kind, name, state, spec, status, generation, deleting, paused FROM objects "
            "WHERE uid = :uid AND finished = 0"
        )


def change_service(
    connection: Link,
    sql: RolloutStatements,
    rollout: ObjectRow,
    change: SetRollout | EndRollout,
    *,
    actor: str,
    seq: int,
    now: float,
) -> Told | None:
    """None: its conditions do not hold, or there is nothing to change; then nothing was written."""
    found = connection.execute(sql.find, {"uid": change.service}).one_or_none()
    if found is None:
        return None
    text, namespace, name, owner, state, deleting = found
    spec = decode_spec(Kind.SERVICE, text)
    assert isinstance(spec, ServiceSpec)
    if isinstance(change, SetRollout):
        after = None if deleting == 1 else _set(spec, change)
    else:
        after = _end(spec, change, rollout)
    if after is None:
        return None
    parameters = {"uid": change.service, "spec": json_text(after), "digest": after.template_digest}
    connection.execute(sql.write, parameters | {"seq": seq, "now": now})
    if after.side:
        connection.execute(sql.ask_for_2, {})
    kind, reason, message = _words(spec, after, change)
    return Told(change.service, Kind.SERVICE, namespace, name, owner, kind, reason, message, actor, state)


def peer(connection: Link, sql: RolloutStatements, uid: Uid) -> Peer | Unknown | None:
    """An object of a kind or shape that this code cannot read is there, and nothing is known of it."""
    found = connection.execute(sql.peer, {"uid": uid}).one_or_none()
    if found is None:
        return None
    kind, name, state, spec, status, generation, deleting, paused = found
    try:
        decoded = decode_spec(kind, spec)
    except (KeyError, msgspec.MsgspecError):
        return Unknown(f"{kind} {name} was written by another version of this program, and cannot be read")
    return Peer(
        uid=uid,
        name=name,
        state=state,
        spec=decoded,
        status=status.encode(),
        generation=generation,
        deleting=deleting == 1,
        paused=paused == 1,
    )


def _set(spec: ServiceSpec, change: SetRollout) -> ServiceSpec | None:
    before, part = spec.rollout, change.part
    is_others = before is not None and before.rollout_uid != part.rollout_uid
    if spec.template_digest != change.old_digest or is_others or before == part:
        return None
    return replace(spec, rollout=part)


def _end(spec: ServiceSpec, change: EndRollout, rollout: ObjectRow) -> ServiceSpec | None:
    part = spec.rollout
    if part is None or part.rollout_uid != change.rollout_uid:
        return None
    if not change.promote:
        return replace(spec, rollout=None)
    ref = rollout.spec.template_ref if isinstance(rollout.spec, RolloutSpec) else spec.template_ref
    return replace(spec, rollout=None, template_digest=part.template_digest, template_ref=ref, side=part.side)


def _words(before: ServiceSpec, after: ServiceSpec, change: SetRollout | EndRollout) -> tuple[str, str, str]:
    old, new = before.rollout, after.rollout
    if isinstance(change, EndRollout):
        assert old is not None
        if change.promote:
            return "Normal", "Promoted", f"{old.rollout_name}: {old.template_digest} is its template now."
        return "Warning", "RolledBack", f"{old.rollout_name}: {old.template_digest} is given up."
    assert new is not None
    if old is None:
        return "Normal", "RolloutStarted", f"{new.rollout_name}: to {new.template_digest}; {_share(new)}."
    if old.weight != new.weight:
        return "Normal", "WeightSet", f"{new.rollout_name}: {_share(new)}, was {old.weight * 100 / WEIGHT_ALL:g} %."
    if old.replicas != new.replicas:
        return "Normal", "RolloutScaled", f"{new.rollout_name}: {new.replicas} new instances, were {old.replicas}."
    return "Normal", "RolloutChanged", f"{new.rollout_name}: {_share(new)}."


def _share(part: RolloutPart) -> str:
    return f"{part.weight * 100 / WEIGHT_ALL:g} % on {part.replicas} new instances"
