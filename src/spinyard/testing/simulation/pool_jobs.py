"""Jobs on pools in the pretended world: their wishes, and that no command is begun more often than it may be."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from spinyard.core.ids import ResourceKey, Uid, owner_of
from spinyard.core.spec import JobSpec, Kind, WarmPoolSpec
from spinyard.ports.store import NewObject, StoredObject
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.parts import ObjectFacts
from spinyard.testing.simulation.stage import Stage

ATTEMPT_SECONDS = 20.0
"""to make a member, to find out how its command ended, and to take it down: beside the command's own time and what a
provider needs to be sure that something is gone"""


@dataclass(frozen=True, slots=True)
class JobWish:
    code: int
    retries: int


class PoolJobs:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._wishes: dict[str, JobWish] = {}
        self._begun: dict[str, set[str]] = {}

    def create(self, pool: StoredObject, chance: Chance) -> Uid:
        code = chance.choose((0, 0, 1))
        spec = JobSpec(
            pool=pool.row.name,
            pool_uid=pool.row.uid,
            command=("exit", str(code)) if chance.happens(0.9) else ("run-on",),
            env=(("A", "b"),),
            retries=chance.below(3),
            timeout_seconds=chance.between(1.0, 10.0),
        )
        if spec.command == ("run-on",):
            code = 1  # nothing ends it in the pretended world but our own look at its time
        uid = self._sim.clock.new_uid()
        self._wishes[uid] = JobWish(code, spec.retries)
        new = NewObject(uid, Kind.JOB, "default", f"onpool{len(self._wishes)}", spec, "pending", b"{}")
        self._sim.store.transact(lambda tx: tx.insert(new, actor="user", why="created"), now=self._sim.clock.now())
        return uid

    def knows(self, uid: str) -> bool:
        return uid in self._wishes

    def made(self, key: str, owner: str) -> None:
        """A command came into being on a member of `owner`. A late request may make one again that was removed."""
        if not key.endswith("/command") or self._sim.scenario.late_arrival_seconds:
            return
        begun = self._begun.setdefault(owner, set())
        member = owner_of(ResourceKey(key))
        self._sim.reached("errand")
        if member in begun:
            self._sim.broken("[J] a command was run twice on one member", f"{key} of {owner[:6]}")
        begun.add(member)
        wish = self._wishes.get(owner)
        if wish is not None and len(begun) > wish.retries + 1:
            self._sim.broken("[J] a command was begun more often than asked for", f"Job {owner[:6]}: {len(begun)}")

    def queue_seconds(self) -> float:
        """How long it takes at most until all that have not ended have, if they wait for one place of their pool: one
        attempt after the other."""
        scenario = self._sim.scenario
        gone_after = scenario.late_arrival_seconds + scenario.list_lag_seconds
        out = 0.0
        for facts in self._sim.peek.objects():
            if facts.uid in self._wishes and facts.state in ("pending", "running"):
                spec = msgspec.json.decode(facts.spec, type=JobSpec)
                each = spec.timeout_seconds + ATTEMPT_SECONDS + scenario.stop_seconds + 2 * gone_after
                out += (spec.retries + 1) * each
        return out

    def final(self, facts: ObjectFacts) -> list[str]:
        wish = self._wishes[facts.uid]
        children = self._sim.peek.objects(owner=facts.uid)
        spec = msgspec.json.decode(facts.spec, type=JobSpec)
        if "waiting for room" in facts.why and not children and not self._has_room(spec.pool_uid):
            return []
        allowed = ("succeeded", "failed") if wish.code == 0 else ("failed",)
        if facts.deleting or facts.state not in allowed or children:
            return [f"Job {facts.name} is {facts.state}: {facts.why}, with {len(children)} members"]
        self._sim.reached(f"job-on-pool:{facts.state}")
        return [] if spec.pool else [f"Job {facts.name} lost its pool"]

    def _has_room(self, uid: str) -> bool:
        pool = self._sim.peek.object(uid)
        if pool is None or pool.finished:
            return True
        wish = msgspec.json.decode(pool.spec, type=WarmPoolSpec)
        most = wish.windows[0].max if wish.windows else wish.max
        return self._sim.peek.held(f"pool/{uid}") < most
