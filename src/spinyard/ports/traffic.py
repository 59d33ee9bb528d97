"""What the data plane counts, for whoever judges by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spinyard.core.observed import Traffic, Unknown


class TrafficReader(Protocol):
    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        """The counters as they stand now. Unknown rather than a guess: no Envoy, no answer, or two of them."""
        ...


class NoTraffic:
    async def read(self, clusters: Sequence[str]) -> Traffic | Unknown:
        return Unknown("nothing counts requests here")
