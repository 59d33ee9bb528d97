"""A unit that takes requests and ends none: no answer is in no counter of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import SpinoutStep
from spinyard.spinout.stalled import STALLED_SECONDS
from tests.spinout.worlds import SPEC, Yard

WAITS = SpinoutStep(5000, wait=True)


def at_weight(weight: int, *, rate: float = 200.0) -> Yard:
    yard = Yard(
        spec=replace(SPEC, steps=(SpinoutStep(weight, wait=True), SpinoutStep(WEIGHT_ALL, wait=True))), rate=rate
    )
    yard.until("ramping").run(5)
    assert (yard.weight, yard.state) == (weight, "ramping")
    return yard


@pytest.mark.parametrize("gives_up_at", [1e9, 30.0], ids=["users wait", "users go away"])
@pytest.mark.parametrize("weight", [1000, 5000, WEIGHT_ALL])
def test_a_unit_that_hangs_goes_back(weight: int, gives_up_at: float) -> None:
    yard = at_weight(weight)
    yard.unit.hangs, yard.unit.gives_up_at = True, gives_up_at
    begun = yard.now
    yard.until("rolling_back")
    assert STALLED_SECONDS <= yard.now - begun < STALLED_SECONDS + 5
    assert yard.status.stopped_reason == "GateFailed"
    assert "no answer from thumbs" in yard.status.stopped


def test_it_goes_back_while_it_is_held_too() -> None:
    yard = at_weight(5000)
    yard.pause()
    yard.run(2)
    assert yard.state == "held"
    yard.unit.hangs = True
    yard.until("rolling_back")
    assert "no answer" in yard.status.stopped


def test_both_sides_that_hang_are_no_word_against_the_unit() -> None:
    yard = at_weight(5000)
    yard.parent.hangs = yard.unit.hangs = True
    yard.run(60)
    assert (yard.state, yard.weight) == ("ramping", 5000)


def test_a_moment_without_an_answer_is_none() -> None:
    yard = at_weight(5000)
    for _ in range(5):
        yard.unit.hangs = True
        yard.run(STALLED_SECONDS - 4)
        yard.unit.hangs = False
        yard.run(3)
    assert (yard.state, yard.weight) == ("ramping", 5000)


def test_a_parent_that_takes_long_by_itself_gives_the_unit_as_much_time() -> None:
    yard = Yard(spec=replace(SPEC, steps=(WAITS, SpinoutStep(WEIGHT_ALL))))
    yard.parent.seconds = yard.unit.seconds = 2.5
    yard.until("ramping").run(5)
    yard.unit.hangs = True
    yard.run(20)
    assert (yard.state, yard.weight) == ("ramping", 5000)
    yard.until("rolling_back")


def test_streams_that_stay_open_while_nobody_asks_the_unit_say_nothing() -> None:
    yard = at_weight(5000)
    yard.unit.streams = 15
    yard.run(3)
    yard.unit.hangs, yard.unit.gives_up_at = True, 0.0
    yard.run(60)
    assert (yard.state, yard.weight) == ("ramping", 5000)


def test_without_counters_nothing_is_told() -> None:
    yard = at_weight(5000)
    yard.unit.hangs = True
    yard.run(2)
    yard.counts = False
    yard.run(60)
    assert (yard.state, yard.weight) == ("ramping", 5000)
