"""At full weight: a unit that turns bad after a long good time is judged by what it does now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.spinout.worlds import SPEC, Yard


def after_a_good_day(*, soak_seconds: float = 1e6) -> Yard:
    yard = Yard(spec=replace(SPEC, soak_seconds=soak_seconds))
    yard.until("soaking")
    yard.rate = 20_000.0
    yard.run(60)
    yard.rate = 200.0
    assert yard.status.new.requests > 1_000_000
    return yard


@pytest.mark.parametrize("fails", [0.1, 0.2, 1.0])
def test_a_unit_that_turns_bad_is_back_after_hundreds_of_requests_not_millions(fails: float) -> None:
    yard = after_a_good_day()
    yard.unit.fails = fails
    before = yard.unit.asked
    yard.until("rolling_back")
    assert yard.unit.asked - before < 1_000
    assert "lately" in yard.status.stopped


def test_it_does_not_pass_its_soak_while_it_is_bad() -> None:
    yard = after_a_good_day(soak_seconds=64.0)
    yard.unit.fails = 0.2
    yard.until("rolling_back")
    assert all(plan.state != "retiring" for plan in yard.plans)


def test_a_unit_within_its_margin_stays() -> None:
    yard = after_a_good_day()
    yard.unit.fails = yard.spec.gates.margin / 2
    yard.run(500)
    assert (yard.state, yard.weight) == ("soaking", 10_000)
