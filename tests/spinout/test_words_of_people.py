"""What a person said, and did not say, holds: over an abort, a token, and while nothing can be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import Shadow, SpinoutStep
from tests.spinout.worlds import SPEC, Yard

UNSAID = replace(SPEC, approvals=())


@pytest.mark.parametrize("decision", ["postpone", "no-go"])
def test_a_start_after_an_abort_passes_over_no_decision(decision: str) -> None:
    yard = Yard(spec=UNSAID)
    yard.approve("analysed")
    yard.run(1)
    if decision == "postpone":
        yard.approve("decided", decision)
        yard.run(1)
    yard.wish(abort="not now")
    yard.until("rolled_back")
    if decision == "no-go":
        yard.approve("decided", decision)
    yard.wish(started=2, abort="")
    yard.run(90)
    assert (yard.state, yard.weight) == ("rolled_back", 0)
    assert decision in yard.status.needs
    yard.now += 1
    yard.approve("decided", "go")
    yard.until("ramping")


def test_a_start_after_an_abort_passes_over_no_phase_that_nobody_approved() -> None:
    yard = Yard(spec=UNSAID).run(1)
    yard.wish(abort="not now")
    yard.until("rolled_back")
    yard.wish(started=2, abort="")
    for phase in ("analysed", "decided"):
        yard.run(60)
        assert (yard.state, f"spinout approve thumbnails {phase}" in yard.status.needs) == ("rolled_back", True)
        yard.approve(phase)
    yard.until("ramping")


def test_a_token_gives_what_was_not_decided_in_time_no_more_time() -> None:
    yard = Yard(spec=replace(SPEC, deadline_seconds=5.0), compares=False).until("held")
    assert (yard.status.held_reason, yard.status.held_from) == ("Inconclusive", "shadowing")
    yard.wish(jwks="{}")
    yard.wish()
    yard.run(3)
    assert (yard.state, yard.status.held_reason) == ("held", "Inconclusive")
    yard.approve("held")
    yard.step()
    assert (yard.state, yard.plan.reason) == ("shadowing", "Resumed")
    yard.until("held")
    yard.wish(deadline_seconds=50.0)
    yard.step()
    assert yard.state == "shadowing"


def test_testers_choose_no_side_of_what_goes_back() -> None:
    yard = Yard().until("ramping").run(1)
    yard.wish(jwks='{"keys": []}')
    yard.run(1)
    assert yard.in_force is not None and yard.in_force.jwks
    yard.wish(abort="enough")
    yard.step()
    assert yard.asked and all((want.weight, want.jwks) == (0, "") for want in yard.asked.values())
    yard.until("rolled_back").run(60)
    assert yard.in_force is not None and not yard.in_force.jwks
    yard.wish(started=2, abort="")
    yard.until("ramping")
    assert yard.in_force is not None and yard.in_force.jwks


def test_a_step_that_was_promoted_rises_by_nothing_that_cannot_be_seen() -> None:
    steps = (SpinoutStep(1000), SpinoutStep(5000), SpinoutStep(WEIGHT_ALL))
    yard = Yard(spec=replace(SPEC, steps=steps, shadow=Shadow(enabled=False))).until("ramping").run(0.5)
    yard.unit.ready = 0
    yard.wish(promoted=1)
    yard.step()
    assert (yard.status.step, yard.status.weight) == (1, 1000)
    yard.counts = False
    yard.step()
    yard.unit.ready = 3
    yard.run(30)
    assert (yard.state, yard.status.weight) == ("ramping", 1000)
    assert "counters of both sides" in yard.status.needs
    yard.counts = True
    yard.run(2)
    assert yard.status.weight >= 5000


def test_nor_does_one_that_is_promoted_while_nothing_can_be_seen() -> None:
    yard = Yard().until("ramping").run(0.5)
    yard.counts = False
    yard.run(1)
    yard.wish(promoted=1)
    yard.run(30)
    assert (yard.state, yard.status.weight) == ("ramping", 1000)


def test_what_cannot_be_seen_has_no_first_weight_either() -> None:
    yard = Yard(spec=replace(SPEC, shadow=Shadow(enabled=False))).until("instrumented")
    yard.unit.ready = 0
    yard.until("baselined")
    yard.counts = False
    yard.run(1)
    yard.unit.ready = 3
    yard.run(30)
    assert (yard.state, yard.status.weight) == ("baselined", 0)
    yard.counts = True
    yard.until("ramping")
