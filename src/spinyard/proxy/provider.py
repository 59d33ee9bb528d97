"""The data plane as a provider: routes and endpoints are ensured, observed and removed like any other thing.

What is wanted lives in memory: it is given by `restore` when the server starts, from the ledger and before Envoy may
connect, and changed by ensure and remove. What is true is what Envoy confirmed: a wish counts from the moment every
connected Envoy acknowledged it, and without a connected Envoy everything is Unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import structlog

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, EndpointFacts, Observed, Present, RouteFacts, Unknown
from spinyard.core.want import EndpointState, EndpointWant, RouteWant, Want
from spinyard.errors import ProviderFailure
from spinyard.ports.clock import Clock
from spinyard.ports.provider import Capabilities, Owned
from spinyard.proxy import encoded, proto, translate_listener, translate_tracing
from spinyard.proxy.bootstrap import RUNTIME_LAYER
from spinyard.proxy.changes import Changes
from spinyard.proxy.facts import check, describe, endpoint_facts
from spinyard.proxy.poll import Poll
from spinyard.proxy.route_table import RouteTable
from spinyard.proxy.stats import Admin, AdminUnavailable
from spinyard.proxy.traffic import EnvoyTraffic
from spinyard.proxy.translate_listener import Gateway
from spinyard.proxy.wishes import Cluster, Holds, Removal, Wish, clusters_of, settings_of
from spinyard.proxy.xds import XdsServer
from spinyard.proxy.xds_stream import CLUSTER, ENDPOINTS, LISTENER, ROUTES, RUNTIME, Change

_log = structlog.get_logger(__name__)

_SHARED = [(ROUTES, translate_listener.ROUTES), (LISTENER, translate_listener.LISTENER)]

LISTENER_RETRY_SECONDS = 1.0
LISTENER_RETRY_SECONDS_MAX = 5.0


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
    ) -> None:
        """`first_version`: at least as high as any this installation ever used, such as the lease epoch << 32; 0: from
        the clock."""
        self._scope = scope
        self._clock = clock
        self._gateway = gateway
        self._admin = Admin(admin_socket, clock)
        first = first_version or int(clock.now() * 1000) << 10
        self._first_version = first + 1
        self._xds = XdsServer(xds_socket, node_cluster, clock, first, self._on_news)
        self.traffic = EnvoyTraffic(admin_socket, clock, lambda: self._xds.connected)
        self._clusters: dict[str, Cluster] = {}
        self._wishes: dict[ResourceKey, Wish] = {}
        self._removed: dict[ResourceKey, Removal] = {}
        self._table = RouteTable()
        self._dirty: set[str] = set()
        self._holds = Holds()
        self._unpublished: set[ResourceKey] = set()
        self._unconfirmed_routes: set[ResourceKey] = set()
        self._routes_dirty = False
        self._flushing = False
        self._changes = Changes()
        self._poller: asyncio.Task[None] | None = None
        self._poll = Poll(self._admin, clock, self._endpoints, self._tend, self._changes.emit)
        self._listener_tried_at = 0.0
        self._listener_pause = LISTENER_RETRY_SECONDS
        self._xds.publish([Change(LISTENER, translate_listener.LISTENER, self._listener()), self._runtime()])
        if otlp_socket is not None:
            receiver = translate_tracing.receiver_cluster(otlp_socket)
            self._xds.publish([Change(CLUSTER, translate_tracing.RECEIVER, proto.encode(_message(CLUSTER), receiver))])

    # -- life ------------------------------------------------------------------------------------------------------

    def restore(self, wants: Iterable[tuple[ResourceKey, Want]]) -> None:
        """What the ledger holds, in the order it was written; before `start`, so that no Envoy ever sees less."""
        for key, want in wants:
            if not isinstance(want, (RouteWant, EndpointWant)):
                continue
            try:
                check(want)
            except ProviderFailure as failure:
                # The ledger is written before ensure, which refused it: it must not spoil the others now.
                _log.warning("want_left_out", key=key, why=failure.message)
            else:
                self._put(key, want)
        self._flush()
        self._first_version = self._xds.catalogue.version

    async def start(self) -> None:
        """Serve Envoy. Raises OSError if the socket cannot be had."""
        self._flush()
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
        return self._xds.refusal(LISTENER, translate_listener.LISTENER)

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
        return Capabilities(scope=self._scope, kinds=frozenset({"route", "endpoint"}))

    async def ensure(self, key: ResourceKey, want: Want) -> None:
        if not isinstance(want, (RouteWant, EndpointWant)):
            raise ProviderFailure(
                f"The data plane takes routes and endpoints, not {type(want).__name__}.", retryable=False
            )
        check(want)
        self._put(key, want)
        self._flush_soon()

    async def remove(self, key: ResourceKey, *, now: bool = False) -> None:
        wish = self._wishes.pop(key, None)
        if wish is None:
            return
        self._unpublished.discard(key)
        self._take_out(key, wish.want)
        self._removed[key] = Removal(wish.want)
        self._flush_soon()

    async def observe(self, key: ResourceKey) -> Observed:
        if not self._xds.connected:
            return Unknown("no Envoy is connected")
        wish = self._wishes.get(key)
        if wish is None:
            return self._observe_removed(key)
        if isinstance(wish.want, RouteWant):
            return Present(self._route_facts(key, wish))
        return await self._observe_endpoint(wish, wish.want)

    async def owned(self) -> Sequence[Owned]:
        return [Owned(key, describe(wish.want)) for key, wish in self._wishes.items()]

    def changes(self) -> AsyncIterator[ResourceKey]:
        return self._changes.subscribe()

    # -- observing -------------------------------------------------------------------------------------------------

    def _observe_removed(self, key: ResourceKey) -> Observed:
        gone = self._removed.get(key)
        if gone is None:
            settled = self._xds.is_settled(self._first_version)
            return Absent() if settled else Unknown("Envoy has not confirmed what it was given yet")
        if self._is_removed(gone):
            return Absent()
        return Unknown("Envoy has not confirmed the removal yet")

    def _is_removed(self, gone: Removal) -> bool:
        if not gone.version or not self._xds.connected:
            return False
        return all(self._is_out_of(name, gone) for name in clusters_of(gone.want))

    def _is_out_of(self, name: str, gone: Removal) -> bool:
        if not self._xds.holds(CLUSTER, name):
            return True
        if isinstance(gone.want, RouteWant):
            without_it = self._xds.confirmed(ROUTES, translate_listener.ROUTES)
        else:
            without_it = self._xds.confirmed(ENDPOINTS, name)
        is_out = without_it is not None and without_it.version >= gone.version
        return is_out and name in self._clusters

    def _is_confirmed(self, wish: Wish) -> bool:
        if not wish.versions:
            return False
        for (kind, name), version in wish.versions.items():
            confirmed = self._xds.confirmed(kind, name)
            if confirmed is None or confirmed.version < version:
                return False
        return True

    def _route_facts(self, key: ResourceKey, wish: Wish) -> RouteFacts:
        rejected = self._route_rejection(key, wish.want)
        confirmed = self._is_confirmed(wish) and self._table.is_shown(key)
        want = wish.want if isinstance(wish.want, RouteWant) else None
        return RouteFacts(acknowledged=confirmed and not rejected, rejected=rejected, want=want)

    def _route_rejection(self, key: ResourceKey, want: RouteWant | EndpointWant) -> str:
        refused = (self._xds.refusal(CLUSTER, name) for name in clusters_of(want))
        return (
            self._table.lost_to(key)
            or self._table.refusal(key)
            or next((words for words in refused if words), "")
            or self.listener_problem()
        )

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
            reading = await self._admin.read(frozenset({want.cluster}), after=confirmed_at)
        except AdminUnavailable as error:
            return Unknown(str(error))
        return Present(endpoint_facts(want, reading, confirmed_at))

    def _confirmed_at(self, cluster: str) -> float:
        confirmed = self._xds.confirmed(ENDPOINTS, cluster)
        return confirmed.at if confirmed is not None else 0.0

    # -- wishes ----------------------------------------------------------------------------------------------------

    def _put(self, key: ResourceKey, want: RouteWant | EndpointWant) -> None:
        """Its place in the route table and in the clusters that it still names stays; others it leaves."""
        before = self._wishes.get(key)
        if before is not None:
            if before.want == want:
                return
            if type(before.want) is not type(want):
                self._take_out(key, before.want)
            else:
                self._move(key, set(clusters_of(before.want)) - set(clusters_of(want)), want)
        self._removed.pop(key, None)
        self._wishes[key] = Wish(want, self._clock.monotonic())
        self._unpublished.add(key)
        if isinstance(want, RouteWant):
            for settings in settings_of(want):
                self._cluster(settings).route(key, settings)
            self._table.put(key, want)
            self._unconfirmed_routes.add(key)
            self._routes_dirty = True
        else:
            endpoints = self._cluster(RouteWant(cluster=want.cluster)).endpoints
            endpoints.pop(key, None)
            endpoints[key] = want
        for name in clusters_of(want):
            self._clusters[name].unconfirmed.add(key)
        self._dirty.update(clusters_of(want))

    def _cluster(self, settings: RouteWant) -> Cluster:
        """The one of that name; these settings only if there is none."""
        return self._clusters.setdefault(settings.cluster, Cluster(settings))

    def _take_out(self, key: ResourceKey, want: RouteWant | EndpointWant) -> None:
        self._leave(key, clusters_of(want))
        self._unconfirmed_routes.discard(key)
        if isinstance(want, RouteWant):
            self._table.take_away(key)
            self._routes_dirty = True

    def _move(self, key: ResourceKey, left: Iterable[str], want: RouteWant | EndpointWant) -> None:
        self._leave(key, left)
        if isinstance(want, RouteWant):
            self._holds.hold(left)
            self._holds.release(clusters_of(want))

    def _leave(self, key: ResourceKey, clusters: Iterable[str]) -> None:
        for name in clusters:
            self._clusters[name].leave(key)
            if self._clusters[name].is_unused:
                del self._clusters[name]
            self._dirty.add(name)

    # -- publishing ------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """All changes of a moment are one version."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        held = {name for name in self._dirty if name in self._holds}
        changes = [change for name in sorted(self._dirty - held) for change in self._cluster_changes(name)]
        self._dirty = held
        if self._routes_dirty or not self._xds.catalogue.wanted[ROUTES]:
            changes.append(Change(ROUTES, translate_listener.ROUTES, self._table.body()))
            self._routes_dirty = False
        self._xds.publish(changes)
        self._holds.routes_published(self._xds.catalogue.wanted[ROUTES][translate_listener.ROUTES].version)
        self._note_versions()
        self._let_go()
        self._poll.stir()

    def _cluster_changes(self, name: str) -> list[Change]:
        cluster = self._clusters.get(name)
        if cluster is None:
            return [Change(CLUSTER, name, None), Change(ENDPOINTS, name, None)]
        return [
            Change(CLUSTER, name, encoded.cluster(cluster.settings)),
            Change(ENDPOINTS, name, encoded.assignment(name, cluster.endpoints.values())),
        ]

    def _note_versions(self) -> None:
        wanted = self._xds.catalogue.wanted
        waiting = {key for key in self._unpublished if not self._holds_none(self._wishes[key].want)}
        for key in self._unpublished - waiting:
            wish = self._wishes[key]
            names = [(kind, name) for name in clusters_of(wish.want) for kind in (CLUSTER, ENDPOINTS)]
            if isinstance(wish.want, RouteWant):
                names += _SHARED
            wish.versions = {(kind, name): wanted[kind][name].version for kind, name in names}
            if isinstance(wish.want, EndpointWant):
                # Any cluster that Envoy took has these endpoints, also the older one while a change of it is refused.
                wish.versions[CLUSTER, wish.want.cluster] = 0
        self._unpublished = waiting
        for gone in self._removed.values():
            if not gone.version and self._holds_none(gone.want):
                current = wanted[ENDPOINTS].get(gone.want.cluster)
                if isinstance(gone.want, RouteWant):
                    current = wanted[ROUTES][translate_listener.ROUTES]
                gone.version = current.version if current is not None else self._xds.catalogue.version

    def _holds_none(self, want: RouteWant | EndpointWant) -> bool:
        return not any(name in self._holds for name in clusters_of(want))

    def _listener(self) -> bytes:
        return proto.encode(_message(LISTENER), translate_listener.listener(self._gateway))

    def _runtime(self) -> Change:
        return Change(
            RUNTIME,
            RUNTIME_LAYER,
            proto.encode(_message(RUNTIME), {"name": RUNTIME_LAYER, "layer": translate_tracing.runtime()}),
        )

    # -- news ------------------------------------------------------------------------------------------------------

    def _on_news(self, moved: set[tuple[str, str]]) -> None:
        self._poll.stir()
        kinds = {kind for kind, _ in moved}
        if ROUTES in kinds:
            self._on_routes()
        for key, gone in list(self._removed.items()):
            if self._is_removed(gone):
                del self._removed[key]
                self._changes.emit([key])
        if not moved:
            self._changes.emit(self._wishes)
        elif LISTENER in kinds:
            self._changes.emit(key for key, wish in self._wishes.items() if isinstance(wish.want, RouteWant))
        elif ROUTES in kinds:
            self._tell_of_routes()
        for name in {name for kind, name in moved if kind in (CLUSTER, ENDPOINTS)}:
            self._tell_of_cluster(name)

    def _tell_of_routes(self) -> None:
        self._changes.emit(self._unconfirmed_routes)
        for key in list(self._unconfirmed_routes):
            if self._is_confirmed(self._wishes[key]):
                self._unconfirmed_routes.discard(key)

    def _tell_of_cluster(self, name: str) -> None:
        """Only of those that waited for it: a wave over n endpoints must not cost n times n."""
        cluster = self._clusters.get(name)
        if cluster is None:
            return
        self._changes.emit(cluster.unconfirmed)
        for key in list(cluster.unconfirmed):
            if self._is_confirmed(self._wishes[key]):
                cluster.unconfirmed.discard(key)

    def _on_routes(self) -> None:
        wanted = self._xds.catalogue.wanted[ROUTES][translate_listener.ROUTES]
        confirmed = self._xds.confirmed(ROUTES, translate_listener.ROUTES)
        refusal = self._xds.refusal(ROUTES, translate_listener.ROUTES)
        if refusal:
            self._routes_dirty |= self._table.was_refused(refusal)
        elif confirmed is not None and confirmed.version == wanted.version and not self._routes_dirty:
            self._routes_dirty = self._table.was_confirmed()
        if self._routes_dirty:
            self._flush_soon()
        self._let_go()

    def _let_go(self) -> None:
        confirmed = self._xds.confirmed(ROUTES, translate_listener.ROUTES)
        if self._holds and confirmed is not None:
            self._holds.routes_confirmed(confirmed.version)
        if any(name not in self._holds for name in self._dirty):
            self._flush_soon()

    # -- for the poll ----------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """What needs a look from time to time: a listener that was refused may be possible now."""
        now = self._clock.monotonic()
        if not self.listener_problem():
            self._listener_tried_at, self._listener_pause = now, LISTENER_RETRY_SECONDS
        elif now - self._listener_tried_at >= self._listener_pause:
            self._listener_tried_at = now
            self._listener_pause = min(self._listener_pause * 2, LISTENER_RETRY_SECONDS_MAX)
            self._xds.publish([Change(LISTENER, translate_listener.LISTENER, self._listener())], again=True)

    def _endpoints(self) -> Iterable[tuple[ResourceKey, EndpointWant, float]]:
        if not self._xds.connected:
            return
        for key, wish in self._wishes.items():
            if isinstance(wish.want, EndpointWant):
                yield key, wish.want, wish.since


def _message(kind: str) -> str:
    return kind.removeprefix(proto.TYPE_PREFIX)
