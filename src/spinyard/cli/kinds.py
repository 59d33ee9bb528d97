"""The words people use for kinds: singular, plural, short, and `all`."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from spinyard.cli.exits import Usage

KINDS: Final = ("Service", "Rollout", "Spinout", "Spin", "Job", "WarmPool", "Claim", "Template")
"""in the order in which `all` shows them"""

PLURAL: Final = {
    "Service": "services",
    "Rollout": "rollouts",
    "Spinout": "spinouts",
    "Spin": "spins",
    "Job": "jobs",
    "WarmPool": "warmpools",
    "Claim": "claims",
    "Template": "templates",
}
SINGULAR: Final = {kind: kind.lower() for kind in KINDS}

_WORDS: Final = {
    **{word: kind for kind, word in PLURAL.items()},
    **{word: kind for kind, word in SINGULAR.items()},
    "svc": "Service",
    "ro": "Rollout",
    "so": "Spinout",
    "sp": "Spin",
    "tpl": "Template",
    "pools": "WarmPool",
    "pool": "WarmPool",
    "wp": "WarmPool",
}


def kinds_of(word: str) -> tuple[str, ...]:
    """One kind, or for `all` those that run: all but Template."""
    if word.lower() == "all":
        return tuple(kind for kind in KINDS if kind != "Template")
    return (kind_of(word),)


def kind_of(word: str) -> str:
    kind = _WORDS.get(word.lower())
    if kind is None:
        near = get_close_matches(word.lower(), [*_WORDS, "all"], n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"kinds are {', '.join(PLURAL.values())} (short: svc, ro, so, sp, job, pool, claim, tpl)"
        )
        raise Usage(f"unknown kind {word!r}", next_step=hint)
    return kind


def target(words: tuple[str, ...], *, default_kind: str = "") -> list[tuple[str, str]]:
    """`svc a b`, `svc/a job/b`, and, with a default kind, a bare name: as (kind, name)."""
    if any("/" in word for word in words):
        return [_slashed(word) for word in words]
    if len(words) == 1 and default_kind:
        return [(default_kind, words[0])]
    if len(words) < 2:
        raise Usage("which one? give KIND NAME or KIND/NAME", next_step="for example: svc web, or svc/web")
    kind = kind_of(words[0])
    return [(kind, name) for name in words[1:]]


def _slashed(word: str) -> tuple[str, str]:
    kind, slash, name = word.partition("/")
    if not slash or not name:
        raise Usage(f"{word!r} is not KIND/NAME", next_step="either all of them are KIND/NAME or none is")
    return kind_of(kind), name
