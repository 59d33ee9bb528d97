"""The data plane as a provider: routes and endpoints are ensured, observed and removed like any other thing.

What is wanted lives in memory: it is given by `restore` when the server starts, from the ledger and before Envoy may
connect, and changed by ensure and remove. What is true is what Envoy confirmed: a wish counts from the moment every
connected Envoy acknowledged it, and without a connected Envoy everything is Unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import assert_never

import structlog

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, BoundaryFacts, EndpointFacts, Observed, Present, RouteFacts, Unknown
from spinyard.core.want import BoundaryWant, EndpointState, EndpointWant, RouteWant, Want
from spinyard.errors import ProviderFailure
from spinyard.ports.clock import Clock
from spinyard.ports.provider import Capabilities, Owned
from spinyard.proxy import translate_listener
from spinyard.proxy.changes import Changes
from spinyard.proxy.doors import Doors
from spinyard.proxy.facts import check, describe, endpoint_facts
from spinyard.proxy.poll import Poll
from spinyard.proxy.stats import Admin, AdminUnavailable
from spinyard.proxy.traffic import EnvoyTraffic
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.translate_listener import Gateway
from spinyard.proxy.wanted import Wanted
from spinyard.proxy.wishes import Removal, Told, Wish, clusters_of
from spinyard.proxy.xds import XdsServer
from spinyard.proxy.xds_stream import CLUSTER, ENDPOINTS, LISTENER, ROUTES

_log = structlog.get_logger(__name__)


class ProxyProvider:
    def __init__(
        self,
        *,
        scope: str,
        node_cluster: str,
        xds_socket: Path,
        admin_socket: Path,
        gateway: Gateway,
        clock: Clock,
        first_version: int = 0,
        otlp_socket: Path | None = None,
        inside: Inside | None = None,
    ) -> None:
        """`first_version`: at least as high as any this installation ever used, such as the lease epoch << 32; 0: from
        the clock. `inside`: without it nobody's word on a side counts, and boundaries have no host for the SDK."""
        self._scope = scope
        self._clock = clock
        self._admin = Admin(admin_socket, clock)
        first = first_version or int(clock.now() * 1000) << 10
        self._first_version = first + 1
        self._xds = XdsServer(xds_socket, node_cluster, clock, first, self._on_news)
        self.traffic = EnvoyTraffic(admin_socket, clock, lambda: self._xds.connected)
        self._changes = Changes()
        self._doors = Doors(self._xds, clock, gateway, inside, otlp_socket)
        self._wanted = Wanted(self._xds, clock, inside, self._stir)
        self._poller: asyncio.Task[None] | None = None
        shares = self._wanted.aliases.shares
        self._poll = Poll(self._admin, clock, self._endpoints, shares, self._tend, self._changes.emit)

    # -- life ------------------------------------------------------------------------------------------------------

    def restore(self, wants: Iterable[tuple[ResourceKey, Want]]) -> None:
        """What the ledger holds, in the order it was written; before `start`, so that no Envoy ever sees less."""
        for key, want in wants:
            if not isinstance(want, Told):
                continue
            try:
                check(want)
            except ProviderFailure as failure:
                # The ledger is written before ensure, which refused it: it must not spoil the others now.
                _log.warning("want_left_out", key=key, why=failure.message)
            else:
                self._wanted.put(key, want)
        self._wanted.flush()
        self._first_version = self._xds.catalogue.version

    async def start(self) -> None:
        """Serve Envoy. Raises OSError if the socket cannot be had."""
        self._wanted.flush()
        await self._xds.start()
        self._poller = asyncio.create_task(self._poll.run(), name="proxy-poll")

    async def stop(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)
            self._poller = None
        self._changes.close()
        await self.traffic.close()
        await self._admin.close()
        await self._xds.stop()

    @property
    def connected_envoys(self) -> int:
        return self._xds.connected

    @property
    def admin(self) -> Admin:
        return self._admin

    def listener_problem(self) -> str:
        """Why the gateway does not listen, in Envoy's words, or empty."""
        return self._doors.problem()

    def is_serving(self) -> bool:
        """An Envoy is connected, and has confirmed the listener and everything that was restored."""
        listening = self._xds.confirmed(LISTENER, translate_listener.LISTENER) is not None
        return listening and self._xds.is_settled(self._first_version)

    # -- the provider ----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return "proxy"

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(scope=self._scope, kinds=frozenset({"route", "endpoint", "boundary"}))

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        if not isinstance(want, Told):
            raise ProviderFailure(
                f"The data plane takes routes, endpoints and boundaries, not {type(want).__name__}.", retryable=False
            )
        check(want)
        self._wanted.put(key, want)
        self._wanted.flush_soon()

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        if self._wanted.remove(key):
            self._wanted.flush_soon()

    async def observe(self, key: ResourceKey) -> Observed:
        if not self._xds.connected:
            return Unknown("no Envoy is connected")
        wish = self._wanted.wishes.get(key)
        if wish is None:
            return self._observe_removed(key)
        match wish.want:
            case RouteWant() as route:
                return Present(self._route_facts(key, wish, route))
            case BoundaryWant() as boundary:
                return Present(self._boundary_facts(key, wish, boundary))
            case EndpointWant() as endpoint:
                return await self._observe_endpoint(wish, endpoint)
            case never:
                assert_never(never)

    async def owned(self) -> Sequence[Owned]:
        return [Owned(key, describe(wish.want)) for key, wish in self._wanted.wishes.items()]

    def changes(self) -> AsyncIterator[ResourceKey]:
        return self._changes.subscribe()

    # -- observing -------------------------------------------------------------------------------------------------

    def _observe_removed(self, key: ResourceKey) -> Observed:
        gone = self._wanted.removed.get(key)
        if gone is None:
            settled = self._xds.is_settled(self._first_version)
            return Absent() if settled else Unknown("Envoy has not confirmed what it was given yet")
        if self._is_removed(gone):
            return Absent()
        return Unknown("Envoy has not confirmed the removal yet")

    def _is_removed(self, gone: Removal) -> bool:
        if not gone.version or not self._xds.connected:
            return False
        if isinstance(gone.want, BoundaryWant):
            without_it = self._xds.confirmed(ROUTES, translate_listener.ROUTES)
            return without_it is not None and without_it.version >= gone.version
        return all(self._is_out_of(name, gone) for name in clusters_of(gone.want))

    def _is_out_of(self, name: str, gone: Removal) -> bool:
        if not self._xds.holds(CLUSTER, name):
            return True
        if isinstance(gone.want, RouteWant):
            without_it = self._xds.confirmed(ROUTES, translate_listener.ROUTES)
        else:
            without_it = self._xds.confirmed(ENDPOINTS, name)
        is_out = without_it is not None and without_it.version >= gone.version
        return is_out and name in self._wanted.clusters

    def _is_confirmed(self, wish: Wish) -> bool:
        if not wish.versions:
            return False
        for (kind, name), version in wish.versions.items():
            confirmed = self._xds.confirmed(kind, name)
            if confirmed is None or confirmed.version < version:
                return False
        return True

    def _route_facts(self, key: ResourceKey, wish: Wish, want: RouteWant) -> RouteFacts:
        table = self._wanted.table
        rejected = (
            table.lost_to(key)
            or table.refusal(key)
            or self._cluster_refusal(clusters_of(want))
            or self._doors.problem()
        )
        confirmed = self._is_confirmed(wish) and table.is_shown(key)
        return RouteFacts(confirmed and not rejected, rejected, want, is_shared=self._is_shared(key, wish, want))

    def _is_shared(self, key: ResourceKey, wish: Wish, want: RouteWant) -> bool:
        confirmed, version = (
            self._xds.confirmed(ROUTES, translate_listener.ROUTES),
            wish.versions.get((ROUTES, translate_listener.ROUTES)),
        )
        has_clusters = all(self._xds.confirmed(CLUSTER, name) for name in clusters_of(want))
        is_told = confirmed is not None and version is not None and confirmed.version >= version
        return is_told and has_clusters and self._wanted.table.is_split_shown(key)

    def _boundary_facts(self, key: ResourceKey, wish: Wish, want: BoundaryWant) -> BoundaryFacts:
        """Only what is the boundary's own speaks against it: another host or a busy port of its Services does not. A
        weight of 0 is acknowledged, whatever speaks against it, when Envoy has nothing else; also while a Service is
        missing."""
        known = self._wanted.boundaries
        boundary, parent = known.in_force.get(key), known.parent_key(want)
        if boundary is None or parent is None:
            rejected = known.problem(want)
            confirmed = self._is_confirmed(wish) and (not rejected or not want.weight)
            return BoundaryFacts(confirmed, rejected, want, known.missing(want))
        table = self._wanted.table
        rejected = (
            (table.all_lost_to(parent) if boundary.moves else "")
            or table.refusal_of(boundary)
            or self._cluster_refusal(alias.name for alias in boundary.needed_aliases())
            or (self._doors.lasting_inside_problem() if want.host and want.weight else "")
        )
        confirmed = self._is_confirmed(wish) and table.is_boundary_shown(boundary)
        return BoundaryFacts(confirmed and not (rejected and boundary.moves), rejected, want)

    def _cluster_refusal(self, names: Iterable[str]) -> str:
        return next((words for name in names if (words := self._xds.refusal(CLUSTER, name))), "")

    async def _observe_endpoint(self, wish: Wish, want: EndpointWant) -> Observed:
        rejected = self._xds.refusal(ENDPOINTS, want.cluster)
        if not self._xds.confirmed(CLUSTER, want.cluster):
            rejected = rejected or self._xds.refusal(CLUSTER, want.cluster)
        if rejected:
            return Present(EndpointFacts(acknowledged=False, rejected=rejected, state=want.state))
        if not self._is_confirmed(wish):
            return Present(EndpointFacts(acknowledged=False, state=want.state))
        draining = want.state == EndpointState.DRAINING
        if want.host and not draining:
            # Not checked by Envoy (translate): confirmed is all there is to know, and costs no call.
            return Present(EndpointFacts(True, healthy=want.state == EndpointState.ACTIVE, state=want.state))
        confirmed_at = self._confirmed_at(want.cluster)
        if draining and self._xds.connected > 1:
            return Unknown("an Envoy is being replaced: the requests of the old one cannot be counted")
        try:
            clusters = self._wanted.aliases.shares(want.cluster)
            reading = await self._admin.read(frozenset(clusters), after=confirmed_at)
        except AdminUnavailable as error:
            return Unknown(str(error))
        return Present(endpoint_facts(want, reading, confirmed_at, clusters))

    def _confirmed_at(self, cluster: str) -> float:
        confirmed = self._xds.confirmed(ENDPOINTS, cluster)
        return confirmed.at if confirmed is not None else 0.0

    # -- news ------------------------------------------------------------------------------------------------------

    def _stir(self) -> None:
        self._poll.stir()

    def _on_news(self, moved: set[tuple[str, str]]) -> None:
        self._stir()
        kinds = {kind for kind, _ in moved}
        if ROUTES in kinds:
            self._wanted.on_routes()
        for key, gone in list(self._wanted.removed.items()):
            if self._is_removed(gone):
                del self._wanted.removed[key]
                self._changes.emit([key])
        if not moved:
            self._changes.emit(self._wanted.wishes)
        elif LISTENER in kinds:
            wishes = self._wanted.wishes.items()
            self._changes.emit(key for key, wish in wishes if not isinstance(wish.want, EndpointWant))
        elif ROUTES in kinds:
            self._tell_of(self._wanted.unconfirmed_routes)
        for name in {name for kind, name in moved if kind in (CLUSTER, ENDPOINTS)}:
            self._tell_of_cluster(name)

    def _tell_of_cluster(self, name: str) -> None:
        """Only of those that waited for it: a wave over n endpoints must not cost n times n."""
        cluster = self._wanted.clusters.get(name)
        if cluster is not None:
            self._tell_of(cluster.unconfirmed)
        owner = self._wanted.boundaries.owner(name)
        if owner is not None:
            self._changes.emit([owner])

    def _tell_of(self, unconfirmed: set[ResourceKey]) -> None:
        self._changes.emit(unconfirmed)
        for key in list(unconfirmed):
            if self._is_confirmed(self._wanted.wishes[key]):
                unconfirmed.discard(key)

    # -- for the poll ----------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """What needs a look from time to time."""
        self._doors.tend()
        confirmed = self._xds.confirmed(ROUTES, translate_listener.ROUTES)
        left = self._wanted.aliases.left(confirmed, self._clock.monotonic())
        if not left:
            return
        try:
            reading = await self._admin.read(left)
        except AdminUnavailable:
            return
        self._xds.publish(self._wanted.aliases.forget_idle(left, reading))

    def _endpoints(self) -> Iterable[tuple[ResourceKey, EndpointWant, float]]:
        if not self._xds.connected:
            return
        for key, wish in self._wanted.wishes.items():
            if isinstance(wish.want, EndpointWant):
                yield key, wish.want, wish.since
