"""A Rollout goes up when the gates pass, stays when nothing can be told, and goes back with one write."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.figures import quantile, wilson
from spinyard.core.ids import Uid
from spinyard.core.observed import ChildFailure, ClusterTraffic, Held
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import Analysis, Gauge, GaugeLimit, LatencyLimit, RolloutStep, RolloutStrategy
from spinyard.core.verdict import Counts
from tests.spin.rollouts import NEW, NOW, OLD, STEPS, House


def test_a_good_version_climbs_every_step_and_becomes_the_services() -> None:
    house = House()
    assert house.run(120) == "succeeded"
    assert list(dict.fromkeys(house.weights)) == [0, 1000, 5000, WEIGHT_ALL]
    assert house.service is not None
    assert (house.service.template_digest, house.service.rollout) == (NEW, None)
    assert [(record.weight, record.how) for record in house.status.steps] == [
        (1000, "passed"),
        (5000, "passed"),
        (WEIGHT_ALL, "passed"),
    ]


def test_a_bad_version_goes_back_to_nothing_in_one_write() -> None:
    house = House(new_fails=0.2)
    assert house.run(120) == "rolled_back"
    assert list(dict.fromkeys(house.weights)) == [0, 1000]
    assert house.weights[-1] == 0
    assert house.service is not None
    assert (house.service.template_digest, house.service.rollout) == (OLD, None)
    assert house.status.stopped_reason == "GateFailed"
    assert "success rate" in house.status.stopped


@pytest.mark.parametrize("what", ["the gate fails", "the new side dies", "its instances fail"])
def test_nothing_goes_back_to_an_old_side_without_an_instance_until_it_has_one(what: str) -> None:
    house = House()
    house.run(60, until="judging")
    house.stable_ready = 0
    if what == "the gate fails":
        house.new_fails = 0.5
    elif what == "the new side dies":
        house.short = 1
    else:
        failure = ChildFailure(Uid("x" * 20), NEW, NOW + 1, None, "ProcessExited", "exited with code 3")
        house.failures = [replace(failure, uid=Uid(str(n) * 20)) for n in range(5)]
    house.run(60)
    assert (house.row.state, house.weights[-1]) == ("judging", 1000)
    assert "nobody of the old version is in traffic" in house.plans[-1].why
    told = [event for plan in house.plans for event in plan.events if event.reason == "NoWayBack"]
    assert [event.type for event in told] == ["Warning"]
    house.stable_ready = 4
    assert house.run(60) == "rolled_back"


@pytest.mark.parametrize("moment", ["pending", "preparing", "shifting", "judging", "promoting", "retreating"])
def test_a_service_that_cannot_be_read_is_not_gone(moment: str) -> None:
    house = House(confirms=moment != "retreating")
    if moment == "retreating":
        house.confirms = True
        house.run(60, until="judging")
        house.confirms = False
        house.wish(abort="enough")
    house.run(120, until=moment)
    assert house.row.state == moment
    weights = list(house.weights)
    house.is_readable = False
    house.run(1000)
    assert (house.row.state, house.weights) == (moment, weights)
    assert "another version" in house.plans[-1].why
    house.is_readable = house.confirms = True
    assert house.run(120) == ("rolled_back" if moment == "retreating" else "succeeded")


def test_a_version_that_turns_bad_after_a_long_good_soak_is_found_by_its_last_requests() -> None:
    house = House(RolloutStrategy(steps=(RolloutStep(WEIGHT_ALL),), soak_seconds=1e6), rate=5_000.0)
    house.run(60, until="judging")
    house.run(200)
    assert house.status.new.requests > 900_000
    house.rate, house.new_fails = 100.0, 0.2
    before = house.traffic["new"].requests
    house.run(120, until="retreating")
    assert (house.row.state, "lately" in house.status.stopped) == ("retreating", True)
    assert house.traffic["new"].requests - before < 1_000


def test_no_deadline_goes_back_to_nobody_but_a_persons_abort_does() -> None:
    house = House()
    house.run(60, until="judging")
    house.run(60, until="preparing")
    house.run(60, until="shifting")
    house.confirms = False
    house.stable_ready = 0
    house.run(1000)
    assert house.row.state == "shifting"
    house.confirms = True
    house.wish(abort="I know")
    assert house.run(60) == "rolled_back"


def test_the_new_sides_instances_stay_until_nothing_reaches_them_any_more() -> None:
    house = House()
    house.run(60, until="judging")
    house.wish(abort="I do not like it")
    house.step()
    assert house.row.state == "retreating"
    assert house.service is not None and house.service.rollout is not None
    assert (house.service.rollout.weight, house.service.rollout.replicas) == (0, 1)
    house.confirms = False
    house.run(20)
    assert (house.row.state, house.service.rollout.replicas) == ("retreating", 1)
    house.confirms = True
    house.step()
    assert house.row.state == "retreating"
    house.traffic["new"] = replace_requests(house.traffic["new"], 3)
    house.step()
    assert house.row.state == "retreating", "a request arrived between the two looks"
    house.step()
    assert house.row.state == "removing"
    assert house.run(10) == "rolled_back"


def replace_requests(traffic: ClusterTraffic, more: int) -> ClusterTraffic:
    return ClusterTraffic(traffic.requests + more, traffic.failures, traffic.active, traffic.latency)


def test_without_requests_nothing_is_decided_and_it_says_how_many_it_needs() -> None:
    house = House(rate=0.0)
    assert house.run(600) == "judging"
    assert house.status.weight == 1000
    assert "requests on the new side" in house.status.needs


def test_missing_counters_decide_nothing_and_the_stretch_counts_when_they_are_back() -> None:
    house = House(new_fails=0.2)
    house.run(60, until="judging")
    house.step()
    house.counts = False
    assert house.run(300) == "judging"
    assert "counters" in house.status.needs
    house.counts = True
    house.run(5)
    assert house.row.state != "judging", "the whole stretch at one weight is evidence"


def test_another_epoch_begins_the_counting_anew() -> None:
    house = House(rate=100)
    house.run(60, until="judging")
    house.step()
    house.step()
    seen = house.status.evidence
    assert seen is not None
    house.epoch, house.traffic = "2", {"old": ClusterTraffic(5000, 5000), "new": ClusterTraffic(5000, 0)}
    house.step(0.0)
    assert house.status.evidence == seen


def test_counters_that_make_no_sense_decide_nothing_and_are_no_base_for_the_next() -> None:
    gauge = GaugeLimit(Gauge.FAILURE_RATE, 0.1)
    steps = (RolloutStep(1000, wait=True), RolloutStep(WEIGHT_ALL))
    house = House(RolloutStrategy(steps=steps, analysis=Analysis(gauges=(gauge,))))
    house.run(60, until="judging")
    house.step(40.0)
    seen, true = house.status.evidence, house.traffic["new"]
    assert seen is not None
    for senseless in (ClusterTraffic(3), msgspec.structs.replace(true, failures=9000)):
        house.traffic["new"] = senseless
        house.step(0.0)
        assert (house.row.state, house.status.weight) == ("judging", 1000)
        assert "no sense" in house.status.needs
    house.traffic["new"] = true
    house.step(0.0)
    assert house.status.evidence is not None
    assert house.status.evidence.new == seen.new


def test_what_the_step_before_was_seen_to_do_does_not_pass_the_full_weight() -> None:
    house = House(RolloutStrategy(steps=(RolloutStep(5000), RolloutStep(WEIGHT_ALL))))
    house.run(120, until="preparing")
    house.run(120, until="judging")
    while house.status.weight < WEIGHT_ALL:
        house.step()
    house.counts = False
    assert house.run(60) == "judging"
    assert "counters" in house.status.needs
    house.counts = True
    assert house.run(60) == "succeeded"


def test_a_pass_is_not_enough_while_the_counters_are_missing() -> None:
    strategy = RolloutStrategy(steps=(RolloutStep(1000, hold_seconds=30.0), RolloutStep(WEIGHT_ALL)))
    house = House(strategy)
    house.run(60, until="judging")
    house.run(20)
    assert house.status.gates[0].verdict == "pass"
    house.counts = False
    house.run(60)
    assert (house.row.state, house.status.weight) == ("judging", 1000)


def test_it_waits_for_a_person_when_the_step_says_so_and_while_it_is_paused() -> None:
    strategy = RolloutStrategy(steps=(RolloutStep(1000, wait=True), RolloutStep(WEIGHT_ALL)))
    house = House(strategy)
    assert house.run(300) == "judging"
    assert "promote" in house.status.needs
    house.row = replace(house.row, paused=True)
    house.wish(promoted=1)
    assert house.run(60) == "judging"
    house.row = replace(house.row, paused=False)
    assert house.run(60) == "succeeded"
    assert house.status.steps[0].how == "promoted"


def test_guards_hold_while_it_is_paused() -> None:
    house = House(RolloutStrategy(steps=(RolloutStep(5000, wait=True), RolloutStep(WEIGHT_ALL))))
    house.run(60, until="judging")
    house.row = replace(house.row, paused=True)
    house.run(30)
    house.new_fails = 0.5
    assert house.run(60) == "rolled_back"


def test_promote_fully_goes_to_the_end_without_evidence() -> None:
    house = House(rate=0.0)
    house.run(60, until="judging")
    house.wish(promoted_fully=True)
    assert house.run(60) == "succeeded"
    assert list(dict.fromkeys(house.weights)) == [0, 1000, WEIGHT_ALL]


def test_a_version_that_never_gets_ready_gets_no_request() -> None:
    house = House(starts=False)
    assert house.run(300) == "rolled_back"
    assert set(house.weights) == {0}
    assert house.status.stopped_reason == "NotReadyInTime"


def test_one_whose_instances_fail_again_and_again_is_not_waited_for() -> None:
    house = House(starts=False)
    house.run(2)
    failure = ChildFailure(Uid("x" * 20), NEW, NOW + 1, None, "ProcessExited", "exited with code 3")
    house.failures = [replace(failure, uid=Uid(str(n) * 20)) for n in range(5)]
    assert house.run(10) == "rolled_back"
    assert "code 3" in house.status.stopped


def test_a_new_side_that_went_away_under_its_weight_is_left_at_once() -> None:
    house = House(rate=0.0)
    house.run(60, until="judging")
    house.starts = False
    assert house.run(10) == "rolled_back"
    assert house.status.stopped_reason == "NewSideDown"


def test_blue_and_green_are_both_whole_before_the_first_request_moves() -> None:
    house = House(RolloutStrategy(blue_green=True, steps=(RolloutStep(WEIGHT_ALL),), soak_seconds=20.0))
    house.run(60, until="shifting")
    assert house.service is not None and house.service.rollout is not None
    assert house.service.rollout.replicas == 4
    begun = house.now
    assert house.run(120) == "succeeded"
    assert house.now - begun > 20


def test_the_old_side_is_kept_whole_during_the_soak_and_a_guard_goes_back_from_there() -> None:
    gauges = (GaugeLimit(Gauge.FAILURE_RATE, 0.05),)
    strategy = RolloutStrategy(
        blue_green=True, steps=(RolloutStep(WEIGHT_ALL),), soak_seconds=60.0, analysis=Analysis(False, gauges=gauges)
    )
    house = House(strategy, new_fails=0.2)
    assert house.run(120) == "rolled_back"
    assert house.service is not None and house.service.template_digest == OLD
    assert "failure rate" in house.status.stopped


def test_latency_is_compared_with_the_limit_and_with_the_old_side() -> None:
    tight = Analysis(latency=(LatencyLimit(0.95, max_seconds=0.05),))
    house = House(RolloutStrategy(steps=STEPS, analysis=tight))
    assert house.run(60) == "rolled_back"
    assert "p95 latency" in house.status.stopped
    alike = Analysis(latency=(LatencyLimit(0.95, max_ratio=1.2),))
    assert House(RolloutStrategy(steps=STEPS, analysis=alike)).run(120) == "succeeded"


@pytest.mark.parametrize("moment", ["pending", "preparing", "shifting", "judging"])
def test_an_abort_at_any_moment_ends_with_the_old_version_alone(moment: str) -> None:
    house = House()
    house.run(60, until=moment)
    house.wish(abort="no")
    assert house.run(60) == "rolled_back"
    assert house.service is not None
    assert (house.service.template_digest, house.service.rollout) == (OLD, None)
    assert house.weights[-1] == 0


@pytest.mark.parametrize("moment", ["pending", "preparing", "shifting", "judging", "promoting"])
def test_a_service_that_goes_away_takes_its_rollout_with_it(moment: str) -> None:
    house = House()
    house.run(60, until=moment)
    house.service = None
    assert house.run(10) in ("rolled_back", "succeeded")


def test_it_waits_for_another_rollout_and_for_a_service_that_is_not_well() -> None:
    house = House()
    house.state = "degraded"
    assert house.run(30) == "pending"
    assert house.weights == [0]
    house.state = "available"
    assert house.run(120) == "succeeded"


def test_a_clock_that_jumps_back_does_not_make_it_wait_for_hours() -> None:
    strategy = RolloutStrategy(steps=(RolloutStep(1000, hold_seconds=5.0), RolloutStep(WEIGHT_ALL)))
    house = House(strategy)
    house.run(60, until="judging")
    house.now -= 7200
    assert house.run(120) == "succeeded"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_happens_the_weight_rises_only_after_a_pass_and_the_end_is_one_side_alone(data: st.DataObject) -> None:
    house = House(rate=data.draw(st.sampled_from((0.0, 3.0, 100.0))))
    house.new_fails = data.draw(st.sampled_from((0.0, 0.02, 0.3)))
    for _ in range(data.draw(st.integers(1, 60))):
        match data.draw(st.integers(0, 9)):
            case 0:
                house.confirms = not house.confirms
            case 1:
                house.starts = not house.starts
            case 2:
                house.counts = not house.counts
            case 3:
                house.epoch, house.traffic = str(house.now), {"old": ClusterTraffic(), "new": ClusterTraffic()}
            case 4:
                house.now += data.draw(st.sampled_from((-3600.0, 3600.0)))
            case 5:
                house.row = replace(house.row, paused=not house.row.paused)
        if house.plans and house.plans[-1].finished:
            break
        before, passed = house.status.weight, [gate.verdict for gate in house.status.gates]
        plan = house.step(data.draw(st.sampled_from((0.0, 0.1, 0.5, 5.0))))
        if house.status.weight > before > 0:
            assert plan.state == "shifting"
            assert house.status.steps[-1].how == "passed", passed
    house.confirms = house.starts = house.counts = True
    house.row = replace(house.row, paused=False)
    house.wish(abort="enough")
    if not (house.plans and house.plans[-1].finished):
        house.run(200)
    assert house.plans[-1].finished
    assert house.service is not None and house.service.rollout is None
    assert house.service.template_digest == (NEW if house.row.state == "succeeded" else OLD)


def test_quantiles_come_from_the_buckets_and_nothing_from_counters_that_went_back() -> None:
    shape = [(0.01, 50), (0.1, 100), (60.0, 100)]
    assert quantile(shape, 0.5) == pytest.approx(0.01)
    assert quantile(shape, 0.75) == pytest.approx(0.055)
    assert quantile([(0.01, -5), (0.1, 5)], 0.5) is None
    assert quantile([], 0.5) is None
    assert wilson(Counts(0, 0)) == (None, None)
    low, high = wilson(Counts(100, 1))
    assert low is not None and high is not None
    assert 0.94 < low < 0.99 < high < 1.0


def test_a_hold_keeps_it_where_it_is_and_the_guards_go_on() -> None:
    house = House(RolloutStrategy(steps=STEPS))
    house.run(60, until="judging")
    house.held = Held("everything", "a freeze", "alice", NOW)
    assert house.run(120) == "judging"
    assert house.status.weight == 1000
    assert "a freeze" in house.status.needs
    house.new_fails = 0.5
    assert house.run(60) == "rolled_back"


def test_at_full_weight_the_new_version_is_measured_by_what_the_old_one_did_before() -> None:
    whole = RolloutStrategy(blue_green=True, steps=(RolloutStep(WEIGHT_ALL),), soak_seconds=5.0)
    assert House(whole, old_fails=0.1, new_fails=0.12).run(120) == "succeeded"
    bad = House(whole, old_fails=0.0, new_fails=0.2)
    assert bad.run(120) == "rolled_back"
    assert "before" in bad.status.stopped
    silent = House(whole, rate=0.0)
    assert silent.run(120) == "judging"
    assert "more requests" in silent.status.needs


def test_a_promoted_rollout_ends_whatever_its_service_makes_of_the_new_version() -> None:
    for wish in ({}, {"abort": "too late"}):
        house = House()
        house.run(120, until="promoting")
        house.state = "degraded"
        house.wish(**wish)
        assert house.run(70) == "succeeded"
        assert "promoted" in house.plans[-1].why


def test_a_weight_that_is_never_confirmed_goes_back_and_its_instances_are_watched_meanwhile() -> None:
    house = House()
    house.run(60, until="judging")
    while house.row.state != "shifting":
        house.confirms = house.row.state != "preparing"
        house.step()
    house.confirms = False
    before = house.now
    house.run(130, until="retreating")
    assert (house.row.state, house.status.stopped_reason) == ("retreating", "NotConfirmed")
    assert house.now - before < 125
    house = House()
    house.run(60, until="judging")
    house.run(60, until="preparing")
    house.confirms = False
    house.run(5, until="shifting")
    house.starts = False
    house.run(10, until="retreating")
    assert house.status.stopped_reason == "NewSideDown"


def test_it_is_not_promoted_with_fewer_instances_than_it_needs() -> None:
    house = House()
    house.run(120, until="shifting")
    while house.status.weight < WEIGHT_ALL:
        house.step()
    house.short = 1
    assert house.run(60) == "judging"
    assert "1 more instance of the new version" in house.status.needs
    house.short = 0
    assert house.run(60) == "succeeded"


def test_instances_that_served_for_long_are_no_failed_starts() -> None:
    house = House(RolloutStrategy(steps=(RolloutStep(1000, wait=True), RolloutStep(WEIGHT_ALL))))
    house.run(60, until="judging")
    lost = ChildFailure(Uid("x" * 20), NEW, NOW + 90_000, NOW + 60, "ProcessExited", "was killed by signal 9")
    house.failures = [replace(lost, uid=Uid(str(n) * 20)) for n in range(8)]
    assert house.run(10) == "judging"


def test_a_paused_service_is_waited_for() -> None:
    house = House(starts=False)
    house.service_paused = True
    assert house.run(300) == "pending"
    house.service_paused = False
    house.run(10, until="preparing")
    house.service_paused = True
    assert house.run(300) == "preparing"


def test_while_nothing_happens_nothing_is_written() -> None:
    house = House(RolloutStrategy(steps=(RolloutStep(1000, wait=True), RolloutStep(WEIGHT_ALL))), rate=0.0)
    house.run(60, until="judging")
    for _ in range(4):
        house.step()
    seen = house.row.status
    for _ in range(20):
        house.step()
    assert house.row.status == seen
