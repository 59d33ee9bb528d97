"""One probe, made now, by us: for bootstrapping, smoke tests, liveness and exec readiness."""

from __future__ import annotations

from typing import Protocol

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ProbeResult
from spinyard.core.spec import Probe


class Prober(Protocol):
    async def check(
        self, process: ResourceKey, address: str, ports: tuple[tuple[str, int], ...], probe: Probe
    ) -> ProbeResult:
        """FAILED: the instance answered wrongly, refused, or was silent for probe.timeout_seconds (the instance's
        fault). UNKNOWN: the probe could not be made (ours). Bounded by probe.timeout_seconds plus 1 s. Thresholds,
        delays and periods are the caller's business. `ports`: (name, number)."""
        ...
