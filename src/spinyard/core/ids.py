"""Names of things, and how they are derived.

Ids of children are derived from (owner, slot, generation), so the same decision made twice names the same thing, and a
key is never used for two different things. Times everywhere inside are seconds since the epoch, UTC, as float; they
become RFC 3339 text at the edges.
"""

from __future__ import annotations

import hashlib
from typing import NewType

Uid = NewType("Uid", str)
ResourceKey = NewType("ResourceKey", str)
Digest = NewType("Digest", str)

_ALPHABET = "bcdfghjkmnpqrstvwxz23456789"


def short_hash(text: str, length: int) -> str:
    """`length` letters and digits that spell no words, from a hash of `text`."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    out = []
    for _ in range(length):
        number, index = divmod(number, len(_ALPHABET))
        out.append(_ALPHABET[index])
    return "".join(out)


def child_uid(owner: Uid, slot: str, generation: int) -> Uid:
    """The uid of the child that `owner` wants in `slot`, at `generation` of that slot."""
    return Uid(short_hash(f"{owner}/{slot}/{generation}", 20))


def child_name(owner_name: str, uid: Uid) -> str:
    return f"{owner_name[:40]}-{uid[:6]}"


def resource_key(owner: Uid, part: str) -> ResourceKey:
    """The key of one external thing of an object, such as `<uid>/process`; it is the create token as well."""
    return ResourceKey(f"{owner}/{part}")


def owner_of(key: ResourceKey) -> Uid:
    return Uid(key.split("/", 1)[0])


def fraction_of(text: str) -> float:
    """A stable number in [0, 1) from an id: jitter that a replay reproduces."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / (1 << 48)
