"""Seeds of the world with Spinouts, as many as fit in the time, and the gate of planted bugs."""

from __future__ import annotations

import time

import pytest

from tests.sim.parts import simulate_spinouts
from tests.sim.run import report
from tests.sim.spinout_mutations import SPINOUT_FIRST_SEED, SPINOUT_MUTATIONS

SEEDS_LEAST = 30
SEEDS_CPU_SECONDS = 12.0
MUTATION_SEEDS = 30
REACHED = (
    *("spinout-rises", "spinout-back:Aborted", "spinout-back:GateFailed", "spinout-ended:completed", "Spinout:held"),
    *("spinout-ended:abandoned", "Spinout:rolled_back", "Spinout:retiring", "traffic-unknown", "crash"),
)


@pytest.mark.timeout(200)
def test_everything_holds_in_every_seed() -> None:
    reached: set[str] = set()
    begun = time.process_time()
    seed = 0
    while seed < SEEDS_LEAST or time.process_time() - begun < SEEDS_CPU_SECONDS:
        seed += 1
        result = simulate_spinouts(seed)
        assert result.ok, report(result)
        reached |= result.reached
    print(f"{seed} seeds in {time.process_time() - begun:.0f} s of CPU")
    assert set(REACHED) - reached == set()


def test_a_seed_gives_the_same_run_again() -> None:
    first, second = simulate_spinouts(5), simulate_spinouts(5)
    assert first.trace == second.trace
    assert first.passes == second.passes > 50


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SPINOUT_MUTATIONS)
def test_a_planted_bug_is_found(name: str) -> None:
    with SPINOUT_MUTATIONS[name]():
        seeds = (SPINOUT_FIRST_SEED.get(name, 1), *range(1, MUTATION_SEEDS + 1))
        assert any(not simulate_spinouts(seed).ok for seed in seeds), f"{name} was not found"
