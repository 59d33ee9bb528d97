"""One run: the parts put together, the steps of a scenario carried out, then healing, then quiet."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from spinyard.core.ids import ResourceKey, Uid, owner_of
from spinyard.errors import SpinyardError
from spinyard.ports.domain import Domain
from spinyard.ports.provider import Provider
from spinyard.spin.claim.decide import ClaimDomain
from spinyard.spin.decide import SpinDomain
from spinyard.spin.hold import HoldDomain
from spinyard.spin.job.decide import JobDomain
from spinyard.spin.pool.decide import PoolDomain
from spinyard.spin.rollout.decide import RolloutDomain
from spinyard.spin.service.decide import ServiceDomain
from spinyard.spin.snapshot import ProviderFacts, SpinRules
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.checks import Checks
from spinyard.testing.simulation.final import Final
from spinyard.testing.simulation.parts import Parts
from spinyard.testing.simulation.plane import ControlPlane
from spinyard.testing.simulation.scenario import Scenario, Step
from spinyard.testing.simulation.traffic import TrafficWorld
from spinyard.testing.simulation.users import Users
from spinyard.testing.virtual import START, VirtualClock, VirtualLoop, run_virtual

HEAL_SECONDS = 180.0
QUIET_SECONDS = 600.0
LOG_MAX = 600


class Steady:
    """The pretended world's own clock, which never jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return START + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_uid(self) -> Uid:
        raise NotImplementedError("the world makes no ids")


class Faults:
    """Draws faults at the scenario's rates, until `stopped`. Each operation has a stream of its own."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._chance = Chance(f"faults-{sim.scenario.seed}")
        self._streams: dict[str, Chance] = {}
        self._rates: dict[str, list[tuple[str, str, float]]] = {}
        for name, rate in sim.scenario.rates:
            operation, _, fault = name.partition(":")
            self._rates.setdefault(operation, []).append((fault, name, rate))
        self.stopped = False

    def draw(self, operation: str, key: str) -> str | None:
        rates = self._rates.get(operation)
        if rates is None or self.stopped:
            return None
        for fault, name, rate in rates:
            if self.happens(name, rate):
                if fault == "late_arrival" and not self._sim.scenario.late_arrival_seconds:
                    continue
                self._sim.reached(f"fault:{operation}:{fault}")
                if fault != "hint_lost":
                    self._sim.log(f"fault: {operation} {fault} {key}")
                return fault
        return None

    def happens(self, name: str, rate: float) -> bool:
        return rate > 0.0 and not self.stopped and self._stream(name).happens(rate)

    def seconds(self, limit: float) -> float:
        return self._stream("seconds").between(0.0, limit)

    def _stream(self, name: str) -> Chance:
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = self._chance.stream(name)
        return stream


@dataclass(slots=True)
class Result:
    """`broken`: (what, detail) in order; empty means that everything held. `trace` names the run: equal runs have equal
    traces."""

    seed: int
    broken: list[tuple[str, str]] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    log: Sequence[str] = ()
    trace: str = ""
    healed_seconds: float = 0.0
    passes: int = 0

    @property
    def ok(self) -> bool:
        return not self.broken


class Simulation:
    def __init__(self, scenario: Scenario, parts: Parts) -> None:
        self.scenario = scenario
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.clock = VirtualClock(self.loop)
        self.steady = Steady(self.loop)
        self.result = Result(scenario.seed)
        self.chance = Chance(f"run-{scenario.seed}")
        self._log: deque[str] = deque(maxlen=LOG_MAX)
        self._trace = hashlib.sha256()
        self.faults = Faults(self)
        self._failpoint_rate = scenario.rate("failpoint")
        self.store = parts.store(self.clock)
        self.peek = parts.peek(self.store)
        self.world = parts.world(ready_seconds=scenario.ready_seconds, stop_seconds=scenario.stop_seconds)
        self.provider = parts.provider(
            self.world,
            self.steady,
            self.faults,
            late_arrival_seconds=scenario.late_arrival_seconds,
            list_lag_seconds=scenario.list_lag_seconds,
        )
        self.proxy = parts.proxy(
            self.steady,
            self._healthy,
            self.faults,
            acknowledge_seconds=scenario.acknowledge_seconds,
            drain_seconds=scenario.drain_seconds,
        )
        self.providers: Mapping[str, Provider] = {"fake": self.provider, "proxy": self.proxy}
        gone_after = scenario.late_arrival_seconds + scenario.list_lag_seconds
        rules = SpinRules({"fake": ProviderFacts("host:fake", (20_000, 20_000 + scenario.ports), gone_after)})
        self.domains: Sequence[Domain] = [
            SpinDomain(rules),
            ServiceDomain(rules),
            JobDomain(),
            PoolDomain(rules),
            ClaimDomain(),
            RolloutDomain(),
            HoldDomain(),
        ]
        self.prober = parts.prober(self.world, self.steady, self.faults)
        self.checks = Checks(self)
        self.world.watch = self._world_effect
        self.users = Users(self)
        self.traffic = TrafficWorld(self)
        self.planes: list[ControlPlane] = []
        self.jumped = 0.0
        """how far the wall clock was moved, in all, in either direction"""
        self.proxy_was_reset = False
        self._disk_bad_until = -1.0
        self._started = 0

    # -- told by the parts -------------------------------------------------------------------------------------------

    @property
    def loop_time(self) -> float:
        return self.loop.time()

    def log(self, text: str) -> None:
        line = f"{self.loop.time():9.3f} {text}"
        self._log.append(line)
        self._trace.update(line.encode())

    def reached(self, what: str) -> None:
        self.result.reached.add(what)

    def broken(self, what: str, detail: str) -> None:
        self.log(f"BROKEN {what}: {detail}")
        if len(self.result.broken) < 20:
            self.result.broken.append((what, detail))

    def crashes_at(self, name: str) -> bool:
        if self._failpoint_rate and self.faults.happens(f"failpoint:{name}", self._failpoint_rate):
            self.reached(f"crash:{name.split(':')[0]}:{name.split(':')[1]}")
            return True
        return False

    def disk_fault(self) -> str:
        """Every second write fails while the disk is bad; a few of those have taken effect nevertheless."""
        if self.loop.time() >= self._disk_bad_until or not self.faults.happens("disk", 0.5):
            return ""
        self.reached("fault:disk")
        return "after" if self.faults.happens("disk-after", 0.2) else "before"

    def _healthy(self, key: ResourceKey) -> bool:
        return self.world.ready(f"{owner_of(key)}/process", self.steady.now())

    def _world_effect(self, effect: str, key: str) -> None:
        self.checks.world_effect(effect, key)
        if self.traffic.rates and effect == "created" and key.endswith("/process"):
            self._made_of(key)

    def _made_of(self, key: str) -> None:
        """Told before the thing is made: some are slow to start, some die of themselves later."""
        quality = self.users.rollouts.quality_of(owner_of(ResourceKey(key)))
        self.world.ready_seconds = self.scenario.ready_seconds + quality.slow_start
        if quality.dies_after and not self.faults.stopped:
            self.after(self.world.ready_seconds + quality.dies_after, lambda: self._dies(key))

    def _dies(self, key: str) -> None:
        if not self.faults.stopped and self.world.kill(key, self.steady.now()):
            self.hint(ResourceKey(key))

    # -- control planes ----------------------------------------------------------------------------------------------

    @property
    def living(self) -> list[ControlPlane]:
        return [plane for plane in self.planes if not plane.dead]

    def start_plane(self) -> None:
        if not self.living:
            self._restore_proxy()
        self._started += 1
        self.log(f"plane-{self._started} starts")
        self.planes.append(ControlPlane(self, f"plane-{self._started}"))

    def _restore_proxy(self) -> None:
        rows = self.store.open_resources(provider="proxy")
        if self.proxy.entries:
            self.proxy_was_reset = True
        self.proxy.restore((row.key, row.stored_want) for row in rows if row.wanted and row.stored_want is not None)

    def restart_later(self) -> None:
        self.after(self.faults.seconds(3.0), self._start_if_none)

    def _start_if_none(self) -> None:
        if not self.living:
            self.start_plane()

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        self.loop.call_later(seconds, work)

    def hint(self, key: ResourceKey) -> None:
        """Something happened to a program: its provider tells, the data plane finds out a moment later."""
        self.provider.hint(key)
        endpoint = ResourceKey(f"{owner_of(key)}/endpoint")
        self.after(0.1, lambda: self.proxy.hint(endpoint))

    # -- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        run_virtual(self.loop, self._run_and_end())
        self.result.log = tuple(self._log)
        self.result.trace = self._trace.hexdigest()[:16]
        self.result.passes = sum(plane.context.figures.passes for plane in self.planes)
        return self.result

    async def _run_and_end(self) -> None:
        try:
            await self._run()
        finally:
            for plane in self.living:
                plane.die("the run is over")

    async def _run(self) -> None:
        self.start_plane()
        for step in self.scenario.steps:
            await asyncio.sleep(max(0.0, step.at - self.loop.time()))
            if self.result.broken:
                return
            self.log(f"step: {step}")
            self.reached(f"step:{step.what}")
            self._do(step)
        await asyncio.sleep(max(0.0, self.scenario.seconds - self.loop.time()))
        if not self.result.broken:
            await self._heal()

    async def _heal(self) -> None:
        self.log("faults stop")
        self.faults.stopped = True
        self._disk_bad_until = -1.0
        self.proxy.up = True
        self.provider.answers = True
        self.provider.refuses = False
        for plane in self.living:
            plane.thaw()
        self._start_if_none()
        final = Final(self)
        self.last_wishes()
        begun = self.loop.time()
        wrong: list[str] = []
        limit = begun + HEAL_SECONDS + self.jumped + self.users.pools.jobs.queue_seconds()
        right = 0  # twice in a row: the last wishes may not have been looked at yet
        while right < 2 and self.loop.time() < limit and not self.result.broken:
            await asyncio.sleep(3.0)
            right = 0 if (wrong := final.wrong() + self.wrong()) else right + 1
        self.result.healed_seconds = self.loop.time() - begun
        if wrong:
            self.broken("[5, 6, 13] not as wished for after healing", "; ".join(wrong[:6]))
        if self.result.broken:
            return
        self.log("as wished for; now nothing may change")
        before = self.checks.mutations
        await asyncio.sleep(QUIET_SECONDS)
        if self.checks.mutations != before:
            count = self.checks.mutations - before
            self.broken(
                "[13] changes although nothing is to be done", f"{count} calls, last {self.checks.last_mutation}"
            )
        if wrong := final.wrong() + self.wrong():
            self.broken("[13] not as wished for after the quiet", "; ".join(wrong[:6]))

    def last_wishes(self) -> None:
        self.users.last_wishes()

    def wrong(self) -> list[str]:
        """What else is not as it should be, in runs of another sort."""
        return []

    def _do(self, step: Step) -> None:
        handler = getattr(self, "_do_" + step.what.replace("-", "_"), None)
        if handler is not None:
            handler(step)
            return
        try:
            self.users.do(step)
        except SpinyardError as error:
            self.log(f"refused: {error.message}")

    # -- disturbances ------------------------------------------------------------------------------------------------

    def _some_process(self, step: Step) -> str | None:
        now = self.steady.now()
        keys = [k for k, t in self.world.things.items() if t.running(now) and k.endswith("/process")]
        return keys[step.who % len(keys)] if keys else None

    def _do_kill(self, step: Step) -> None:
        key = self._some_process(step)
        if key is not None and self.world.kill(key, self.steady.now()):
            self.hint(ResourceKey(key))

    def _do_vanish(self, step: Step) -> None:
        key = self._some_process(step)
        if key is not None and self.world.vanish(key, self.steady.now()):
            self.hint(ResourceKey(key))

    def _do_sick(self, step: Step) -> None:
        key = self._some_process(step)
        seconds = 0.5 + 20.0 * step.much
        if key is not None and self.world.sicken(key, self.steady.now(), seconds):
            self.log(f"world: sick {key} for {seconds:.1f} s")
            self.hint(ResourceKey(key))
            self.after(seconds + 0.05, lambda: self.hint(ResourceKey(key)))
            for plane in self.living:
                plane.engine.hint(owner_of(ResourceKey(key)))
                self.after(seconds + 0.1, lambda plane=plane: plane.engine.hint(owner_of(ResourceKey(key))))  # type: ignore[misc]

    def _do_proxy_down(self, step: Step) -> None:
        self.proxy.up = False
        self.after(0.5 + 15.0 * step.much, self._proxy_up)

    def _proxy_up(self) -> None:
        self.proxy.up = True

    def _do_provider_down(self, step: Step) -> None:
        self.provider.answers = False
        self.after(0.5 + 15.0 * step.much, self._provider_up)

    def _provider_up(self) -> None:
        self.provider.answers = True

    def _do_provider_refuses(self, step: Step) -> None:
        self.provider.refuses = True
        self.after(0.5 + 15.0 * step.much, self._provider_accepts)

    def _provider_accepts(self) -> None:
        self.provider.refuses = False

    def _do_crash(self, step: Step) -> None:
        if self.living:
            self.living[step.who % len(self.living)].die("killed")
        self.restart_later()

    def _do_freeze(self, step: Step) -> None:
        """One stops for longer than its lease, another takes over, the first wakes up."""
        if not self.living:
            return
        plane = self.living[step.who % len(self.living)]
        plane.freeze()
        self.log(f"{plane.holder} is frozen")
        if len(self.living) < 2:
            self.start_plane()
        self.after(5.0 + 30.0 * step.much, lambda: self._thaw(plane))

    def _thaw(self, plane: ControlPlane) -> None:
        self.log(f"{plane.holder} thaws")
        plane.thaw()

    def _do_second(self, step: Step) -> None:
        if len(self.living) < 3:
            self.start_plane()

    def _do_retire(self, step: Step) -> None:
        if len(self.living) > 1:
            self.living[step.who % len(self.living)].die("retired")

    def _do_jump_forward(self, step: Step) -> None:
        self._jump(step.much * (300.0 if step.who == 0 else 20.0))

    def _do_jump_back(self, step: Step) -> None:
        self._jump(-20.0 * step.much)

    def _jump(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.jumped += abs(seconds)

    def _do_disk(self, step: Step) -> None:
        self._disk_bad_until = self.loop.time() + 0.5 + 10.0 * step.much

    def _do_stray(self, step: Step) -> None:
        """Something with our tag that no ledger knows of."""
        want = next((thing.want for thing in self.world.things.values()), None)
        if want is not None:
            self.world.create(f"stray{step.who}/process", want, self.steady.now())
