"""What must finally hold of rollouts."""

from __future__ import annotations

import msgspec

from spinyard.core.spec import RolloutSpec, ServiceSpec
from spinyard.core.want import RouteWant
from spinyard.testing.simulation.parts import ObjectFacts
from spinyard.testing.simulation.stage import Stage


class RolloutFinal:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim

    def running(self, facts: ObjectFacts) -> list[str]:
        return [f"Rollout {facts.name} is {facts.state}: {facts.why}"]

    def ended(self, objects: list[ObjectFacts]) -> list[str]:
        """All of them, against what their Services are now."""
        services = {facts.uid: facts for facts in objects if facts.kind == "Service"}
        if not self._sim.traffic.rates:
            return []
        out: list[str] = []
        newest: dict[str, tuple[ObjectFacts, RolloutSpec]] = {}
        for facts in self._sim.peek.objects(finished=True):
            if facts.kind == "Rollout":
                spec = msgspec.json.decode(facts.spec, type=RolloutSpec)
                before = newest.get(spec.service_uid)
                if before is None or before[0].created_at < facts.created_at:
                    newest[spec.service_uid] = (facts, spec)
        for uid, service in services.items():
            if uid in self._sim.traffic.rates and not service.deleting:
                out += self._service(service, newest.get(uid))
        return out

    def _service(self, facts: ObjectFacts, last: tuple[ObjectFacts, RolloutSpec] | None) -> list[str]:
        name = f"Service {facts.name}"
        spec = msgspec.json.decode(facts.spec, type=ServiceSpec)
        running = any(one.service == facts.uid for one in self._sim.peek.rollouts())
        if running:
            return []
        out = []
        if spec.rollout is not None:
            out.append(f"{name} has the part of {spec.rollout.rollout_name}, which has ended")
        suffix = f"~{spec.side}" if spec.side else f"/{facts.uid[:8]}"
        for key, entry in self._sim.proxy.entries.items():
            if isinstance(entry.want, RouteWant) and key.startswith(f"{facts.uid}/"):
                if entry.want.split is not None:
                    out.append(f"{name}: its route is split, and nothing is rolled out")
                if not entry.want.cluster.endswith(suffix):
                    out.append(f"{name}: its route goes to {entry.want.cluster}, its side is {spec.side!r}")
        one = self._sim.traffic.in_force(facts.uid)
        if one is not None and one.weight:
            out.append(f"{name}: a weight of {one.weight} is in force, and nothing is rolled out")
        if last is None:
            return out
        rollout, wish = last
        self._sim.reached(f"ended:{rollout.state}")
        children = self._sim.peek.objects(owner=facts.uid)
        if rollout.state == "rolled_back" and spec.side == rollout.uid[:8]:
            out.append(f"{name} has the side of {rollout.name}, which went back")
        if rollout.state == "succeeded" and spec.side != rollout.uid[:8]:
            out.append(f"{name} has not the side of {rollout.name}, which succeeded")
        if rollout.state == "succeeded" and spec.template_digest == wish.old_digest:
            self._sim.reached("rolled-back-after-success")
        if rollout.state == "rolled_back" and spec.template_digest == wish.old_digest:
            left = [child.state for child in children if child.digest == wish.template_digest]
            if left:
                out.append(f"{name} went back, and has instances of what {rollout.name} brought: {left}")
        return out
