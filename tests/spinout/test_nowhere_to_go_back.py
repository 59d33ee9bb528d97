"""Going back helps nobody when nobody at the parent can answer: it stays, and calls somebody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spinyard.core.spinout import Inconclusive
from tests.spinout.worlds import SPEC, Yard

FLOOR = replace(SPEC, capacity_floor=3, escalation="0800-thumbs")


def at(phase: str) -> Yard:
    return Yard(spec=FLOOR).until(phase).run(0.3)


@pytest.mark.parametrize("phase", ["ramping", "soaking", "retiring"])
@pytest.mark.parametrize("fails", [0.08, 1.0])
def test_a_failing_gate_sends_no_request_to_a_parent_without_an_instance(phase: str, fails: float) -> None:
    yard = at(phase)
    weight = yard.weight
    yard.parent.ready = 0
    yard.unit.fails = fails
    yard.run(120)
    assert (yard.state, yard.weight, yard.status.held_from) == ("held", weight, phase)
    assert yard.status.held_reason == "NoWayBack"
    assert "success rate" in yard.status.held_why and "0 of 3 instances of gallery" in yard.status.held_why
    yard.parent.ready = 3
    yard.until("rolled_back")
    assert (yard.status.stopped_reason, yard.weight) == ("GateFailed", 0)


def test_whoever_is_to_be_called_is_called_once() -> None:
    yard = at("retiring")
    yard.parent.ready = 0
    yard.unit.fails = 0.5
    yard.run(60)
    pages = [event for plan in yard.plans for event in plan.events if event.reason == "NoWayBack"]
    assert [page.type for page in pages] == ["Warning"]
    assert "To call: 0800-thumbs" in pages[0].message
    assert [record.kind for record in yard.records].count("page") == 1


def test_a_parent_that_was_shrunk_while_retiring_is_not_given_everything() -> None:
    yard = at("retiring")
    yard.parent.ready = 1
    yard.unit.fails = 0.5
    yard.run(60)
    assert (yard.state, yard.weight, yard.status.held_reason) == ("held", 10_000, "NoWayBack")
    yard.parent.ready = 3
    yard.until("rolled_back")


def test_before_that_one_instance_of_the_parent_is_better_than_a_unit_that_fails() -> None:
    yard = at("ramping")
    yard.parent.ready = 1
    yard.unit.fails = 0.5
    yard.until("rolled_back")


def test_a_refused_weight_and_a_dead_unit_do_not_go_back_to_nobody_either() -> None:
    yard = at("retiring")
    yard.parent.ready = yard.unit.ready = 0
    yard.run(60)
    assert (yard.state, yard.status.held_reason) == ("held", "NoWayBack")
    yard = at("ramping")
    while yard.status.weight == 1000:
        yard.rejected = "" if yard.weight == 0 else "no such cluster"
        yard.step()
    yard.parent.ready = 0
    yard.run(5)
    assert (yard.state, yard.status.held_reason) == ("held", "NoWayBack")


def test_a_deadline_does_not_send_requests_to_nobody() -> None:
    yard = Yard(spec=replace(FLOOR, inconclusive=Inconclusive.ABORT, deadline_seconds=5.0)).until("ramping")
    yard.rate = 0.0
    yard.parent.ready = 0
    yard.run(60)
    assert (yard.state, yard.status.weight) == ("held", 1000)


def test_a_person_s_abort_goes_back_nevertheless() -> None:
    yard = at("soaking")
    yard.parent.ready = 0
    yard.wish(abort="I know")
    yard.until("rolled_back")
