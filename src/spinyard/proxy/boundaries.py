"""Which boundaries are wanted, and what becomes of them with the routes that are known: in memory, nothing is told."""

from __future__ import annotations

from spinyard.core.ids import ResourceKey
from spinyard.core.want import BoundaryWant, RouteWant
from spinyard.proxy.translate_boundaries import Alias, Boundary, boundary_problem
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.wishes import Told


class Boundaries:
    """`in_force`: those whose Services are both known and that nothing speaks against, in the order of writing; brought
    up to date by `settle` only."""

    def __init__(self, inside: Inside | None) -> None:
        self.in_force: dict[ResourceKey, Boundary] = {}
        self._inside = inside
        self._wants: dict[ResourceKey, BoundaryWant] = {}
        self._routes: dict[str, dict[ResourceKey, RouteWant]] = {}
        self._is_stale = False

    def put(self, key: ResourceKey, want: BoundaryWant) -> None:
        self._wants[key] = want
        self._is_stale = True

    def drop(self, key: ResourceKey) -> None:
        self._is_stale |= self._wants.pop(key, None) is not None

    def put_route(self, key: ResourceKey, want: RouteWant, before: Told | None) -> None:
        """A pool, whose route is by host, may have the name of a Service; it is none."""
        is_service = bool(want.service) and not want.by_host
        if isinstance(before, RouteWant) and not (is_service and before.service == want.service):
            self.drop_route(key, before)
        if is_service:
            self._routes.setdefault(want.service, {})[key] = want
            self._is_stale = True

    def drop_route(self, key: ResourceKey, want: RouteWant) -> None:
        of_service = self._routes.get(want.service, {})
        self._is_stale |= of_service.pop(key, None) is not None
        if not of_service:
            self._routes.pop(want.service, None)

    def of_service(self, service: str) -> list[ResourceKey]:
        return [key for key, want in self._wants.items() if service in (want.parent, want.unit)]

    def settle(self) -> set[ResourceKey]:
        """Takes in what has changed. Returns the wanted boundaries of which something else is to be told now."""
        if not self._is_stale:
            return set()
        before, self._is_stale = self.in_force, False
        self.in_force = {key: boundary for key in self._wants if (boundary := self._find(key)) is not None}
        return {key for key in self._wants if before.get(key) != self.in_force.get(key)}

    def missing(self, want: BoundaryWant) -> tuple[str, ...]:
        return tuple(service for service in (want.parent, want.unit) if service not in self._routes)

    def problem(self, want: BoundaryWant) -> str:
        """Why it cannot be in force though both Services are there, or empty."""
        if want.host and self._inside is None:
            return f"no listener for calls from inside, so nobody can call {want.host}"
        if self.missing(want):
            return ""
        return boundary_problem(self._resolved(want))

    def parent_key(self, want: BoundaryWant) -> ResourceKey | None:
        return next(iter(self._routes.get(want.parent, {})), None)

    def aliases(self) -> dict[str, Alias]:
        return {alias.name: alias for boundary in self.in_force.values() for alias in boundary.aliases()}

    def owner(self, alias: str) -> ResourceKey | None:
        """Whose cluster this is."""
        found = (key for key, boundary in self.in_force.items() if any(alias == one.name for one in boundary.aliases()))
        return next(found, None)

    def jwks(self) -> list[str]:
        return [boundary.want.jwks for boundary in self.in_force.values() if boundary.want.jwks]

    def _find(self, key: ResourceKey) -> Boundary | None:
        want = self._wants[key]
        return None if self.missing(want) or self.problem(want) else self._resolved(want)

    def _resolved(self, want: BoundaryWant) -> Boundary:
        parent, unit = (next(iter(self._routes[service].values())) for service in (want.parent, want.unit))
        has_comparator = self._inside is not None and self._inside.comparator_socket is not None
        return Boundary(want, parent, unit, has_comparator)
