"""PURE. Where the requests of a route go: to its one cluster, or to one of two by weight.

Envoy takes xxh64(key) % 10,000 and walks along the clusters: the new side stands first, so a key that is on it stays
there while the weight rises. Envoy picks the side once for a request; its retries stay there.

The instance is told its side in a header: `x-spinyard-rollout` of a Service's rollout, `x-spinyard-side` of a spinout.
Two names, as the second one goes along with the calls that the instance makes, through Services with rollouts too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from spinyard.core.shift import Sticky
from spinyard.core.want import RouteWant, Split
from spinyard_sdk import wire

Dict = dict[str, Any]

WEIGHT_TOTAL = 10_000
COOKIE_SECONDS = 24 * 3600
OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")


@dataclass(frozen=True, slots=True)
class Words:
    """How the two sides are called in the header that tells an instance its own."""

    header: str
    old: str
    new: str


ROLLOUT = Words("x-spinyard-rollout", "old", "new")
SPINOUT = Words(wire.SIDE_HEADER, wire.PARENT, wire.UNIT)


@dataclass(frozen=True, slots=True)
class Target:
    """`headers`: what a request must have beside its path. `action`, `extra`: fields of the route's action, of the
    route."""

    action: Dict
    headers: list[Dict] = field(default_factory=list)
    extra: Dict = field(default_factory=dict)


def targets(want: RouteWant, words: Words = ROLLOUT) -> list[Target]:
    """The first that fits a request takes it; the last fits any."""
    split = want.split
    if split is None:
        return [Target({"cluster": want.cluster})]
    sticky, sides = split.sticky, _Sides(want.cluster, split, words)
    if sticky.header:
        by_key = sides.by_key({"header": {"header_name": sticky.header}})
        absent = {"name": sticky.header, "present_match": True, "invert_match": True}
    elif sticky.cookie:
        by_key = sides.by_key({"cookie": {"name": sticky.cookie}})
        absent = {**_has_cookie(sticky.cookie), "invert_match": True, "treat_missing_header_as_empty": True}
    elif sticky.client_address:
        return [sides.by_key({"connection_properties": {"source_ip": True}})]
    else:
        return [Target(sides.weighted())]
    if sticky.no_key_old:
        return [only(want.cluster, words.header, words.old, [absent]), by_key]
    if sticky.cookie:
        return [sides.with_new_cookie(absent), by_key]
    # Without the header Envoy has nothing to hash, and picks at random.
    return [by_key]


def split_problem(want: RouteWant) -> str:
    """Why Envoy, or we, would not take this split, or empty."""
    split = want.split
    if split is None:
        return ""
    if not split.cluster or split.cluster == want.cluster:
        return "the two sides of a route need a cluster each"
    return weight_problem(split.weight) or sticky_problem(split.sticky)


def weight_problem(weight: int) -> str:
    return "" if 0 <= weight <= WEIGHT_TOTAL else f"a weight is 0 to {WEIGHT_TOTAL}, not {weight}"


def sticky_problem(sticky: Sticky) -> str:
    if bool(sticky.header) + bool(sticky.cookie) + sticky.client_address > 1:
        return "the side of a request follows one of: header, cookie, client address"
    if sticky.header and not _HEADER_NAME.fullmatch(sticky.header):
        return f"{sticky.header[:80]!r} is not the name of a header"
    if sticky.cookie and not _COOKIE_NAME.fullmatch(sticky.cookie):
        return f"{sticky.cookie[:80]!r} is not the name of a cookie"
    return ""


def only(cluster: str, header: str, value: str, headers: list[Dict]) -> Target:
    """All to one cluster, which is told its side."""
    side = _side(cluster, WEIGHT_TOTAL, header, value)
    return Target({"weighted_clusters": {"clusters": [side]}}, headers)


@dataclass(frozen=True, slots=True)
class _Sides:
    old: str
    split: Split
    words: Words

    def weighted(self, *, use_hash_policy: bool = False) -> Dict:
        split, words = self.split, self.words
        clusters = [
            _side(split.cluster, split.weight, words.header, words.new),
            _side(self.old, WEIGHT_TOTAL - split.weight, words.header, words.old),
        ]
        return {"weighted_clusters": {"clusters": clusters, **({"use_hash_policy": True} if use_hash_policy else {})}}

    def by_key(self, key: Dict) -> Target:
        return Target({**self.weighted(use_hash_policy=True), "hash_policy": [{**key, "terminal": True}]})

    def with_new_cookie(self, absent: Dict) -> Target:
        """Decided by the id of the request, which then is the cookie: the next request hashes to the same side."""
        by_id = self.by_key({"header": {"header_name": "x-request-id"}})
        name = self.split.sticky.cookie
        value = f"{name}=%REQ(X-REQUEST-ID)%; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
        cookie = {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
        return Target(by_id.action, [absent], {"response_headers_to_add": [cookie]})


def _has_cookie(name: str) -> Dict:
    """Narrower than what Envoy takes for one: who is in doubt counts as without."""
    regex = rf"(.*;)?\s*{re.escape(name)}=\"?[^;\s\"].*"
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": regex}}}


def _side(cluster: str, weight: int, header: str, value: str) -> Dict:
    told = {"header": {"key": header, "value": value}, "append_action": OVERWRITE}
    return {"name": cluster, "weight": weight, "request_headers_to_add": [told]}
