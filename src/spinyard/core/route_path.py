"""What may stand between the slashes of a boundary's path: the manifest and the data plane ask the same question."""

from __future__ import annotations

import re

PATH_CHARACTERS_MAX = 1024
SEGMENTS_MAX = 64

_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;=:@]|%[0-9A-Fa-f]{2})+")
_PART = re.compile(r"\{[A-Za-z_][A-Za-z0-9_-]{0,62}\}")


def is_part(segment: str) -> bool:
    """`{photo-id}`: one segment that is not empty, whatever it is."""
    return _PART.fullmatch(segment) is not None


def is_segment(segment: str) -> bool:
    """A part, or letters as they come in a request."""
    return is_part(segment) or (segment not in (".", "..") and _LITERAL.fullmatch(segment) is not None)
