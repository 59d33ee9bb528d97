"""What each phase waits for, and what it says of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spinyard.core.chain import first_break
from spinyard.core.observed import GaugeSample, Held, TraceJoin, Unknown
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.spec import External, ExternalEndpoint, Route, ServiceSpec
from spinyard.core.spinout import (
    BoundaryRoute,
    Inconclusive,
    LatencyGoal,
    Objective,
    Shadow,
    SpinoutGates,
    SpinoutStep,
    ThresholdGate,
)
from spinyard.core.standing import Standing
from spinyard.core.want import BoundaryRule
from spinyard.spin.service.status import ServiceState, ServiceStatus
from spinyard.spinout.status import FORWARD
from tests.spinout.worlds import SPEC, Yard

FORWARD_NAMES = [str(phase) for phase in FORWARD]


def yard_with(**changes: object) -> Yard:
    return Yard(spec=replace(SPEC, **changes))  # type: ignore[arg-type]


def test_a_good_unit_goes_from_proposed_to_completed_and_every_step_is_on_record() -> None:
    yard = Yard().until("retiring")
    assert yard.weights == [0, 1000, 5000, WEIGHT_ALL]
    yard.unit.spec = replace(yard.unit.spec, route=Route(("gallery.local",), "/photos"))
    yard.approve("completed")
    yard.until("completed")
    assert (yard.finished, yard.plane, yard.row.resources, yard.plan.outcome) == (True, {}, (), "Succeeded")
    moves = [json.loads(r.body)["to"] for r in yard.records if r.kind == "transition"]
    assert moves == FORWARD_NAMES[1:]
    shifts = [json.loads(r.body)["toWeight"] for r in yard.records if r.kind == "weight"]
    assert shifts == [0, 1000, 5000, WEIGHT_ALL]  # the first one is of copies alone
    verdicts = [json.loads(r.body) for r in yard.records if r.kind == "verdict"]
    assert all(one["gates"] and one["config"].startswith("sha256:") for one in verdicts)
    assert first_break(yard.records) is None


@pytest.mark.parametrize(
    ("changes", "state", "needs"),
    [
        pytest.param({"approvals": ()}, "proposed", "approve thumbnails analysed", id="not analysed"),
        pytest.param({"approvals": SPEC.approvals[:1]}, "analysed", "approve thumbnails decided", id="not decided"),
        pytest.param({"contract_digest": ""}, "decided", "approve thumbnails contracted", id="no contract"),
        pytest.param({"started": 0}, "contracted", "spinout start", id="not started"),
        pytest.param(
            {"routes": (BoundaryRoute("/photos", "POST", ("photo",)),)},
            "contracted",
            "a route that may move",
            id="writes",
        ),
    ],
)
def test_a_phase_that_waits_says_for_what(changes: dict[str, object], state: str, needs: str) -> None:
    yard = yard_with(**changes).run(60)
    assert yard.state == state
    assert needs in yard.status.needs
    assert not yard.asked


def test_what_writes_stays_with_the_parent_unless_the_unit_forwards_it() -> None:
    routes = (BoundaryRoute("/photos/{id}", "GET"), BoundaryRoute("/photos", "POST", ("photo",)))
    for forwards in (False, True):
        yard = yard_with(routes=routes, forward_to_owner=forwards).until("ramping")
        assert yard.in_force is not None
        assert yard.in_force.rules == (
            BoundaryRule(path="/photos/{id}", method="GET", weighted=True, mirrored=True),
            BoundaryRule(path="/photos", method="POST", weighted=forwards, mirrored=False),
        )


def test_postpone_waits_and_go_goes_on() -> None:
    yard = yard_with(approvals=SPEC.approvals[:1])
    yard.approve("decided", "postpone")
    yard.run(40)
    assert (yard.state, yard.plan.reason) == ("analysed", "Postponed")
    yard.now += 1
    yard.approve("decided", "go")
    yard.until("ramping")


def test_no_go_ends_it() -> None:
    yard = yard_with(approvals=SPEC.approvals[:1])
    yard.approve("decided", "no-go")
    yard.until("abandoned")
    assert yard.finished
    assert "no-go, said ann" in yard.plan.why


def test_the_unit_must_be_available_and_settled() -> None:
    yard = Yard()
    yard.unit.state = "progressing"
    yard.run(5)
    assert (yard.state, yard.status.needs) == ("contracted", "Service thumbs to be available, it is progressing")


@pytest.mark.parametrize("field", ["confirms", "counts"])
def test_it_is_instrumented_when_the_boundary_is_confirmed_and_counted(field: str) -> None:
    yard = Yard()
    setattr(yard, field, False)
    yard.run(10)
    assert yard.state == "scaffolded"
    setattr(yard, field, True)
    yard.until("instrumented")


def test_the_baseline_takes_enough_requests_and_time() -> None:
    few = Yard(rate=1.0).until("instrumented").run(20)
    assert (few.state, few.status.needs.split(" more")[0].isdecimal()) == ("instrumented", True)
    yard = Yard().until("instrumented")
    begun = yard.now
    yard.until("baselined")
    assert yard.now - begun >= SPEC.baseline_seconds
    assert yard.status.baseline_counts.requests >= SPEC.baseline_requests


def test_a_restarted_data_plane_begins_the_baseline_anew() -> None:
    yard = Yard().until("instrumented").run(1.5)
    yard.restart_plane()
    yard.run(1.5)
    assert yard.state == "instrumented"
    yard.until("baselined")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"shadow": Shadow(enabled=False)}, "it is switched off"),
        ({"routes": (BoundaryRoute("/photos", "POST"),), "forward_to_owner": True}, "no route is safe to copy"),
    ],
    ids=["off", "nothing safe"],
)
def test_shadowing_is_skipped_with_words(changes: dict[str, object], why: str) -> None:
    yard = yard_with(**changes).until("baselined")
    yard.until("ramping")
    assert why in yard.plan.why
    assert "shadowing" not in [plan.state for plan in yard.plans]


def test_nothing_has_a_weight_before_copies_were_compared() -> None:
    yard = Yard(compares=False).until("shadowing").run(20)
    assert (yard.state, yard.status.mirror, yard.status.weight) == ("shadowing", WEIGHT_ALL, 0)
    yard.compares = True
    yard.until("ramping")
    assert (yard.status.mirror, yard.status.weight) == (0, 1000)


def test_answers_that_differ_send_it_back() -> None:
    yard = Yard(different=3).until("rolled_back")
    assert yard.status.stopped.startswith("shadow parity: 3 of")
    assert yard.weights == [0]


def test_a_step_waits_for_its_time_and_for_a_person() -> None:
    steps = (SpinoutStep(1000, hold_seconds=60.0), SpinoutStep(WEIGHT_ALL, wait=True))
    yard = yard_with(steps=steps).until("ramping").run(55)
    assert yard.status.needs == "60 s at this weight to pass"
    yard.run(30)
    assert (yard.status.weight, "spinout promote thumbnails" in yard.status.needs) == (WEIGHT_ALL, True)
    yard.wish(promoted=2)
    yard.until("soaking")


def test_a_person_promotes_a_step_and_all_of_them() -> None:
    yard = Yard(rate=1.0, spec=replace(SPEC, baseline_requests=0, shadow=Shadow(enabled=False))).until("ramping").run(3)
    yard.wish(promoted=1)
    yard.run(2)
    assert yard.weights == [0, 1000, 5000]
    yard.wish(promoted_fully=True)
    yard.until("soaking")
    assert yard.weights == [0, 1000, 5000, WEIGHT_ALL]
    assert [p.how for p in yard.status.passed if p.phase == "ramping"] == ["promoted"] * 3


def test_what_was_promoted_in_one_attempt_counts_for_nothing_in_the_next() -> None:
    yard = Yard(rate=1.0, spec=replace(SPEC, baseline_requests=0, shadow=Shadow(enabled=False))).until("ramping")
    yard.wish(promoted=3, promoted_fully=True)
    yard.until("soaking")
    yard.wish(abort="not yet")
    yard.until("rolled_back")
    yard.wish(abort="", started=2)
    yard.until("ramping").run(30)
    assert (yard.status.attempt, yard.status.weight) == (2, 1000)


def test_soaking_takes_its_time_and_time_that_it_was_held_does_not_count() -> None:
    yard = Yard().until("soaking").run(2)
    yard.pause()
    yard.run(20)
    assert (yard.state, yard.status.held_from) == ("held", "soaking")
    yard.pause(False)
    yard.run(3)
    assert yard.state == "soaking"
    yard.until("retiring")


def test_it_retires_only_with_a_word_and_a_route_of_the_unit_s_own() -> None:
    yard = Yard().until("retiring")
    yard.approve("completed")
    yard.run(5)
    assert yard.state == "retiring"
    assert "the route of thumbs has not the host gallery.local" in yard.status.needs
    yard.unit.spec = replace(yard.unit.spec, route=Route(("gallery.local",), "/photos/7"))
    yard.run(5)
    assert "does not cover /photos/{id}" in yard.status.needs
    yard.unit.spec = replace(yard.unit.spec, route=Route(("gallery.local",), "/photos"))
    yard.until("completed")


# -- what keeps it from rising -----------------------------------------------------------------------------------------


def test_the_unit_needs_an_instance_in_traffic_before_it_has_a_request() -> None:
    yard = Yard().until("baselined")
    yard.unit.ready = 0
    yard.run(5)
    assert (yard.state, yard.status.needs) == ("baselined", "an instance of thumbs in traffic")


def test_below_its_floor_the_parent_holds_it_until_it_is_there_again() -> None:
    yard = yard_with(capacity_floor=3).until("ramping").run(1)
    yard.parent.ready = 2
    yard.run(60)
    assert (yard.state, yard.status.weight) == ("held", 1000)
    assert "the old side is below its floor: 2 of 3" in yard.status.held_why
    yard.parent.ready = 3
    yard.until("soaking")


def external(yard: Yard, side: str) -> None:
    spec = ServiceSpec(
        external=External((ExternalEndpoint("10.0.0.1", 80), ExternalEndpoint("10.0.0.2", 80))),
        route=Route((f"{side}.local",)),
    )
    getattr(yard, side).spec = spec


def test_an_external_parent_whose_endpoints_are_all_unhealthy_holds_it() -> None:
    yard = Yard()
    external(yard, "parent")
    yard.endpoints = (True, True)
    yard.until("ramping").run(1)
    yard.endpoints = (False, False)
    yard.run(10)
    assert (yard.state, yard.status.weight) == ("held", 1000)
    assert "0 of 1 instances of gallery" in yard.status.held_why
    yard.endpoints = (False, True)
    yard.until("soaking")


def test_of_external_endpoints_that_nobody_can_tell_of_nothing_rises_and_nothing_goes_back() -> None:
    yard = Yard()
    external(yard, "unit")
    yard.until("baselined").run(10)
    assert (yard.state, yard.status.needs) == ("baselined", "an instance of thumbs in traffic (not known)")
    yard.endpoints = (True, False)
    yard.until("ramping").run(1)
    yard.endpoints = ()
    yard.run(30)
    assert (yard.state, yard.status.weight) == ("ramping", 1000)


def test_a_hold_holds_it_and_says_whose() -> None:
    yard = Yard().until("ramping").run(1)
    yard.held = Held("everything", "freeze", "ann", yard.now)
    yard.run(60)
    assert (yard.state, yard.status.weight, yard.status.held_why) == ("held", 1000, "held by ann: freeze")
    yard.held = None
    yard.until("soaking")


def test_what_the_data_plane_lost_is_told_again_and_not_judged_meanwhile() -> None:
    yard = Yard().until("ramping").run(3)
    before = yard.status.evidence
    yard.confirms = False
    yard.lose_boundary()
    yard.run(20)
    assert "the data plane to confirm 10 %" in yard.status.needs
    assert (yard.state, yard.status.evidence) == ("ramping", before)
    yard.confirms = True
    yard.until("soaking")


def test_a_rise_that_is_not_confirmed_is_not_judged() -> None:
    yard = Yard().until("ramping")
    while yard.status.weight == 1000:
        yard.confirms = yard.status.step_begun_at == 0.0 or yard.confirms
        yard.confirms = yard.weight != 1000
        yard.step()
    yard.run(60)
    assert (yard.status.weight, yard.weight, yard.status.step_begun_at) == (5000, 1000, 0.0)
    yard.confirms = True
    yard.execute(yard.plan)
    yard.plane.update(yard.asked)
    yard.until("soaking")


# -- missing data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["no counters", "no traffic", "a new epoch at every look", "old counters"])
def test_missing_data_neither_raises_nor_sends_back(how: str) -> None:
    yard = Yard().until("ramping").run(2)
    if how == "no counters":
        yard.counts = False
    elif how == "no traffic":
        yard.rate = 0.0
    elif how == "old counters":
        yard.counters_from = yard.now
    for _ in range(150):
        if how == "a new epoch at every look":
            yard.restart_plane()
        yard.step()
    assert (yard.state, yard.status.weight) == ("ramping", 1000)
    assert yard.status.needs


def test_the_first_look_after_an_absence_takes_the_whole_stretch() -> None:
    yard = Yard().until("ramping").run(2)
    yard.elapse(300)
    yard.until("switched")
    assert yard.status.evidence is not None
    assert yard.status.evidence.new.requests > 5000


@pytest.mark.parametrize("policy", list(Inconclusive))
def test_what_is_not_decided_by_the_deadline_is_held_or_goes_back_as_it_says(policy: Inconclusive) -> None:
    yard = yard_with(inconclusive=policy, deadline_seconds=30.0).until("ramping").run(2)
    yard.rate = 0.0
    yard.run(50)
    if policy is Inconclusive.ABORT:
        assert (yard.state, yard.status.stopped_reason) == ("rolled_back", "Inconclusive")
        return
    assert (yard.state, yard.status.weight, yard.status.held_reason) == ("held", 1000, "Inconclusive")
    yard.rate = 200.0
    yard.until("soaking")


def test_a_step_that_was_held_by_its_deadline_goes_on_when_it_is_promoted() -> None:
    yard = yard_with(deadline_seconds=60.0).until("ramping").run(2)
    yard.rate = 0.0
    yard.run(100)
    assert yard.state == "held"
    yard.wish(promoted=1)
    yard.run(3)
    assert (yard.state, yard.status.weight) == ("ramping", 5000)


# -- gates -------------------------------------------------------------------------------------------------------------


def gated(**gates: object) -> Yard:
    return yard_with(gates=SpinoutGates(**gates))  # type: ignore[arg-type]


def verdicts(yard: Yard) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in yard.status.gates}


def test_a_slow_unit_is_found_at_part_weight_and_at_full_weight() -> None:
    goals = (LatencyGoal(0.95, max_ratio=3.0), LatencyGoal(0.5, max_seconds=0.25))
    yard = gated(latency=goals).until("ramping")
    yard.unit.seconds = 0.4
    yard.until("rolled_back")
    assert "latency: too slow" in yard.status.stopped
    yard = gated(latency=goals).until("soaking")
    yard.unit.seconds = 0.4
    yard.slow_from_now()
    yard.until("rolled_back")
    assert "latency: too slow" in yard.status.stopped


def test_a_latency_goal_that_nothing_can_miss_never_passes() -> None:
    yard = gated(latency=(LatencyGoal(0.95, max_ratio=1000.0),)).until("ramping").run(120)
    assert (yard.state, yard.status.weight) == ("ramping", 1000)
    assert verdicts(yard)["p95 latency"] == "error"
    assert "has not been seen to fail" in yard.status.needs


def test_a_shadow_that_allows_every_difference_never_passes() -> None:
    yard = yard_with(shadow=Shadow(compared_min=20, different_max=1.0)).until("shadowing").run(60)
    assert yard.state == "shadowing"
    assert "has not been seen to fail" in yard.status.needs


def test_a_waived_gate_holds_nothing_up_until_the_waiver_is_over() -> None:
    yard = gated(latency=(LatencyGoal(0.95, max_ratio=1000.0),)).until("ramping").run(30)
    yard.approve("ramping", waives="p95 latency", expires_at=yard.now + 2.0)
    yard.run(1.9)
    reached = yard.status.weight
    assert (yard.state, reached) in (("ramping", 5000), ("ramping", WEIGHT_ALL))
    assert "waived" in [p.how for p in yard.status.passed]
    yard.run(60)
    assert (yard.state, yard.status.weight) == ("ramping", reached)


def test_the_objective_s_budget_is_a_guard_but_not_when_both_sides_fail() -> None:
    objective = Objective(0.999, window_seconds=3600.0)
    yard = gated(objective=objective).until("ramping")
    yard.approve("ramping", waives="success rate")
    yard.unit.fails = 0.1
    yard.until("rolled_back")
    assert yard.status.stopped.startswith("burn rate")
    yard = gated(objective=objective, margin=0.2).until("ramping").run(1)
    yard.unit.fails = yard.parent.fails = 0.1
    yard.run(30)
    assert yard.state == "ramping"
    assert "both sides fail" in yard.status.needs


def test_both_sides_failing_alike_is_no_verdict_against_the_unit() -> None:
    yard = Yard().until("ramping").run(1)
    yard.unit.fails = yard.parent.fails = 0.5
    yard.run(60)
    assert yard.state in ("ramping", "switched", "soaking")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Unknown("refused"), "inconclusive"),
        (GaugeSample(float("nan"), 0.0), "error"),
        (GaugeSample(5.0, -1000.0), "inconclusive"),
        (GaugeSample(5.0, 0.0), "pass"),
        (GaugeSample(500.0, 0.0), "fail"),
    ],
    ids=["down", "NaN", "stale", "good", "bad"],
)
def test_a_figure_from_elsewhere(answer: GaugeSample | Unknown, verdict: str) -> None:
    gate = ThresholdGate("queue depth", "http://prom", "q", 100.0)
    yard = gated(thresholds=(gate,)).until("ramping")
    for _ in range(10):
        fresh = replace(answer, at=yard.now + answer.at) if isinstance(answer, GaugeSample) else answer
        yard.gauges["q"] = fresh
        yard.step()
        if yard.state != "ramping":
            break
    assert verdicts(yard)["queue depth"] == verdict
    assert (yard.state == "ramping") == (verdict != "fail")


def test_traces_that_break_send_it_back_and_none_decide_nothing() -> None:
    yard = gated(trace_join_min=0.95).until("ramping")
    yard.joined = Unknown("no traces")
    yard.run(60)
    assert (yard.status.weight, verdicts(yard)["trace join"]) == (1000, "inconclusive")
    yard.joined = TraceJoin(100, 100)
    yard.until("rolled_back")


def test_a_configuration_that_cannot_be_judged_stays_where_it_is_and_says_so() -> None:
    yard = gated(latency=(LatencyGoal(7.0, max_ratio=1.2),), objective=Objective(1.5)).until("ramping").run(30)
    assert yard.state == "ramping"
    assert {verdicts(yard)["p700 latency"], verdicts(yard)["burn rate"]} == {"error"}


def test_what_is_read_of_a_service_s_status_is_what_it_writes() -> None:
    assert set(Standing.__struct_fields__) <= set(ServiceStatus.__struct_fields__)
    assert ServiceState.AVAILABLE == "available"
