"""Makes a failing scenario smaller: what can be left out while it still fails is left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spinyard.testing.simulation.scenario import Scenario


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], *, runs_max: int = 200) -> Scenario:
    """Faults and steps off one by one, again and again, until nothing more can go (or `runs_max` runs were made)."""
    runs = 0
    smaller = True
    while smaller and runs < runs_max:
        smaller = False
        for candidate in _candidates(scenario):
            if runs >= runs_max:
                break
            runs += 1
            if fails(candidate):
                scenario = candidate
                smaller = True
                break
    return scenario


def _candidates(scenario: Scenario) -> list[Scenario]:
    out = []
    if len(scenario.rates) > 1:
        half = len(scenario.rates) // 2
        out += [replace(scenario, rates=scenario.rates[:half]), replace(scenario, rates=scenario.rates[half:])]
    if len(scenario.steps) > 2:
        half = len(scenario.steps) // 2
        out.append(replace(scenario, steps=scenario.steps[:half]))
    out += [replace(scenario, rates=tuple(rate for rate in scenario.rates if rate != gone)) for gone in scenario.rates]
    out += [
        replace(scenario, steps=tuple(step for step in scenario.steps if step is not gone)) for gone in scenario.steps
    ]
    return out
