"""Probes of pretended processes: ready is what the world says."""

from __future__ import annotations

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import Probe
from spinyard.ports.clock import Clock
from spinyard.providers.fake.world import World


class FakeProber:
    def __init__(self, world: World, clock: Clock) -> None:
        self._world = world
        self._clock = clock

    async def check(
        self, process: ResourceKey, address: str, ports: tuple[tuple[str, int], ...], probe: Probe
    ) -> ProbeResult:
        if self._world.ready(process, self._clock.now()):
            return ProbeResult(ProbeAnswer.OK)
        return ProbeResult(ProbeAnswer.FAILED, "not ready")
