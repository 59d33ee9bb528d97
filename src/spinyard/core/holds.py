"""Scopes of holds: how they are written, and the one object that stands for each."""

from __future__ import annotations

from spinyard.core.spec import Kind

EVERYTHING = "everything"
EVERYTHING_NAMESPACE = "default"
WHOLE = "namespace"


def hold_place(scope: str, namespace: str) -> tuple[str, str]:
    """(namespace, name) of the object that holds that scope: there is one for each, so that the newest word counts.
    `namespace`: of a `kind/NAME`."""
    if scope == EVERYTHING:
        return EVERYTHING_NAMESPACE, EVERYTHING
    kind, _, name = scope.partition("/")
    return (name, WHOLE) if kind == WHOLE else (namespace, f"{kind}.{name}")


def scopes_over(namespace: str, kind: Kind, name: str) -> tuple[str, str, str]:
    """All scopes that an object is in."""
    return EVERYTHING, f"{WHOLE}/{namespace}", f"{kind.lower()}/{name}"
