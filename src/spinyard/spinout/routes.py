"""Which requests two routes of a boundary have in common. Paths as `core.spinout.BoundaryRoute` describes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spinyard.core.spinout import BoundaryRoute

REST = "*"


def overlapping(
    ones: Iterable[BoundaryRoute], others: Iterable[BoundaryRoute]
) -> Iterator[tuple[BoundaryRoute, BoundaryRoute]]:
    """Pairs for which there is a request that is of both."""
    known = list(others)
    for one in ones:
        for other in known:
            if overlap(one, other):
                yield one, other


def overlap(one: BoundaryRoute, other: BoundaryRoute) -> bool:
    same_method = not one.method or not other.method or one.method == other.method
    return same_method and _paths_meet(_segments(one.path), _segments(other.path))


def route_text(route: BoundaryRoute) -> str:
    return f"{route.method} {route.path}".strip()


def _segments(path: str) -> list[str]:
    return path.split("/")[1:]


def _paths_meet(one: list[str], other: list[str]) -> bool:
    """`*` at the end stands for one segment or more, a part in braces for exactly one that is not empty."""
    for a, b in zip(one, other, strict=False):
        if REST in (a, b):
            return True
        if not _segments_meet(a, b):
            return False
    return len(one) == len(other)


def _segments_meet(a: str, b: str) -> bool:
    if _is_part(a) or _is_part(b):
        return bool(a) and bool(b)
    return a == b


def _is_part(segment: str) -> bool:
    return segment.startswith("{")
