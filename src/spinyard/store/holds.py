# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Holds: which of them is over an object. Names are made from scopes, so at most three rows are looked at."""

from __future__ import annotations

import math

from spinyard.core.holds import hold_place, scopes_over
from spinyard.core.observed import Held
from spinyard.core.spec import HoldSpec, Kind
from spinyard.store.codec import decode_spec
from spinyard.store.leases import CATCH_UP_PER_SECOND
from spinyard.store.link import Link, Sql

_OVER = Sql(
    f"SELECT spec, created_at FROM objects WHERE kind = '{Kind.HOLD}' AND finished = 0 AND deleting = 0 AND "
    "(namespace, name) IN (VALUES (:namespace_a, :name_a), (:namespace_b, :name_b), (:namespace_c, :name_c))"
)

PARENTS = (Kind.SERVICE, Kind.JOB, Kind.WARM_POOL, Kind.ROLLOUT, Kind.SPINOUT)
_WAKE = (
    "UPDATE objects SET wake_seq = objects.wake_seq + 1, wake_at = CASE WHEN objects.wake_at IS NULL "
    "OR objects.wake_at > b.at THEN b.at ELSE objects.wake_at END FROM (SELECT uid, :now + "
    f"(row_number() OVER (ORDER BY uid) - 1) / {CATCH_UP_PER_SECOND} AS at FROM objects WHERE finished = 0 "
    "AND {which}) AS b WHERE objects.uid = b.uid"
)
_KINDS = "kind IN (" + ", ".join(f"'{kind}'" for kind in PARENTS) + ")"
_WAKE_ALL = Sql(_WAKE.format(which=_KINDS))
_WAKE_NAMESPACE = Sql(_WAKE.format(which=f"namespace = :namespace AND {_KINDS}"))
_WAKE_ONE = Sql(_WAKE.format(which="kind = :kind AND namespace = :namespace AND name = :name"))


def wake_parents(link: Link, *, namespace: str, kind: Kind | None, name: str, now: float) -> None:
    if name:
        link.execute(_WAKE_ONE, {"kind": str(kind), "namespace": namespace, "name": name, "now": now})
    elif namespace:
        link.execute(_WAKE_NAMESPACE, {"namespace": namespace, "now": now})
    else:
        link.execute(_WAKE_ALL, {"now": now})


def held(link: Link, namespace: str, kind: Kind, name: str, now: float) -> Held | None:
    asked = {}
    for letter, scope in zip("abc", scopes_over(namespace, kind, name), strict=True):
        asked[f"namespace_{letter}"], asked[f"name_{letter}"] = hold_place(scope, namespace)
    found = []
    for text, created_at in link.execute(_OVER, asked).all():
        spec = decode_spec(Kind.HOLD, text)
        assert isinstance(spec, HoldSpec)
        if spec.until is None or spec.until > now:
            found.append(Held(spec.scope, spec.why, spec.by, created_at, spec.until))
    # Of those that last equally long the narrowest: its words are the nearest.
    return max(found, key=lambda one: (one.until or math.inf, one.scope.count("/"), one.scope), default=None)
