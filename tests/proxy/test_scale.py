"""Many services: what a change costs follows the change, not what is there."""

from __future__ import annotations

import pytest

from spinyard.core.ids import ResourceKey
from spinyard.core.want import EndpointWant, RouteWant
from spinyard.proxy.xds_stream import ENDPOINTS
from tests.proxy.world import World

pytestmark = pytest.mark.anyio

SERVICES = 300


async def test_an_endpoint_among_many_services_is_one_resource_and_fast(world: World) -> None:
    port = await world.start_backend("a")
    wants = [RouteWant(cluster=f"c{n}", hosts=(f"h{n}",)) for n in range(SERVICES)]
    for want in wants:
        await world.provider.ensure(ResourceKey(f"{want.cluster}/route"), want)
    for want in wants:
        key = ResourceKey(f"{want.cluster}/endpoint")
        await world.provider.ensure(key, EndpointWant(cluster=want.cluster, address="127.0.0.1", port=port))
    for want in wants:
        await world.acknowledged(f"{want.cluster}/route")
    for n in (0, SERVICES - 1):
        assert await world.get(host=f"h{n}") == (200, "a")
    took = [await world.endpoint(f"new{n}/endpoint", "c7", await world.start_backend(f"b{n}")) for n in range(3)]
    catalogue = world.provider._xds.catalogue
    newest = [
        (kind, name)
        for kind, resources in catalogue.wanted.items()
        for name, resource in resources.items()
        if resource.version == catalogue.version
    ]
    assert newest == [(ENDPOINTS, "c7")]
    assert sorted(took)[1] < 0.3, took
