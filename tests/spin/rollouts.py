"""A Rollout with a Service that does at once what it is told, a data plane that confirms and counts, and a clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import (
    Answer,
    ChildFailure,
    Children,
    ClusterTraffic,
    Held,
    Look,
    LookChildren,
    LookHold,
    LookPeer,
    LookTraffic,
    Peer,
    Seen,
    Traffic,
    Unknown,
)
from spinyard.core.plan import EndRollout, Plan, SetRollout
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind, RolloutSpec, RolloutStep, RolloutStrategy, ServiceSpec
from spinyard.spin.rollout.decide import RolloutDomain
from spinyard.spin.rollout.status import RolloutStatus, decode_rollout_status
from spinyard.spin.service.status import ServiceStatus, Shown

NOW = 1_800_000_000.0
OLD, NEW = Digest("sha256:old"), Digest("sha256:new")
SERVICE = Uid("s" * 20)
STEPS = (RolloutStep(1000), RolloutStep(5000), RolloutStep(WEIGHT_ALL))


@dataclass
class House:
    strategy: RolloutStrategy = field(default_factory=lambda: RolloutStrategy(steps=STEPS))
    replicas: int = 4
    confirms: bool = True
    starts: bool = True
    counts: bool = True
    rate: float = 100.0
    """requests per second, both sides together"""
    new_fails: float = 0.0
    old_fails: float = 0.0
    now: float = NOW
    epoch: str = "1"

    def __post_init__(self) -> None:
        self.domain = RolloutDomain()
        self.service: ServiceSpec | None = ServiceSpec(replicas=self.replicas, template_digest=OLD)
        self.state = "available"
        self.stable_ready = self.replicas
        self.is_readable = True
        self.generation = 1
        self.shown = Shown()
        self.short = 0
        """instances of the new side that are not in traffic"""
        self.service_paused = False
        self.held: Held | None = None
        self.failures: list[ChildFailure] = []
        self.traffic = {"old": ClusterTraffic(), "new": ClusterTraffic()}
        self.plans: list[Plan] = []
        self.weights: list[int] = [0]
        spec = RolloutSpec("shop", SERVICE, template_digest=NEW, old_digest=OLD, strategy=self.strategy)
        self.row = ObjectRow(Uid("r" * 20), Kind.ROLLOUT, "default", "shop-rrrrrr", spec, b"", "pending", NOW)

    @property
    def status(self) -> RolloutStatus:
        return decode_rollout_status(self.row.status)

    @property
    def spec(self) -> RolloutSpec:
        assert isinstance(self.row.spec, RolloutSpec)
        return self.row.spec

    def wish(self, **changes: Any) -> None:
        self.row = replace(self.row, spec=replace(self.spec, **changes))

    # -- the world ---------------------------------------------------------------------------------------------------

    def _peer(self) -> Peer | None:
        if self.service is None:
            return None
        shown = self.shown if self.service.rollout is not None else None
        status = ServiceStatus(
            observed_generation=self.generation, replicas=self.replicas, ready=self.stable_ready, shown=shown
        )
        blob = msgspec.json.encode(status)
        return Peer(
            SERVICE, "shop", self.state, self.service, blob, self.generation, deleting=False, paused=self.service_paused
        )

    def _serve(self, seconds: float) -> None:
        if not seconds:
            return
        share = self.shown.weight / WEIGHT_ALL
        total = self.rate * seconds
        for side, part, fails in (("old", 1 - share, self.old_fails), ("new", share, self.new_fails)):
            before = self.traffic[side]
            requests = before.requests + round(total * part)
            failures = before.failures + round(total * part * fails)
            buckets = ((0.01, requests // 2), (0.1, requests), (60.0, requests))
            self.traffic[side] = ClusterTraffic(requests, failures, 0, buckets)

    def _service_acts(self) -> None:
        part = self.service.rollout if self.service is not None else None
        if part is None:
            self.shown = Shown()
            return
        ready = max(0, part.replicas - self.short) if self.starts else 0
        self.shown = replace_struct(self.shown, rollout_uid=part.rollout_uid, ready=ready, alive=part.replicas)
        if self.confirms:
            self.shown = replace_struct(self.shown, serial=part.serial, weight=part.weight)

    def _seen(self, looks: tuple[Look, ...]) -> Seen:
        answers: dict[Look, Answer] = {}
        for look in looks:
            match look:
                case LookPeer():
                    answers[look] = self._peer() if self.is_readable else Unknown("written by another version")
                case LookHold():
                    answers[look] = self.held
                case LookChildren():
                    answers[look] = Children(failures=tuple(self.failures))
                case LookTraffic(clusters=(old, new)):
                    named = {old: self.traffic["old"], new: self.traffic["new"]}
                    answers[look] = Traffic(self.epoch, self.now, named) if self.counts else Unknown("no Envoy")
                case other:
                    raise AssertionError(f"a Rollout does not look at {other}")
        return Seen(answers)

    # -- the engine --------------------------------------------------------------------------------------------------

    def step(self, seconds: float = 0.5) -> Plan:
        """Time passes, the Service acts, the Rollout decides once, and its plan is committed."""
        self.now += seconds
        self._serve(seconds)
        self._service_acts()
        looks = self.domain.looks(self.row, self.now)
        plan = self.domain.decide(self.row, self._seen(looks), self.now)
        assert self.domain.machine.may(self.row.state, plan.state), f"{self.row.state} -> {plan.state}"
        self.row = replace(self.row, state=plan.state, status=plan.status)
        for change in plan.children:
            self._apply(change)
        self.plans.append(plan)
        return plan

    def _apply(self, change: object) -> None:
        assert self.service is not None or isinstance(change, EndRollout)
        match change:
            case SetRollout(old_digest=old, part=part):
                assert self.service is not None
                if self.service.template_digest == old:
                    self.service = replace(self.service, rollout=part)
                    self.weights.append(part.weight)
            case EndRollout(promote=promote):
                ended = self.service.rollout if self.service is not None else None
                if self.service is None or ended is None:
                    return
                self.service = replace(self.service, rollout=None)
                if promote:
                    self.service = replace(self.service, template_digest=ended.template_digest, side=ended.side)
            case other:
                raise AssertionError(other)

    def run(self, seconds: float, *, until: str = "") -> str:
        end = self.now + seconds
        while self.now < end and self.row.state != until and not (self.plans and self.plans[-1].finished):
            self.step()
        return self.row.state


def replace_struct(shown: Shown, **changes: object) -> Shown:
    return msgspec.structs.replace(shown, **changes)
