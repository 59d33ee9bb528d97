"""A Spinout with its two Services, a data plane that confirms and counts, and a clock: one pass after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from spinyard.core.actions import Ensure, Remove
from spinyard.core.chain import Record, link
from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.observed import (
    Absent,
    Answer,
    BoundaryFacts,
    ClusterTraffic,
    EndpointFacts,
    Held,
    Look,
    LookGauge,
    LookHold,
    LookJoin,
    LookPeer,
    LookResource,
    LookShadow,
    LookTraffic,
    Peer,
    Present,
    Seen,
    ShadowFound,
    TraceJoin,
    Traffic,
    Unknown,
)
from spinyard.core.plan import Plan
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind, Route, ServiceSpec
from spinyard.core.spinout import Approval, BoundaryRoute, Shadow, SpinoutSpec, SpinoutStep
from spinyard.core.want import BoundaryWant
from spinyard.spinout.decide import SpinoutDomain
from spinyard.spinout.status import TRANSITIONS, SpinoutStatus, decode_spinout_status

NOW = 1_800_000_000.0
PARENT, UNIT = Uid("p" * 20), Uid("u" * 20)
STEPS = (SpinoutStep(1000), SpinoutStep(5000), SpinoutStep(WEIGHT_ALL))
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SPEC = SpinoutSpec(
    parent="gallery",
    unit="thumbs",
    routes=(BoundaryRoute("/photos/{id}/thumb/{size}", "GET"),),
    contract_digest="sha256:contract",
    steps=STEPS,
    baseline_seconds=2.0,
    soak_seconds=5.0,
    shadow=Shadow(compared_min=20),
    parent_uid=PARENT,
    unit_uid=UNIT,
    started=1,
    approvals=(
        Approval("analysed", "ann", "profile.txt", NOW, 1),
        Approval("decided", "ann", "minutes", NOW, 1, decision="go"),
    ),
)


@dataclass
class Side:
    """One of the Services, as it stands in the store. `seconds`: what a request takes."""

    name: str
    uid: Uid
    fails: float = 0.0
    seconds: float = 0.02
    ready: int | None = 3
    state: str = "available"
    spec: ServiceSpec = field(default_factory=lambda: ServiceSpec(replicas=3, template_digest=Digest("sha256:t")))
    deleting: bool = False
    gone: bool = False
    hangs: bool = False
    gives_up_at: float = 1e9
    """so many wait at most, when it hangs; the rest went away"""
    waiting: float = 0.0
    streams: int = 0
    """stay open"""
    asked: float = 0.0
    failed: float = 0.0
    took: dict[float, float] = field(default_factory=dict)

    def peer(self) -> Peer | None:
        if self.gone:
            return None
        status = msgspec.json.encode({"observed_generation": 1, "ready": self.ready or 0, "replicas": 3})
        return Peer(self.uid, self.name, self.state, self.spec, status, 1, self.deleting, paused=False)

    def answers(self, requests: float) -> None:
        self.waiting = min(self.gives_up_at, self.waiting + requests) if self.hangs else 0.0
        if self.hangs:
            return
        self.asked += requests
        self.failed += requests * self.fails
        self.took[self.seconds] = self.took.get(self.seconds, 0.0) + requests

    def counted(self) -> ClusterTraffic:
        requests = int(self.asked)
        below = tuple((bound, int(sum(n for took, n in self.took.items() if took <= bound))) for bound in BUCKETS)
        return ClusterTraffic(requests, min(requests, int(self.failed)), int(self.waiting) + self.streams, below)

    def forget(self) -> None:
        self.asked = self.failed = 0.0
        self.took = {}


@dataclass
class Yard:
    """`confirms`, `counts`: whether the data plane acknowledges, and can be read. `lag`: passes until it does."""

    spec: SpinoutSpec = SPEC
    rate: float = 200.0
    confirms: bool = True
    counts: bool = True
    now: float = NOW
    epoch: str = "1"
    different: int = 0
    compares: bool = True
    rejected: str = ""
    gauges: dict[str, Answer] = field(default_factory=dict)
    joined: TraceJoin | Unknown = field(default_factory=lambda: TraceJoin(1000, 0))

    def __post_init__(self) -> None:
        self.domain = SpinoutDomain()
        self.parent = Side("gallery", PARENT)
        self.unit = Side("thumbs", UNIT)
        self.parent.spec = replace(self.parent.spec, route=Route(("gallery.local",)))
        self.unit.spec = replace(self.unit.spec, route=Route(("thumbs.local",)))
        self.asked: dict[ResourceKey, BoundaryWant] = {}
        self.held: Held | None = None
        self.missing: tuple[str, ...] = ()
        self.compared = 0.0
        self.endpoints: tuple[bool, ...] = ()
        """of an external Service: which of them are healthy; empty: nobody can tell"""
        self.counters_from = 0.0
        """since when the counters stand still because nobody reads them any more"""
        self.last: Traffic | None = None
        self.plans: list[Plan] = []
        self.records: list[Record] = []
        self.weights: list[int] = [0]
        self.finished = False
        self.look_away: Callable[[Look], bool] = lambda look: False
        self.row = ObjectRow(Uid("s" * 20), Kind.SPINOUT, "default", "thumbnails", self.spec, b"", "proposed", NOW)

    @property
    def status(self) -> SpinoutStatus:
        return decode_spinout_status(self.row.status)

    @property
    def state(self) -> str:
        return self.row.state

    @property
    def plan(self) -> Plan:
        return self.plans[-1]

    @property
    def in_force(self) -> BoundaryWant | None:
        """What shares the requests now."""
        return next(iter(self.plane.values()), None) if not self.missing else None

    @property
    def weight(self) -> int:
        return self.in_force.weight if self.in_force is not None else 0

    plane: dict[ResourceKey, BoundaryWant] = field(default_factory=dict)
    """what is acknowledged"""

    # -- what people and the world do --------------------------------------------------------------------------------

    def wish(self, **changes: Any) -> None:
        spec = replace(self.row.spec, **changes)  # type: ignore[type-var]
        self.row = replace(self.row, spec=spec, generation=self.row.generation + 1)

    def approve(self, phase: str, decision: str = "", **more: Any) -> None:
        spec = self.row.spec
        assert isinstance(spec, SpinoutSpec)
        one = Approval(phase, "ann", "seen", self.now, max(1, spec.started), decision=decision, **more)
        self.wish(approvals=(*spec.approvals, one))

    def delete(self) -> None:
        self.row = replace(self.row, delete_at=self.now)

    def pause(self, paused: bool = True) -> None:
        self.row = replace(self.row, paused=paused)

    def restart_plane(self) -> None:
        self.epoch = str(int(self.epoch) + 1)
        for side in (self.parent, self.unit):
            side.forget()

    def slow_from_now(self) -> None:
        """What it takes from now on is what counts."""
        self.step()

    def lose_boundary(self) -> None:
        self.asked.clear()
        self.plane.clear()

    # -- one pass ----------------------------------------------------------------------------------------------------

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        share = self.weight / WEIGHT_ALL
        bounded = self.in_force is not None
        requests = seconds * self.rate
        if bounded:
            self.unit.answers(requests * share)
            self.parent.answers(requests * (1.0 - share))
        if self.in_force is not None and self.in_force.mirror and self.compares:
            self.compared += requests * self.in_force.mirror / WEIGHT_ALL

    def traffic(self, look: LookTraffic) -> Traffic | Unknown:
        if not self.counts:
            return Unknown("the data plane does not answer")
        known = {"old": self.parent, "new": self.unit}
        found = {name: known[name.rsplit("~", 1)[1]] for name in look.clusters}
        if self.counters_from:
            return self.last or Unknown("none yet")
        self.last = Traffic(self.epoch, self.now, {n: side.counted() for n, side in found.items() if side.asked >= 1})
        return self.last

    def answer(self, look: Look) -> Answer:
        if self.look_away(look):
            return Unknown("nothing came back")
        match look:
            case LookPeer(uid=uid):
                return self.parent.peer() if uid == PARENT else self.unit.peer()
            case LookHold(kind=Kind.SPINOUT):
                return self.held
            case LookHold():
                return None
            case LookResource(key=key) if "/endpoint/" in key:
                nth = 0 if "10.0.0.1" in key else 1
                known = bool(self.endpoints)
                return Present(EndpointFacts(True, self.endpoints[nth])) if known else Unknown("not asked yet")
            case LookResource(key=key):
                return self.observe(key)
            case LookTraffic():
                return self.traffic(look)
            case LookShadow():
                return ShadowFound(int(self.compared), min(self.different, int(self.compared)))
            case LookJoin():
                return self.joined
            case LookGauge(query=query):
                return self.gauges.get(query, Unknown("no such figure"))
            case _:
                raise AssertionError(look)

    def observe(self, key: ResourceKey) -> Present | Absent | Unknown:
        want = self.asked.get(key)
        if want is None:
            return Absent()
        known = self.plane.get(key) == want
        return Present(BoundaryFacts(known, "" if known else self.rejected, want, self.missing))

    def look(self) -> Plan:
        """One pass: look, decide, commit, do."""
        looks = self.domain.looks(self.row, self.now)
        assert len(looks) == len(set(looks)), "no look twice"
        plan = self.domain.decide(self.row, Seen({look: self.answer(look) for look in looks}), self.now)
        assert TRANSITIONS.may(self.row.state, plan.state), f"{self.row.state} -> {plan.state}"
        assert plan.why and plan.reason
        self.plans.append(plan)
        for draft in plan.records:
            before = self.records[-1].hash if self.records else ""
            self.records.append(link(self.row.uid, len(self.records) + 1, self.now, "engine", draft, before))
        resources = {r.key: r for r in (*self.row.resources, *plan.resources)}
        left = tuple(r for r in resources.values() if r.closed_at is None)
        self.row = replace(self.row, state=plan.state, status=plan.status, resources=left)
        self.finished = self.finished or plan.finished
        if self.status.weight != self.weights[-1]:
            self.weights.append(self.status.weight)
        self.execute(plan)
        return plan

    def execute(self, plan: Plan) -> None:
        for action in plan.actions:
            match action:
                case Ensure(key=key, want=BoundaryWant() as want):
                    assert any(r.key == key and r.wanted and r.stored_want == want for r in self.row.resources)
                    self.asked[key] = want
                case Remove(key=key):
                    self.asked.pop(key, None)
                    if self.confirms:
                        self.plane.pop(key, None)
                case _:
                    raise AssertionError(action)
        if self.confirms and not self.rejected:
            self.plane.update(self.asked)

    def step(self) -> Plan:
        plan = self.look()
        wait = 0.0 if plan.wake_at is None else plan.wake_at - self.now
        self.elapse(min(max(wait, 0.01), 1.0))
        return plan

    def until(self, *states: str, passes: int = 400) -> Yard:
        for _ in range(passes):
            if self.state in states or self.finished:
                break
            self.step()
        assert self.state in states, f"{self.state}: {self.plan.why}"
        return self

    def run(self, seconds: float) -> Yard:
        end = self.now + seconds
        while self.now < end and not self.finished:
            self.step()
        return self
