"""Probes of pretended processes: ready is what the world says."""

from __future__ import annotations

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import Probe
from spinyard.ports.clock import Clock
from spinyard.providers.fake.faults import Fault, Faults, NoFaults
from spinyard.providers.fake.world import World


class FakeProber:
    def __init__(self, world: World, clock: Clock, *, faults: Faults | None = None) -> None:
        self._world = world
        self._clock = clock
        self._faults: Faults = faults or NoFaults()

    async def check(
        self, process: ResourceKey, address: str, ports: tuple[tuple[str, int], ...], probe: Probe
    ) -> ProbeResult:
        if self._faults.draw("probe", process) is Fault.ERROR:
            return ProbeResult(ProbeAnswer.UNKNOWN, "the fake prober was told to fail")
        if self._world.ready(process, self._clock.now()):
            return ProbeResult(ProbeAnswer.OK)
        return ProbeResult(ProbeAnswer.FAILED, "not ready")
