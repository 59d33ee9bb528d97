"""What must hold once faults have stopped and there was time to heal: the world, the ledger, the data plane and the
wishes are one."""

from __future__ import annotations

import msgspec

from spinyard.core.ids import Uid, resource_key
from spinyard.core.spec import JobSpec, ServiceSpec
from spinyard.core.want import EndpointState
from spinyard.testing.simulation.parts import ObjectFacts
from spinyard.testing.simulation.pool_final import PoolFinal
from spinyard.testing.simulation.rollout_final import RolloutFinal
from spinyard.testing.simulation.scenario import DISTURBANCES
from spinyard.testing.simulation.stage import Stage


class Final:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._pools = PoolFinal(sim)
        self._rollouts = RolloutFinal(sim)

    def wrong(self) -> list[str]:
        """What is not as it should be yet, in words."""
        objects = [facts for facts in self._sim.peek.objects() if facts.kind != "Template"]
        out: list[str] = []
        for facts in objects:
            if facts.kind == "Service":
                out += self._service(facts)
            elif facts.kind == "Job":
                out += self._job(facts)
            elif facts.kind == "WarmPool":
                out += self._pools.pool(facts)
            elif facts.kind == "Claim":
                out += self._pools.claim(facts)
            elif facts.kind == "Hold":
                out += [f"Hold {facts.name} was released, and is {facts.state}"] if facts.deleting else []
            elif facts.kind == "Rollout":
                out += self._rollouts.running(facts)
            elif facts.kind == "Spinout":
                # Told by the run itself, which is of its own sort.
                continue
            elif facts.deleting or facts.state not in ("ready", "serving", "warm"):
                out.append(f"Spin {facts.name} is {facts.state}: {facts.why}")
        return out + self._rollouts.ended(objects) + self._world()

    def _service(self, facts: ObjectFacts) -> list[str]:
        name = f"Service {facts.name}"
        if facts.deleting:
            return [f"{name} is deleted, and {facts.state}: {facts.why}"]
        spec = msgspec.json.decode(facts.spec, type=ServiceSpec)
        if spec.ttl_seconds is not None:
            return [f"[9] {name} has a TTL of {spec.ttl_seconds:.0f} s and is {facts.state}"]
        sort = self._sim.users.sorts[spec.template_digest]
        if sort == "serve" and f'"given_up":"{spec.template_digest}"' in facts.status and self._was_disturbed():
            sort = "given up"
        up = "serving" if spec.route is not None else "ready"
        children = self._sim.peek.objects(owner=facts.uid)
        right = [child for child in children if child.state == up and not child.deleting]
        out = []
        if len(right) != spec.replicas or len(children) != spec.replicas:
            states = [child.state for child in children]
            out.append(f"{name} has {states}, wanted are {spec.replicas} {up}: {facts.state}, {facts.why}")
        digests = {child.digest for child in right}
        if sort == "serve" and digests - {spec.template_digest}:
            out.append(f"{name} has instances of other templates: {digests}")
        if (
            sort not in ("serve", "given up")
            and spec.replicas
            and f'"given_up":"{spec.template_digest}"' not in facts.status
        ):
            # Beside an older version that serves: it goes on trying until it gives the new one up.
            out += [f"{name} still tries its new template: {facts.why}"] if right else []
        if any(self._sim.users.sorts[digest] != "serve" for digest in digests):
            out.append(f"{name} serves what cannot serve")
        if any(child.created_at < spec.restarted_at for child in right) and not self._sim.jumped:
            out.append(f"{name} has instances from before its restart")
        wanted_state = "available" if sort == "serve" else "degraded"
        if facts.state != wanted_state and spec.replicas:
            out.append(f"{name} is {facts.state}, not {wanted_state}: {facts.why}")
        return out + self._routed(facts, spec, right)

    def _was_disturbed(self) -> bool:
        """Faults may keep a good template from getting ready in its time; only a new wish tries it again."""
        scenario = self._sim.scenario
        return bool(scenario.rates) or any(s.what in DISTURBANCES for s in scenario.steps) or scenario.ports < 100

    def _routed(self, facts: ObjectFacts, spec: ServiceSpec, right: list[ObjectFacts]) -> list[str]:
        entries = self._sim.proxy.entries
        if spec.route is None:
            return [f"route {key} of a service without" for key in entries if key.startswith(f"{facts.uid}/")]
        routes = [e.want for k, e in entries.items() if k.startswith(f"{facts.uid}/route")]
        if len(routes) != 1 or routes[0].hosts != spec.route.hosts:
            return [f"Service {facts.name}: its route is {routes}, wished is {spec.route.hosts}"]
        out = []
        for child in right:
            entry = entries.get(resource_key(Uid(child.uid), "endpoint"))
            if entry is None or entry.want.state is not EndpointState.ACTIVE:
                out.append(f"Spin {child.name} serves and its endpoint is {entry}")
            elif entry.want.cluster != routes[0].cluster:
                out.append(f"Spin {child.name} is in another cluster than its route")
        return out

    def _job(self, facts: ObjectFacts) -> list[str]:
        if self._sim.users.pools.jobs.knows(facts.uid):
            found: list[str] = self._sim.users.pools.jobs.final(facts)
            return found
        wish = next(wish for wish in self._sim.users.jobs if wish.uid == facts.uid)
        children = self._sim.peek.objects(owner=facts.uid)
        allowed = ("succeeded", "failed") if wish.code == 0 else ("failed",)
        if facts.deleting or facts.state not in allowed or children:
            return [f"Job {facts.name} is {facts.state}: {facts.why}, with {len(children)} spins"]
        if msgspec.json.decode(facts.spec, type=JobSpec).ttl_seconds is not None:
            return [f"[9] Job {facts.name} has a TTL and is {facts.state}"]
        return []

    def _world(self) -> list[str]:
        sim = self._sim
        ledger = sim.peek.ledger()
        out = [f"[3] {row.key} shall be gone and is open in the ledger" for row in ledger if not row.wanted]
        wanted = {row.key for row in ledger if row.wanted and row.provider == "fake"}
        sim.world.find("", sim.steady.now())
        there = set(sim.world.things)
        kept = {key for key in there - wanted if (row := sim.peek.resource(key)) is not None and row.retained}
        # Bootstrap steps have ended, and stay in the ledger until their spin goes; all of them must be there.
        out += [f"[5] orphan in the world: {key}" for key in sorted(there - wanted - kept)]
        out += [f"in the ledger, not in the world: {key}" for key in sorted(wanted - there)]
        routed = {row.key for row in ledger if row.wanted and row.provider == "proxy"}
        entries = set(map(str, sim.proxy.entries))
        out += [f"[5] orphan in the data plane: {key}" for key in sorted(entries - routed)]
        out += [f"in the ledger, not in the data plane: {key}" for key in sorted(routed - entries)]
        return out
