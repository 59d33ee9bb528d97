"""What happens in one run, made from a seed: data only, so that a part of it can be left out and the rest run again.

Swarm testing: each seed has a random subset of the faults, at random rates. A run with every fault at once hides more
than it finds.
"""

from __future__ import annotations

from dataclasses import dataclass

from spinyard.testing.simulation.chance import Chance

PORTS_FEW = 20
POOL_SEEDS = (0, 2, 6)
"""which seeds have pools, by their remainder: all others are the runs that they were before there were pools"""

ROLLOUT_SEEDS = (1, 4)
"""likewise, for rollouts"""

RATES: tuple[tuple[str, float], ...] = (
    ("ensure:lost_request", 0.3),
    ("ensure:lost_reply", 0.3),
    ("ensure:late_arrival", 0.3),
    ("ensure:duplicate", 0.3),
    ("ensure:slow", 0.3),
    ("ensure:throttled", 0.3),
    ("ensure:error", 0.3),
    ("ensure:partial", 0.2),
    ("remove:lost_request", 0.3),
    ("remove:lost_reply", 0.3),
    ("remove:late_arrival", 0.3),
    ("remove:slow", 0.3),
    ("remove:throttled", 0.3),
    ("remove:error", 0.3),
    ("observe:error", 0.3),
    ("observe:slow", 0.1),
    ("observe:stale_read", 0.4),
    ("owned:error", 0.5),
    ("owned:stale_read", 0.7),
    ("hint:hint_lost", 1.0),
    ("probe:error", 0.3),
    ("proxy-ensure:lost_request", 0.3),
    ("proxy-ensure:lost_reply", 0.3),
    ("proxy-ensure:slow", 0.3),
    ("proxy-ensure:error", 0.3),
    ("proxy-observe:error", 0.3),
    ("proxy-remove:lost_request", 0.3),
    ("proxy-remove:error", 0.3),
    ("proxy-owned:error", 0.5),
    ("proxy-hint:hint_lost", 1.0),
    ("failpoint", 0.02),
)
"""(operation and fault, the highest rate)"""

USER = ("scale", "template", "restart", "delete", "force", "recreate", "pause", "resume", "route", "job", "directory")
POOL_USER = (
    "pool-delete",
    "pool-force",
    "pool-template",
    "pool-change",
    "pool-pause",
    "pool-resume",
    "claim",
    "burst",
    "renew",
    "release",
)
POOL_JOB = "pool-job"
ROLLOUT_RATES = (("traffic:error", 0.3), ("traffic:slow", 0.2), ("traffic:absurd", 0.5))
ROLLOUT_USER = (
    *("rollout", "ro-again", "ro-scale", "ro-promote", "ro-full", "ro-pause", "ro-resume", "ro-abort", "ro-back"),
    *("ro-delete", "service-delete", "hold", "unhold", "epoch", "blind"),
)
DISTURBANCES = (
    "kill",
    "vanish",
    "sick",
    "proxy-down",
    "provider-down",
    "provider-refuses",
    "crash",
    "freeze",
    "second",
    "retire",
    "jump-forward",
    "jump-back",
    "disk",
    "stray",
)


@dataclass(frozen=True, slots=True)
class Step:
    """At `at` virtual seconds, `what` happens to number `who`; `much` in [0, 1) is its size."""

    at: float
    what: str
    who: int
    much: float

    def __str__(self) -> str:
        return f"{self.what}({self.who}, {self.much:.3f}) at {self.at:.2f}"


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    seconds: float
    rates: tuple[tuple[str, float], ...]
    steps: tuple[Step, ...]
    late_arrival_seconds: float
    list_lag_seconds: float
    ready_seconds: float
    stop_seconds: float
    acknowledge_seconds: float
    drain_seconds: float
    ports: int
    """how many port numbers there are: few of them make reservations scarce"""

    def rate(self, name: str) -> float:
        return dict(self.rates).get(name, 0.0)


def make(seed: int) -> Scenario:
    chance = Chance(f"scenario-{seed}")
    calm = chance.fraction()  # how much of everything: some runs are nearly quiet, and find other bugs
    rates = tuple((name, chance.fraction() ** 2 * highest) for name, highest in RATES if chance.happens(0.45 * calm))
    seconds = chance.between(40.0, 90.0)
    steps = [Step(chance.between(0.0, 2.0), "service", who, chance.fraction()) for who in range(1 + chance.below(3))]
    if chance.happens(0.5):
        steps.append(Step(chance.between(0.0, 5.0), "job", 0, chance.fraction()))
    kinds = [kind for kind in USER if chance.happens(0.6)]
    kinds += [kind for kind in DISTURBANCES if chance.happens(0.5 * calm)]
    if kinds:
        count = 2 + chance.below(14)
        steps += [
            Step(chance.between(1.0, seconds), chance.choose(kinds), chance.below(8), chance.fraction())
            for _ in range(count)
        ]
    if seed % 7 in POOL_SEEDS:
        steps = with_pools(chance.stream("pools"), steps, seconds)
        steps += held(chance.stream("holds"), seconds)
        steps += jobs_on_pools(chance.stream("pool-jobs"), seconds)
    if seed % 7 in ROLLOUT_SEEDS:
        steps, rates = with_rollouts(chance.stream("rollouts"), steps, rates, seconds, calm)
    return Scenario(
        seed=seed,
        seconds=seconds,
        rates=rates,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        late_arrival_seconds=chance.choose((0.0, 2.0, 5.0)),
        list_lag_seconds=chance.choose((0.0, 0.0, 1.0)),
        ready_seconds=chance.choose((0.0, 0.1, 0.5, 2.0)),
        stop_seconds=chance.choose((0.0, 0.2, 1.5)),
        acknowledge_seconds=chance.choose((0.0, 0.02, 0.3)),
        drain_seconds=chance.choose((0.0, 0.2, 1.0, 9.0)),
        ports=chance.choose((PORTS_FEW, 100, 1000)),
    )


def with_pools(chance: Chance, steps: list[Step], seconds: float) -> list[Step]:
    """Pools and claims beside what happens anyway; most of these runs have no services, which are found in others."""
    if chance.happens(0.75):
        steps = [step for step in steps if step.what in DISTURBANCES]
    steps += [Step(chance.between(0.0, 2.0), "pool", who, chance.fraction()) for who in range(1 + chance.below(2))]
    kinds = [kind for kind in POOL_USER if chance.happens(0.5)] + ["claim", "claim", "claim", "pool"]
    steps += [
        Step(chance.between(2.0, seconds), chance.choose(kinds), chance.below(8), chance.fraction())
        for _ in range(6 + chance.below(16))
    ]
    return steps


def jobs_on_pools(chance: Chance, seconds: float) -> list[Step]:
    """In a third of the runs with pools."""
    count = 1 + chance.below(4) if chance.happens(0.33) else 0
    return [Step(chance.between(2.0, seconds), POOL_JOB, chance.below(8), chance.fraction()) for _ in range(count)]


def with_rollouts(
    chance: Chance, steps: list[Step], rates: tuple[tuple[str, float], ...], seconds: float, calm: float
) -> tuple[list[Step], tuple[tuple[str, float], ...]]:
    """Services with a strategy, rolled out again and again; in most of these runs there is nothing else."""
    if chance.happens(0.8):
        steps = [step for step in steps if step.what in DISTURBANCES]
    rates += tuple((name, chance.fraction() ** 2 * most) for name, most in ROLLOUT_RATES if chance.happens(0.4))
    for who in range(1 + (chance.fraction() < 0.25)):
        steps.append(Step(chance.between(0.0, 1.0), "rolled", who, chance.fraction()))
        steps.append(Step(chance.between(4.0, 9.0), "rollout", who, chance.fraction()))
    kinds = [kind for kind in ROLLOUT_USER if chance.happens(0.3)] + ["rollout", "rolled"]
    steps += [
        Step(chance.between(5.0, seconds), chance.choose(kinds), chance.below(8), chance.fraction())
        for _ in range(3 + chance.below(12))
    ]
    return steps, rates


def held(chance: Chance, seconds: float) -> list[Step]:
    """In a third of the runs with pools."""
    if not chance.happens(0.33):
        return []
    begun = chance.between(5.0, seconds * 0.7)
    steps = [Step(begun, "hold", 0, chance.fraction())]
    return [*steps, Step(begun + chance.between(3.0, 30.0), "unhold", 0, 0.5)] if chance.happens(0.7) else steps
