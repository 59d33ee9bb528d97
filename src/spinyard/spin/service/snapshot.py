"""One frozen view of a Service, its children and its route."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from spinyard.core.actions import Action
from spinyard.core.ids import Digest, ResourceKey, resource_key
from spinyard.core.observed import (
    Absent,
    ChildBrief,
    ChildGroup,
    Children,
    LookChildren,
    LookObject,
    LookResource,
    ObjectBrief,
    Observed,
    Present,
    Seen,
    Unknown,
)
from spinyard.core.plan import ChildChange, EventDraft, Plan, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Dependency, RolloutPart, ServiceSpec, TemplateSpec
from spinyard.spin.service.status import ServiceState, ServiceStatus
from spinyard.spin.sides import cluster_name
from spinyard.spin.snapshot import SpinRules
from spinyard.spin.status import ENDING, STARTING, State, conditions_with


@dataclass(frozen=True, slots=True)
class ServiceSnapshot:
    row: ObjectRow
    spec: ServiceSpec
    template: TemplateSpec | None
    status: ServiceStatus
    seen: Seen
    rules: SpinRules
    now: float

    def key(self, part: str) -> ResourceKey:
        return resource_key(self.row.uid, part)

    @property
    def cluster(self) -> str:
        return self.cluster_of(self.spec.side)

    def cluster_of(self, side: str) -> str:
        return cluster_name(self.row.namespace, self.row.name, self.row.uid, side) if self.spec.route else ""

    @property
    def part(self) -> RolloutPart | None:
        """Of the running Rollout; None also when it brings what the Service has, or went back to, by itself: instances
        of one template cannot be told apart."""
        part = self.spec.rollout
        if part is None or self.template is None or part.template_digest in (self.spec.template_digest, self.target):
            return None
        return part

    @property
    def provider(self) -> str:
        return self.template.provider if self.template is not None else "process"

    @property
    def children(self) -> Children:
        answer = self.seen.answers.get(LookChildren(self.row.uid))
        assert isinstance(answer, Children)
        return answer

    def observed(self, provider: str, key: ResourceKey) -> Observed:
        answer = self.seen.answers.get(LookResource(provider, key))
        if isinstance(answer, Present | Absent | Unknown):
            return answer
        return Unknown("it was not looked at")

    def dependency(self, dependency: Dependency) -> ObjectBrief | None:
        answer = self.seen.answers.get(LookObject(dependency.kind, self.row.namespace, dependency.name))
        return answer if isinstance(answer, ObjectBrief) else None

    @property
    def deleting(self) -> bool:
        ttl = self.spec.ttl_seconds
        return self.row.delete_at is not None or (ttl is not None and self.now >= self.row.created_at + ttl)

    @property
    def target(self) -> Digest:
        """What children should be made of: the wish, unless that was given up and an older one was good."""
        wanted = self.spec.template_digest
        if self.status.given_up == wanted and self.status.good and self.status.good != wanted:
            return Digest(self.status.good)
        return wanted

    # -- answers -----------------------------------------------------------------------------------------------------

    def plan(
        self,
        state: ServiceState,
        why: str,
        reason: str,
        status: ServiceStatus,
        *,
        wake_in: float | None,
        actions: tuple[Action, ...] = (),
        resources: tuple[Resource, ...] = (),
        children: tuple[ChildChange, ...] = (),
        events: tuple[EventDraft, ...] = (),
    ) -> Plan:
        if state != self.row.state:
            status = msgspec.structs.replace(status, since=self.now)
        status = msgspec.structs.replace(status, observed_generation=self.row.generation)
        ttl = self.spec.ttl_seconds
        wake_at = None if wake_in is None else self.now + wake_in
        if ttl is not None and not self.deleting:
            wake_at = min(self.row.created_at + ttl, wake_at if wake_at is not None else float("inf"))
        return Plan(
            state=str(state),
            status=msgspec.json.encode(status),
            why=why,
            reason=reason,
            wake_at=wake_at,
            actions=actions,
            resources=resources,
            children=children,
            events=events,
            outcome=self.row.outcome,
            failed_at=self.row.failed_at,
            served_at=self.row.served_at,
        )


@dataclass(frozen=True, slots=True)
class Fleet:
    """The children as a decision counts them. Groups carry at most k of their members, which bounds what one pass can
    delete; the next pass goes on."""

    groups: tuple[ChildGroup, ...]

    def count(self, states: frozenset[State], *, digest: str | None = None, other_than: str | None = None) -> int:
        return sum(group.count for group in self._select(states, digest, other_than))

    def members(
        self, states: frozenset[State], *, digest: str | None = None, other_than: str | None = None
    ) -> list[ChildBrief]:
        return [child for group in self._select(states, digest, other_than) for child in group.oldest]

    def _select(self, states: frozenset[State], digest: str | None, other_than: str | None) -> list[ChildGroup]:
        return [
            group
            for group in self.groups
            if group.state in states
            and not group.deleting
            and (digest is None or group.template_digest == digest)
            and (other_than is None or group.template_digest != other_than)
        ]

    @property
    def ending(self) -> int:
        return sum(group.count for group in self.groups if group.deleting or group.state in ENDING)

    @property
    def total(self) -> int:
        return sum(group.count for group in self.groups)


ALIVE = STARTING | frozenset({State.READY, State.SERVING})


BEFORE_RESTART = "+before-restart"


def fleet_of(children: Children, first_slot: int = 0) -> Fleet:
    """Children made before a restart, those of a smaller slot (a clock may jump), count as of another template. Only
    the listed ones are looked at: in a larger group the rest follows as the oldest go."""
    if not first_slot:
        return Fleet(children.groups)
    groups: list[ChildGroup] = []
    for group in children.groups:
        old = tuple(child for child in group.oldest if int(child.slot) < first_slot)
        kept = tuple(child for child in group.oldest if int(child.slot) >= first_slot)
        if old:
            digest = Digest(group.template_digest + BEFORE_RESTART)
            groups.append(replace(group, template_digest=digest, count=len(old), oldest=old))
        if group.count > len(old):
            groups.append(replace(group, count=group.count - len(old), oldest=kept))
    return Fleet(tuple(groups))


def set_condition(
    status: ServiceStatus, kind: str, value: bool, reason: str, message: str, now: float
) -> ServiceStatus:
    changed = conditions_with(status.conditions, kind, value, reason, message, now)
    return status if changed is status.conditions else msgspec.structs.replace(status, conditions=changed)


def resource_row(s: ServiceSnapshot, key: ResourceKey, kind: str, provider: str, *, retained: bool = False) -> Resource:
    gone_after = (
        s.rules.proxy_gone_after_seconds if provider == "proxy" else s.rules.providers[provider].gone_after_seconds
    )
    return Resource(key, s.row.uid, provider, kind, True, None, gone_after, retained=retained, created_at=s.now)
