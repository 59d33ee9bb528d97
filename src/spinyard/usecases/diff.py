"""What differs between two pieces of JSON, path by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DIFFERENCES_MAX = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """`before` or `after` is None where there was, or will be, nothing."""

    path: str
    before: Any
    after: Any


def diff(before: Any, after: Any, path: str = "") -> tuple[Difference, ...]:
    """Lists of named things are compared by name. At most DIFFERENCES_MAX."""
    out: list[Difference] = []
    _compare(before, after, path, out)
    return tuple(out[:DIFFERENCES_MAX])


def _compare(before: Any, after: Any, path: str, out: list[Difference]) -> None:
    if before == after or len(out) >= DIFFERENCES_MAX:
        return
    left, right = _named(before), _named(after)
    if left is None or right is None:
        out.append(Difference(path, before, after))
        return
    is_list = isinstance(before, list) or isinstance(after, list)
    for key in [*left, *(k for k in right if k not in left)]:
        step = f"[{key}]" if is_list else f".{key}" if path else key
        _compare(left.get(key), right.get(key), path + step, out)


def _named(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(v, Mapping) and "name" in v for v in value):
        by_name = {str(v["name"]): v for v in value}
        return by_name if len(by_name) == len(value) else None
    return None
