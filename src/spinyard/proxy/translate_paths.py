"""PURE. The paths of a boundary's rules: exact (`/a`), with parts (`/photos/{id}/thumb`), everything below (`/a/*`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from spinyard.core.route_path import PATH_CHARACTERS_MAX, SEGMENTS_MAX, is_part, is_segment
from spinyard.core.want import BoundaryRule

Dict = dict[str, Any]

REST = "*"
RULES_MAX = 200

_METHOD = re.compile(r"[A-Z]{0,20}")


def rule_problem(rule: BoundaryRule) -> str:
    """Why this cannot be a rule, or empty."""
    if not _METHOD.fullmatch(rule.method):
        return f"{rule.method[:40]!r} is not a method"
    segments = _segments(rule.path)
    if not rule.path.startswith("/") or len(rule.path) > PATH_CHARACTERS_MAX or len(segments) > SEGMENTS_MAX:
        return f"{rule.path[:80]!r} is not a path: it starts with / and is not too long"
    *before, last = segments
    if all(is_segment(segment) for segment in before) and (last in ("", REST) or is_segment(last)):
        return ""
    return f"{rule.path[:80]!r} is not a path of segments, {{parts}} and at most one * at its end"


def path_match(path: str) -> Dict:
    """Of the path as it came, without its query. A part is one segment that is not empty."""
    segments = _segments(path)
    if not any(is_part(segment) for segment in segments):
        return {"prefix": path.removesuffix(REST)} if segments[-1] == REST else {"path": path}
    return {"safe_regex": {"regex": "".join(f"/{_segment_regex(segment)}" for segment in segments)}}


def is_below(path: str, prefix: str) -> bool:
    """Every request of this path is one of this prefix. `prefix`: without a slash at its end, or `/` alone."""
    return prefix == "/" or path == prefix or path.startswith(prefix + "/")


def most_specific_first(rules: Iterable[BoundaryRule]) -> list[BoundaryRule]:
    """Segment by segment: a literal before a part before all the rest; then the one that names its method."""
    return sorted(rules, key=lambda rule: ([_breadth(segment) for segment in _segments(rule.path)], not rule.method))


def _segments(path: str) -> list[str]:
    return path.split("/")[1:] or [""]


def _segment_regex(segment: str) -> str:
    if segment == REST:
        return ".*"
    return "[^/]+" if is_part(segment) else re.escape(segment)


def _breadth(segment: str) -> int:
    if segment == REST:
        return 2
    return 1 if is_part(segment) else 0
