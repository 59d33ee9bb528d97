"""What was seen so far, in a size that does not grow: two sets of stakes and a few counts.

Requests are judged in blocks: as few as have BLOCK_MIN requests on each side, within one step. Each block is judged
given its own exposure, so the base rate may drift and the weight may change from block to block, and no total over
them is ever compared (Simpson). The order of use is fixed: alternatives for a block are chosen from blocks before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from spinyard.core.verdict.counts import Counts, Increment
from spinyard.core.verdict.stakes import Stakes, log_not_worse, log_worse, stakes_on

BLOCK_MIN = 4
RATIOS = (1.5, 2.5, 5.0, 12.0, 40.0)
LOG_RATIO_SHARES = tuple(math.log(share) for share in (0.05, 0.10, 0.20, 0.50, 0.15))
LOG_PASS_SHARES = tuple(math.log(share) for share in (0.7, 0.3))
"""stakes on "both fail alike" and on "each fails as it did so far" """
KEPT = 0.1
FRESH, FRESH_FROM = 0.4, 64
"""The block that takes the new side from n to m requests stakes FRESH * (m - n) / (m + FRESH_FROM) of what is kept."""
MEMORY_MAX = 4_000
"""requests that the guess of the rates remembers at most; a longer memory would be late when they drift"""
LOG_PASS_MAX = 9.22
"""ln(1/ALPHA_MIN). More is thrown away, so that an old "pass" does not outweigh what is seen now."""
LOG_WORSE_MAX = 1e6
NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Plain numbers, texts and tuples: goes through JSON as it is. `old`, `new`: everything folded, for people to read;
    `step_old`, `step_new`: of the present step; `open_*`: not judged yet; `known_*`: what the guesses rest on.
    """

    margin: float
    step: int = 0
    steps: int = 0
    blocks: int = 0
    old: Counts = NOTHING
    new: Counts = NOTHING
    step_old: Counts = NOTHING
    step_new: Counts = NOTHING
    open_old: Counts = NOTHING
    open_new: Counts = NOTHING
    known_old: Counts = NOTHING
    known_new: Counts = NOTHING
    worse: Stakes = field(default_factory=lambda: stakes_on(LOG_RATIO_SHARES, KEPT))
    not_worse: Stakes = field(default_factory=lambda: stakes_on(LOG_PASS_SHARES, KEPT))
    problem: str = ""
    """why the last measurement could not be used; empty when it could"""

    def __post_init__(self) -> None:
        if not 0.0 < self.margin < 1.0:
            raise ValueError(f"margin must be between 0 and 1, it is {self.margin}")


def fold(evidence: Evidence, increment: Increment) -> Evidence:
    """One more measurement. What makes no sense changes nothing but `problem`, until the next one that does."""
    problem = _problem(increment)
    if problem:
        return replace(evidence, problem=problem)
    if increment.step != evidence.step or not evidence.steps:
        evidence = _in_step(evidence, increment.step)
    evidence = replace(
        evidence,
        old=evidence.old + increment.old,
        new=evidence.new + increment.new,
        step_old=evidence.step_old + increment.old,
        step_new=evidence.step_new + increment.new,
        open_old=evidence.open_old + increment.old,
        open_new=evidence.open_new + increment.new,
        problem="",
    )
    is_enough = min(evidence.open_old.requests, evidence.open_new.requests) >= BLOCK_MIN
    return _judged(evidence) if is_enough else evidence


def guessed_rates(evidence: Evidence, weight: float = 50.0) -> tuple[float, float, float]:
    """(both together, old, new) from the blocks before: half a failure in 50 requests is assumed of both together
    beforehand, and of each side `weight` requests that fail as both do.
    """
    old, new = evidence.known_old, evidence.known_new
    both = (old.failures + new.failures + 0.5) / (old.requests + new.requests + 50)
    p_old = (old.failures + weight * both) / (old.requests + weight)
    p_new = (new.failures + weight * both) / (new.requests + weight)
    return both, p_old, p_new


def _problem(increment: Increment) -> str:
    for side, counts in (("old", increment.old), ("new", increment.new)):
        if not counts.is_usable:
            return f"the {side} side counts {counts.requests} requests and {counts.failures} failures"
    return ""


def _in_step(evidence: Evidence, step: int) -> Evidence:
    if evidence.open_old.requests and evidence.open_new.requests:
        evidence = _judged(evidence)
    return replace(
        evidence,
        step=step,
        steps=evidence.steps + 1,
        step_old=NOTHING,
        step_new=NOTHING,
        open_old=NOTHING,
        open_new=NOTHING,
    )


def _judged(evidence: Evidence) -> Evidence:
    old, new = evidence.open_old, evidence.open_new
    part = FRESH * new.requests / (evidence.new.requests + FRESH_FROM)
    both, p_old, p_new = guessed_rates(evidence)
    alike = log_not_worse(old, new, both, both, evidence.margin)
    apart = log_not_worse(old, new, p_old, p_new, evidence.margin)
    known_old, known_new = evidence.known_old + old, evidence.known_new + new
    while known_old.requests + known_new.requests > MEMORY_MAX:
        known_old, known_new = _halved(known_old), _halved(known_new)
    return replace(
        evidence,
        blocks=evidence.blocks + 1,
        open_old=NOTHING,
        open_new=NOTHING,
        known_old=known_old,
        known_new=known_new,
        worse=evidence.worse.after(log_worse(old, new, RATIOS), part, LOG_RATIO_SHARES, LOG_WORSE_MAX),
        not_worse=evidence.not_worse.after((alike, apart), part, LOG_PASS_SHARES, LOG_PASS_MAX),
    )


def _halved(counts: Counts) -> Counts:
    return Counts(counts.requests // 2, counts.failures // 2)
