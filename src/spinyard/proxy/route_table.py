"""All virtual hosts as one RouteConfiguration, at a cost that follows what changes.

Each virtual host is encoded apart and kept; the message is their concatenation. Envoy takes or refuses the whole, so
when it refuses, the hosts that changed are tried in halves until the one it means stands alone; that one stays as it
was confirmed last (or away), with Envoy's words, and the others go on. The weights of splits and boundaries in such a
host follow all the same, in the routes that were confirmed there: the way back to 0 must not depend on who else has
that host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.want import RouteWant
from spinyard.proxy import encoded, proto, translate_boundaries, translate_force, translate_inside, translate_tracing
from spinyard.proxy.translate_boundaries import AWAY, Boundary
from spinyard.proxy.translate_listener import ROUTES
from spinyard.proxy.translate_routes import ANY_HOST, clusters_named, domains_of, fallbacks, prefix_of, virtual_host

Dict = dict[str, Any]

_VIRTUAL_HOSTS_FIELD = 2


@dataclass(frozen=True, slots=True)
class _Host:
    """A virtual host and what it was made of. `clusters`: to which it sends requests."""

    body: bytes
    clusters: frozenset[str]
    routes: Mapping[str, Sequence[RouteWant]]
    boundaries: tuple[Boundary, ...]

    def has(self, boundary: Boundary) -> bool:
        """As it is wanted; for one that shares and copies nothing it is enough that nothing is shared or copied."""
        there = [one for one in self.boundaries if one.want.cluster == boundary.want.cluster]
        return there == [boundary] or not any(one.moves for one in (boundary, *there))


class RouteTable:
    def __init__(self) -> None:
        self._wants: dict[ResourceKey, RouteWant] = {}
        self._by_domain: dict[str, dict[ResourceKey, RouteWant]] = {}
        self._boundaries: tuple[Boundary, ...] = ()
        self._stale: set[str] = {AWAY}
        self._encoded: dict[str, _Host] = {}
        self._confirmed: dict[str, _Host] = {}
        self._instead: dict[str, _Host] = {}
        self._held: list[set[str]] = []
        self._refused: dict[str, str] = {}
        self._head = proto.encode(
            "envoy.config.route.v3.RouteConfiguration",
            {
                "name": ROUTES,
                "ignore_port_in_host_matching": True,
                "request_headers_to_remove": [
                    translate_tracing.FORCING_HEADER,
                    translate_inside.MARK,
                    translate_force.HEADER,
                ],
            },
        )

    def put(self, key: ResourceKey, want: RouteWant) -> None:
        before = self._wants.get(key)
        if before is not None:
            self._drop(key, before, keep=domains_of(want))
        self._wants[key] = want
        for domain in domains_of(want):
            self._by_domain.setdefault(domain, {})[key] = want
            self._touch(domain)

    def take_away(self, key: ResourceKey) -> None:
        want = self._wants.pop(key, None)
        if want is not None:
            self._drop(key, want, keep=())

    def set_boundaries(self, boundaries: Sequence[Boundary]) -> bool:
        """Those in force, in the order they were written. True when any route changes."""
        before, self._boundaries = self._boundaries, tuple(boundaries)
        changed = set(enumerate(before)) ^ set(enumerate(self._boundaries))
        for _, boundary in changed:
            for domain in translate_boundaries.domains(boundary):
                self._touch(domain)
        return bool(changed)

    def lost_to(self, key: ResourceKey) -> str:
        """Which earlier route already has a host and prefix of this one, or empty."""
        return next((words for words in self._losses(key) if words), "")

    def all_lost_to(self, key: ResourceKey) -> str:
        """The same when no host is left to it."""
        losses = self._losses(key)
        return losses[0] if losses and all(losses) else ""

    def refusal(self, key: ResourceKey) -> str:
        """Envoy's words about a host of this route, or empty."""
        domains = domains_of(self._wants[key])
        return next((self._refused[name] for name in domains if name in self._refused), "")

    def refusal_of(self, boundary: Boundary) -> str:
        """Envoy's words about a host in which this boundary is not as it is wanted, or empty."""
        lacking = (name for name in translate_boundaries.domains(boundary) if not self._is_in(name, boundary))
        return next((self._refused[name] for name in lacking if name in self._refused), "")

    def body(self) -> bytes:
        """The encoded RouteConfiguration as it should be tried now."""
        for domain in self._stale:
            self._encode(domain)
        self._stale.clear()
        shown = self._shown()
        return self._head + b"".join(shown[domain].body for domain in sorted(shown))

    def clusters(self) -> frozenset[str]:
        """To which the last body sends requests."""
        return frozenset[str]().union(*(host.clusters for host in self._shown().values()))

    def was_confirmed(self) -> bool:
        """Envoy took the last body. True when hosts held back should be tried now."""
        self._confirmed = self._shown()
        if self._held:
            self._held.pop()
            return True
        return False

    def was_refused(self, text: str) -> bool:
        """Envoy refused the last body. True when another one should be tried now."""
        shown = self._shown()
        suspects = sorted(
            name
            for name in shown.keys() | self._confirmed.keys()
            if _body(shown.get(name)) != _body(self._confirmed.get(name))
        )
        if not suspects:
            return False
        if len(suspects) > 1:
            self._held.append(set(suspects[len(suspects) // 2 :]))
        elif suspects[0] in self._instead:
            del self._instead[suspects[0]]
        else:
            self._refuse(suspects[0], text)
        return True

    def is_shown(self, key: ResourceKey) -> bool:
        """All hosts of this route are in the last body as they are wanted."""
        return self._kept_back().isdisjoint(domains_of(self._wants[key]))

    def is_split_shown(self, key: ResourceKey) -> bool:
        """In all its hosts the last body shares its requests as it says, or has nothing of it."""
        want, kept_back = self._wants[key], self._kept_back()
        there = (self._confirmed[name] for name in domains_of(want) if name in kept_back & self._confirmed.keys())
        known = (one for host in there for routes in host.routes.values() for one in routes if _is_same(one, want))
        return all(_share(one) == _share(want) for one in known)

    def is_boundary_shown(self, boundary: Boundary) -> bool:
        """All its hosts are in the last body with this boundary as it is wanted."""
        return all(self._is_in(name, boundary) for name in translate_boundaries.domains(boundary))

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _kept_back(self) -> set[str]:
        return set().union(*self._held) | self._refused.keys()

    def _shown(self) -> dict[str, _Host]:
        shown = dict(self._encoded)
        held = set().union(*self._held)
        for domain in held | self._refused.keys():
            shown.pop(domain, None)
            instead = self._confirmed.get(domain) if domain in held else self._instead.get(domain)
            instead = instead or self._confirmed.get(domain)
            if instead is not None:
                shown[domain] = instead
        return shown

    def _is_in(self, domain: str, boundary: Boundary) -> bool:
        if domain not in self._kept_back():
            return True
        there = self._confirmed.get(domain)
        return there.has(boundary) if there is not None else not boundary.moves

    def _refuse(self, domain: str, text: str) -> None:
        self._refused[domain] = text
        before = self._confirmed.get(domain)
        if before is None:
            return
        now = self._made(domain, {name: tuple(map(self._split_now, of)) for name, of in before.routes.items()})
        if (now.routes, now.boundaries) != (before.routes, before.boundaries):
            self._instead[domain] = now

    def _split_now(self, before: RouteWant) -> RouteWant:
        same = (want for want in self._wants.values() if _is_same(want, before) and want.cluster == before.cluster)
        now = next(same, before)
        return replace(before, split=now.split)

    def _losses(self, key: ResourceKey) -> list[str]:
        """Of each of its hosts: who has it, or empty."""
        return [self._loss(key, self._wants[key], domain) for domain in domains_of(self._wants[key])]

    def _loss(self, key: ResourceKey, want: RouteWant, domain: str) -> str:
        for other, theirs in self._by_domain[domain].items():
            if other == key:
                break
            if prefix_of(theirs) == prefix_of(want) and theirs.cluster != want.cluster:
                owner = theirs.service or theirs.cluster
                return f"host {domain} and path prefix {prefix_of(want)} belong to {owner} already"
        return ""

    def _drop(self, key: ResourceKey, want: RouteWant, keep: Iterable[str]) -> None:
        for domain in set(domains_of(want)) - set(keep):
            routes = self._by_domain[domain]
            del routes[key]
            if not routes:
                del self._by_domain[domain]
            self._touch(domain)

    def _touch(self, domain: str) -> None:
        """What falls back to a wide host contains its routes, and changes with it."""
        touched = {domain}
        if domain.startswith(ANY_HOST):
            hosts = {AWAY, *(boundary.host for boundary in self._boundaries if boundary.host)}
            touched |= {name for name in self._by_domain.keys() | hosts if domain in fallbacks(name)}
        self._stale |= touched
        for name in touched:
            self._refused.pop(name, None)
            self._instead.pop(name, None)

    def _encode(self, domain: str) -> None:
        is_boundarys = any(boundary.host == domain for boundary in self._boundaries)
        if domain not in self._by_domain and not is_boundarys and domain != AWAY:
            self._encoded.pop(domain, None)
            return
        routes = {
            name: tuple(self._by_domain[name].values())
            for name in (domain, *fallbacks(domain))
            if name in self._by_domain
        }
        self._encoded[domain] = self._made(domain, routes)

    def _in_host(self, domain: str, routes: Mapping[str, Sequence[RouteWant]]) -> tuple[Boundary, ...]:
        services = {want.service for wants in routes.values() for want in wants}
        return tuple(one for one in self._boundaries if one.host == domain or one.parent.service in services)

    def _made(self, domain: str, routes: Mapping[str, Sequence[RouteWant]]) -> _Host:
        boundaries = self._in_host(domain, routes)
        services = {want.service for wants in routes.values() for want in wants}
        before: dict[str, list[Dict]] = {}
        for boundary in boundaries:
            if boundary.parent.service in services:
                before.setdefault(boundary.parent.service, []).extend(translate_boundaries.routes(boundary))
        first = [found for one in boundaries if one.host == domain for found in translate_boundaries.host_routes(one)]
        first += translate_boundaries.away_routes(domain)
        host = virtual_host(domain, routes, first, before)
        body = proto.field(_VIRTUAL_HOSTS_FIELD, encoded.virtual_host(host))
        return _Host(body, clusters_named(host["routes"]), routes, boundaries)


def _is_same(one: RouteWant, other: RouteWant) -> bool:
    return (one.service, prefix_of(one)) == (other.service, prefix_of(other))


def _share(want: RouteWant) -> tuple[str, str, int]:
    split = want.split
    return (want.cluster, split.cluster, split.weight) if split is not None and split.weight else (want.cluster, "", 0)


def _body(host: _Host | None) -> bytes:
    return host.body if host is not None else b""
