"""N14: users that flip sides on the way up. 100,000 keys of four sorts on a ramp 1 - 5 - 25 - 50 - 100 %.

Every key by the function that the flag and the SDK use; a sample of them at each step at rest also by a real Envoy with
that weight, and by the flag: all three must agree. A flip is a key that was the unit's and is the parent's again. The
share of each step may be off by half a point. Peer in the same run: the same Envoy with weights but without a key to
hold on to, which is how a plain traffic split does it: how many of the sample flip there.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from itertools import pairwise

from bench.home import Json
from bench.measured import Measured, Scale, figures
from spinyard.core.shift import Sticky
from spinyard.usecases.flags import Flag, evaluate
from spinyard_sdk.wire import UNIT, WEIGHT_TOTAL, side_of
from tests.proxy.boundary_world import BoundaryWorld

STEPS = (100, 500, 2_500, 5_000, 10_000)
KEYS = {Scale.QUICK: 100_000, Scale.NORMAL: 100_000, Scale.FULL: 1_000_000}
SAMPLE = {Scale.QUICK: 500, Scale.NORMAL: 2_000, Scale.FULL: 10_000}
AT_ONCE = 16
SHARE_POINTS_MAX = 0.5


def measure(scale: Scale) -> Measured:
    keys = _keys(KEYS[scale])
    flips, shares, disagree = _by_function(keys)
    sample = random.Random(14).sample(keys, SAMPLE[scale])
    envoy = asyncio.run(_by_envoy(sample))
    off = max(abs(share * 100 - step / 100) for step, share in shares.items())
    return Measured(
        unit="flips",
        ours=figures([float(flips + envoy["flips"])] * len(keys), 0),
        peers={"Envoy, weights without a key": figures([float(envoy["flips_without_key"])] * len(sample), 0)},
        floor=0.0,
        aim=0.0,
        ok=not (flips or disagree or envoy["flips"] or envoy["disagree"]) and off <= SHARE_POINTS_MAX,
        notes={
            "keys": len(keys),
            "steps_percent": [step / 100 for step in STEPS],
            "share_percent": {str(step / 100): round(share * 100, 3) for step, share in shares.items()},
            "share_error_points_max": round(off, 3),
            "flag_disagrees": disagree,
            "envoy": envoy,
        },
    )


def _keys(count: int) -> list[str]:
    """Numbers, user names, e-mail addresses, UUIDs: what people use."""
    dice = random.Random(2026)
    sorts = (
        lambda n: str(n),
        lambda n: f"user-{n:08d}",
        lambda n: f"{dice.choice('abcdefgh')}.{n}@example.com",
        lambda n: str(uuid.UUID(int=dice.getrandbits(128), version=4)),
    )
    return [sorts[n % len(sorts)](n) for n in range(count)]


def _by_function(keys: list[str]) -> tuple[int, dict[int, float], int]:
    """(flips, share of the unit at each step, keys for which the flag says something else)"""
    flips = disagree = 0
    shares: dict[int, float] = {}
    before: set[str] = set()
    for step in STEPS:
        now = {key for key in keys if side_of(key, step) == UNIT}
        flag = Flag("thumbs", step)
        disagree += sum((evaluate(flag, key).side == UNIT) != (key in now) for key in keys)
        flips += len(before - now)
        shares[step] = len(now) / len(keys)
        before = now
    assert len(before) == len(keys), "at the last step every key is the unit's"
    return flips, shares, disagree


async def _by_envoy(sample: list[str]) -> Json:
    world = BoundaryWorld()
    try:
        await world.start()
        keyed = [await _at(world, step, sample, Sticky(header="x-user")) for step in STEPS]
        loose = [await _at(world, step, sample, Sticky()) for step in STEPS]
    finally:
        await world.stop()
    return {
        "sample": len(sample),
        "requests": len(sample) * len(STEPS) * 2,
        "flips": _flips(keyed),
        "disagree": sum(
            (key in now) != (side_of(key, step) == UNIT)
            for step, now in zip(STEPS, keyed, strict=True)
            for key in sample
        ),
        "flips_without_key": _flips(loose),
    }


async def _at(world: BoundaryWorld, step: int, sample: list[str], sticky: Sticky) -> set[str]:
    """Who gets the unit."""
    assert 0 < step <= WEIGHT_TOTAL
    await world.share(step, sticky=sticky)
    left = iter(sample)
    found: set[str] = set()

    async def ask() -> None:
        for key in left:
            if await world.who("/thumbs/1", {"x-user": key}) == "unit":
                found.add(key)

    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return found


def _flips(steps: list[set[str]]) -> int:
    return sum(len(before - now) for before, now in pairwise(steps))
