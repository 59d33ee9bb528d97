"""Requests of pretended users, and what the data plane counts of them, for Services that are rolled out.

Requests go by the weights that the data plane has acknowledged; how they end is a matter of what the instances of the
side are. The truth is kept beside what is told of it, for the checks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from spinyard.core.figures import Reading
from spinyard.core.ids import ResourceKey, owner_of
from spinyard.core.observed import ClusterTraffic, Traffic, Unknown
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.want import EndpointState, EndpointWant, RouteWant
from spinyard.testing.simulation.chance import Chance
from spinyard.testing.simulation.stage import Stage

TICK_SECONDS = 0.1
BOUNDS = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a template is good for, once its instances serve. `dies_after`: seconds, 0 for never."""

    failures: float = 0.0
    latency: float = 0.02
    slow_start: float = 0.0
    dies_after: float = 0.0


@dataclass(slots=True)
class Counter:
    """Of one cluster. `true_*` since the beginning of the run, the others since the epoch began."""

    requests: int = 0
    failures: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))
    underway: deque[tuple[float, int, int, float]] = field(default_factory=deque)
    true_requests: int = 0
    true_failures: int = 0


@dataclass(frozen=True, slots=True)
class InForce:
    """Since `at` (steady). `foreign`: asked for by one who did not hold the Service any more."""

    at: float
    main: str
    split: str
    weight: int
    foreign: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A reading that was handed out. `honest`: it was what had been counted."""

    at: float
    honest: bool


class TrafficWorld:
    """`qualities` is filled by the users: by uid of an instance's template."""

    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._chance = Chance(f"traffic-{sim.scenario.seed}")
        self.rates: dict[str, float] = {}
        """requests per second, by uid of the Service"""
        self.counters: dict[str, Counter] = {}
        self.routes: dict[str, list[InForce]] = {}
        """by uid of the Service, the last is in force now"""
        self.nobody_at: dict[str, float] = {}
        """by cluster, when a request last found no instance there"""
        self._known: dict[ResourceKey, RouteWant] = {}
        self._foreign: set[ResourceKey] = set()
        self._told: dict[tuple[object, ...], Told] = {}
        self._kept: dict[str, Reading] = {}
        self._epoch = 1
        self._blind_until = -1.0
        self._ticking = False

    # -- disturbances ------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The data plane began anew: its counters with it."""
        self._epoch += 1
        for counter in self.counters.values():
            counter.requests = counter.failures = 0
            counter.latency = [0] * len(BOUNDS)
            counter.underway.clear()

    def blind(self, seconds: float) -> None:
        self._blind_until = self._sim.loop_time + seconds

    # -- what is in force ----------------------------------------------------------------------------------------------

    def asked(self, key: ResourceKey, *, foreign: bool) -> None:
        """A wish for a route takes effect, by its holder or by one who is not any more."""
        self.look()
        if foreign:
            self._foreign.add(key)
        else:
            self._foreign.discard(key)

    def look(self) -> None:
        """What was acknowledged until now. Called before anything else is asked for, so that none is missed."""
        if not self.rates:
            return
        now = self._sim.steady.now()
        entries = self._sim.proxy.entries
        for key, entry in entries.items():
            want = entry.want
            if not isinstance(want, RouteWant) or now < entry.acknowledged_at or self._known.get(key) is want:
                continue
            uid = owner_of(key)
            if uid in self.rates:
                self._known[key] = want
                split = want.split
                parts = ("", 0) if split is None else (split.cluster, split.weight)
                one = InForce(self._sim.loop_time, want.cluster, *parts, key in self._foreign)
                history = self.routes.setdefault(uid, [])
                if not history or (one.main, one.split, one.weight) != _parts(history[-1]):
                    self._sim.log(f"data plane: {want.service} {one.main} {one.split} {one.weight}")
                    history.append(one)
                elif history[-1].foreign and not one.foreign:
                    history[-1] = replace(history[-1], foreign=False)
        for key in [key for key in self._known if key not in entries]:
            del self._known[key]
            self.routes.pop(owner_of(key), None)

    def in_force(self, service: str) -> InForce | None:
        self.look()
        history = self.routes.get(service)
        return history[-1] if history else None

    def weight_during(self, service: str, since: float, until: float) -> set[int] | None:
        """All weights that were in force in that time; None: not to be told, for somebody meddled."""
        self.look()
        out: set[int] = set()
        history = self.routes.get(service, [])
        for index, one in enumerate(history):
            ends = history[index + 1].at if index + 1 < len(history) else math.inf
            if one.at <= until and ends > since + 1e-9:
                if one.foreign:
                    return None
                out.add(one.weight)
        return out

    # -- requests ----------------------------------------------------------------------------------------------------

    def go(self) -> None:
        if not self._ticking:
            self._ticking = True
            self._sim.after(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._ticking = self._sim.users.rollouts.any_running()
        if not self._ticking:
            return
        self._sim.after(TICK_SECONDS, self._tick)
        self.look()
        ready: dict[str, str] | None = None
        for uid, history in self.routes.items():
            count = binomial(self._chance, int(self.rates.get(uid, 0.0) * TICK_SECONDS * 2), 0.5)
            if not count:
                continue
            ready = self._ready() if ready is None else ready
            one = history[-1]
            new = binomial(self._chance, count, one.weight / WEIGHT_ALL) if one.split else 0
            self._serve(one.main, count - new, ready)
            if new:
                self._serve(one.split, new, ready)
        self._settle()

    def _ready(self) -> dict[str, str]:
        """An instance that takes requests, by cluster."""
        now, sim = self._sim.steady.now(), self._sim
        out: dict[str, str] = {}
        for key, entry in sim.proxy.entries.items():
            want = entry.want
            if isinstance(want, EndpointWant) and want.state is EndpointState.ACTIVE and want.cluster not in out:
                uid = owner_of(key)
                if now >= entry.acknowledged_at and sim.world.ready(f"{uid}/process", now):
                    out[want.cluster] = uid
        return out

    def _serve(self, cluster: str, count: int, ready: dict[str, str]) -> None:
        if count and cluster not in ready:
            self.nobody_at[cluster] = self._sim.loop_time
        counter = self.counters.setdefault(cluster, Counter())
        uid = ready.get(cluster)
        quality = self._sim.users.rollouts.quality_of(uid) if uid is not None else Quality(1.0, 0.0)
        failed = binomial(self._chance, count, quality.failures)
        counter.true_requests += count
        counter.true_failures += failed
        counter.underway.append((self._sim.loop_time + quality.latency, count, failed, quality.latency))

    def _settle(self) -> None:
        now = self._sim.loop_time
        for counter in self.counters.values():
            while counter.underway and counter.underway[0][0] <= now:
                _, count, failed, latency = counter.underway.popleft()
                counter.requests += count
                counter.failures += failed
                for index, bound in enumerate(BOUNDS):
                    counter.latency[index] += count if bound >= latency else 0

    # -- what is told of them ----------------------------------------------------------------------------------------

    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        sim = self._sim
        fault = sim.faults.draw("traffic", "")
        if fault == "slow":
            await sim.steady.sleep(sim.faults.seconds(8.0))
        if fault == "error" or not sim.proxy.up or sim.loop_time < self._blind_until:
            sim.reached("traffic-unknown")
            return Unknown("the fake data plane gives no counters")
        self.look()
        self._settle()
        found = {name: self._as_told(self.counters.get(name, Counter())) for name in clusters}
        if fault == "absurd":
            index = 1 if self._chance.happens(0.7) else 0
            known = self._kept.get(clusters[1].partition("~")[2])
            told = (known.old, known.new)[index].requests if known and known.epoch == f"epoch-{self._epoch}" else 0
            found[clusters[index]] = self._absurd(found[clusters[index]], told)
        traffic = Traffic(f"epoch-{self._epoch}", sim.clock.now(), found)
        key = (traffic.epoch, traffic.at, *(_figures(found[name]) for name in clusters))
        honest = fault != "absurd" and (key not in self._told or self._told[key].honest)
        self._told[key] = Told(sim.loop_time, honest)
        return traffic

    def kept(self, side: str, reading: Reading) -> None:
        """What the Rollout of that side has in its status."""
        self._kept[side] = reading

    def told(self, epoch: str, at: float, old: ClusterTraffic, new: ClusterTraffic) -> Told | None:
        return self._told.get((epoch, at, _figures(old), _figures(new)))

    def _as_told(self, counter: Counter) -> ClusterTraffic:
        active = sum(one[1] for one in counter.underway)
        latency = tuple(zip(BOUNDS, counter.latency, strict=True))
        return ClusterTraffic(counter.requests, counter.failures, active, latency)

    def _absurd(self, true: ClusterTraffic, told: int) -> ClusterTraffic:
        """Fewer than are known of, or more failures than requests. Never what a healthy counter could say."""
        if self._chance.happens(0.5) and told:
            less = self._chance.below(told)
            return ClusterTraffic(less, min(less, true.failures), true.active, true.latency)
        return ClusterTraffic(true.requests, true.failures + true.requests + 1 + self._chance.below(500), true.active)


def _parts(one: InForce) -> tuple[str, str, int]:
    return one.main, one.split, one.weight


def _figures(one: ClusterTraffic) -> tuple[int, int, int]:
    return one.requests, one.failures, one.active


def binomial(chance: Chance, count: int, share: float) -> int:
    """By inversion: one number drawn."""
    if count <= 0 or share <= 0.0:
        return 0
    if share >= 1.0:
        return count
    if share > 0.5:
        return count - binomial(chance, count, 1.0 - share)
    left, drawn = chance.fraction(), 0
    probability = (1.0 - share) ** count
    odds = share / (1.0 - share)
    while left >= probability and drawn < count:
        left -= probability
        drawn += 1
        probability *= odds * (count - drawn + 1) / drawn
    return drawn
