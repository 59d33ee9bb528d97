"""What must always hold, looked at in the moment of effect. Numbers in brackets are those of the promises.

Checks read the tables and the pretended world; they do not ask the code under test. What a control plane did after
another one had taken its row over is a zombie's doing: it may leave an orphan, which the sweep must find, and nothing
else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from spinyard.core.ids import ResourceKey, owner_of
from spinyard.core.observed import Children, Held, LookChildren, Seen
from spinyard.core.plan import CreateChild, DeleteChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, ServiceSpec
from spinyard.core.want import EndpointState, EndpointWant, ProcessWant, Want
from spinyard.ports.provider import Owned
from spinyard.ports.store import Commit, CommitResult, Committed, Lease, Refused, Stale
from spinyard.testing.simulation.parts import ObjectFacts
from spinyard.testing.simulation.pool_checks import PoolChecks
from spinyard.testing.simulation.rollout_checks import RolloutChecks
from spinyard.testing.simulation.stage import Stage

PASSES_MAX = 120
"""of one row in one virtual second; more is a busy loop"""
ENDS = frozenset({"draining", "terminating", "cleaning", "terminated", "leaked", "failed"})
ALIVE = frozenset({"pending", "planned", "provisioning", "bootstrapping", "registering", "ready", "serving"})
RESTING = frozenset({"ready", "serving", "available", "succeeded", "terminated", "warm", "active"})


class Checks:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self.pools = PoolChecks(sim)
        self.rollouts = RolloutChecks(sim)
        self._holder: dict[str, str] = {}
        self._held: dict[str, int] = {}
        self._takeovers: Counter[str] = Counter()
        self._issued: dict[str, int] = {}
        self._listed: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        self._deleting: set[str] = set()
        self._was_ready: set[str] = set()
        self._made: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self._passes: Counter[str] = Counter()
        self._second = -1
        self.mutations = 0
        """calls that change the world"""
        self.last_mutation = ""

    # -- calls of a control plane ----------------------------------------------------------------------------------

    def ensure_asked(self, plane: Any, provider: str, key: ResourceKey, want: Want) -> None:
        self._count(plane, "ensure", key)
        row = self._sim.peek.resource(key)
        if row is None:
            return self._broken("[1] asked for before it was in the ledger", f"{provider} {key}")
        uid = owner_of(key)
        if self._holder.get(uid) == plane.holder and self._is_held(uid, plane) and (row.closed or not row.wanted):
            self._broken("[1] asked for although the ledger says that it shall be gone", f"{provider} {key}")
        self._issued.setdefault(key, self._takeovers[uid])
        if isinstance(want, EndpointWant):
            self.rollouts.endpoint_asked(uid, want, zombie=not self.holds(plane, uid))
        self._ports_of(key, want)
        if isinstance(want, EndpointWant) and want.state is EndpointState.ACTIVE and want.spin:
            self._note_ready(f"{uid}/process")
            if f"{uid}/process" not in self._was_ready:
                self._broken("[16] made known to the data plane before it was ready", key)
            if self._holder.get(uid) == plane.holder and self._is_held(uid, plane):
                self.pools.endpoint_asked(uid)

    def remove_asked(self, plane: Any, provider: str, key: ResourceKey, now: bool) -> None:
        self._count(plane, "remove", key)
        row = self._sim.peek.resource(key)
        if row is not None and row.wanted:
            self._broken("[4] removed although it is wanted", f"{provider} {key}")
        if row is not None and row.retained and row.closed:
            self._broken("[4] a retained directory was removed", key)
        if row is None or row.closed:
            self._orphan_removed(plane, provider, key)
        elif not now and key.endswith("/process"):
            self._stopped_in_order(key)
            self.rollouts.stop_asked(owner_of(key))

    def listed(self, plane: Any, provider: str, things: Sequence[Owned]) -> None:
        now = self._sim.loop_time
        there = {thing.key for thing in things}
        for key in there:
            self._listed[plane.holder, provider, key].append(now)
        for name in [n for n in self._listed if n[:2] == (plane.holder, provider) and n[2] not in there]:
            del self._listed[name]

    def _orphan_removed(self, plane: Any, provider: str, key: str) -> None:
        seen = self._listed.get((plane.holder, provider, key), [])
        grace = plane.context.settings.sweep_grace_seconds - self._sim.jumped
        if len(seen) < 2 or seen[-1] - seen[0] < grace - 0.01:
            self._broken("[4] removed as an orphan without two sightings apart", f"{provider} {key}")
        self._sim.reached("orphan-removed")

    def _stopped_in_order(self, key: str) -> None:
        """[17] A program that runs is asked to end only after the data plane let go of it."""
        sim = self._sim
        uid = owner_of(ResourceKey(key))
        endpoint = ResourceKey(f"{uid}/endpoint")
        entry = sim.proxy.entries.get(endpoint)
        thing = sim.world.find(key, sim.steady.now())
        facts = sim.peek.object(uid)
        if entry is None or thing is None or not thing.running(sim.steady.now()) or facts is None:
            return
        if facts.outcome or facts.force or '"DrainDeadline"' in facts.status:
            return
        if entry.want.state is EndpointState.ACTIVE:
            self._broken("[17] stopped while the data plane sends it requests", key)
        elif sim.proxy.active_requests(endpoint) and not sim.proxy_was_reset:
            self._broken("[17] stopped while requests are under way", key)

    def holds(self, plane: Any, uid: str) -> bool:
        return self._holder.get(uid) == plane.holder and self._is_held(uid, plane)

    def _is_held(self, uid: str, plane: Any) -> bool:
        facts = self._sim.peek.object(uid)
        return facts is not None and facts.holder == plane.holder

    def _count(self, plane: Any, verb: str, key: str) -> None:
        self.mutations += 1
        self.last_mutation = f"{verb} {key} by {plane.holder}"

    # -- effects in the world --------------------------------------------------------------------------------------

    def world_effect(self, effect: str, key: str) -> None:
        self._sim.log(f"world: {effect} {key}")
        if effect in ("killed", "vanished", "removed"):
            self._note_ready(key)
        if effect != "created":
            return
        uid = owner_of(ResourceKey(key))
        row = self._sim.peek.resource(key)
        if row is None:
            if not key.startswith("stray"):
                self._broken("[1] made before it was in the ledger", key)
            return
        if row.closed and not row.retained and self._issued.get(key) == self._takeovers[uid]:
            self._broken("[3] came into being after it was declared gone", key)
        if not row.closed:
            self.pools.made(key)

    def _ports_of(self, key: str, want: Want) -> None:
        """No program is asked for with a number that another one still has."""
        if not isinstance(want, ProcessWant) or not want.ports or self._is_zombie(key):
            return
        now = self._sim.steady.now()
        mine = {number for _, number in want.ports}
        for other, thing in self._sim.world.things.items():
            if owner_of(ResourceKey(other)) == owner_of(ResourceKey(key)) or not isinstance(thing.want, ProcessWant):
                continue
            if thing.running(now) and mine & {number for _, number in thing.want.ports} and not self._is_zombie(other):
                self._broken("two programs with the same port", f"{key} and {other}")

    def _is_zombie(self, key: str) -> bool:
        row = self._sim.peek.resource(key)
        return row is None or row.closed == 1

    def _note_ready(self, key: str) -> None:
        thing = self._sim.world.things.get(key)
        if thing is not None and self._sim.steady.now() >= thing.ready_at:
            self._was_ready.add(key)

    def was_ready(self, uid: str) -> bool:
        self._note_ready(f"{uid}/process")
        return f"{uid}/process" in self._was_ready

    # -- decisions and commits -------------------------------------------------------------------------------------

    def decided(self, plane: Any, row: ObjectRow, seen: Seen, plan: Plan, now: float) -> None:
        if self._too_often(row.uid):
            self._broken("busy loop", f"{row.kind} {row.name} in {row.state}: {plan.why} {plan.reason} {seen.refused}")
            plane.die("busy loop")
            plane.context.failpoint("busy")
        if not plan.finished and plan.wake_at is None and plan.state not in RESTING and not plan.children:
            self._may_wait_for_ever(row, seen, plan)
        if not plane.context.domains[row.kind].machine.may(row.state, plan.state):
            self._broken("not a transition", f"{row.kind} {row.name}: {row.state} -> {plan.state}: {plan.why}")
        if row.kind == Kind.SERVICE and isinstance(row.spec, ServiceSpec) and row.spec.strategy is None:
            self._takes_too_many(row, row.spec, seen, plan)
        self.rollouts.decided(plane, row, seen, plan)
        self.rollouts.holds.decided(plane, row, seen, plan)
        if not plan.why or not plan.reason:
            self._broken("a plan without a reason", f"{row.kind} {row.name} in {row.state} -> {plan.state}")

    def _too_often(self, what: str) -> bool:
        second = int(self._sim.loop_time)
        if second != self._second:
            self._second = second
            self._passes.clear()
        self._passes[what] += 1
        return self._passes[what] > PASSES_MAX

    def _may_wait_for_ever(self, row: ObjectRow, seen: Seen, plan: Plan) -> None:
        """Only a parent may: its children wake it. One that is paused, or held without an end, waits for its user."""
        if row.paused or any(isinstance(one, Held) and one.until is None for one in seen.answers.values()):
            return
        if row.kind == Kind.SPIN or not self._sim.peek.objects(owner=row.uid):
            resting = {"failed", "degraded", "running", "progressing"}
            if row.kind == Kind.SPIN or plan.state not in resting:
                self._broken("[6] waits for ever", f"{row.kind} {row.name} in {plan.state}: {plan.why}")

    def claimed(self, plane: Any, rows: Sequence[ObjectRow]) -> None:
        """A row that is claimed while its lease was not given back is taken over, from another or from itself."""
        for row in rows:
            if self._too_often(f"claim {row.uid}"):
                self._broken("busy loop", f"{row.kind} {row.name} is claimed again and again")
                plane.die("busy loop")
                plane.context.failpoint("busy")
            if row.uid in self._held:
                self._takeovers[row.uid] += 1
                self._sim.reached("takeover")
            self._holder[row.uid] = plane.holder
            self._held[row.uid] = row.lease_token

    def released(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            if self._held.get(lease.uid) == lease.token:
                del self._held[lease.uid]

    def before_commit(self, batch: Sequence[Commit]) -> dict[str, ObjectFacts]:
        facts = (self._sim.peek.object(commit.row.uid) for commit in batch)
        return {one.uid: one for one in facts if one is not None}

    def committed(
        self,
        plane: Any,
        batch: Sequence[Commit],
        results: Sequence[CommitResult],
        before: dict[str, ObjectFacts],
    ) -> None:
        for commit, result in zip(batch, results, strict=True):
            match result:
                case Stale():
                    self._sim.reached("stale")
                case Refused():
                    self._sim.reached("refused")
                case Committed(row=after):
                    self._one_committed(plane, commit, after, before[commit.row.uid])
                    if commit.release or commit.plan.finished:
                        self.released([Lease(after.uid, commit.row.lease_token)])
        self.pools.committed(batch, results)
        self.rollouts.committed(batch, results)
        self.rollouts.holds.committed(plane, batch, results)

    def _one_committed(self, plane: Any, commit: Commit, after: ObjectRow, was: ObjectFacts) -> None:
        sim, row, plan = self._sim, commit.row, commit.plan
        now = sim.peek.object(row.uid)
        assert now is not None
        name = f"{row.kind} {row.name}"
        if self._holder.get(row.uid) != plane.holder or was.token != row.lease_token:
            self._broken("[12] written by one whose lease was taken over", f"{name} by {plane.holder}")
        if was.version != row.resource_version:
            self._broken("[12] written over a change that was not seen", name)
        if was.finished:
            self._broken("written after its end", name)
        machine = plane.context.domains[row.kind].machine
        if not machine.may(was.state, plan.state):
            self._broken("not a transition", f"{name}: {was.state} -> {plan.state}")
        if was.deleting and row.uid in self._deleting and not now.deleting:
            self._broken("a deletion was taken back", name)
        if now.deleting:
            self._deleting.add(row.uid)
        if row.delete_at is not None and row.kind == Kind.SPIN and plan.state != was.state and plan.state not in ENDS:
            self._broken("went on although deleted", f"{name}: {was.state} -> {plan.state}")
        if was.state != plan.state:
            sim.reached(f"{row.kind}:{plan.state}")
            sim.log(f"{plane.holder}: {name} {row.uid[:6]} {was.state} -> {plan.state}: {plan.reason}: {plan.why}")
        for event in plan.events:
            sim.reached(f"event:{event.reason}")
            sim.log(f"{plane.holder}: {name} {event.reason}: {event.message}")
        if plan.finished:
            self._finished(row, plan)
        if row.kind == Kind.SERVICE and isinstance(row.spec, ServiceSpec):
            self._rolled(row, row.spec, plan)

    def _finished(self, row: ObjectRow, plan: Plan) -> None:
        sim = self._sim
        if sim.peek.reservations(row.uid):
            self._broken("finished, and still holds reservations", f"{row.kind} {row.name}")
        prefix = f"{row.uid}/"
        retained = {facts.key for facts in self._retained(prefix)}
        left = [key for key in sim.world.things if key.startswith(prefix) and key not in retained]
        left += [key for key in sim.proxy.entries if key.startswith(prefix)]
        # What is retained may come late: it is what was wished for, and the sweep spares it.
        underway = [key for key, count in sim.provider.underway.items() if count and key.startswith(prefix)]
        left += [key for key in underway if key not in retained]
        left = [key for key in left if self._issued.get(key) == self._takeovers[row.uid]]
        if left:
            self._broken("[3] declared gone, and something is left", f"{row.kind} {row.name}: {left}")
        open_rows = [facts.key for facts in sim.peek.ledger() if facts.key.startswith(prefix)]
        if open_rows:
            self._broken("[3] finished with open ledger rows", f"{row.kind} {row.name}: {open_rows}")

    def _retained(self, prefix: str) -> list[Any]:
        known = {*self._sim.world.things, *self._sim.provider.underway}
        rows = [self._sim.peek.resource(key) for key in known if key.startswith(prefix)]
        return [row for row in rows if row is not None and row.retained]

    def _rolled(self, row: ObjectRow, spec: ServiceSpec, plan: Plan) -> None:
        """At most replicas + surge are alive."""
        created = [change for change in plan.children if isinstance(change, CreateChild)]
        if created:
            children = self._sim.peek.objects(owner=row.uid)
            alive = [child for child in children if child.state in ALIVE and not child.deleting]
            if spec.strategy is None and len(alive) > spec.replicas + spec.update.max_surge:
                self._broken("more instances than replicas and surge", f"{row.name}: {len(alive)} of {spec.replicas}")
        self._not_too_fast(row, spec, len(created))
        self._keeps_what_is_retained(row, plan)
        slots = Counter(change.slot for change in created)
        if any(count > 1 for count in slots.values()):
            self._broken("two children for one slot", row.name)

    def _not_too_fast(self, row: ObjectRow, spec: ServiceSpec, made: int) -> None:
        """What does not start is tried again more and more slowly. As many as were wished for when they were made."""
        recent = [one for one in self._made[row.uid] if self._sim.loop_time - one[0] < 10.0]
        recent += [(self._sim.loop_time, spec.replicas)] * made
        self._made[row.uid] = recent
        wished = max((replicas for _, replicas in recent), default=0)
        if len(recent) > 6 * (wished + 1) + 12:
            self._broken("instances are made without backoff", f"{row.name}: {len(recent)} in 10 s")

    def _keeps_what_is_retained(self, row: ObjectRow, plan: Plan) -> None:
        directories = row.template.data_directories if row.template is not None else ()
        kept = {f"{row.uid}/dir/{directory.name}" for directory in directories if directory.retain}
        for resource in plan.resources:
            if resource.key in kept and not resource.wanted and not resource.retained:
                self._broken("[4] a retained directory is given up", resource.key)

    def _takes_too_many(self, row: ObjectRow, spec: ServiceSpec, seen: Seen, plan: Plan) -> None:
        """[17] Of those that the decision saw in traffic enough must stay; who fell out since then is not our doing."""
        children = seen.answers.get(LookChildren(row.uid))
        deleted = {change.uid for change in plan.children if isinstance(change, DeleteChild)}
        if not isinstance(children, Children) or not deleted or plan.state == "terminating":
            return
        states = ("serving",) if spec.route is not None else ("ready", "serving")
        groups = [group for group in children.groups if group.state in states and not group.deleting]
        taken = sum(1 for group in groups for child in group.oldest if child.uid in deleted)
        left = sum(group.count for group in groups) - taken
        if taken and left < spec.replicas - spec.update.max_unavailable:
            self._broken(
                "[17] instances in traffic were taken out below the allowed number",
                f"{row.name}: {left} left of {spec.replicas}, {taken} taken",
            )

    def _broken(self, what: str, detail: str) -> None:
        self._sim.broken(what, detail)
