"""The pretended users: what they ask for goes through the store's transactions, as the use cases do it. What they asked
for last is what the world must finally be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spinyard.core.ids import Digest, Uid
from spinyard.core.spec import Kind, ObjectSpec, ServiceSpec, TemplateSpec, digest_of
from spinyard.ports.store import NewObject, StoredObject, Transaction
from spinyard.testing.simulation import shapes
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.pools import PoolUsers
from spinyard.testing.simulation.rollouts import RolloutUsers
from spinyard.testing.simulation.scenario import POOL_JOB, POOL_USER, PORTS_FEW, ROLLOUT_USER, Step
from spinyard.testing.simulation.stage import Stage

SORTS = ("serve", "serve", "serve", "never", "exit", "step")


@dataclass(slots=True)
class JobWish:
    uid: str
    code: int


class Users:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._made = 0
        self.sorts: dict[Digest, str] = {}
        """what each template that was ever applied is good for"""
        self.jobs: list[JobWish] = []
        self.pools = PoolUsers(sim, self.sorts)
        self.rollouts = RolloutUsers(sim, self.sorts)

    def do(self, step: Step) -> None:
        chance = Chance(f"users-{self._sim.scenario.seed}-{step}")
        match step.what:
            case "service" | "recreate":
                self._create(f"web{step.who % 3}", chance)
            case "job":
                self._job(chance)
            case what if what in ("pool", POOL_JOB) or what in POOL_USER:
                self.pools.do(step, chance)
            case what if what == "rolled" or what in ROLLOUT_USER:
                self.rollouts.do(step, chance)
            case _:
                self._change(step, chance)

    def last_wishes(self) -> None:
        """Nothing stays paused, and no service is left with a template that cannot be had and nothing to go back to."""
        self.pools.last_wishes()
        self.rollouts.last_wishes()
        rolled = {facts.service for facts in self._sim.peek.rollouts()}
        for stored in self._services():
            spec = stored.row.spec
            assert isinstance(spec, ServiceSpec)
            if stored.row.delete_at is not None:
                continue
            if stored.row.paused:
                self._update(stored.row.uid, "Resumed", paused=False)
            if self._sim.scenario.ports == PORTS_FEW:
                spec = replace(spec, replicas=min(spec.replicas, 1))
                self._update(stored.row.uid, "Scaled", spec=spec)
            if stored.row.uid in rolled:
                continue
            if self.sorts[spec.template_digest] != "serve" and not self._goes_back(stored):
                self._apply(stored, spec, "serve", Chance(f"last-{stored.row.uid}"))

    def _goes_back(self, stored: StoredObject) -> bool:
        status = stored.row.status.decode()
        good = [digest for digest, sort in self.sorts.items() if sort == "serve"]
        return any(f'"good":"{digest}"' in status for digest in good)

    def _create(self, name: str, chance: Chance) -> None:
        made = self._template(chance, "serve" if chance.happens(0.6) else chance.choose(SORTS))
        spec = shapes.service(chance, name, digest_of(made))
        self._insert(Kind.SERVICE, name, spec, made)

    def _job(self, chance: Chance) -> None:
        code = chance.choose((0, 0, 1))
        made, spec = shapes.job(chance, code)
        self._made += 1
        uid = self._insert(Kind.JOB, f"job{self._made}", spec, made)
        self.jobs.append(JobWish(uid, code))

    def _insert(self, kind: Kind, name: str, spec: ObjectSpec, made: TemplateSpec) -> Uid:
        uid = self._sim.clock.new_uid()

        def work(tx: Transaction) -> None:
            tx.put_template(digest_of(made), made)
            new = NewObject(uid, kind, "default", name, spec, "pending", b"{}", digest_of(made))
            tx.insert(new, actor="user", why="created")

        self._sim.store.transact(work, now=self._sim.clock.now())
        self._hint(uid)
        return uid

    def _change(self, step: Step, chance: Chance) -> None:
        live = [stored for stored in self._services() if getattr(stored.row.spec, "strategy", None) is None]
        if not live:
            return
        stored = live[step.who % len(live)]
        row, spec = stored.row, stored.row.spec
        assert isinstance(spec, ServiceSpec)
        match step.what:
            case "delete":
                self._update(row.uid, "DeleteRequested", delete=True)
            case "force":
                self._update(row.uid, "DeleteForced", delete=True, force=True)
            case _ if row.delete_at is not None:
                return
            case "scale":
                self._update(row.uid, "Scaled", spec=replace(spec, replicas=chance.below(6)))
            case "template" | "directory":
                self._apply(stored, spec, chance.choose(SORTS), chance)
            case "restart":
                self._update(row.uid, "RestartRequested", spec=replace(spec, restarted_at=self._sim.clock.now()))
            case "pause" | "resume":
                self._update(row.uid, step.what.title(), paused=step.what == "pause")
            case "route":
                self._route(stored, spec, chance)
            case other:
                raise AssertionError(f"no user does that: {other}")

    def _route(self, stored: StoredObject, spec: ServiceSpec, chance: Chance) -> None:
        """Other hosts, none any more, or one where there was none."""
        after = None if chance.happens(0.4) else shapes.route(stored.row.name, chance.below(3))
        self._update(stored.row.uid, "SpecChanged", spec=replace(spec, route=after))

    def _apply(self, stored: StoredObject, spec: ServiceSpec, sort: str, chance: Chance) -> None:
        made = self._template(chance, sort)
        digest = digest_of(made)
        self._sim.store.transact(lambda tx: tx.put_template(digest, made), now=self._sim.clock.now())
        self._update(stored.row.uid, "SpecChanged", spec=replace(spec, template_digest=digest), template_digest=digest)

    def _template(self, chance: Chance, sort: str) -> TemplateSpec:
        self._made += 1
        made = shapes.template(chance, sort, self._made % 4)
        self.sorts[digest_of(made)] = sort
        return made

    def _update(
        self,
        uid: Uid,
        reason: str,
        *,
        spec: ObjectSpec | None = None,
        template_digest: Digest | None = None,
        delete: bool = False,
        force: bool = False,
        paused: bool | None = None,
    ) -> None:
        self._sim.store.transact(
            lambda tx: tx.update(
                uid,
                actor="user",
                why=reason,
                reason=reason,
                spec=spec,
                template_digest=template_digest,
                delete=delete,
                force=force,
                paused=paused,
            ),
            now=self._sim.clock.now(),
        )
        self._hint(uid)

    def _hint(self, uid: Uid) -> None:
        """The API tells the engine of its own process; others find out by their poll."""
        living = self._sim.living
        if living and not self._sim.faults.happens("user-hint", 0.2):
            living[0].engine.hint(uid)

    def _services(self) -> list[StoredObject]:
        return list(self._sim.store.read(lambda tx: tx.select(Kind.SERVICE), now=self._sim.clock.now()))
