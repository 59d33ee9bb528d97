"""Clusters that share the endpoints of another one, from the first route that names them until nothing is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spinyard.proxy import encoded
from spinyard.proxy.stats import Reading
from spinyard.proxy.translate_boundaries import Alias
from spinyard.proxy.xds_stream import CLUSTER, Change, Confirmed

# A request between two of its tries is counted nowhere; the longest pause is a tenth of this.
LEFT_SECONDS_MIN = 1.0


class Aliases:
    """What no route names any more is kept as it is until its last request is over: an instance may only be drained by
    the count of all its requests, and Envoy does not count what it was told to forget."""

    def __init__(self) -> None:
        self._wanted: dict[str, Alias] = {}
        self._left: dict[str, tuple[Alias, int]] = {}
        self._by_cluster: dict[str, tuple[str, ...]] = {}

    def shares(self, cluster: str) -> tuple[str, ...]:
        """All clusters with the endpoints of this one, itself first."""
        return (cluster, *self._by_cluster.get(cluster, ()))

    def update(self, wanted: Mapping[str, Alias], has_cluster: Callable[[str], bool]) -> list[Change]:
        for name in self._wanted.keys() - wanted.keys():
            self._left[name] = (self._wanted[name], 0)
        for name in wanted:
            self._left.pop(name, None)
        self._wanted = dict(wanted)
        orphans = [name for name, (alias, _) in self._left.items() if not has_cluster(alias.settings.cluster)]
        gone = self._forget(orphans)
        return [*gone, *(_change(alias) for alias in self._wanted.values())]

    def routes_published(self, version: int) -> None:
        """These routes name only what is wanted."""
        self._left = {name: (alias, before or version) for name, (alias, before) in self._left.items()}

    def left(self, confirmed: Confirmed | None, now: float) -> frozenset[str]:
        """Those that can get no request any more."""
        if confirmed is None or now - confirmed.at < LEFT_SECONDS_MIN:
            return frozenset()
        return frozenset(name for name, (_, version) in self._left.items() if 0 < version <= confirmed.version)

    def forget_idle(self, names: frozenset[str], reading: Reading) -> list[Change]:
        idle = (name for name in names & self._left.keys() if not reading.active_requests(name))
        return self._forget(sorted(idle))

    def _forget(self, names: list[str]) -> list[Change]:
        for name in names:
            del self._left[name]
        self._index()
        return [Change(CLUSTER, name, None) for name in names]

    def _index(self) -> None:
        found: dict[str, list[str]] = {}
        for alias in (*self._wanted.values(), *(alias for alias, _ in self._left.values())):
            found.setdefault(alias.settings.cluster, []).append(alias.name)
        self._by_cluster = {cluster: tuple(names) for cluster, names in found.items()}


def _change(alias: Alias) -> Change:
    return Change(CLUSTER, alias.name, encoded.alias(alias), endpoints=alias.settings.cluster)
