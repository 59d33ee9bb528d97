"""Evidence is of one version of the unit and of the parent, of one set of routes, and judged by the present margin."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spinyard.core.ids import Digest
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spinout import BoundaryRoute, LatencyGoal, Shadow, SpinoutGates, SpinoutStep
from spinyard.core.verdict import Counts
from tests.spinout.worlds import SPEC, Side, Yard

SLOW = (SpinoutStep(1000, hold_seconds=60.0), SpinoutStep(5000), SpinoutStep(WEIGHT_ALL, hold_seconds=30.0))


def deploy(side: Side, version: str = "v2") -> None:
    side.spec = replace(side.spec, template_digest=Digest(f"sha256:{version}"))


def at_half(**gates: object) -> Yard:
    yard = Yard(spec=replace(SPEC, steps=SLOW, gates=SpinoutGates(**gates)))  # type: ignore[arg-type]
    yard.until("ramping")
    while yard.status.weight != 5000:
        yard.step()
    return yard


@pytest.mark.parametrize("fails", [0.02, 0.03, 0.05, 0.1])
def test_a_step_is_not_passed_on_what_another_version_of_the_unit_was_seen_to_do(fails: float) -> None:
    yard = at_half()
    deploy(yard.unit)
    yard.unit.fails = fails
    yard.run(60)
    assert max(yard.weights) == 5000
    assert yard.state in ("ramping", "rolling_back", "rolled_back")


def test_the_step_begins_anew_and_that_is_told() -> None:
    yard = at_half()
    before = yard.status.evidence
    assert before is not None and before.new.requests > 500
    deploy(yard.unit)
    at = yard.now
    yard.step()
    status = yard.status
    assert (status.evidence, status.latency, status.new.requests, status.step_begun_at) == (None, None, 0, at)
    told = [event for event in yard.plan.events if event.reason == "EvidenceAnew"]
    assert "thumbs" in told[0].message and "sha256:v2" in told[0].message
    assert [json.loads(r.body)["why"] for r in yard.records if r.kind == "evidence"] == [told[0].message]
    assert status.baseline_counts.requests > before.old.requests, "what the parent did stays known"
    yard.until("soaking")


def test_a_step_s_time_counts_from_the_new_version_on() -> None:
    yard = Yard(spec=replace(SPEC, steps=SLOW)).until("ramping").run(50)
    deploy(yard.unit)
    yard.run(50)
    assert yard.status.weight == 1000
    yard.run(15)
    assert yard.status.weight >= 5000


def test_a_promoted_rollout_of_the_unit_is_another_version_too() -> None:
    yard = at_half()
    yard.unit.spec = replace(yard.unit.spec, side="side2")
    yard.step()
    assert yard.status.evidence is None


def test_as_long_as_both_versions_answer_nothing_rises() -> None:
    yard = at_half()
    deploy(yard.unit)
    yard.unit.state = "progressing"
    yard.run(60)
    assert (yard.state, yard.status.weight) == ("ramping", 5000)
    assert "thumbs to have its present version alone" in yard.status.needs
    mixed = yard.status.evidence
    assert mixed is not None and mixed.new.requests > 1000
    yard.unit.state = "available"
    yard.step()
    assert yard.status.evidence is None
    yard.until("soaking")


def test_a_mixture_that_fails_goes_back_nevertheless() -> None:
    yard = at_half()
    deploy(yard.unit)
    yard.unit.state, yard.unit.fails = "progressing", 0.3
    yard.until("rolled_back")


def test_copies_are_compared_with_one_version() -> None:
    yard = Yard(compares=False).until("shadowing").run(5)
    begun = yard.status.step_begun_at
    deploy(yard.unit)
    yard.step()
    assert yard.status.step_begun_at > begun
    yard.compares = True
    yard.until("ramping")


def test_soaking_begins_anew_with_another_version() -> None:
    yard = Yard(spec=replace(SPEC, soak_seconds=20.0)).until("soaking").run(15)
    deploy(yard.unit)
    yard.run(15)
    assert (yard.state, yard.status.new.requests < 20 * yard.rate) == ("soaking", True)
    yard.run(10)
    assert yard.state == "retiring"


@pytest.mark.parametrize("phase", ["instrumented", "baselined", "shadowing"])
@pytest.mark.parametrize("what", ["the parent's version", "the routes"])
def test_the_baseline_is_of_the_parent_and_the_routes_that_are_spun_out(phase: str, what: str) -> None:
    yard = Yard(compares=False)
    if phase == "baselined":
        yard.unit.ready = 0
    yard.until(phase).run(1.5)
    yard.parent.fails = 0.04
    if what == "the routes":
        yard.wish(routes=(BoundaryRoute("/other/*", "GET"),))
    else:
        deploy(yard.parent)
    changed = yard.now
    yard.step()
    assert (yard.status.baseline, yard.status.baseline_counts, yard.state) == (None, Counts(), phase)
    yard.compares, yard.unit.ready = True, 3
    yard.until("ramping")
    assert yard.status.baseline is not None
    assert yard.now - changed >= SPEC.baseline_seconds
    assert yard.status.baseline_counts.rate == pytest.approx(0.04, abs=0.02)


def test_another_parent_on_the_way_is_the_one_that_the_unit_is_held_against_at_full_weight() -> None:
    yard = at_half(latency=(LatencyGoal(0.95, max_ratio=4.0),))
    deploy(yard.parent)
    yard.parent.fails = yard.unit.fails = 0.02
    yard.parent.seconds = 0.2
    yard.step()
    assert (yard.status.baseline, yard.status.evidence) == (None, None)
    yard.until("soaking")
    assert yard.status.evidence is not None
    assert yard.status.baseline_counts == Counts() and yard.status.evidence.old.rate == pytest.approx(0.02, abs=0.01)
    below = dict(yard.status.baseline_latency)
    assert below[0.1] == 0 and below[0.25] > 100
    deploy(yard.parent, "v3")
    yard.run(3)
    assert dict(yard.status.baseline_latency) == below, "where it has no requests it shows nothing else"
    words = [json.loads(r.body)["why"] for r in yard.records if r.kind == "evidence"]
    assert "counts no more" in words[0] and "sha256:v3" in words[1] and "counts on" in words[1]


def test_a_changed_margin_holds_from_now_on() -> None:
    yard = Yard(spec=replace(SPEC, steps=(SpinoutStep(1000, hold_seconds=10.0), *SLOW[1:]), gates=SpinoutGates(0.05)))
    yard.parent.fails, yard.unit.fails = 0.02, 0.025
    yard.until("ramping").run(2)
    yard.wish(gates=SpinoutGates(0.001))
    yard.run(25)
    assert yard.weights == [0, 1000]
    assert yard.status.evidence is not None and yard.status.evidence.margin == 0.001
    assert [gate.limit for gate in yard.status.gates if gate.name == "success rate"] == [0.001]
    assert "margin" in json.loads(next(r.body for r in yard.records if r.kind == "evidence"))["why"]


def test_one_attempt_s_version_is_no_change_for_the_next() -> None:
    yard = Yard(spec=replace(SPEC, shadow=Shadow(enabled=False))).until("ramping")
    yard.wish(abort="enough")
    yard.until("rolled_back")
    deploy(yard.unit)
    yard.wish(started=2, abort="")
    yard.until("soaking")
    assert not [r for r in yard.records if r.kind == "evidence"]


def test_what_cannot_be_read_is_no_other_version() -> None:
    yard = at_half()
    yard.look_away = lambda look: type(look).__name__ == "LookPeer"
    yard.run(3)
    yard.look_away = lambda look: False
    yard.run(1)
    assert not [r for r in yard.records if r.kind == "evidence"]
