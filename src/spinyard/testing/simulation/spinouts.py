"""Runs with Spinouts: a parent, a unit and requests between them, people who change their minds, and every fault that
there is. They have scenarios and seeds of their own, so that all other seeds stay the runs that they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from spinyard.core.ids import ResourceKey, Uid, owner_of
from spinyard.core.observed import ClusterTraffic, Traffic, Unknown
from spinyard.core.shift import WEIGHT_ALL, Sticky
from spinyard.core.spec import Kind, Route, ServiceSpec, digest_of
from spinyard.core.spinout import BoundaryRoute, Inconclusive, Shadow, SpinoutGates, SpinoutSpec, SpinoutStep
from spinyard.core.want import BoundaryWant
from spinyard.errors import SpinyardError
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.decide import SpinoutDomain
from spinyard.spinout.status import SpinoutState, decode_spinout_status, spinout_cluster
from spinyard.testing.simulation import shapes
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.parts import Parts
from spinyard.testing.simulation.scenario import DISTURBANCES, RATES, ROLLOUT_RATES, Scenario, Step
from spinyard.testing.simulation.spinout_checks import SpinoutChecks
from spinyard.testing.simulation.traffic import TICK_SECONDS, Counter, TrafficWorld, binomial
from spinyard.testing.simulation.world import Simulation
from spinyard.usecases import change
from spinyard.usecases.apply import apply
from spinyard.usecases.change import Caller
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.plan import ApplyRequest
from spinyard.usecases.spinout_approve import Approve, approve
from spinyard.usecases.spinout_verbs import abort, hold, promote, resume, start

S = SpinoutState
USER = Caller("user")
NAME = "carry"
VERBS = (
    *("so-abort", "so-start", "so-start", "so-start", "so-hold", "so-resume", "so-promote", "so-full", "so-approve"),
    *("so-delete", "so-bad", "so-good", "so-quiet", "so-loud", "so-waive", "epoch", "blind", "so-unit-down"),
)
UNIT, PARENT = "small", "big"


def make_spinouts(seed: int) -> Scenario:
    chance = Chance(f"spinouts-{seed}")
    calm = chance.fraction()
    rates = tuple((n, chance.fraction() ** 2 * most) for n, most in RATES + ROLLOUT_RATES if chance.happens(0.4 * calm))
    seconds = chance.between(40.0, 90.0)
    steps = [Step(0.5, "spun", 0, chance.fraction()), Step(chance.between(1.0, 6.0), "so-start", 0, chance.fraction())]
    kinds = [kind for kind in VERBS if chance.happens(0.35)] + ["so-start"]
    kinds += [kind for kind in DISTURBANCES if chance.happens(0.4 * calm)]
    steps += [
        Step(chance.between(4.0, seconds), chance.choose(kinds), chance.below(8), chance.fraction())
        for _ in range(2 + chance.below(12))
    ]
    return Scenario(
        seed=seed,
        seconds=seconds,
        rates=rates,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        late_arrival_seconds=chance.choose((0.0, 2.0)),
        list_lag_seconds=0.0,
        ready_seconds=chance.choose((0.0, 0.1, 0.5)),
        stop_seconds=chance.choose((0.0, 0.2)),
        acknowledge_seconds=chance.choose((0.0, 0.02, 0.3)),
        drain_seconds=chance.choose((0.0, 0.2)),
        ports=1000,
    )


@dataclass(slots=True)
class Shared:
    """Of one boundary. `weight`: what is in force; `since`: what the unit had answered when it came into force."""

    weight: int = 0
    since: int = 0


class SpinoutTraffic(TrafficWorld):
    """`meddled`: one who held the row no more may have told the data plane something old."""

    def __init__(self, sim: SpinoutSimulation) -> None:
        super().__init__(sim)
        self._whole = sim
        self._draws = Chance(f"spinout-traffic-{sim.scenario.seed}")
        self.boundaries: dict[str, Shared] = {}
        self.rate = 0.0
        self.unit_fails = 0.0
        self.bad_since: float | None = None
        self.meddled = any(step.what in ("freeze", "second", "retire") for step in sim.scenario.steps)
        self._goes = False

    def weight_of(self, uid: str) -> int | None:
        """None: no boundary of it is in force."""
        self.share()
        shared = self.boundaries.get(uid)
        return None if shared is None else shared.weight

    def served_since_in_force(self, uid: str) -> int:
        shared = self.boundaries.get(uid, Shared())
        return self._unit(uid).true_requests - shared.since

    def failed_at_unit(self, uid: str) -> int:
        return self._unit(uid).true_failures

    def is_bad_throughout(self, uid: str, since: float) -> bool:
        return self.unit_fails >= 0.3 and self.bad_since is not None and self.bad_since <= since

    def _unit(self, uid: str) -> Counter:
        return self.counters.setdefault(self.cluster(uid, "new"), Counter())

    def cluster(self, uid: str, side: str) -> str:
        return f"{spinout_cluster('default', NAME, uid)}~{side}"

    def share(self) -> None:
        """What the data plane does now. What it was not yet told otherwise stays in force."""
        entries = self._whole.proxy.entries
        there: set[str] = set()
        for key, entry in entries.items():
            if not isinstance(entry.want, BoundaryWant):
                continue
            uid = owner_of(key)
            there.add(uid)
            in_force = self._whole.proxy.in_force(ResourceKey(key))  # type: ignore[attr-defined]
            shared = self.boundaries.setdefault(uid, Shared())
            if in_force is not None and in_force.weight != shared.weight:
                self._whole.log(f"data plane: boundary of {uid[:6]} {in_force.weight}")
                unit = self._unit(uid)
                underway = sum(one[1] for one in unit.underway)
                shared.weight, shared.since = in_force.weight, unit.true_requests - underway
        for gone in self.boundaries.keys() - there:
            del self.boundaries[gone]

    def go(self) -> None:
        if not self._goes:
            self._goes = True
            self._whole.after(TICK_SECONDS, self._flow)

    def _flow(self) -> None:
        self._goes = self._whole.spinouts.any_running()
        if not self._goes:
            return
        self._whole.after(TICK_SECONDS, self._flow)
        self.share()
        ready = self._ready()
        up = {cluster.split("/")[1] for cluster in ready}
        for uid, shared in self.boundaries.items():
            count = binomial(self._draws, int(self.rate * TICK_SECONDS * 2), 0.5)
            new = binomial(self._draws, count, shared.weight / WEIGHT_ALL)
            self._takes(self.cluster(uid, "old"), count - new, 0.0 if PARENT in up else 1.0)
            self._takes(self.cluster(uid, "new"), new, self.unit_fails if UNIT in up else 1.0)
        self._settle()

    def _takes(self, cluster: str, count: int, fails: float) -> None:
        if not count:
            return
        counter = self.counters.setdefault(cluster, Counter())
        failed = binomial(self._draws, count, fails)
        counter.true_requests += count
        counter.true_failures += failed
        counter.underway.append((self._whole.loop_time + 0.02, count, failed, 0.02))

    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        sim = self._whole
        fault = sim.faults.draw("traffic", "")
        if fault == "slow":
            await sim.steady.sleep(sim.faults.seconds(8.0))
        if fault == "error" or not sim.proxy.up or sim.loop_time < self._blind_until:
            sim.reached("traffic-unknown")
            return Unknown("the fake data plane gives no counters")
        self._settle()
        found = {name: self._as_told(self.counters.get(name, Counter())) for name in clusters}
        if fault == "absurd":
            name = clusters[self._draws.below(len(clusters))]
            true = found[name]
            found[name] = ClusterTraffic(true.requests, true.failures + true.requests + 1, true.active)
        return Traffic(f"epoch-{self._epoch}", sim.clock.now(), found)


class SpinoutUsers:
    def __init__(self, sim: SpinoutSimulation) -> None:
        self._sim = sim
        self.made: list[str] = []
        self.completes: set[str] = set()

    # -- asked by the world and the checks ---------------------------------------------------------------------------

    def any_running(self) -> bool:
        found = self._sim.peek.objects()
        return any(one.kind == "Spinout" and one.state != S.ROLLED_BACK for one in found)

    def wrong(self, state: str, why: str, uid: str) -> list[str]:
        """Of one that has not ended."""
        if state == S.ROLLED_BACK and (uid not in self.completes or self._sim.traffic.failed_at_unit(uid)):
            return []
        if state == S.RETIRING and uid in self.completes:
            # That it may be completed can be said from now on.
            self._verb("so-approve", Chance("last"))
        return [f"Spinout {uid[:6]} is {state}: {why}"]

    # -- steps -------------------------------------------------------------------------------------------------------

    def do(self, step: Step) -> bool:
        """False: not for us."""
        traffic, chance = self._sim.traffic, Chance(f"so-{self._sim.scenario.seed}-{step}")
        match step.what:
            case "spun":
                self._create(chance)
            case "epoch":
                traffic.restart()
            case "blind":
                traffic.blind(1.0 + 20.0 * step.much)
            case "so-bad" | "so-good":
                traffic.unit_fails = chance.choose((0.1, 0.3, 0.5, 0.9)) if step.what == "so-bad" else 0.0
                traffic.bad_since = self._sim.clock.now() if traffic.unit_fails >= 0.3 else None
            case "so-quiet" | "so-loud":
                traffic.rate = 0.0 if step.what == "so-quiet" else 200.0
            case "so-unit-down":
                self._ask(lambda tx, one: change.scale(tx, ObjectId(Kind.SERVICE, "default", UNIT), 1, USER))
            case what if what.startswith("so-"):
                self._verb(what, chance)
            case _:
                return False
        return True

    def last_wishes(self) -> None:
        """Nothing stays held; what is on its way up goes to the end in half of all runs, everything else goes back."""
        traffic = self._sim.traffic
        traffic.unit_fails, traffic.rate = 0.0, 200.0
        for stored in self._spinouts():
            self._verb("so-resume", Chance("last"))
            climbs = decode_spinout_status(stored.row.status).held_from or stored.row.state
            goes_back = bool(getattr(stored.row.spec, "abort", "")) or stored.row.delete_at is not None
            if not goes_back and climbs in (S.RAMPING, S.SWITCHED, S.SOAKING, S.RETIRING) and self._finishes():
                self._verb("so-full", Chance("last"))
                self.completes.add(stored.row.uid)
            else:
                self._verb("so-abort", Chance("last"))

    def _finishes(self) -> bool:
        return Chance(f"last-{self._sim.scenario.seed}").happens(0.5)

    def _create(self, chance: Chance) -> None:
        host = f"{PARENT}.localhost"
        services = {PARENT: Route((host,)), UNIT: Route((host,), "/thumbs")}
        declared = []
        for version, (name, route) in enumerate(services.items()):
            made = shapes.template(chance, "serve", 900 + version)
            made = replace(made, bootstrap=(), smoke_test=None)
            self._sim.users.sorts[digest_of(made)] = "serve"
            spec = ServiceSpec(owner="team", replicas=1 + chance.below(3), route=route)
            declared.append(Declared(Kind.SERVICE, "default", name, spec, made))
        weights = sorted({100 + chance.below(8000) for _ in range(1 + chance.below(2))})
        steps = (*(SpinoutStep(w, chance.choose((0.0, 0.0, 2.0))) for w in weights), SpinoutStep(WEIGHT_ALL))
        wish = SpinoutSpec(
            PARENT,
            UNIT,
            (BoundaryRoute("/thumbs/*", "GET"), BoundaryRoute("/photos", "POST", ("photo",))),
            contract_digest="sha256:c",
            key=Sticky(header="x-user") if chance.happens(0.3) else Sticky(),
            steps=steps,
            gates=SpinoutGates(margin=0.05, alpha=chance.choose((0.01, 0.001))),
            shadow=Shadow(enabled=False),
            baseline_seconds=chance.choose((0.5, 3.0)),
            baseline_requests=chance.choose((0, 50)),
            soak_seconds=chance.choose((0.0, 4.0)),
            inconclusive=chance.choose(tuple(Inconclusive)),
            deadline_seconds=chance.choose((20.0, 1e6)),
        )
        declared.append(Declared(Kind.SPINOUT, "default", NAME, wish, None))
        self._sim.traffic.rate = chance.choose((50.0, 200.0, 200.0))
        clock = self._sim.clock
        done = self._sim.store.transact(
            lambda tx: apply(tx, ApplyRequest(tuple(declared)), new_uid=clock.new_uid, actor="user"), now=clock.now()
        )
        for one in done:
            self._hint(one.stored.row.uid)
            if one.stored.row.kind is Kind.SPINOUT:
                self.made.append(one.stored.row.uid)
        self._sim.traffic.go()

    def _verb(self, what: str, chance: Chance) -> None:
        match what:
            case "so-start":
                self._ask(lambda tx, one: start(tx, "default", NAME, USER, evidence="profile"))
            case "so-abort":
                self._ask(lambda tx, one: abort(tx, "default", NAME, USER, why="enough"))
            case "so-hold":
                self._ask(lambda tx, one: hold(tx, "default", NAME, USER))
            case "so-resume":
                self._ask(lambda tx, one: resume(tx, "default", NAME, USER))
            case "so-promote":
                self._ask(lambda tx, one: promote(tx, "default", NAME, USER))
            case "so-full":
                self._ask(lambda tx, one: promote(tx, "default", NAME, USER, full=True))
            case "so-approve":
                self._ask(lambda tx, one: approve(tx, "default", NAME, USER, Approve("completed", "seen")))
            case "so-waive":
                waiver = Approve(evidence="known", waive="success rate", expires_seconds=5.0)
                self._ask(lambda tx, one: approve(tx, "default", NAME, USER, waiver))
            case "so-delete":
                if chance.happens(0.4):
                    self._ask(lambda tx, one: change.delete(tx, one, USER, force=False))
            case other:
                raise AssertionError(f"no user does that: {other}")
        self._sim.traffic.go()

    def _ask(self, work: Callable[[Transaction, StoredObject], object]) -> None:
        for one in self._spinouts():
            try:
                self._sim.store.transact(partial(_asked, work, one), now=self._sim.clock.now())
            except SpinyardError as error:
                self._sim.reached("spinout-verb-refused")
                self._sim.log(f"refused: {error.message}")
                continue
            self._hint(one.row.uid)

    def _spinouts(self) -> list[StoredObject]:
        return list(self._sim.store.read(lambda tx: tx.select(Kind.SPINOUT), now=self._sim.clock.now()))

    def _hint(self, uid: Uid) -> None:
        living = self._sim.living
        if living and not self._sim.faults.happens("user-hint", 0.2):
            living[0].engine.hint(uid)


def _asked(work: Callable[[Transaction, StoredObject], object], one: StoredObject, tx: Transaction) -> object:
    return work(tx, one)


class SpinoutSimulation(Simulation):
    traffic: SpinoutTraffic
    checks: SpinoutChecks

    def __init__(self, scenario: Scenario, parts: Parts) -> None:
        super().__init__(scenario, parts)
        self.domains = [*self.domains, SpinoutDomain()]
        self.spinouts = SpinoutUsers(self)
        self.traffic = SpinoutTraffic(self)
        self.checks = SpinoutChecks(self)

    def _do(self, step: Step) -> None:
        try:
            if self.spinouts.do(step):
                return
        except SpinyardError as error:
            self.log(f"refused: {error.message}")
            return
        super()._do(step)

    def last_wishes(self) -> None:
        super().last_wishes()
        self.spinouts.last_wishes()

    def wrong(self) -> list[str]:
        out = self.checks.histories(self.spinouts.made)
        for facts in self.peek.objects():
            if facts.kind == "Spinout":
                out += self.spinouts.wrong(facts.state, facts.why, facts.uid)
        for facts in self.peek.objects(finished=True):
            if facts.kind == "Spinout":
                self.reached(f"spinout-ended:{facts.state}")
        return out
