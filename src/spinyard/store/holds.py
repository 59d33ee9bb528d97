# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""Holds: which of them is over an object. Names are made from scopes, so at most three rows are looked at."""

from __future__ import annotations

import math

from spinyard.core.holds import hold_place, scopes_over
from spinyard.core.observed import Held
from spinyard.core.spec import HoldSpec, Kind
from spinyard.store.codec import decode_spec
from spinyard.store.link import Link, Sql

_OVER = Sql(
    f"SELECT spec, created_at FROM objects WHERE kind = '{Kind.HOLD}' AND finished = 0 AND deleting = 0 AND "
    "(namespace, name) IN (VALUES (:namespace_a, :name_a), (:namespace_b, :name_b), (:namespace_c, :name_c))"
)


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
