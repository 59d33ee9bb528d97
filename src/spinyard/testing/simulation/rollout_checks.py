"""What must always hold of rollouts, looked at in each decision, in the tables after each commit, and in the moment in
which the data plane is asked for something.

The weight that counts is the one that the data plane has acknowledged. What one who does not hold the Service any more
asked of it is a zombie's doing: as long as that is in force, nothing is concluded from it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from spinyard.core.figures import Reading
from spinyard.core.ids import ResourceKey, Uid
from spinyard.core.observed import Children, ClusterTraffic, LookChildren, LookPeer, LookTraffic, Peer, Seen, Traffic
from spinyard.core.plan import CreateChild, DeleteChild, EndRollout, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Kind, RolloutPart, RolloutSpec, ServiceSpec
from spinyard.core.verdict import Evidence, Verdict, judge
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Want
from spinyard.ports.store import Commit, CommitResult, Committed
from spinyard.spin.rollout.status import RolloutStatus, decode_rollout_status
from spinyard.spin.service.status import decode_service_status
from spinyard.testing.simulation.hold_checks import HoldChecks
from spinyard.testing.simulation.parts import ObjectFacts
from spinyard.testing.simulation.stage import Stage

UP = frozenset({"preparing", "shifting", "judging"})
BACK = frozenset({"retreating", "removing", "rolled_back"})
ALIVE = frozenset({"pending", "planned", "provisioning", "bootstrapping", "registering", "ready", "serving"})
SEEN_MIN = 20
"""requests at the new side in a step, before it may be left because of what was counted"""
CLEARLY = 0.25
"""so much above the margin that no luck makes it pass"""
COUNTED = ("success rate", "latency", "failure rate")
"""gates that rest on counters"""


class RolloutChecks:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._weights: dict[str, int] = {}
        self._back: set[str] = set()
        self.holds = HoldChecks(sim, self._side_of)
        self._clusters: dict[str, str] = {}
        self._serials: dict[str, tuple[str, int]] = {}

    # -- decisions -----------------------------------------------------------------------------------------------------

    def decided(self, plane: Any, row: ObjectRow, seen: Seen, plan: Plan) -> None:
        if not self._sim.traffic.rates:
            return
        if row.kind == Kind.SERVICE and isinstance(row.spec, ServiceSpec) and row.spec.strategy is not None:
            self._keeps_the_stable_side(row, row.spec, seen, plan)
        if not isinstance(row.spec, RolloutSpec):
            return
        before, after = decode_rollout_status(row.status), decode_rollout_status(plan.status)
        held = self.holds.key(plane, row, (Kind.SERVICE, row.spec.service)) is not None
        self._folded(row, row.spec, seen, before, after)
        if after.weight > before.weight:
            self._rises(row, row.spec, before, after, held=held)
            self._has_instances(row, row.spec, seen, after)
        if row.state == "pending" and plan.state == "preparing" and (held or row.paused):
            self._broken("began although it is held or paused", row.name)
        if row.state == "judging" and plan.state in ("preparing", "promoting"):
            self._leaves_a_step(row, row.spec, before, after, held=held)
        self._goes_back(row, row.spec, seen, before, after, plan)
        promotes = any(isinstance(change, EndRollout) and change.promote for change in plan.children)
        if promotes and row.state not in ("judging", "promoting"):
            self._broken("promoted out of order", f"{row.name} in {row.state}")

    def _rises(
        self, row: ObjectRow, spec: RolloutSpec, before: RolloutStatus, after: RolloutStatus, *, held: bool
    ) -> None:
        name = f"{row.name}: {before.weight} to {after.weight}"
        self._sim.reached("weight-rises")
        if row.state != "preparing":
            self._broken("the weight rises out of order", f"{name} in {row.state}")
        if row.uid in self._back or spec.abort or row.delete_at is not None:
            self._broken("the weight rises of a rollout that goes back", name)
        if row.paused:
            self._broken("the weight rises although it is paused", name)
        promoted = spec.promoted_fully or spec.promoted >= max(1, after.step)
        if held and not promoted:
            self._broken("the weight rises although it is held", name)
        steps = spec.strategy.steps
        if steps and after.weight > steps[min(after.step, len(steps) - 1)].weight:
            self._broken("the weight rises above that of its step", name)
        if after.step and not spec.promoted_fully and (not after.steps or after.steps[-1].how == "failed"):
            self._broken("the weight rises and no step was left", name)

    def _has_instances(self, row: ObjectRow, spec: RolloutSpec, seen: Seen, after: RolloutStatus) -> None:
        """By what the Service said of them."""
        peer = seen.answers.get(LookPeer(Uid(spec.service_uid)))
        if not isinstance(peer, Peer) or not isinstance(peer.spec, ServiceSpec):
            return self._broken("the weight rises, and nobody looked at the Service", row.name)
        share = 1.0 if spec.strategy.blue_green else after.weight / WEIGHT_ALL
        wanted = max(1, math.ceil(peer.spec.replicas * share - 1e-9))
        shown = decode_service_status(peer.status).shown
        if shown is None or shown.ready < wanted or shown.rollout_uid != row.uid:
            ready = shown.ready if shown is not None else 0
            self._broken("the weight rises before there are instances", f"{row.name}: {ready} of {wanted}")

    def _leaves_a_step(
        self, row: ObjectRow, spec: RolloutSpec, before: RolloutStatus, after: RolloutStatus, *, held: bool
    ) -> None:
        record = after.steps[-1]
        name = f"{row.name} at {record.weight}: {record.why}"
        self._sim.reached(f"step-{record.how}")
        if row.paused:
            self._broken("a step was left although it is paused", name)
        if spec.abort or row.delete_at is not None:
            self._broken("a step was left upwards although it was to go back", name)
        one = self._sim.traffic.in_force(spec.service_uid)
        if one is not None and not one.foreign and one.weight != before.weight:
            self._broken("a step was left that the data plane never had", f"{name}; in force is {one.weight}")
        if record.how == "promoted":
            if not spec.promoted_fully and spec.promoted <= before.step:
                self._broken("a step was left as promoted, and nobody did", name)
            return
        if held:
            self._broken("a step was left by itself although it is held", name)
        step = spec.strategy.steps[min(before.step, len(spec.strategy.steps) - 1)]
        if step.wait:
            self._broken("a step was left that waits for a person", name)
        if one is not None and self._sim.loop_time - one.at < step.hold_seconds - self._sim.jumped - 0.2:
            self._broken("a step was left before its time", name)
        if spec.strategy.analysis.enabled:
            self._passed(row, spec, after, name)

    def _passed(self, row: ObjectRow, spec: RolloutSpec, after: RolloutStatus, name: str) -> None:
        """It was judged. By what it was shown, and by what is true."""
        self._sim.reached("judged-good")
        analysis = spec.strategy.analysis
        if after.blind_since:
            self._broken("passed while no counters can be read", name)
        one = self._sim.traffic.in_force(spec.service_uid)
        if one is not None and not one.foreign:
            counter = self._sim.traffic.counters.get(one.split)
            if counter is None or counter.true_requests < SEEN_MIN:
                self._broken("passed without requests", name)
        if after.steps[-1].weight == WEIGHT_ALL:
            return  # there is nobody to compare with at the same time
        evidence = after.evidence or Evidence(analysis.margin)
        if judge(evidence, alpha=analysis.alpha).verdict is not Verdict.PASS:
            self._broken("passed without a pass", name)
        old, new = (self._sim.users.rollouts.qualities[digest] for digest in (spec.old_digest, spec.template_digest))
        age = self._sim.clock.now() - row.created_at + self._sim.jumped
        down_at = self._sim.traffic.nobody_at.get(one.main, -1.0) if one is not None else -1.0
        if down_at >= self._sim.loop_time - age:
            return  # who was there on the old side was killed meanwhile: it was no better than that
        if new.failures > old.failures + analysis.margin + CLEARLY:
            self._broken("a bad version passed", f"{name}; true are {new.failures:.0%} and {old.failures:.0%}")

    def _goes_back(
        self, row: ObjectRow, spec: RolloutSpec, seen: Seen, before: RolloutStatus, after: RolloutStatus, plan: Plan
    ) -> None:
        failed = [gate for gate in after.gates if gate.verdict == Verdict.FAIL]
        if plan.reason == "NoWayBack":
            self._stays(row, spec, seen, before, after)
        elif plan.state in UP and row.state in UP and failed:
            self._broken("a gate failed and it goes on", f"{row.name}: {failed[0].name}: {failed[0].why}")
        if plan.state in UP and (spec.abort or row.delete_at is not None):
            self._broken("it was to go back and goes on", f"{row.name} in {row.state}")
        if row.state in BACK and plan.state not in BACK:
            self._broken("it went back and goes on", f"{row.name}: {row.state} to {plan.state}")
        if plan.state in BACK and after.weight:
            self._broken("it goes back and asks for a weight", f"{row.name}: {after.weight}")
        if row.state in UP and plan.state == "retreating":
            self._sim.reached(f"back:{after.stopped_reason}")
            if failed and after.stopped_reason == "GateFailed":
                self._failed_by_truth(row, spec, before, after, failed[0].name)
        if row.state == "retreating" and plan.state == "removing" and after.highest:
            one = self._sim.traffic.in_force(spec.service_uid)
            if one is not None and one.weight and not one.foreign and one.split.endswith(row.uid[:8]):
                self._broken("taken for back at 0, and the data plane has a weight", f"{row.name}: {one.weight}")

    def _stays(
        self, row: ObjectRow, spec: RolloutSpec, seen: Seen, before: RolloutStatus, after: RolloutStatus
    ) -> None:
        """A guard says that it must go back, and nobody is there who could take the requests."""
        self._sim.reached("no-way-back")
        peer = seen.answers.get(LookPeer(Uid(spec.service_uid)))
        if not isinstance(peer, Peer) or decode_service_status(peer.status).ready:
            self._broken("it stays, and somebody of the old version is in traffic", row.name)
        if after.weight != before.weight or after.step != before.step:
            self._broken("it stays for want of a way back, and goes on", row.name)

    def _failed_by_truth(
        self, row: ObjectRow, spec: RolloutSpec, before: RolloutStatus, after: RolloutStatus, gate: str
    ) -> None:
        self._sim.reached("judged-bad")
        if not any(name in gate for name in COUNTED):
            return
        told = None if after.reading is None else self._told(after.reading)
        if after.reading is None or (told is not None and not told.honest):
            self._broken("failed by counters that make no sense", f"{row.name}: {gate}: {after.stopped}")
        part = f"~{row.uid[:8]}"
        counters = [counter for name, counter in self._sim.traffic.counters.items() if name.endswith(part)]
        if gate != "p95 latency" and not any(counter.true_failures for counter in counters):
            self._broken("failed, and no request ever did", f"{row.name}: {gate}: {after.stopped}")

    # -- evidence ------------------------------------------------------------------------------------------------------

    def _folded(
        self, row: ObjectRow, spec: RolloutSpec, seen: Seen, before: RolloutStatus, after: RolloutStatus
    ) -> None:
        """One stretch of one epoch at the weight that was in force from its begin to its end, of true counters."""
        nothing = Evidence(spec.strategy.analysis.margin)
        was, now = before.evidence or nothing, after.evidence or nothing
        old, new = now.old - was.old, now.new - was.new
        if not (old.requests or new.requests or old.failures or new.failures):
            return
        first = before.reading
        last = next(
            (_reading(look, answer) for look, answer in seen.answers.items() if isinstance(answer, Traffic)), None
        )
        if first is None or last is None or first.epoch != last.epoch:
            return self._broken("counters of two epochs were compared", row.name)
        self._sim.reached("folded")
        since, until = self._told(first), self._told(last)
        if since is None or until is None:
            return self._broken("evidence of nothing that was read", row.name)
        if not (since.honest and until.honest):
            return self._broken("counters that make no sense became evidence", f"{row.name}: {old} and {new}")
        weights = self._sim.traffic.weight_during(spec.service_uid, since.at, until.at)
        if weights is not None and weights != {before.weight}:
            self._broken("evidence over another weight", f"{row.name}: {sorted(weights)}, not {before.weight}")
        if (old.requests, new.requests) != (
            last.old.requests - first.old.requests,
            last.new.requests - first.new.requests,
        ):
            self._broken("evidence that was not counted", f"{row.name}: {old} and {new}")

    def _told(self, reading: Reading) -> Any:
        return self._sim.traffic.told(reading.epoch, reading.at, reading.old, reading.new)

    # -- commits -------------------------------------------------------------------------------------------------------

    def committed(self, batch: Sequence[Commit], results: Sequence[CommitResult]) -> None:
        if not self._sim.traffic.rates:
            return
        for commit, result in zip(batch, results, strict=True):
            if not isinstance(result, Committed):
                continue
            match commit.row.spec:
                case RolloutSpec() as spec:
                    self._rollout(commit.row, spec, commit.plan)
                case ServiceSpec(strategy=strategy) as service if strategy is not None:
                    self._route_of(commit.row, service, commit.plan)
                case _:
                    pass

    def _rollout(self, row: ObjectRow, spec: RolloutSpec, plan: Plan) -> None:
        running = [one for one in self._sim.peek.rollouts() if one.service == spec.service_uid]
        if len(running) > 1:
            self._broken("two rollouts of one Service", f"{spec.service}: {[one.uid[:6] for one in running]}")
        if row.state in BACK or plan.state in BACK:
            self._back.add(row.uid)
        reading = decode_rollout_status(plan.status).reading
        if reading is not None:
            self._sim.traffic.kept(row.uid[:8], reading)
        facts = self._sim.peek.object(spec.service_uid)
        if facts is None or facts.finished:
            return
        service = msgspec.json.decode(facts.spec, type=ServiceSpec)
        part = service.rollout
        weight = part.weight if part is not None and part.rollout_uid == row.uid else 0
        was = self._weights.get(row.uid, 0)
        self._weights[row.uid] = weight
        alive = not facts.deleting and service.template_digest == spec.old_digest
        if alive and row.uid in self._back and weight:
            self._broken("it goes back and the Service keeps its weight", f"{row.name}: {weight}")
        if weight > was and plan.state not in UP:
            self._broken("the weight rises out of order", f"{row.name} in {row.state}: {was} to {weight}")
        self._one_part(row, part)
        if service.template_digest == spec.template_digest and plan.state in UP | BACK and row.state in UP | BACK:
            promoted = service.side == row.uid[:8]
            if promoted:
                self._broken("promoted without a word", f"{row.name} in {plan.state}")

    def _one_part(self, row: ObjectRow, part: RolloutPart | None) -> None:
        """Nobody takes another's place, and a part never gets older."""
        if part is None:
            return
        if part.rollout_uid != row.uid:
            owner = self._sim.peek.object(part.rollout_uid)
            if owner is None or owner.finished:
                self._broken("the part of a rollout that has ended", f"{part.rollout_name}, seen by {row.name}")
        uid = f"{row.uid}"
        known = self._serials.get(uid)
        if known is not None and known[0] == part.rollout_uid and part.serial < known[1]:
            self._broken("an older part was written over a newer one", row.name)
        self._serials[uid] = (part.rollout_uid, part.serial)

    def _route_of(self, row: ObjectRow, spec: ServiceSpec, plan: Plan) -> None:
        """What is asked of the data plane is what the part says, never more."""
        for resource in plan.resources:
            want = resource.stored_want
            if not resource.wanted or not isinstance(want, RouteWant):
                continue
            part, split = spec.rollout, want.split
            if split is not None and part is None:
                self._broken("a split route, and no rollout", row.name)
            if split is not None and part is not None:
                if split.weight > part.weight:
                    self._broken("more weight than the rollout asks for", f"{row.name}: {split.weight}")
                if not split.cluster.endswith(f"~{part.side}"):
                    self._broken("a split to another cluster than the new side's", f"{row.name}: {split.cluster}")
            if want.cluster.endswith(f"~{spec.side}") != bool(spec.side):
                self._broken("a route to another cluster than the Service's", f"{row.name}: {want.cluster}")

    # -- the stable side -----------------------------------------------------------------------------------------------

    def _keeps_the_stable_side(self, row: ObjectRow, spec: ServiceSpec, seen: Seen, plan: Plan) -> None:
        """Of the instances in the Service's own cluster that the decision saw in traffic, enough stay; while a rollout
        runs, all that are wished for."""
        children = seen.answers.get(LookChildren(row.uid))
        deleted = {change.uid for change in plan.children if isinstance(change, DeleteChild)}
        if not isinstance(children, Children) or plan.state == "terminating":
            return
        created = [change for change in plan.children if isinstance(change, CreateChild)]
        self._not_too_many(row, spec, created)
        if not deleted:
            return
        own = ""
        up = [
            child
            for group in children.groups
            if group.state == "serving" and not group.deleting
            for child in group.oldest
            if self._side_of(child.uid) == (spec.side or own)
        ]
        taken = sum(1 for child in up if child.uid in deleted)
        allowed = spec.update.max_unavailable if spec.rollout is None else 0
        if taken and len(up) - taken < spec.replicas - allowed:
            self._broken(
                "[17] instances of the stable side were taken out below the allowed number",
                f"{row.name}: {len(up) - taken} left of {spec.replicas}, {taken} taken",
            )

    def _not_too_many(self, row: ObjectRow, spec: ServiceSpec, created: list[CreateChild]) -> None:
        """Each side within its own number, when something is made for it."""
        if not created:
            return
        sides: dict[str, int] = {}
        for child in self._sim.peek.objects(owner=row.uid):
            if child.state in ALIVE and not child.deleting:
                side = self._side_of(child.uid)
                sides[side] = sides.get(side, 0) + 1
        made = {getattr(change.spec, "cluster", "").partition("~")[2] for change in created}
        part = spec.rollout
        for side in made:
            if part is not None and side == part.side:
                most = part.replicas
            elif side == spec.side:
                most = spec.replicas + spec.update.max_surge
            else:
                self._broken("an instance was made for a side that is not in use", f"{row.name}: {side!r}")
                continue
            count = sides.get(side, 0)
            fresh = sum(1 for change in created if getattr(change.spec, "cluster", "").partition("~")[2] == side)
            if count + fresh > most and count:
                self._broken(
                    "more instances of a side than it may have", f"{row.name} {side!r}: {count}+{fresh} of {most}"
                )

    # -- calls ---------------------------------------------------------------------------------------------------------

    def takes_effect(self, plane: Any, key: ResourceKey, want: Want, *, foreign: bool) -> None:
        if isinstance(want, RouteWant) and self._sim.traffic.rates:
            self._sim.traffic.asked(key, foreign=foreign)

    def endpoint_asked(self, uid: str, want: EndpointWant, *, zombie: bool) -> None:
        if self._sim.traffic.rates and want.state is EndpointState.DRAINING and not zombie:
            self._may_stop(uid, "drained")

    def stop_asked(self, uid: str) -> None:
        if self._sim.traffic.rates:
            self._may_stop(uid, "stopped")

    def _may_stop(self, uid: str, verb: str) -> None:
        """Nothing is taken away from a side that gets requests, but what is above its number."""
        sim = self._sim
        facts = sim.peek.object(uid)
        if facts is None or facts.kind != "Spin" or facts.outcome or facts.force or not facts.owner:
            return
        service = sim.peek.object(facts.owner)
        if service is None or service.deleting or service.finished or service.state == "terminating":
            return
        if service.uid not in sim.traffic.rates or not sim.world.ready(f"{uid}/process", sim.steady.now()):
            return
        one = sim.traffic.in_force(service.uid)
        if one is None or one.foreign:
            return
        side = self._side_of(uid)
        spec = msgspec.json.decode(service.spec, type=ServiceSpec)
        share = self._share(one, side)
        if not share or side == spec.side:
            return
        part = spec.rollout
        left = self._others(service, uid, side)
        if part is None or part.side != side or not part.replicas or left < part.replicas:
            self._broken(
                f"[17] {verb} while the data plane sends its side requests",
                f"{facts.name} of {service.name}, side {side!r}: {share} of {WEIGHT_ALL}, {left} others",
            )

    def _share(self, one: Any, side: str) -> int:
        if one.split and one.split.partition("~")[2] == side:
            return int(one.weight)
        return WEIGHT_ALL - int(one.weight) if one.main.partition("~")[2] == side else 0

    def _others(self, service: ObjectFacts, uid: str, side: str) -> int:
        return sum(
            1
            for child in self._sim.peek.objects(owner=service.uid)
            if child.uid != uid and child.state in ALIVE and not child.deleting and self._side_of(child.uid) == side
        )

    def _side_of(self, uid: str) -> str:
        """Of an instance: it stays in the cluster that it was made for."""
        side = self._clusters.get(uid)
        if side is None:
            facts = self._sim.peek.object(uid)
            cluster = json.loads(facts.spec).get("cluster", "") if facts is not None else ""
            side = self._clusters[uid] = cluster.partition("~")[2]
        return side

    def _broken(self, what: str, detail: str) -> None:
        self._sim.broken(what, detail)


def _reading(look: object, traffic: Traffic) -> Reading:
    assert isinstance(look, LookTraffic)
    old, new = (traffic.clusters.get(name, ClusterTraffic()) for name in look.clusters)
    return Reading(traffic.epoch, traffic.at, 0, old, new)
