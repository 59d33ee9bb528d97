"""PURE. Route wants to virtual hosts.

Which route gets a request: the most specific host first (`shop.example.com`, then `*.example.com`, then `*`), within a
host the longest path prefix, by whole path segments; a request that no route of its own host takes falls to the wider
hosts. The first of two routes with the same host and prefix keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spinyard.core.want import RouteWant
from spinyard.proxy.translate_sides import Target, targets

Dict = dict[str, Any]

ANY_HOST = "*"
# The whole body of a request is held for a retry only up to here; a longer one is not retried.
RETRY_BODY_BYTES_MAX = 1 << 20
STREAM_IDLE_TIMEOUT = "3600s"
PREVIOUS_HOSTS = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"

_HOST = re.compile(r"\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]")
_PREFIX = re.compile(r"(/[^/?#\s]+)*/?")


@dataclass(frozen=True, slots=True)
class Retry:
    """When a request is repeated, and what it must have for that."""

    on: str
    headers: list[Dict] = field(default_factory=list)


# A request that is unsafe to repeat may be repeated only if nothing of it was sent.
UNSAFE = Retry(
    "connect-failure,refused-stream,reset-before-request",
    [
        {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}, "invert_match": True},
        {"name": "idempotency-key", "present_match": True, "invert_match": True},
    ],
)
ANY_METHOD = Retry("connect-failure,refused-stream,reset")


def host_problem(host: str) -> str:
    """Why this cannot be the host of a route, or empty."""
    if len(host) <= 253 and _HOST.fullmatch(host.lower()):
        return ""
    return f"{host[:80]!r} is not a host name, *.suffix or * (without scheme, port and path)"


def prefix_problem(prefix: str) -> str:
    """Why this cannot be the path prefix of a route, or empty."""
    if len(prefix) <= 1024 and prefix.startswith("/") and prefix.isascii() and _PREFIX.fullmatch(prefix):
        return ""
    return f"{prefix[:80]!r} is not a path prefix: it starts with / and has no //, ?, # or spaces"


def domains_of(want: RouteWant) -> tuple[str, ...]:
    """The hosts of a route, in Envoy's form. No host named: none, the cluster exists without a route to it."""
    return tuple(dict.fromkeys(host.lower() for host in want.hosts))


def prefix_of(want: RouteWant) -> str:
    return want.path_prefix.rstrip("/") or "/"


def fallbacks(domain: str) -> tuple[str, ...]:
    """The wider domains a request of `domain` falls to, most specific first: a.b.c -> *.b.c, *.c, *."""
    if domain == ANY_HOST:
        return ()
    labels = domain.removeprefix("*.").split(".")
    first = 0 if domain.startswith("*.") else 1
    wider = ["*." + ".".join(labels[start:]) for start in range(first, len(labels))]
    return (*(name for name in wider if name != domain), ANY_HOST)


def winners(routes: Iterable[RouteWant]) -> list[RouteWant]:
    """The routes of one domain, longest prefix first; of equal ones the first."""
    by_prefix: dict[str, RouteWant] = {}
    for want in routes:
        by_prefix.setdefault(prefix_of(want), want)
    return [by_prefix[prefix] for prefix in sorted(by_prefix, key=lambda text: (-len(text), text))]


def virtual_host(
    domain: str,
    routes_of: Mapping[str, Sequence[RouteWant]],
    first: Iterable[Dict] = (),
    before: Mapping[str, Sequence[Dict]] | None = None,
) -> Dict:
    """Everything a request of this domain can meet. `routes_of`: the wants of each domain, in the order they came.
    `first`: routes before all others; `before`: before those of a Service, by its name."""
    ordered = [want for name in (domain, *fallbacks(domain)) for want in winners(routes_of.get(name, ()))]
    seen: dict[str, RouteWant] = {}
    for want in ordered:
        seen.setdefault(prefix_of(want), want)
    return {
        "name": domain,
        "domains": [domain],
        "routes": [
            *first,
            *(found for want in seen.values() for found in (*_before(want, before or {}), *_variants(want))),
        ],
    }


def _before(want: RouteWant, before: Mapping[str, Sequence[Dict]]) -> Sequence[Dict]:
    """A pool, whose route is by host, may have the name of a Service."""
    return () if want.by_host else before.get(want.service, ())


def _variants(want: RouteWant) -> list[Dict]:
    match = _path_match(want)
    return [
        route(want, match, Target(target.action, [*retry.headers, *target.headers], target.extra), retry)
        for retry in (UNSAFE, ANY_METHOD)
        for target in targets(want)
    ]


def route(want: RouteWant, match: Dict, target: Target, retry: Retry) -> Dict:
    """Of requests that match and have the headers of the target; times and retries as `want` has them."""
    return {
        "match": {**match, **({"headers": target.headers} if target.headers else {})},
        "route": {**target.action, **_action(want, retry.on)},
        "request_body_buffer_limit": RETRY_BODY_BYTES_MAX,
        **target.extra,
    }


def clusters_named(routes: Iterable[Dict]) -> frozenset[str]:
    """Where these routes send requests, and copies; not what they name with a weight of 0."""
    actions = [found["route"] for found in routes if "route" in found]
    shared = (one for action in actions for one in action.get("weighted_clusters", {}).get("clusters", ()))
    copied = (one["cluster"] for action in actions for one in action.get("request_mirror_policies", ()))
    alone = (action["cluster"] for action in actions if "cluster" in action)
    return frozenset((*(one["name"] for one in shared if one["weight"]), *copied, *alone))


def _path_match(want: RouteWant) -> Dict:
    prefix = prefix_of(want)
    return {"prefix": "/"} if prefix == "/" else {"path_separated_prefix": prefix}


def _action(want: RouteWant, retry_on: str) -> Dict:
    return {
        "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
        "timeout": f"{max(want.timeout_seconds, 0.0):.3f}s",
        "idle_timeout": STREAM_IDLE_TIMEOUT,
        "retry_policy": {
            "retry_on": retry_on,
            "num_retries": 3,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {"@type": PREVIOUS_HOSTS},
                }
            ],
            "host_selection_retry_max_attempts": 5,
            "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
        },
    }
