"""Isolation that is asked for by name, and either in force or refused."""

from __future__ import annotations


def enter(name: str) -> None:
    """In the child, before exec."""
    if name != "none":
        raise OSError(22, f"isolation {name} is not known")


def refusal_of(name: str) -> str:
    """Why it cannot be had here; empty when it can."""
    return "" if name in ("", "none") else f"isolation {name!r} cannot be enforced on this machine"
