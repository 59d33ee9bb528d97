"""How many requests come at present: two looks at the data plane's counters."""

from __future__ import annotations

from spinyard.api.deps import ApiDeps
from spinyard.core.observed import Traffic, Unknown

LOOK_SECONDS = 1.0
"""between the two looks that make a rate"""


async def per_second(deps: ApiDeps, clusters: tuple[str, ...]) -> float | None:
    """None when the counters cannot be read, or began anew in between."""
    if not clusters:
        return None
    before = await deps.traffic.read(clusters)
    if isinstance(before, Unknown):
        return None
    await deps.clock.sleep(LOOK_SECONDS)
    after = await deps.traffic.read(clusters)
    if isinstance(after, Unknown) or after.epoch != before.epoch or after.at <= before.at:
        return None
    return max(0, _requests(after) - _requests(before)) / (after.at - before.at)


def _requests(found: Traffic) -> int:
    return sum(one.requests for one in found.clusters.values())
