"""What must finally hold of pools and claims."""

from __future__ import annotations

import msgspec

from spinyard.core.ids import Uid, resource_key
from spinyard.core.spec import ClaimSpec, WarmPoolSpec
from spinyard.core.want import EndpointState
from spinyard.testing.simulation.parts import ObjectFacts
from spinyard.testing.simulation.stage import Stage

EXPIRED_SECONDS = 60.0


class PoolFinal:
    """Made when healing begins."""

    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._healing_since = sim.steady.now()

    def pool(self, facts: ObjectFacts) -> list[str]:
        name = f"WarmPool {facts.name}"
        if facts.deleting:
            return [f"{name} is deleted, and {facts.state}: {facts.why}"]
        spec = msgspec.json.decode(facts.spec, type=WarmPoolSpec)
        least, most = spec.min, spec.max
        if spec.windows:
            least, most = spec.windows[0].min, spec.windows[0].max
        members = [member for member in self._sim.peek.members() if member.pool == facts.uid]
        own = [member for member in members if member.owner == facts.uid]
        claimed = len(members) - len(own)
        wanted = max(0, min(least, most - claimed))
        warm = [m for m in own if m.state == "warm" and not m.deleting and m.digest == spec.template_digest]
        if len(warm) != wanted or len(own) != wanted:
            states = [member.state for member in own]
            return [f"{name} has {states}, wanted are {wanted} warm ({claimed} claimed): {facts.state}, {facts.why}"]
        if facts.state != "ready":
            return [f"{name} is {facts.state}: {facts.why}"]
        return self._routed(facts, spec)

    def _routed(self, facts: ObjectFacts, spec: WarmPoolSpec) -> list[str]:
        hosts = [
            entry.want.hosts for key, entry in self._sim.proxy.entries.items() if key.startswith(f"{facts.uid}/route")
        ]
        wanted = [(f"*.{spec.host_suffix}",)] if spec.host_suffix else []
        return [] if hosts == wanted else [f"WarmPool {facts.name}: its route is {hosts}, wished is {wanted}"]

    def claim(self, facts: ObjectFacts) -> list[str]:
        name = f"Claim {facts.name}"
        spec = msgspec.json.decode(facts.spec, type=ClaimSpec)
        if facts.deleting:
            return [f"{name} is deleted, and {facts.state}: {facts.why}"]
        if spec.expires_at is not None:
            over = self._sim.clock.now() - spec.expires_at - self._sim.jumped
            # Nothing bounds a release while all is made to fail: then the time runs from when that stops.
            healed = self._sim.steady.now() - self._healing_since
            if min(over, healed) > EXPIRED_SECONDS:
                self._sim.broken("[9] a claim outlived its time", f"{name}: {over:.0f} s, {facts.state}: {facts.why}")
            return [f"{name} has a TTL and is {facts.state}: {facts.why}"]
        children = self._sim.peek.objects(owner=facts.uid)
        if facts.state == "failed":
            return [f"{name} failed with {len(children)} instances"] if children or not facts.outcome else []
        up = "serving" if spec.host else "ready"
        right = [child for child in children if child.state in (up, "ready", "serving") and not child.deleting]
        if facts.state != "ready" or len(children) != 1 or len(right) != 1:
            return [f"{name} is {facts.state} with {[child.state for child in children]}: {facts.why}"]
        program = self._sim.world.things.get(f"{right[0].uid}/process")
        if program is None or not program.running(self._sim.steady.now()):
            return [f"{name} is ready, and the program of its member has ended"]
        entry = self._sim.proxy.entries.get(resource_key(Uid(right[0].uid), "endpoint"))
        if spec.host and (
            entry is None or entry.want.state is not EndpointState.ACTIVE or entry.want.host != spec.host
        ):
            return [f"{name} is ready under {spec.host}, and its endpoint is {entry}"]
        return []
