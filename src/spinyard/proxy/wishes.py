"""What is kept of each wish, and of each cluster that wishes name. A boundary has no cluster that others may name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.want import BoundaryWant, EndpointWant, RouteWant, Split

Told = RouteWant | EndpointWant | BoundaryWant
"""what the data plane takes"""


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

    want: Told
    version: int = 0


@dataclass(slots=True)
class Wish:
    """`versions`: what must be confirmed, by (kind, name); empty until it was published. `since`: monotonic."""

    want: Told
    since: float
    versions: dict[tuple[str, str], int] = field(default_factory=dict)


class Holds:
    """Clusters that a route has left: what their endpoints become is held back until Envoy has the routes without them.
    Else the old side could be drained while requests still go there, for routes and endpoints go on ways of their own.
    """

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}

    def hold(self, names: Iterable[str]) -> None:
        self._versions.update(dict.fromkeys(names, 0))

    def release(self, names: Iterable[str]) -> None:
        for name in names:
            self._versions.pop(name, None)

    def routes_published(self, version: int) -> None:
        self._versions = {name: before or version for name, before in self._versions.items()}

    def routes_confirmed(self, version: int) -> None:
        self.release([name for name, needed in self._versions.items() if needed and version >= needed])

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    def __bool__(self) -> bool:
        return bool(self._versions)


def clusters_of(want: Told) -> tuple[str, ...]:
    match want:
        case BoundaryWant():
            return ()
        case RouteWant(cluster=cluster, split=Split(cluster=other)):
            return (cluster, other)
        case _:
            return (want.cluster,)


def settings_of(want: RouteWant) -> Iterator[RouteWant]:
    """A route without a split for each of its clusters: what `translate.cluster` takes; the split has its own probe."""
    yield replace(want, split=None)
    if want.split is not None:
        yield replace(want, cluster=want.split.cluster, probe=want.split.probe, split=None)
