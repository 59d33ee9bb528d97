"""The words that travel between the first hop, a parent and its unit: they are written down here and nowhere else.

Pure: no I/O, no clock, no state. `spinyard` imports this module; it never imports `spinyard`.
"""

from typing import Final, Literal

import xxhash

Side = Literal["parent", "unit"]
PARENT: Final[Side] = "parent"
UNIT: Final[Side] = "unit"

# Set by the first hop, then it wins for the whole request tree; stripped from outsiders.
SIDE_HEADER: Final = "x-spinyard-side"
# What the side is derived from. Envoy hashes this header's bytes and nothing else.
KEY_HEADER: Final = "x-spinyard-key"

# How long the caller still waits, in milliseconds.
TIMEOUT_HEADER: Final = "x-spinyard-timeout-ms"
# The answer is compared and goes to nobody; such a request may change nothing.
SHADOW_HEADER: Final = "x-spinyard-shadow"
# In each answer of a unit that the SDK serves: who answers, so that nobody takes Envoy's words for the unit's.
BOUNDARY_HEADER: Final = "x-spinyard-boundary"

# Types of problem documents (RFC 9457) begin so; what follows is a code that stays.
PROBLEMS: Final = "https://spinyard.dev/problems/"

# Envoy's weights of one route add up to this; the unit's cluster stands first.
WEIGHT_TOTAL: Final = 10_000


BOUNDARY_SUFFIX: Final = ".boundary.internal"


def flag_key(namespace: str, name: str) -> str:
    """The key of a Spinout's flag, which is also the name of its boundary in code."""
    return name if namespace == "default" else f"{namespace}/{name}"


def boundary_host(namespace: str, name: str) -> str:
    """The host name under which the SDK calls a boundary's unit through Envoy. `.internal` is nobody's outside."""
    return f"{name}.{namespace}{BOUNDARY_SUFFIX}"


def slot(key: str) -> int:
    """The place of a key in 0 .. WEIGHT_TOTAL - 1: XXH64, seed 0, of the header's bytes, modulo the total weight.

    This is what Envoy does for weighted clusters with `use_hash_policy` on one header. A key is what may stand in a
    header: printable ASCII without spaces at its ends (Envoy strips those before it hashes); else ValueError.
    """
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        raise ValueError(f"a key must be printable ASCII without spaces at its ends, got {key!r}")
    return xxhash.xxh64_intdigest(key.encode("ascii")) % WEIGHT_TOTAL


def side_of(key: str, unit_weight: int) -> Side:
    """Which side serves a key while the unit has `unit_weight` of WEIGHT_TOTAL.

    A key that is on the unit's side stays there when the weight grows.
    """
    if not 0 <= unit_weight <= WEIGHT_TOTAL:
        raise ValueError(f"the unit's weight must be within 0 and {WEIGHT_TOTAL}, got {unit_weight}")
    return UNIT if slot(key) < unit_weight else PARENT
