"""PURE. What one Envoy was told, what it confirmed, and what it may be told next.

The protocol's order, where it is easy to be wrong:

* Additions go clusters, endpoints, listeners, and removals the other way round, each waiting until the kinds before it
  are confirmed as of the same version. Routes wait for the clusters that they name newly, and for no others: one that
  does not get warm must not hold up the way back from another. So no route ever names a cluster that is not there yet.
* One update in flight per kind. A refused update of several resources is sent again in halves, until the one that is
  refused stands alone; then it is left out, its text is kept, and the others go on.
* Envoy confirms clusters only when they are warm: they have their endpoints, and these were checked once. So the
  endpoints wait for nothing but the question for them; and as a changed cluster is a new one inside Envoy, waiting for
  its endpoints without asking for them again, they are sent again right behind the change.
* Versions read `number.digest`. The number only grows; after a new connection the digest tells what Envoy has already,
  so a restart of the control plane sends nothing that did not change.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

TYPES = "type.googleapis.com/"
RUNTIME = TYPES + "envoy.service.runtime.v3.Runtime"
CLUSTER = TYPES + "envoy.config.cluster.v3.Cluster"
ENDPOINTS = TYPES + "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = TYPES + "envoy.config.listener.v3.Listener"
EXTENSION = TYPES + "envoy.config.core.v3.TypedExtensionConfig"
ROUTES = TYPES + "envoy.config.route.v3.RouteConfiguration"

ORDER = (RUNTIME, CLUSTER, ENDPOINTS, LISTENER, EXTENSION, ROUTES)
WILDCARD = frozenset({CLUSTER, LISTENER})
RESOURCES_PER_UPDATE_MAX = 500
SUBSCRIPTIONS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Resource:
    name: str
    version: int
    digest: str
    body: bytes
    endpoints: str = ""
    clusters: frozenset[str] = frozenset()

    @property
    def version_text(self) -> str:
        return f"{self.version}.{self.digest}"


@dataclass(frozen=True, slots=True)
class Change:
    """One wish: this body under this name; None takes it away. `endpoints`: of a cluster that shares those of another
    one, the name of that; empty: it has its own. `clusters`: to which routes send requests."""

    kind: str
    name: str
    body: bytes | None
    endpoints: str = ""
    clusters: frozenset[str] = frozenset()


class Catalogue:
    """Everything that is wanted, the same for every Envoy. `version` grows with each change and never goes back."""

    def __init__(self, first_version: int) -> None:
        self.version = first_version
        self.wanted: dict[str, dict[str, Resource]] = {kind: {} for kind in ORDER}

    def publish(self, changes: Iterable[Change], *, again: bool = False) -> list[Change]:
        """Take the changes in as one new version; those that change nothing are left out. Returns the others. `again`:
        also what is the same counts as changed, to ask Envoy once more for what it refused."""
        real = [change for change in changes if again or self._differs(change)]
        if real:
            self.version += 1
        for change in real:
            if change.body is None:
                del self.wanted[change.kind][change.name]
            else:
                digest = digest_of(change.body)
                about = change.endpoints, change.clusters
                resource = Resource(change.name, self.version, digest, change.body, *about)
                self.wanted[change.kind][change.name] = resource
        return real

    def _differs(self, change: Change) -> bool:
        now = self.wanted[change.kind].get(change.name)
        return now is not None if change.body is None else now is None or now.body != change.body


def digest_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Request:
    kind: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: tuple[tuple[str, str], ...] = ()
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    kind: str
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]
    version: int

    @property
    def names(self) -> list[str]:
        return [*(resource.name for resource in self.resources), *self.removed]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """`at`: when the word of Envoy came, on the monotonic clock."""

    version: int
    digest: str
    at: float
    clusters: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Refused:
    version: int
    text: str


@dataclass(slots=True)
class _Kind:
    """`dirty`: names where what Envoy confirmed is not what is wanted, and was not refused either.
    `owes_first`: Envoy waits for the first answer to a wildcard, also for an empty one, before it goes on.
    `again`: to be sent once more whatever becomes of the update in flight."""

    opened: bool = False
    owes_first: bool = False
    wildcard: bool = False
    subscribed: set[str] = field(default_factory=set)
    confirmed: dict[str, Confirmed] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    in_flight: Update | None = None
    halves: deque[list[str]] = field(default_factory=deque)

    def takes(self, name: str) -> bool:
        return self.wildcard or name in self.subscribed


class Stream:
    """One connected Envoy. Feed it `receive` and `changed`, send what `take` gives; `news` names what moved."""

    def __init__(self, catalogue: Catalogue, node: str) -> None:
        self.node = node
        self.news: list[tuple[str, str]] = []
        self._catalogue = catalogue
        self._kinds = {kind: _Kind() for kind in ORDER}
        self._nonce = 0

    # -- asked by the server ---------------------------------------------------------------------------------------

    def confirmed(self, kind: str, name: str) -> Confirmed | None:
        return self._kinds[kind].confirmed.get(name)

    def refusal(self, kind: str, name: str) -> str:
        """Why the resource as it is wanted now was refused, or empty."""
        wanted, refused = self._catalogue.wanted[kind].get(name), self._kinds[kind].refused.get(name)
        return refused.text if wanted and refused and refused.version == wanted.version else ""

    def holds(self, kind: str, name: str) -> bool:
        """Envoy has it, or may have it."""
        return not self._kinds[kind].opened or self._was_sent(kind, name)

    def is_settled(self, version: int) -> bool:
        """Everything wanted up to this version was confirmed or refused, after a first exchange."""
        if not all(self._kinds[kind].opened for kind in WILDCARD):
            return False
        if self._kinds[LISTENER].confirmed and not self._kinds[ROUTES].opened:
            return False
        return not any(self._is_behind(kind, version) for kind in ORDER)

    # -- driven by the server --------------------------------------------------------------------------------------

    def receive(self, request: Request, now: float) -> None:
        state = self._kinds.get(request.kind)
        if state is None:
            return
        if state.in_flight is not None and request.nonce == state.in_flight.nonce:
            update, state.in_flight = state.in_flight, None
            if request.error:
                self._refuse(state, update, request.error)
            else:
                self._confirm(state, update, now)
        self._unsubscribe(state, request.unsubscribe)
        if not state.opened:
            self._open(request, state, now)
        else:
            self._subscribe(request.kind, state, request.subscribe)

    def changed(self, changes: Iterable[Change]) -> None:
        for change in changes:
            state = self._kinds[change.kind]
            state.refused.pop(change.name, None)
            if change.body is None and change.kind == ENDPOINTS:
                # They go with their cluster; only one that still waits for them to become warm must be told.
                if change.name in state.confirmed and change.name not in state.again:
                    state.dirty.discard(change.name)
            elif change.body is None and not self._was_sent(change.kind, change.name):
                state.dirty.discard(change.name)
            elif state.opened and (state.takes(change.name) or change.kind == ENDPOINTS):
                state.dirty.add(change.name)

    def take(self) -> list[Update]:
        """What may be sent now; it counts as sent."""
        return [update for kind in ORDER if (update := self._next(kind)) is not None]

    # -- what may go out -------------------------------------------------------------------------------------------

    def _next(self, kind: str) -> Update | None:
        state = self._kinds[kind]
        if not state.opened or state.in_flight is not None or not (state.dirty or state.owes_first):
            return None
        for names in self._candidates(kind, state):
            added, removed, version = self._sendable(kind, names)
            if added or removed or (state.owes_first and not names):
                break
        else:
            return None
        state.owes_first = False
        state.again.difference_update([*(resource.name for resource in added), *removed])
        if kind == CLUSTER:
            self._owe_endpoints(added)
        self._nonce += 1
        state.in_flight = Update(kind, str(self._nonce), added, removed, version)
        return state.in_flight

    def _candidates(self, kind: str, state: _Kind) -> Iterator[list[str]]:
        """What was refused in company first, in halves; then all, what is wanted before what is not."""
        while state.halves:
            yield [name for name in state.halves.popleft() if name in state.dirty and state.takes(name)]
        wanted = self._catalogue.wanted[kind]
        names = (name for name in state.dirty if state.takes(name))
        yield sorted(names, key=lambda name: (name not in wanted, name))[:RESOURCES_PER_UPDATE_MAX]

    def _sendable(self, kind: str, names: Sequence[str]) -> tuple[tuple[Resource, ...], tuple[str, ...], int]:
        wanted = self._catalogue.wanted[kind]
        added = tuple(wanted[name] for name in names if name in wanted)
        removed = tuple(name for name in names if name not in wanted)
        version = max((resource.version for resource in added), default=self._catalogue.version)
        if not self._may_add(kind, added, version):
            added = ()
        if removed and kind != ENDPOINTS and not self._may_remove(kind):
            removed = ()
        return added, removed, version

    def _may_add(self, kind: str, added: Iterable[Resource], version: int) -> bool:
        if kind == ROUTES:
            before = [confirmed.clusters for confirmed in self._kinds[ROUTES].confirmed.values()]
            newly = frozenset[str]().union(*(one.clusters for one in added)).difference(*before)
            return not (any(self._is_cold(name, version) for name in newly) or self._waits(EXTENSION, version))
        # Endpoints go behind the question for them, and a filter names nothing that is elsewhere.
        earlier_kinds = () if kind in (ENDPOINTS, EXTENSION) else ORDER[: ORDER.index(kind)]
        return not any(self._waits(earlier, version) for earlier in earlier_kinds)

    def _is_cold(self, cluster: str, version: int) -> bool:
        wanted = self._catalogue.wanted[CLUSTER].get(cluster)
        endpoints = (wanted.endpoints if wanted is not None else "") or cluster
        return self._waits_for(CLUSTER, cluster, version) or self._waits_for(ENDPOINTS, endpoints, version)

    def _was_sent(self, kind: str, name: str) -> bool:
        state = self._kinds[kind]
        return name in state.confirmed or (state.in_flight is not None and name in state.in_flight.names)

    def _may_remove(self, kind: str) -> bool:
        """Nothing behind this kind may still name what is removed; a newly connected Envoy must have asked first."""
        listeners, routes = self._kinds[LISTENER], self._kinds[ROUTES]
        if not listeners.opened or (listeners.confirmed and not routes.opened):
            return False
        return not any(self._waits(later, self._catalogue.version) for later in ORDER[ORDER.index(kind) + 1 :])

    def _is_behind(self, kind: str, version: int) -> bool:
        """Envoy has something older than `version` that must change, or lacks something as old."""
        state, wanted = self._kinds[kind], self._catalogue.wanted[kind]
        for name in state.dirty:
            confirmed = state.confirmed.get(name)
            if confirmed is not None and confirmed.version < version:
                return True
            if kind == ENDPOINTS and name not in self._kinds[CLUSTER].confirmed:
                continue
            if confirmed is None and name in wanted and wanted[name].version <= version:
                return True
        return False

    def _waits(self, kind: str, version: int) -> bool:
        """Something of this kind, wanted at or before `version` or never confirmed at all, is still on its way. What is
        replaced again and again must not hold up the kinds behind it for ever."""
        return any(self._waits_for(kind, name, version) for name in self._kinds[kind].dirty)

    def _waits_for(self, kind: str, name: str, version: int) -> bool:
        state, wanted = self._kinds[kind], self._catalogue.wanted[kind]
        if name not in state.dirty or name not in wanted:
            return False
        if kind == ENDPOINTS and name not in self._kinds[CLUSTER].confirmed:
            return False  # its cluster was refused, or is waited for already
        return wanted[name].version <= version or name not in state.confirmed

    # -- what came in ----------------------------------------------------------------------------------------------

    def _open(self, request: Request, state: _Kind, now: float) -> None:
        state.opened = True
        names = set(request.subscribe)
        state.wildcard = request.kind in WILDCARD and (not names or "*" in names)
        state.owes_first = state.wildcard
        state.subscribed = names - {"*"}
        wanted = self._catalogue.wanted[request.kind]
        for name, text in request.initial_versions[:SUBSCRIPTIONS_MAX]:
            digest = text.rpartition(".")[2]
            same = name in wanted and wanted[name].digest == digest
            there = wanted[name] if same else Resource(name, 0, digest, b"")
            state.confirmed[name] = Confirmed(there.version, digest, now, there.clusters)
            if not same:
                state.dirty.add(name)
            self.news.append((request.kind, name))
        state.dirty |= {name for name in wanted if state.takes(name) and name not in state.confirmed}
        state.dirty |= state.subscribed - wanted.keys()

    def _subscribe(self, kind: str, state: _Kind, names: Sequence[str]) -> None:
        """A name asked for again is sent again, the same or not; one that does not exist is answered as removed."""
        if "*" in names:
            state.wildcard = kind in WILDCARD
            state.dirty |= {name for name in self._catalogue.wanted[kind] if name not in state.confirmed}
        for name in names:
            if name == "*" or len(state.subscribed) >= SUBSCRIPTIONS_MAX:
                continue
            state.subscribed.add(name)
            state.confirmed.pop(name, None)
            state.dirty.add(name)

    def _unsubscribe(self, state: _Kind, names: Sequence[str]) -> None:
        for name in names:
            state.subscribed.discard(name)
            if not state.takes(name):
                state.confirmed.pop(name, None)
                state.refused.pop(name, None)
                state.dirty.discard(name)
                state.again.discard(name)

    def _confirm(self, state: _Kind, update: Update, now: float) -> None:
        wanted = self._catalogue.wanted[update.kind]
        for resource in update.resources:
            if not state.takes(resource.name):
                continue
            state.confirmed[resource.name] = Confirmed(resource.version, resource.digest, now, resource.clusters)
            state.refused.pop(resource.name, None)
            current = wanted.get(resource.name)
            is_current = current is not None and current.version == resource.version
            if is_current and resource.name not in state.again:
                state.dirty.discard(resource.name)
            else:
                state.dirty.add(resource.name)
        for name in update.removed:
            state.confirmed.pop(name, None)
            if name not in wanted:
                state.dirty.discard(name)
        self.news.extend((update.kind, name) for name in update.names)

    def _owe_endpoints(self, clusters: Iterable[Resource]) -> None:
        """Those that Envoy asked for before, for this cluster or one that shares them: it does not ask again."""
        endpoints = self._kinds[ENDPOINTS]
        for cluster in clusters:
            name = cluster.endpoints or cluster.name
            if name in endpoints.subscribed and name in self._catalogue.wanted[ENDPOINTS]:
                endpoints.again.add(name)
                endpoints.dirty.add(name)

    def _refuse(self, state: _Kind, update: Update, text: str) -> None:
        names = update.names
        if len(names) > 1:
            middle = len(names) // 2
            state.halves.extend((names[:middle], names[middle:]))
            return
        if not names:
            return
        name = names[0]
        state.dirty.discard(name)
        current = self._catalogue.wanted[update.kind].get(name)
        if current is not None:
            version = update.resources[0].version if update.resources else current.version
            state.refused[name] = Refused(version, text)
            if current.version != version:
                state.dirty.add(name)
        self.news.append((update.kind, name))
