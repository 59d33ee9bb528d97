"""All virtual hosts as one RouteConfiguration, at a cost that follows what changes.

Each virtual host is encoded apart and kept; the message is their concatenation. Envoy takes or refuses the whole, so
when it refuses, the hosts that changed are tried in halves until the one it means stands alone; that one stays as it
was confirmed last (or away), with Envoy's words, and the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spinyard.core.ids import ResourceKey
from spinyard.core.want import RouteWant
from spinyard.proxy import encoded, proto, translate_boundaries, translate_force, translate_inside, translate_tracing
from spinyard.proxy.translate_boundaries import AWAY, Boundary
from spinyard.proxy.translate_listener import ROUTES
from spinyard.proxy.translate_routes import ANY_HOST, domains_of, fallbacks, prefix_of, virtual_host

Dict = dict[str, Any]

_VIRTUAL_HOSTS_FIELD = 2


class RouteTable:
    def __init__(self) -> None:
        self._wants: dict[ResourceKey, RouteWant] = {}
        self._by_domain: dict[str, dict[ResourceKey, RouteWant]] = {}
        self._boundaries: tuple[Boundary, ...] = ()
        self._stale: set[str] = {AWAY}
        self._encoded: dict[str, bytes] = {}
        self._confirmed: dict[str, bytes] = {}
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
        want = self._wants[key]
        for domain in domains_of(want):
            for other, theirs in self._by_domain[domain].items():
                if other == key:
                    break
                if prefix_of(theirs) == prefix_of(want) and theirs.cluster != want.cluster:
                    owner = theirs.service or theirs.cluster
                    return f"host {domain} and path prefix {prefix_of(want)} belong to {owner} already"
        return ""

    def refusal(self, key: ResourceKey) -> str:
        """Envoy's words about a host of this route, or empty."""
        return self.refusal_at(domains_of(self._wants[key]))

    def refusal_at(self, domains: Iterable[str]) -> str:
        return next((self._refused[name] for name in domains if name in self._refused), "")

    def body(self) -> bytes:
        """The encoded RouteConfiguration as it should be tried now."""
        for domain in self._stale:
            self._encode(domain)
        self._stale.clear()
        shown = dict(self._encoded)
        for domain in self._kept_back():
            shown.pop(domain, None)
            if domain in self._confirmed:
                shown[domain] = self._confirmed[domain]
        return self._head + b"".join(shown[domain] for domain in sorted(shown))

    def was_confirmed(self) -> bool:
        """Envoy took the last body. True when hosts held back should be tried now."""
        kept_back = self._kept_back()
        now = {name: kept for name, kept in self._confirmed.items() if name in kept_back}
        now |= {name: body for name, body in self._encoded.items() if name not in kept_back}
        self._confirmed = now
        if self._held:
            self._held.pop()
            return True
        return False

    def was_refused(self, text: str) -> bool:
        """Envoy refused the last body. True when another one should be tried now."""
        kept_back = self._kept_back()
        suspects = sorted(
            name
            for name in self._encoded.keys() | self._confirmed.keys()
            if name not in kept_back and self._encoded.get(name) != self._confirmed.get(name)
        )
        if not suspects:
            return False
        if len(suspects) == 1:
            self._refused[suspects[0]] = text
        else:
            self._held.append(set(suspects[len(suspects) // 2 :]))
        return True

    def is_shown(self, key: ResourceKey) -> bool:
        """All hosts of this route are in the last body as they are wanted."""
        return self.is_shown_at(domains_of(self._wants[key]))

    def is_shown_at(self, domains: Iterable[str]) -> bool:
        return self._kept_back().isdisjoint(domains)

    # -- helpers ---------------------------------------------------------------------------------------------------

    def _kept_back(self) -> set[str]:
        return set().union(*self._held) | self._refused.keys()

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

    def _encode(self, domain: str) -> None:
        of_host = [boundary for boundary in self._boundaries if boundary.host == domain]
        if domain not in self._by_domain and not of_host and domain != AWAY:
            self._encoded.pop(domain, None)
            return
        routes: Mapping[str, list[RouteWant]] = {
            name: list(self._by_domain[name].values())
            for name in (domain, *fallbacks(domain))
            if name in self._by_domain
        }
        services = {want.service for wants in routes.values() for want in wants}
        before: dict[str, list[Dict]] = {}
        for boundary in self._boundaries:
            if boundary.parent.service in services:
                before.setdefault(boundary.parent.service, []).extend(translate_boundaries.routes(boundary))
        first = [found for boundary in of_host for found in translate_boundaries.host_routes(boundary)]
        first += translate_boundaries.away_routes(domain)
        host = encoded.virtual_host(virtual_host(domain, routes, first, before))
        self._encoded[domain] = proto.field(_VIRTUAL_HOSTS_FIELD, host)
