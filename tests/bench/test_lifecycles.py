"""The bench's own engine lives whole lives, and its copied crowd is one that the engine takes for real."""

from __future__ import annotations

import asyncio

import pytest

from bench.crowd import copy_life, settle_one
from bench.lifecycles import REPLICAS, live, yard

pytestmark = pytest.mark.anyio


async def test_lives_go_through_every_state_and_leave_nothing() -> None:
    with yard() as made:
        lives = await live(made, REPLICAS, 50.0)
        assert lives.spins == REPLICAS
        states = {event.state for event in made.store.events(limit=2000) if event.kind == "Spin"}
    assert {"pending", "provisioning", "bootstrapping", "serving", "draining", "terminating", "terminated"} <= states


async def test_copied_spins_are_left_alone_while_all_is_well_and_found_when_not() -> None:
    with yard() as made:
        copy_life(made, await settle_one(made), 40)
        assert made.store.counts()["Spin", "serving"] == 41
        figures = made.context.figures
        passes = figures.passes
        running = asyncio.create_task(made.engine.run())
        await asyncio.sleep(1.0)
        assert figures.passes - passes <= 2, "only the Service of the first spin may still have had something to do"
        assert await made.engine.sweep.sweep(dry_run=True) == []
        # Not the first one: that has a Service, which would replace it before anyone looks.
        victim = [key for key in made.world.things if key.endswith("/process")][-1]
        made.world.kill(victim, made.clock.now())
        made.engine.hint(victim.split("/")[0])  # type: ignore[arg-type]
        for _ in range(200):
            if made.store.counts().get(("Spin", "serving"), 0) == 40:
                break
            await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert made.store.counts()["Spin", "serving"] == 40
