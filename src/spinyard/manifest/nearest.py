"""What somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """The closest of `known`, or nothing. Case does not count."""
    by_lower = {name.lower(): name for name in known}
    found = get_close_matches(word.lower()[:64], by_lower, n=1, cutoff=0.65)
    return by_lower[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    found = nearest(word, known)
    return f"did you mean {found}?" if found else ""
