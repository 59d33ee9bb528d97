"""The pretended users of pools and claims. Claims are made by the use case itself, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spinyard.core.ids import Digest, Uid
from spinyard.core.spec import ClaimSpec, Kind, TemplateSpec, WarmPoolSpec, digest_of
from spinyard.ports.store import NewObject, StoredObject, Transaction
from spinyard.testing.simulation import shapes
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.pool_jobs import PoolJobs
from spinyard.testing.simulation.scenario import PORTS_FEW, Step
from spinyard.testing.simulation.stage import Stage
from spinyard.usecases.change import Caller, renew
from spinyard.usecases.claims import NewClaim, claim
from spinyard.usecases.declared import ObjectId

SORTS = ("serve", "serve", "serve", "never", "exit", "step")
USER = Caller("user")
BURST = 10


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest number of live members that a wish of a user allows, and since when."""

    since: float
    limit: int


class PoolUsers:
    def __init__(self, sim: Stage, sorts: dict[Digest, str]) -> None:
        self._sim = sim
        self._sorts = sorts
        self._made = 0
        self._bounds: dict[str, list[Bounds]] = {}
        self.jobs = PoolJobs(sim)

    def do(self, step: Step, chance: Chance) -> None:
        match step.what:
            case "pool":
                self._create(f"box{step.who % 2}", chance)
            case "claim":
                self._claim(step, chance)
            case "burst":
                for _ in range(BURST):
                    self._claim(step, chance)
            case "pool-job":
                pools = self._live(Kind.WARM_POOL)
                if pools:
                    self._hint(self.jobs.create(pools[step.who % len(pools)], chance))
            case "renew" | "release":
                self._change_claim(step, chance)
            case _:
                self._change(step, chance)

    def allowed(self, pool: str, since: float) -> int:
        """The most members that any wish in force at or after `since` (steady time) allowed."""
        bounds = self._bounds.get(pool, [])
        ends = [later.since for later in bounds[1:]] + [float("inf")]
        return max((one.limit for one, end in zip(bounds, ends, strict=True) if end >= since), default=0)

    def last_wishes(self) -> None:
        """Bounds that stay as they are, and a template that can be had. Where numbers are scarce, few members."""
        few = self._sim.scenario.ports == PORTS_FEW
        for stored in self._live(Kind.WARM_POOL):
            spec = stored.row.spec
            assert isinstance(spec, WarmPoolSpec)
            if stored.row.paused:
                self._update(stored, "Resumed", paused=False)
            always = tuple(replace(window, cron="* * * * *", duration_seconds=90.0) for window in spec.windows[:1])
            always = tuple(replace(window, min=min(window.min, 1)) if few else window for window in always)
            least = min(spec.min, 1) if few else spec.min
            spec = replace(spec, windows=always, freshness_seconds=None, min=least, replace_stale=True)
            if self._sorts[spec.template_digest] != "serve":
                self._apply(stored, spec, "serve", Chance(f"last-{stored.row.uid}"))
            else:
                self._update(stored, "SpecChanged", spec=spec)
        for index, stored in enumerate(self._live(Kind.CLAIM)):
            if few and index:
                self._update(stored, "Released", delete=True)

    def _create(self, name: str, chance: Chance) -> None:
        made = self._template(chance, "serve" if chance.happens(0.8) else chance.choose(SORTS))
        digest = digest_of(made)
        spec = shapes.pool(chance, name, digest)
        uid = self._sim.clock.new_uid()

        def work(tx: Transaction) -> None:
            tx.put_template(digest, made)
            new = NewObject(uid, Kind.WARM_POOL, "default", name, spec, "pending", b"{}", digest)
            tx.insert(new, actor="user", why="created")

        self._sim.store.transact(work, now=self._sim.clock.now())
        self._remember(uid, spec)
        self._hint(uid)

    def _claim(self, step: Step, chance: Chance) -> None:
        pools = self._live(Kind.WARM_POOL)
        if not pools:
            return
        name = pools[step.who % len(pools)].row.name
        uid = self._sim.clock.new_uid()
        new = NewClaim("default", "", shapes.claim(chance, name))
        self._sim.store.transact(lambda tx: claim(tx, new, uid=uid, actor="user"), now=self._sim.clock.now())
        self._sim.checks.pools.asked(uid)
        self._hint(uid)

    def _change_claim(self, step: Step, chance: Chance) -> None:
        claims = self._live(Kind.CLAIM)
        if not claims:
            return
        stored = claims[step.who % len(claims)]
        if step.what == "release":
            return self._update(stored, "Released", delete=True)
        id = ObjectId(Kind.CLAIM, "default", stored.row.name)
        ttl = chance.between(5.0, 40.0)
        self._sim.store.transact(lambda tx: renew(tx, id, ttl, USER), now=self._sim.clock.now())
        self._sim.reached("claim-renewed")
        self._hint(stored.row.uid)

    def _change(self, step: Step, chance: Chance) -> None:
        pools = self._live(Kind.WARM_POOL)
        if not pools:
            return
        stored = pools[step.who % len(pools)]
        spec = stored.row.spec
        assert isinstance(spec, WarmPoolSpec)
        match step.what:
            case "pool-delete" | "pool-force":
                self._update(stored, "DeleteRequested", delete=True, force=step.what == "pool-force")
            case "pool-template":
                self._apply(stored, spec, chance.choose(SORTS), chance)
                if step.much < 0.5:
                    self._claim(step, chance)  # at once: those of the older template are still there
            case "pool-change":
                other = shapes.pool(chance, stored.row.name, spec.template_digest)
                self._update(stored, "SpecChanged", spec=replace(other, host_suffix=spec.host_suffix))
            case "pool-pause" | "pool-resume":
                self._update(stored, step.what, paused=step.what == "pool-pause")
            case other_step:
                raise AssertionError(f"no user does that: {other_step}")

    def _apply(self, stored: StoredObject, spec: WarmPoolSpec, sort: str, chance: Chance) -> None:
        made = self._template(chance, sort)
        digest = digest_of(made)
        self._sim.store.transact(lambda tx: tx.put_template(digest, made), now=self._sim.clock.now())
        self._update(stored, "SpecChanged", spec=replace(spec, template_digest=digest), template_digest=digest)

    def _template(self, chance: Chance, sort: str) -> TemplateSpec:
        self._made += 1
        made = shapes.member_template(chance, sort, self._made % 4)
        self._sorts[digest_of(made)] = sort
        return made

    def _update(
        self,
        stored: StoredObject,
        reason: str,
        *,
        spec: WarmPoolSpec | ClaimSpec | None = None,
        template_digest: Digest | None = None,
        delete: bool = False,
        force: bool = False,
        paused: bool | None = None,
    ) -> None:
        uid = stored.row.uid
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
        if isinstance(spec, WarmPoolSpec):
            self._remember(uid, spec)
        self._hint(uid)

    def _remember(self, uid: str, spec: WarmPoolSpec) -> None:
        limit = max(spec.max, *(window.max for window in spec.windows), 0)
        self._bounds.setdefault(uid, []).append(Bounds(self._sim.loop_time, limit))

    def _live(self, kind: Kind) -> list[StoredObject]:
        found = self._sim.store.read(lambda tx: tx.select(kind), now=self._sim.clock.now())
        return [stored for stored in found if stored.row.delete_at is None]

    def _hint(self, uid: Uid) -> None:
        living = self._sim.living
        if living and not self._sim.faults.happens("user-hint", 0.2):
            living[0].engine.hint(uid)
