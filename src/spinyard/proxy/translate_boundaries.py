"""PURE. A boundary, as clusters and routes: requests of a parent that are shared with a unit.

Its routes stand before those of the parent's own route. Each side has a cluster of its own with the endpoints of its
Service, so that weighted requests are counted by themselves. Envoy knows such a cluster by the boundary's name for it
and by the Service's cluster behind it, and counts it by the first alone: when the Service changes its cluster there is
a second one beside it, the routes move, and what is under way in the first ends there, still counted.
While the parent has a running rollout, the requests of weighted rules stay out of it: they go to its stable cluster.

A request is told apart by what it carries, in this order: a tester's token; from inside, `x-spinyard-shadow` (it must
not be counted) and `x-spinyard-side` (it was decided at the first hop, and at weight 0 that is over); the key.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule, BoundaryWant, RouteWant, Split, boundary_cluster
from spinyard.proxy import translate, translate_force, translate_tracing
from spinyard.proxy.translate_inside import LOCAL, MARK, SHADOW, local_answer
from spinyard.proxy.translate_paths import is_below, most_specific_first, path_match
from spinyard.proxy.translate_routes import ANY_METHOD, UNSAFE, Retry, domains_of, prefix_of, route
from spinyard.proxy.translate_sides import OVERWRITE, SPINOUT, WEIGHT_TOTAL, Target, only, targets
from spinyard_sdk import wire

Dict = dict[str, Any]

OLD, NEW, FORCED_OLD, FORCED_NEW = "old", "new", "forced-old", "forced-new"
SAFE_METHODS = ("GET", "HEAD")
AWAY = f"*{wire.BOUNDARY_SUFFIX}"
"""the host of calls under a boundary's host that is not there, or not any more"""


@dataclass(frozen=True, slots=True)
class Alias:
    """A cluster with the endpoints of another one. `settings`: a route to that, without a split."""

    name: str
    counted_as: str
    settings: RouteWant


@dataclass(frozen=True, slots=True)
class Boundary:
    """A want and the routes of its two Services. `has_comparator`: there is somewhere to copy requests to."""

    want: BoundaryWant
    parent: RouteWant
    unit: RouteWant
    has_comparator: bool = False

    @property
    def host(self) -> str:
        return self.want.host.lower()

    @property
    def moves(self) -> bool:
        """Requests are shared with the unit, or copied."""
        return bool(self.want.weight or self.want.mirror)

    @property
    def compares(self) -> bool:
        return self.has_comparator and any(_may_mirror(rule) for rule in self.want.rules)

    def alias(self, side: str) -> Alias:
        service = self.parent if side in (OLD, FORCED_OLD) else self.unit
        counted_as = boundary_cluster(self.want.cluster, side)
        return Alias(f"{counted_as}@{service.cluster}", counted_as, replace(service, split=None))

    def aliases(self) -> list[Alias]:
        forced = [FORCED_OLD, FORCED_NEW] if self.want.jwks or self.compares else []
        return [self.alias(side) for side in (OLD, NEW, *forced)]

    def needed_aliases(self) -> list[Alias]:
        """Without which the weight cannot be in force: back to 0 does not wait for anything of the unit."""
        return [self.alias(side) for side in ((OLD, NEW) if self.want.weight else (OLD,))]


def boundary_problem(boundary: Boundary) -> str:
    """Why these two Services cannot be the sides of this boundary, or empty."""
    prefix = prefix_of(boundary.parent)
    lost = [rule.path for rule in boundary.want.rules if not is_below(rule.path, prefix)]
    return f"{lost[0]} is not below the parent's path prefix {prefix}" if lost else ""


def domains(boundary: Boundary) -> tuple[str, ...]:
    """The hosts whose routes it changes."""
    return (*domains_of(boundary.parent), *([boundary.host] if boundary.host else []))


def cluster(alias: Alias) -> Dict:
    return {**translate.cluster(alias.settings), "name": alias.name, "alt_stat_name": alias.counted_as}


def routes(boundary: Boundary) -> list[Dict]:
    """What stands before the routes of the parent."""
    rules = most_specific_first(boundary.want.rules)
    return [found for rule in rules for found in _rule_routes(boundary, rule)]


def host_routes(boundary: Boundary) -> list[Dict]:
    """What the SDK calls under the boundary's own host name: only from inside, and by its own header for the key."""
    new, weight = boundary.alias(NEW).name, boundary.want.weight
    inside = _FROM_INSIDE
    shadowed = list(_host_compared(boundary, inside))
    if not weight:
        return [*shadowed, _local(inside, [])]
    sticky = Sticky(header=wire.KEY_HEADER)
    by_key = targets(RouteWant(cluster=LOCAL, split=Split(cluster=new, weight=weight, sticky=sticky)), SPINOUT)[-1]
    unit = only(new, SPINOUT.header, SPINOUT.new, [_is(SPINOUT.header, SPINOUT.new)])
    no_key = {"name": wire.KEY_HEADER, "present_match": True, "invert_match": True}
    return [
        *shadowed,
        _local(inside, [_is(SPINOUT.header, SPINOUT.old)]),
        *(_routed(boundary.unit, inside, retry, unit) for retry in (UNSAFE, ANY_METHOD)),
        _local(inside, [no_key]),
        *(_routed(boundary.unit, inside, retry, by_key) for retry in (UNSAFE, ANY_METHOD)),
    ]


def away_routes(domain: str) -> list[Dict]:
    """What comes after all boundaries of such a host: no Service answers in a unit's place, whatever hosts it has."""
    return [_local(_FROM_INSIDE, [])] if domain.endswith(wire.BOUNDARY_SUFFIX) else []


def _host_compared(boundary: Boundary, inside: Dict) -> Iterator[Dict]:
    """The SDK's parallel run, while copies are wanted: to the unit at any weight, and not counted. All its calls are
    POST; it and the unit know which of them change nothing."""
    if boundary.want.mirror and boundary.compares:
        asked = [{"name": wire.SHADOW_HEADER, "present_match": True}]
        forced = only(boundary.alias(FORCED_NEW).name, SPINOUT.header, SPINOUT.new, asked)
        yield _routed(boundary.unit, inside, UNSAFE, forced, [])


def _rule_routes(boundary: Boundary, rule: BoundaryRule) -> Iterator[Dict]:
    at: Dict = {"match": path_match(rule.path), "headers": [_is(":method", rule.method)] if rule.method else []}
    if not rule.weighted:
        yield from _parents_own(boundary, rule, at)
        return
    if boundary.want.jwks:
        yield from _forced(boundary, at)
    if boundary.compares and _may_mirror(rule):
        yield from _compared(boundary, at)
    new, old = boundary.alias(NEW).name, boundary.alias(OLD).name
    decided = [only(old, SPINOUT.header, SPINOUT.old, [_is(SPINOUT.header, SPINOUT.old)])]
    if boundary.want.weight:
        decided.append(only(new, SPINOUT.header, SPINOUT.new, [_is(SPINOUT.header, SPINOUT.new)]))
    split = Split(cluster=new, weight=boundary.want.weight, sticky=boundary.want.sticky)
    shared = targets(RouteWant(cluster=old, split=split), SPINOUT)
    for retry, headers, mirror in _kinds(boundary, rule):
        for target in (*decided, *shared):
            yield _routed(boundary.parent, at, retry, target, headers, mirror)


def _parents_own(boundary: Boundary, rule: BoundaryRule, at: Dict) -> Iterator[Dict]:
    """As if the boundary did not exist, but its instance is told that it is the parent."""
    told = {"request_headers_to_add": [_header(SPINOUT.header, SPINOUT.old)]}
    for retry, headers, mirror in _kinds(boundary, rule):
        for target in targets(boundary.parent):
            marked = Target(target.action, target.headers, {**target.extra, **told})
            yield _routed(boundary.parent, at, retry, marked, headers, mirror)


def _forced(boundary: Boundary, at: Dict) -> Iterator[Dict]:
    """The token is checked by a filter, after a first choice of the route, which is then chosen anew: what the first
    two ask for is there only then. Who stays with the third one has a token of another spinout or of no side."""
    for side, words in ((FORCED_NEW, SPINOUT.new), (FORCED_OLD, SPINOUT.old)):
        match = {**at["match"], "dynamic_metadata": translate_force.claims(boundary.want, words)}
        target = only(boundary.alias(side).name, SPINOUT.header, words, [])
        # To repeat only what was never sent is right for every method.
        yield _routed(boundary.parent, {**at, "match": match}, UNSAFE, target, [])
    yield {
        "match": {**at["match"], "headers": [*at["headers"], {"name": translate_force.HEADER, "present_match": True}]},
        **translate_force.refused(boundary.want),
    }


def _compared(boundary: Boundary, at: Dict) -> Iterator[Dict]:
    """Of whoever compares answers, and of what is called on its behalf: never counted, never copied again."""
    for side, words in ((FORCED_NEW, SPINOUT.new), (FORCED_OLD, SPINOUT.old)):
        asked = [_is(SPINOUT.header, words), {"name": wire.SHADOW_HEADER, "present_match": True}]
        yield _routed(
            boundary.parent, at, ANY_METHOD, only(boundary.alias(side).name, SPINOUT.header, words, asked), SAFE
        )


def _kinds(boundary: Boundary, rule: BoundaryRule) -> Iterator[tuple[Retry, list[Dict], Dict]]:
    """How it is retried, for whom that is, and what is copied: never a request of an unsafe method, nor one that is a
    copy itself."""
    mirror = _mirror(boundary) if boundary.compares and _may_mirror(rule) else {}
    if rule.method not in SAFE_METHODS:
        yield UNSAFE, UNSAFE.headers, {}
    if mirror:
        yield ANY_METHOD, [*(SAFE if not rule.method else []), _NO_COPY], mirror
    yield ANY_METHOD, [], {}


def _mirror(boundary: Boundary) -> Dict:
    share = min(max(boundary.want.mirror, 0), WEIGHT_TOTAL)
    if not share:
        return {}
    return {
        "request_mirror_policies": [
            {
                "cluster": SHADOW,
                "runtime_fraction": {"default_value": {"numerator": share, "denominator": "TEN_THOUSAND"}},
                "disable_shadow_host_suffix_append": True,
                "request_headers_mutations": [
                    {"append": _header(wire.SHADOW_HEADER, boundary.want.cluster)},
                    {"remove": SPINOUT.header},
                ],
            }
        ]
    }


def _may_mirror(rule: BoundaryRule) -> bool:
    return rule.mirrored and rule.method in ("", *SAFE_METHODS)


SAFE: list[Dict] = [{"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(SAFE_METHODS)}}}]
_NO_COPY: Dict = {"name": wire.SHADOW_HEADER, "present_match": True, "invert_match": True}


def _routed(
    want: RouteWant, at: Dict, retry: Retry, target: Target, kind: list[Dict] | None = None, action: Dict | None = None
) -> Dict:
    headers = [*at["headers"], *(retry.headers if kind is None else kind), *target.headers]
    # Whoever moves must be seen: no dice.
    extra = {**translate_tracing.always(), **target.extra}
    whole = Target({**target.action, **(action or {})}, headers, extra)
    return route(want, at["match"], whole, retry)


def _local(at: Dict, headers: list[Dict]) -> Dict:
    return {"match": {**at["match"], "headers": [*at["headers"], *headers]}, **local_answer()}


def _is(name: str, value: str) -> Dict:
    return {"name": name, "string_match": {"exact": value}}


_FROM_INSIDE: Dict = {"match": {"prefix": "/"}, "headers": [_is(MARK, "1")]}


def _header(name: str, value: str) -> Dict:
    return {"header": {"key": name, "value": value}, "append_action": OVERWRITE}
