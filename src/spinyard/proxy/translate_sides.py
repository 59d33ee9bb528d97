"""PURE. Where the requests of a route go: to its one cluster, or to one of two by weight.

Envoy takes xxh64(key) % 10,000 and walks along the clusters: the new side stands first, so a key that is on it stays
there while the weight rises. Envoy picks the side once for a request; its retries stay there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from spinyard.core.shift import Sticky
from spinyard.core.want import RouteWant, Split

Dict = dict[str, Any]

WEIGHT_TOTAL = 10_000
SIDE_HEADER = "x-spinyard-side"
OLD, NEW = "old", "new"
COOKIE_SECONDS = 24 * 3600
OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")


@dataclass(frozen=True, slots=True)
class Target:
    """`headers`: what a request must have beside its path. `action`, `extra`: fields of the route's action, of the
    route."""

    action: Dict
    headers: list[Dict] = field(default_factory=list)
    extra: Dict = field(default_factory=dict)


def targets(want: RouteWant) -> list[Target]:
    """The first that fits a request takes it; the last fits any."""
    split = want.split
    if split is None:
        return [Target({"cluster": want.cluster})]
    sticky = split.sticky
    if sticky.header:
        by_key = _by_key(want.cluster, split, {"header": {"header_name": sticky.header}})
        absent = {"name": sticky.header, "present_match": True, "invert_match": True}
    elif sticky.cookie:
        by_key = _by_key(want.cluster, split, {"cookie": {"name": sticky.cookie}})
        absent = {**_has_cookie(sticky.cookie), "invert_match": True, "treat_missing_header_as_empty": True}
    elif sticky.client_address:
        return [_by_key(want.cluster, split, {"connection_properties": {"source_ip": True}})]
    else:
        return [Target(_weighted(want.cluster, split))]
    if sticky.no_key_old:
        return [Target(_only(want.cluster), [absent]), by_key]
    if sticky.cookie:
        return [_with_new_cookie(want.cluster, split, absent), by_key]
    # Without the header Envoy has nothing to hash, and picks at random.
    return [by_key]


def split_problem(want: RouteWant) -> str:
    """Why Envoy, or we, would not take this split, or empty."""
    split = want.split
    if split is None:
        return ""
    if not split.cluster or split.cluster == want.cluster:
        return "the two sides of a route need a cluster each"
    if not 0 <= split.weight <= WEIGHT_TOTAL:
        return f"a weight is 0 to {WEIGHT_TOTAL}, not {split.weight}"
    return sticky_problem(split.sticky)


def sticky_problem(sticky: Sticky) -> str:
    if bool(sticky.header) + bool(sticky.cookie) + sticky.client_address > 1:
        return "the side of a request follows one of: header, cookie, client address"
    if sticky.header and not _HEADER_NAME.fullmatch(sticky.header):
        return f"{sticky.header[:80]!r} is not the name of a header"
    if sticky.cookie and not _COOKIE_NAME.fullmatch(sticky.cookie):
        return f"{sticky.cookie[:80]!r} is not the name of a cookie"
    return ""


def _by_key(old: str, split: Split, key: Dict) -> Target:
    return Target({**_weighted(old, split, use_hash_policy=True), "hash_policy": [{**key, "terminal": True}]})


def _with_new_cookie(old: str, split: Split, absent: Dict) -> Target:
    """Decided by the id of the request, which then is the cookie: the next request hashes to the same side."""
    by_id = _by_key(old, split, {"header": {"header_name": "x-request-id"}})
    value = f"{split.sticky.cookie}=%REQ(X-REQUEST-ID)%; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
    cookie = {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
    return Target(by_id.action, [absent], {"response_headers_to_add": [cookie]})


def _has_cookie(name: str) -> Dict:
    """Narrower than what Envoy takes for one: who is in doubt counts as without."""
    regex = rf"(.*;)?\s*{re.escape(name)}=\"?[^;\s\"].*"
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": regex}}}


def _weighted(old: str, split: Split, *, use_hash_policy: bool = False) -> Dict:
    clusters = [_side(split.cluster, split.weight, NEW), _side(old, WEIGHT_TOTAL - split.weight, OLD)]
    return {"weighted_clusters": {"clusters": clusters, **({"use_hash_policy": True} if use_hash_policy else {})}}


def _only(old: str) -> Dict:
    return {"weighted_clusters": {"clusters": [_side(old, WEIGHT_TOTAL, OLD)]}}


def _side(cluster: str, weight: int, side: str) -> Dict:
    header = {"header": {"key": SIDE_HEADER, "value": side}, "append_action": OVERWRITE}
    return {"name": cluster, "weight": weight, "request_headers_to_add": [header]}
