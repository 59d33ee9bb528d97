"""What is wanted of the data plane, and how it becomes what Envoy is told: all changes of a moment as one version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from spinyard.core.ids import ResourceKey
from spinyard.core.want import BoundaryWant, EndpointWant, RouteWant
from spinyard.ports.clock import Clock
from spinyard.proxy import encoded, proto, translate_force, translate_inside, translate_listener
from spinyard.proxy.aliases import Aliases
from spinyard.proxy.boundaries import Boundaries
from spinyard.proxy.route_table import RouteTable
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.wishes import Cluster, Holds, Removal, Told, Wish, clusters_of, settings_of
from spinyard.proxy.xds import XdsServer
from spinyard.proxy.xds_stream import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, Change

_ROUTES = (ROUTES, translate_listener.ROUTES)
_LISTENER = (LISTENER, translate_listener.LISTENER)
_INSIDE = (LISTENER, translate_inside.LISTENER)
_FORCE = (EXTENSION, translate_force.FILTER)


class Wanted:
    """`unconfirmed_routes`: of routes and boundaries, those to tell of when Envoy says something of its routes."""

    def __init__(self, xds: XdsServer, clock: Clock, inside: Inside | None, published: Callable[[], None]) -> None:
        """`published` is called after each publication."""
        self.wishes: dict[ResourceKey, Wish] = {}
        self.removed: dict[ResourceKey, Removal] = {}
        self.clusters: dict[str, Cluster] = {}
        self.table = RouteTable()
        self.boundaries = Boundaries(inside)
        self.aliases = Aliases()
        self.unconfirmed_routes: set[ResourceKey] = set()
        self._xds = xds
        self._clock = clock
        self._published = published
        self._dirty: set[str] = set()
        self._holds = Holds()
        self._unpublished: set[ResourceKey] = set()
        self._routes_dirty = False
        self._flushing = False

    # -- wishes ----------------------------------------------------------------------------------------------------

    def put(self, key: ResourceKey, want: Told) -> None:
        """Its place in the route table and in the clusters that it still names stays; others it leaves."""
        before = self.wishes.get(key)
        if before is not None:
            if before.want == want:
                return
            if type(before.want) is not type(want):
                self._take_out(key, before.want)
            else:
                self._move(key, set(clusters_of(before.want)) - set(clusters_of(want)), want)
        self.removed.pop(key, None)
        self.wishes[key] = Wish(want, self._clock.monotonic())
        self._unpublished.add(key)
        match want:
            case RouteWant():
                self._put_route(key, want, before)
            case EndpointWant():
                endpoints = self._cluster(RouteWant(cluster=want.cluster)).endpoints
                endpoints.pop(key, None)
                endpoints[key] = want
            case BoundaryWant():
                self.boundaries.put(key, want)
                self.unconfirmed_routes.add(key)
        for name in clusters_of(want):
            self.clusters[name].unconfirmed.add(key)
        self._dirty.update(clusters_of(want))

    def remove(self, key: ResourceKey) -> bool:
        """False: it was not there."""
        wish = self.wishes.pop(key, None)
        if wish is None:
            return False
        self._unpublished.discard(key)
        self._take_out(key, wish.want)
        self.removed[key] = Removal(wish.want)
        return True

    def _put_route(self, key: ResourceKey, want: RouteWant, before: Wish | None) -> None:
        for settings in settings_of(want):
            self._cluster(settings).route(key, settings)
        self.boundaries.put_route(key, want, before.want if before is not None else None)
        self._unsettle(want.service)
        self.table.put(key, want)
        self.unconfirmed_routes.add(key)
        self._routes_dirty = True

    def _unsettle(self, service: str) -> None:
        """What was confirmed of its boundaries is no longer what is wanted."""
        for key in self.boundaries.of_service(service):
            self.wishes[key].versions = {}
            self._unpublished.add(key)
            self.unconfirmed_routes.add(key)

    def _cluster(self, settings: RouteWant) -> Cluster:
        """The one of that name; these settings only if there is none."""
        return self.clusters.setdefault(settings.cluster, Cluster(settings))

    def _take_out(self, key: ResourceKey, want: Told) -> None:
        self._leave(key, clusters_of(want))
        self.unconfirmed_routes.discard(key)
        if isinstance(want, RouteWant):
            self.boundaries.drop_route(key, want)
            self._unsettle(want.service)
            self.table.take_away(key)
            self._routes_dirty = True
        elif isinstance(want, BoundaryWant):
            self.boundaries.drop(key)

    def _move(self, key: ResourceKey, left: Iterable[str], want: Told) -> None:
        self._leave(key, left)
        if isinstance(want, RouteWant):
            # What Envoy was never told of gets no requests.
            self._holds.hold(name for name in left if name in self._xds.catalogue.wanted[CLUSTER])
            self._holds.release(clusters_of(want))

    def _leave(self, key: ResourceKey, clusters: Iterable[str]) -> None:
        for name in clusters:
            self.clusters[name].leave(key)
            if self.clusters[name].is_unused:
                del self.clusters[name]
            self._dirty.add(name)

    # -- publishing ------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        self._flushing = False
        moved = self._settle_boundaries()
        held = {name for name in self._dirty if name in self._holds}
        changes = [change for name in sorted(self._dirty - held) for change in self._cluster_changes(name)]
        self._dirty = held
        changes += self.aliases.update(self.boundaries.aliases(), self.clusters.__contains__)
        if moved or not self._xds.catalogue.wanted[EXTENSION]:
            changes.append(Change(*_FORCE, _encoded(EXTENSION, translate_force.extension(self.boundaries.jwks()))))
        if self._routes_dirty or not self._xds.catalogue.wanted[ROUTES]:
            changes.append(Change(*_ROUTES, self.table.body(), clusters=self.table.clusters()))
            self._routes_dirty = False
        self._xds.publish(changes)
        version = self._xds.catalogue.wanted[ROUTES][translate_listener.ROUTES].version
        self._holds.routes_published(version)
        self.aliases.routes_published(version)
        self._note_versions()
        self.let_go()
        self._published()

    def _settle_boundaries(self) -> bool:
        """A boundary moves in the same version as the route of its Service. True when one did."""
        moved = self.boundaries.settle()
        self._unpublished |= moved
        self.unconfirmed_routes |= moved
        changed = self.table.set_boundaries(list(self.boundaries.in_force.values()))
        self._routes_dirty |= changed
        return changed

    def _cluster_changes(self, name: str) -> list[Change]:
        cluster = self.clusters.get(name)
        if cluster is None:
            return [Change(CLUSTER, name, None), Change(ENDPOINTS, name, None)]
        return [
            Change(CLUSTER, name, encoded.cluster(cluster.settings)),
            Change(ENDPOINTS, name, encoded.assignment(name, cluster.endpoints.values())),
        ]

    def _note_versions(self) -> None:
        wanted = self._xds.catalogue.wanted
        waiting = {key for key in self._unpublished if not self._holds_none(self.wishes[key].want)}
        for key in self._unpublished - waiting:
            wish = self.wishes[key]
            wish.versions = {(kind, name): wanted[kind][name].version for kind, name in self._rests_on(key, wish.want)}
            if isinstance(wish.want, EndpointWant):
                # Any cluster that Envoy took has these endpoints, also the older one while a change of it is refused.
                wish.versions[CLUSTER, wish.want.cluster] = 0
        self._unpublished = waiting
        for gone in self.removed.values():
            if not gone.version and self._holds_none(gone.want):
                shown = ROUTES, translate_listener.ROUTES
                if isinstance(gone.want, EndpointWant):
                    shown = ENDPOINTS, gone.want.cluster
                current = wanted[shown[0]].get(shown[1])
                gone.version = current.version if current is not None else self._xds.catalogue.version

    def _rests_on(self, key: ResourceKey, want: Told) -> list[tuple[str, str]]:
        """What Envoy must have confirmed for this wish."""
        if not isinstance(want, BoundaryWant):
            names = [(kind, name) for name in clusters_of(want) for kind in (CLUSTER, ENDPOINTS)]
            return [*names, _ROUTES, _LISTENER] if isinstance(want, RouteWant) else names
        boundary = self.boundaries.in_force.get(key)
        if boundary is None or not boundary.moves:
            return [_ROUTES]
        names = [(CLUSTER, alias.name) for alias in boundary.needed_aliases()]
        return [*names, _ROUTES, _LISTENER, *([_INSIDE] if want.host and want.weight else [])]

    def _holds_none(self, want: Told) -> bool:
        return not any(name in self._holds for name in clusters_of(want))

    # -- what Envoy said -------------------------------------------------------------------------------------------

    def on_routes(self) -> None:
        wanted = self._xds.catalogue.wanted[ROUTES][translate_listener.ROUTES]
        confirmed = self._xds.confirmed(*_ROUTES)
        refusal = self._xds.refusal(*_ROUTES)
        if refusal:
            self._routes_dirty |= self.table.was_refused(refusal)
        elif confirmed is not None and confirmed.version == wanted.version and not self._routes_dirty:
            self._routes_dirty = self.table.was_confirmed()
        if self._routes_dirty:
            self.flush_soon()
        self.let_go()

    def let_go(self) -> None:
        """Of what waited for routes without it."""
        confirmed = self._xds.confirmed(*_ROUTES)
        if self._holds and confirmed is not None:
            self._holds.routes_confirmed(confirmed.version)
        if any(name not in self._holds for name in self._dirty):
            self.flush_soon()


def _encoded(kind: str, value: Mapping[str, object]) -> bytes:
    return proto.encode(kind.removeprefix(proto.TYPE_PREFIX), value)
