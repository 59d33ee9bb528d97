"""Seeds of the simulated world, as many as fit in the time, and the gate of planted bugs."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from spinyard.spin.claim.status import TRANSITIONS as CLAIM
from spinyard.spin.hold import TRANSITIONS as HOLD
from spinyard.spin.job.status import TRANSITIONS as JOB
from spinyard.spin.pool.status import TRANSITIONS as POOL
from spinyard.spin.rollout.status import TRANSITIONS as ROLLOUT
from spinyard.spin.service.status import TRANSITIONS as SERVICE
from spinyard.spin.status import TRANSITIONS as SPIN
from spinyard.testing.simulation.scenario import (
    DISTURBANCES,
    POOL_USER,
    RATES,
    ROLLOUT_RATES,
    ROLLOUT_USER,
    USER,
    Scenario,
    Step,
    make,
)
from tests.sim.mutations import FIRST_SEED, MUTATIONS
from tests.sim.parts import simulate
from tests.sim.pool_mutations import room_given_back_in_silence
from tests.sim.run import report

SEEDS_LEAST = 120
SEEDS_CPU_SECONDS = 60.0
"""more seeds are run while this lasts"""
MUTATION_SEEDS = 60
"""a planted bug must be found within so many, or by its own seed; that one is run with the product as it is too"""
SEEDS_LATER = tuple(sorted({seed for seed in FIRST_SEED.values() if seed > SEEDS_LEAST}))

MACHINES = (SPIN, SERVICE, JOB, POOL, CLAIM, ROLLOUT, HOLD)
OF_POOLS = (
    *("bound", "claim-hit", "claim-cold", "claim-warm", "claim-waited", "claim-rebound", "claim-expired"),
    *("claim-renewed", "claim-hook-failed", "claim:CapacityUnavailable", "freshness", "idle-shrink"),
)


OF_ROLLOUTS = (
    *("rollout-made", "rollout-refused", "weight-rises", "folded", "judged-good", "judged-bad", "traffic-unknown"),
    *("step-passed", "step-promoted", "ended:succeeded", "ended:rolled_back", "back:GateFailed", "back:Aborted"),
    *("back:NotReadyInTime", "held:Service", "held:WarmPool"),
)


@pytest.mark.timeout(400)
def test_everything_holds_in_every_seed_and_every_fault_and_state_is_reached() -> None:
    reached: set[str] = set()
    begun = time.process_time()
    seed = 0
    while seed < SEEDS_LEAST or time.process_time() - begun < SEEDS_CPU_SECONDS:
        seed += 1
        result = simulate(seed)
        assert result.ok, report(result)
        reached |= result.reached
    for other in SEEDS_LATER:
        result = simulate(other)
        assert result.ok, report(result)
    print(f"{seed} seeds in {time.process_time() - begun:.0f} s of CPU")

    wanted = {f"{machine.name}:{state}" for machine in MACHINES for state in machine.states()}
    wanted -= {f"{machine.name}:{machine.initial}" for machine in MACHINES}
    wanted |= {f"fault:{name}" for name, _ in RATES + ROLLOUT_RATES if ":" in name} | {
        f"step:{what}" for what in DISTURBANCES + USER + POOL_USER + ROLLOUT_USER
    }
    wanted |= {f"event:{reason}" for reason in ("RolledBack", "CrashLoopBackOff", "DrainDeadline", "Stuck", "Leaked")}
    wanted |= {"fault:disk", "crash", "takeover", "stale", "refused", "orphan-removed", "zombie-call"}
    wanted |= set(OF_POOLS) | set(OF_ROLLOUTS)
    assert wanted - reached == set()


def test_a_seed_gives_the_same_run_again() -> None:
    first, second = simulate(11), simulate(11)
    assert first.trace == second.trace
    assert first.passes == second.passes > 100


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_bug_is_found(name: str) -> None:
    with MUTATIONS[name]():
        seeds = (FIRST_SEED.get(name, 1), *range(1, MUTATION_SEEDS + 1))
        assert any(not simulate(seed).ok for seed in seeds), f"{name} was not found"


def test_a_full_pool_hears_that_a_claimed_member_is_gone() -> None:
    """Seldom met by chance: a claim that failed and stays, whose member was the pool's last place."""
    kills = tuple(Step(20.0 + 2.0 * who, "kill", who, 0.5) for who in range(3))
    steps = (Step(0.5, "pool", 0, 0.1), Step(8.0, "burst", 0, 0.5), *kills)
    scenario = replace(make(117), rates=(), steps=steps, seconds=30.0, ports=1000)
    result = simulate(scenario)
    assert result.ok, report(result)
    with room_given_back_in_silence():
        assert not simulate(scenario).ok


SICK = tuple(Step(13.0, "sick", who, 0.9) for who in range(8))


@pytest.mark.parametrize(
    ("end", "steps"),
    [
        ("back:Deleted", (Step(12.0, "ro-delete", 0, 0.5),)),
        ("back:ServiceGone", (Step(12.0, "service-delete", 0, 0.5),)),
        ("back:NewSideDown", (Step(11.9, "ro-pause", 0, 0.5), *SICK)),
    ],
)
def test_ends_of_a_rollout_that_are_seldom_met_by_chance(end: str, steps: tuple[Step, ...]) -> None:
    """Which version it is, and how fast it starts, is left to the seed."""

    def scenario(seed: int) -> Scenario:
        rollout = (Step(0.5, "rolled", 0, 0.5), Step(8.0, "rollout", 0, 0.5))
        return replace(make(seed), rates=(), steps=(*rollout, *steps), seconds=45.0, ports=1000)

    for seed in range(1, 31):
        result = simulate(scenario(seed))
        assert result.ok, report(result)
        if end in result.reached:
            return
    pytest.fail(f"{end} was not reached")
