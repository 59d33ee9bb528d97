"""What others read of a Service's status: who shares its requests must know whether it can answer them."""

from __future__ import annotations

import msgspec

AVAILABLE = "available"
"""the state of a Service that has what it wishes for"""


class Standing(msgspec.Struct, frozen=True):
    """A part of `spin.service.status.ServiceStatus`, by the same names. `ready`: instances in traffic. `epochs`: how
    often a part of its own was dropped and wished for again."""

    observed_generation: int = 0
    replicas: int = 0
    ready: int = 0
    epochs: dict[str, int] = {}


_DECODER = msgspec.json.Decoder(Standing)


def decode_standing(blob: bytes) -> Standing:
    return _DECODER.decode(blob) if blob else Standing()


def own_part(standing: Standing, part: str) -> str:
    """The part of the key under which a Service has that part now."""
    return f"{part}~{standing.epochs[part]}" if part in standing.epochs else part
