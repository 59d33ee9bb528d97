"""Each check that can break a contract is seen to fail on a planted break, and only then."""

from __future__ import annotations

from collections import Counter

import pytest

from spinyard.spinout.contract import CHECKS, Severity, Shown, compare, shown_to_fail
from spinyard.spinout.contract.planted import Plant, planted

PLANTS = sorted(planted(), key=lambda plant: plant.check)
BREAKING = {check for check, severity in CHECKS.items() if severity is Severity.BREAKING}


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.check for plant in PLANTS])
def test_a_planted_break_is_found_and_nothing_is_said_of_no_change_and_of_the_way_back(plant: Plant) -> None:
    found = compare(plant.old, plant.new)
    assert plant.check in {one.id for one in found.breaking}
    assert not found.is_compatible
    assert compare(plant.old, plant.old).findings == ()
    assert compare(plant.new, plant.new).findings == ()
    back = compare(plant.new, plant.old)
    assert (plant.check in {one.id for one in back.findings}) is plant.is_symmetric
    assert all(one.was != one.now and one.message and one.place.pointer for one in found.findings)


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.check for plant in PLANTS])
def test_a_plant_breaks_one_thing_only(plant: Plant) -> None:
    assert [one.id for one in compare(plant.old, plant.new).breaking] == [plant.check]


def test_each_check_has_one_plant() -> None:
    assert Counter(plant.check for plant in PLANTS) == Counter(BREAKING)


def test_the_self_test_of_the_gate_says_the_same() -> None:
    shown = shown_to_fail()
    assert {one.check for one in shown} == BREAKING
    assert len(BREAKING) > 60
    assert all(one.can_be_trusted for one in shown)


def test_a_check_that_finds_nothing_is_not_to_be_trusted() -> None:
    assert not Shown("x", is_found=False, is_silent_unchanged=True, is_silent_backwards=True).can_be_trusted
    assert not Shown("x", is_found=True, is_silent_unchanged=False, is_silent_backwards=True).can_be_trusted
    assert not Shown("x", is_found=True, is_silent_unchanged=True, is_silent_backwards=False).can_be_trusted
