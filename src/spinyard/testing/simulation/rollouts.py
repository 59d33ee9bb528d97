"""The pretended users of Services with a strategy: what they ask for goes through the use cases themselves."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.holds import EVERYTHING
from spinyard.core.ids import Digest, Uid
from spinyard.core.shift import WEIGHT_ALL, Sticky
from spinyard.core.spec import (
    Analysis,
    Gauge,
    GaugeLimit,
    Kind,
    LatencyLimit,
    RolloutStep,
    RolloutStrategy,
    ServiceSpec,
    TemplateSpec,
    digest_of,
)
from spinyard.errors import Conflict, SpinyardError
from spinyard.ports.store import StoredObject
from spinyard.testing.simulation import shapes
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.scenario import PORTS_FEW, Step
from spinyard.testing.simulation.stage import Stage
from spinyard.testing.simulation.traffic import Quality
from spinyard.usecases import change, rollout_verbs
from spinyard.usecases.apply import Applied, apply
from spinyard.usecases.change import Caller
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.holds import HoldRequest, hold, release_hold
from spinyard.usecases.plan import ApplyRequest
from spinyard.usecases.rollouts import running_rollouts

USER = Caller("user")
GOOD = Quality()
SORTS = ("good", "good", "good", "good", "bad", "bad", "slow", "never", "exit", "dies")


def strategy(chance: Chance) -> RolloutStrategy:
    soak = chance.choose((0.0, 0.0, 2.0, 6.0))
    steps: tuple[RolloutStep, ...] = (RolloutStep(WEIGHT_ALL, wait=chance.happens(0.2)),)
    blue_green = chance.happens(0.2)
    if not blue_green:
        weights = sorted({100 + chance.below(8_000) for _ in range(1 + chance.below(3))})
        holds = (0.0, 0.0, 1.0, 5.0)
        first = tuple(RolloutStep(w, chance.choose(holds), chance.happens(0.12)) for w in weights)
        steps = (*first, *steps)
    gauges = tuple(
        GaugeLimit(gauge, limit)
        for gauge, limit in ((Gauge.FAILED_STARTS, 2.0), (Gauge.FAILURE_RATE, 0.3), (Gauge.ACTIVE_REQUESTS, 50.0))
        if chance.happens(0.25)
    )
    latency = (LatencyLimit(0.95, max_ratio=3.0),) if chance.happens(0.2) else ()
    return RolloutStrategy(
        blue_green=blue_green,
        steps=steps,
        analysis=Analysis(
            enabled=chance.happens(0.88),
            margin=chance.choose((0.05, 0.1)),
            alpha=chance.choose((0.05, 0.01)),
            latency=latency,
            gauges=gauges,
        ),
        sticky=Sticky(header="x-user") if chance.happens(0.15) else Sticky(),
        ready_deadline_seconds=chance.choose((15.0, 30.0)),
        soak_seconds=soak,
    )


class RolloutUsers:
    def __init__(self, sim: Stage, sorts: dict[Digest, str]) -> None:
        self._sim = sim
        self._sorts = sorts
        self._made = 0
        self.qualities: dict[str, Quality] = {}
        self._digests: dict[str, str] = {}
        self.holds: dict[str, tuple[float, float | None]] = {}
        """by scope: since when (loop time) it is in force without a break, until when (wall time)"""

    # -- asked by the world and the checks ---------------------------------------------------------------------------

    def quality_of(self, uid: str) -> Quality:
        digest = self._digests.get(uid)
        if digest is None:
            facts = self._sim.peek.object(uid)
            digest = self._digests[uid] = facts.digest if facts is not None else ""
        return self.qualities.get(digest, GOOD)

    def any_running(self) -> bool:
        return bool(self._sim.peek.rollouts())

    def held(self, scopes: tuple[str, ...], since: float) -> tuple[object, ...] | None:
        """The holds in force from then until now, without a break, and not just about to end; None for none."""
        now = self._sim.clock.now()
        found = ((scope, self.holds[scope]) for scope in dict.fromkeys(scopes) if scope in self.holds)
        return (
            tuple(
                (scope, begun)
                for scope, (begun, until) in found
                if begun <= since and (until is None or until > now + 1.0)
            )
            or None
        )

    # -- steps -------------------------------------------------------------------------------------------------------

    def do(self, step: Step, chance: Chance) -> None:
        match step.what:
            case "rolled":
                self._create(f"api{step.who % 2}", chance)
            case "hold" | "unhold":
                self._hold(step, chance)
            case "service-delete":
                for stored in self._services()[step.who % 2 :][:1]:
                    self._delete(stored, force=step.much < 0.2)
            case "epoch":
                self._sim.traffic.restart()
            case "blind":
                self._sim.traffic.blind(1.0 + 20.0 * step.much)
            case _:
                self._change(step, chance)

    def last_wishes(self) -> None:
        """No hold, no pause, and every Rollout goes on by itself: half of them to the end, half back."""
        for scope in list(self.holds):
            self._release(scope)
        for stored in self._running():
            if stored.row.paused:
                self._verb(
                    stored.row.name, lambda tx, name: rollout_verbs.pause(tx, "default", name, USER, paused=False)
                )
            if Chance(f"last-{stored.row.uid}").happens(0.5):
                self._verb(
                    stored.row.name, lambda tx, name: rollout_verbs.promote(tx, "default", name, USER, full=True)
                )
            else:
                self._verb(stored.row.name, lambda tx, name: rollout_verbs.abort(tx, "default", name, USER, why="end"))
        if self._sim.scenario.ports == PORTS_FEW:
            for stored in self._services():
                self.scale(stored, 1)

    def _create(self, name: str, chance: Chance) -> None:
        if any(stored.row.name == name for stored in self._services()):
            return
        made = self._template(chance, "good")
        spec = ServiceSpec(
            replicas=1 + chance.below(4),
            route=shapes.route(name, 0),
            update=shapes.service(chance, name, digest_of(made)).update,
            strategy=strategy(chance),
        )
        applied = self._apply(name, spec, made)
        uid = applied.stored.row.uid
        self._sim.traffic.rates[uid] = chance.choose((0.0, 100.0, 200.0, 200.0, 300.0))

    def _change(self, step: Step, chance: Chance) -> None:
        services = [stored for stored in self._services() if stored.row.delete_at is None]
        if not services:
            return
        stored = services[step.who % len(services)]
        name = stored.row.name
        spec = stored.row.spec
        assert isinstance(spec, ServiceSpec)
        match step.what:
            case "rollout" | "ro-again":
                self._roll_out(stored, spec, chance)
            case "ro-scale":
                self.scale(stored, 1 + chance.below(4))
            case "ro-promote":
                self._verb(name, lambda tx, name: rollout_verbs.promote(tx, "default", name, USER))
            case "ro-full":
                self._verb(name, lambda tx, name: rollout_verbs.promote(tx, "default", name, USER, full=True))
            case "ro-pause" | "ro-resume":
                paused = step.what == "ro-pause"
                self._verb(name, lambda tx, name: rollout_verbs.pause(tx, "default", name, USER, paused=paused))
            case "ro-abort":
                self._verb(name, lambda tx, name: rollout_verbs.abort(tx, "default", name, USER))
            case "ro-back":
                self._ask(stored.row.uid, lambda tx: rollout_verbs.rollback(tx, "default", name, USER).stored)
            case "ro-delete":
                for running in self._running()[:1]:
                    self._delete(running, force=False)
            case other:
                raise AssertionError(f"no user does that: {other}")

    def _delete(self, stored: StoredObject, *, force: bool) -> None:
        self._ask(stored.row.uid, lambda tx: change.delete(tx, stored, USER, force=force))

    def scale(self, stored: StoredObject, replicas: int) -> None:
        id = ObjectId(Kind.SERVICE, "default", stored.row.name)
        self._ask(stored.row.uid, lambda tx: change.scale(tx, id, replicas, USER))

    def _roll_out(self, stored: StoredObject, spec: ServiceSpec, chance: Chance) -> None:
        # What is promoted has nothing to go back to: another template is taken then, instance by instance.
        running = {
            one.row.uid
            for one in self._running()
            if self._service_of(one) == stored.row.uid and not (one.row.state == "promoting" and spec.rollout is None)
        }
        made = self._template(chance, chance.choose(SORTS))
        other = replace(spec, strategy=strategy(chance)) if chance.happens(0.5) else spec
        try:
            applied = self._apply(stored.row.name, other, made)
        except Conflict as error:
            self._sim.reached("rollout-refused")
            self._sim.log(f"refused: {error.message}")
            return
        if running:
            self._sim.broken("another template was taken while a rollout runs", stored.row.name)
        if applied.rollout is not None:
            self._sim.reached("rollout-made")
            self._hint(applied.rollout.row.uid)
            self._sim.traffic.go()

    def _apply(self, name: str, spec: ServiceSpec, made: TemplateSpec) -> Applied:
        declared = Declared(Kind.SERVICE, "default", name, spec, made)
        now, clock = self._sim.clock.now(), self._sim.clock
        done = self._sim.store.transact(
            lambda tx: apply(tx, ApplyRequest((declared,)), new_uid=clock.new_uid, actor="user"), now=now
        )
        self._hint(done[0].stored.row.uid)
        return done[0]

    def _template(self, chance: Chance, sort: str) -> TemplateSpec:
        self._made += 1
        kind = sort if sort in ("never", "exit") else "serve"
        made = shapes.template(chance, kind, 100 + self._made)
        if kind == "exit":
            made = replace(made, command=("exit", "3", str(self._made)))
        quality = Quality(failures=chance.choose((0.0, 0.0, 0.01)), latency=chance.choose((0.02, 0.02, 1.0)))
        match sort:
            case "bad":
                quality = replace(quality, failures=chance.choose((0.05, 0.15, 0.4, 0.5)))
            case "slow":
                quality = replace(quality, slow_start=chance.between(1.0, 6.0))
            case "dies":
                quality = replace(quality, dies_after=chance.between(2.0, 12.0))
            case _:
                pass
        self._sorts[digest_of(made)] = kind
        self.qualities[digest_of(made)] = quality
        return made

    # -- holds -------------------------------------------------------------------------------------------------------

    def _hold(self, step: Step, chance: Chance) -> None:
        if step.what == "unhold":
            for held in list(self.holds):
                self._release(held)
            return
        scope = chance.choose((EVERYTHING, "namespace/default", "service/api0", "pool/box0", "service/api0"))
        seconds = chance.between(2.0, 30.0) if chance.happens(0.3) else None
        wanted = HoldRequest(scope, "default", "looking", seconds)
        uid, now = self._sim.clock.new_uid(), self._sim.clock.now()
        try:
            self._sim.store.transact(lambda tx: hold(tx, wanted, USER, uid=uid), now=now)
        except SpinyardError as error:
            return self._sim.log(f"refused: {error.message}")
        key = scope.replace("pool/", "warmpool/")
        before = self.holds.get(key)
        over = before is None or (before[1] is not None and before[1] <= now)
        since = self._sim.loop_time if over or before is None else before[0]
        self.holds[key] = (since, None if seconds is None else now + seconds)
        self._hint(uid)

    def _release(self, scope: str) -> None:
        self.holds.pop(scope)
        try:
            done = self._sim.store.transact(
                lambda tx: release_hold(tx, scope, "default", USER), now=self._sim.clock.now()
            )
        except SpinyardError as error:
            return self._sim.log(f"refused: {error.message}")
        self._hint(done.row.uid)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _verb(self, name: str, work: object) -> None:
        assert callable(work)
        for running in self._running():
            spec = running.row.spec
            if name in (running.row.name, getattr(spec, "service", "")):
                self._ask(running.row.uid, lambda tx, running=running: work(tx, running.row.name))

    def _ask(self, uid: Uid, work: object) -> None:
        assert callable(work)
        try:
            stored = self._sim.store.transact(lambda tx: work(tx), now=self._sim.clock.now())
        except SpinyardError as error:
            self._sim.reached("rollout-verb-refused")
            self._sim.log(f"refused: {error.message}")
            return
        self._hint(stored.row.uid if isinstance(stored, StoredObject) else uid)

    def _services(self) -> list[StoredObject]:
        found = self._sim.store.read(lambda tx: tx.select(Kind.SERVICE), now=self._sim.clock.now())
        return [one for one in found if isinstance(one.row.spec, ServiceSpec) and one.row.spec.strategy is not None]

    def _running(self) -> list[StoredObject]:
        found = self._sim.store.read(lambda tx: running_rollouts(tx, None), now=self._sim.clock.now())
        return sorted(found.values(), key=lambda one: one.row.uid)

    def _service_of(self, rollout: StoredObject) -> str:
        return str(getattr(rollout.row.spec, "service_uid", ""))

    def _hint(self, uid: Uid) -> None:
        living = self._sim.living
        if living and not self._sim.faults.happens("user-hint", 0.2):
            living[0].engine.hint(uid)
