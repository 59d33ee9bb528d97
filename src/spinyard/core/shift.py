"""Words for moving requests from one side to the other, shared by rollouts and spinouts."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT_ALL = 10_000
"""Weights are parts of 10,000 of the requests that go to the new side."""


@dataclass(frozen=True, slots=True)
class Sticky:
    """What decides the side of a request: one of the three, or none (each request on its own). The same value is always
    on the same side, and those on the new side stay there while the weight rises. `no_key_old`: a request without the
    header or cookie goes to the old side; else to any."""

    header: str = ""
    cookie: str = ""
    client_address: bool = False
    no_key_old: bool = True
