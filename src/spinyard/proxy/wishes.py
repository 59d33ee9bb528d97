"""What is kept of each wish, and of each cluster that wishes name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.want import EndpointWant, RouteWant


@dataclass(slots=True)
class Cluster:
    """Lives as long as a route or an endpoint names it: an endpoint that drains needs it after its route went. It keeps
    its last settings then, as a changed cluster is a new one inside Envoy."""

    settings: RouteWant
    routes: dict[ResourceKey, RouteWant] = field(default_factory=dict)
    endpoints: dict[ResourceKey, EndpointWant] = field(default_factory=dict)
    unconfirmed: set[ResourceKey] = field(default_factory=set)

    def route(self, key: ResourceKey, settings: RouteWant) -> None:
        self.routes[key] = settings
        self.settings = next(iter(self.routes.values()))

    def leave(self, key: ResourceKey) -> None:
        self.endpoints.pop(key, None)
        if self.routes.pop(key, None) is not None:
            self.settings = next(iter(self.routes.values()), self.settings)
        self.unconfirmed.discard(key)

    @property
    def is_unused(self) -> bool:
        return not self.routes and not self.endpoints


@dataclass(slots=True)
class Removal:
    """`version`: of the routes, or of the cluster's endpoints, that no longer have it; 0: not published yet."""

    want: RouteWant | EndpointWant
    version: int = 0


@dataclass(slots=True)
class Wish:
    """`versions`: what must be confirmed, by (kind, name); empty until it was published. `since`: monotonic."""

    want: RouteWant | EndpointWant
    since: float
    versions: dict[tuple[str, str], int] = field(default_factory=dict)


def clusters_of(want: RouteWant | EndpointWant) -> tuple[str, ...]:
    if isinstance(want, RouteWant) and want.split is not None:
        return (want.cluster, want.split.cluster)
    return (want.cluster,)


def settings_of(want: RouteWant) -> Iterator[RouteWant]:
    """A route without a split for each of its clusters: what `translate.cluster` takes; the split has its own probe."""
    yield replace(want, split=None)
    if want.split is not None:
        yield replace(want, cluster=want.split.cluster, probe=want.split.probe, split=None)
