"""A parent and its unit behind a real Envoy, and the boundary between them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import BoundaryFacts, ClusterTraffic, Traffic
from spinyard.core.shift import Sticky
from spinyard.core.spec import HttpGet, Probe
from spinyard.core.want import BoundaryRule, BoundaryWant, RouteWant, boundary_cluster
from tests.proxy.world import World

KEY = "thumbs/boundary"
PARENT, UNIT = "default/web", "default/thumbs"
HOST = "thumbs.default.boundary.internal"
CLUSTER = "spinout/default/thumbs/b0b0b0b0"
PROBE = Probe(http_get=HttpGet(path="/health"), period_seconds=0.5)
RULE = BoundaryRule(path="/thumbs/*")
WANT = BoundaryWant(cluster=CLUSTER, parent=PARENT, unit=UNIT, rules=(RULE,), sticky=Sticky(header="x-user"), host=HOST)
WEB = RouteWant(cluster="default/web/1", hosts=("shop",), probe=PROBE, service=PARENT)
THUMBS = RouteWant(cluster="default/thumbs/1", probe=PROBE, service=UNIT)
KEYS = [f"user-{number}" for number in range(150)]


class BoundaryWorld(World):
    async def start(self) -> None:
        await super().start()
        for name, route in (("parent", WEB), ("unit", THUMBS)):
            port = await self.start_backend(name)
            await self.route(f"{name}/route", route)
            await self.endpoint(f"{name}/endpoint", route.cluster, port)

    async def share(self, weight: int = 0, **fields: Any) -> float:
        """The boundary as it is wished, until it is acknowledged and Envoy's workers have followed."""
        want = replace(WANT, weight=weight, **fields)
        start = time.monotonic()
        await self.provider.ensure(ResourceKey(KEY), want)
        await self.acknowledged(KEY)
        took = time.monotonic() - start
        facts = await self.boundary()
        assert (facts.want, facts.missing) == (want, ())
        await asyncio.sleep(0.02)
        return took

    async def boundary(self) -> BoundaryFacts:
        facts = await self.facts(KEY)
        assert isinstance(facts, BoundaryFacts)
        return facts

    async def call(
        self,
        path: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        *,
        host: str = "shop",
        inside: bool = False,
    ) -> tuple[int, str, Mapping[str, str]]:
        url = f"http://127.0.0.1:{self.inside_port if inside else self.port}{path}"
        async with self.session.request(method, url, headers={"Host": host, **(headers or {})}) as answer:
            return answer.status, await answer.text(), answer.headers

    async def who(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET", **how: Any) -> str:
        """The backend that answers."""
        status, _, answered = await self.call(path, headers, method, **how)
        assert status == 200, (status, path)
        return answered["x-instance"]

    async def echo(self, path: str, headers: Mapping[str, str] | None = None, **how: Any) -> dict[str, str]:
        """The headers that the backend got, and its name."""
        status, text, _ = await self.call(f"{path}/echo", headers, **how)
        assert status == 200
        said = json.loads(text)
        return {**said["headers"], "name": said["name"]}

    async def sides(self, keys: Iterable[str], path: str = "/thumbs/1") -> dict[str, str]:
        return {key: await self.who(path, {"x-user": key}) for key in keys}

    async def counted(self, *sides: str) -> dict[str, int]:
        """By the reader that judges, of each side's own cluster."""
        return {side: found.requests for side, found in (await self.traffic(*sides)).items()}

    async def traffic(self, *sides: str) -> dict[str, ClusterTraffic]:
        names = {side: boundary_cluster(CLUSTER, side) for side in sides}
        traffic = await self.provider.traffic.read(list(names.values()))
        assert isinstance(traffic, Traffic)
        return {side: traffic.clusters.get(name, ClusterTraffic()) for side, name in names.items()}
