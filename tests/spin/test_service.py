"""Decisions of a Service in corners: changed probes, restarts and jumping clocks, crash loops, force."""

from __future__ import annotations

from dataclasses import replace

from spinyard.core.ids import resource_key
from spinyard.core.plan import CreateChild, DeleteChild, Plan, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import DataDirectory, DirectoryScope, External, ExternalEndpoint, HttpGet, Probe, ServiceSpec
from spinyard.core.want import RouteWant
from spinyard.spin.service.status import ServiceStatus
from tests.spin.services import (
    NEW,
    NOW,
    OLD,
    ROUTE,
    UID,
    after,
    asked,
    decide,
    digest,
    failures,
    fleet,
    group,
    service,
    status_of,
)

ASKS_OLD = replace(OLD, readiness_probe=Probe(http_get=HttpGet("/health-of-old", "http")))
ASKS_NEW = replace(NEW, readiness_probe=Probe(http_get=HttpGet("/health-of-new", "http")))


def made(plan: Plan) -> list[CreateChild]:
    return [change for change in plan.children if isinstance(change, CreateChild)]


def deleted(plan: Plan) -> list[DeleteChild]:
    return [change for change in plan.children if isinstance(change, DeleteChild)]


def route_check(row: ObjectRow) -> Probe | None:
    want = next(resource.stored_want for resource in row.resources if resource.key == ROUTE)
    assert isinstance(want, RouteWant)
    return want.probe


def running(made_of: object = OLD) -> ObjectRow:
    row = service(made_of)  # type: ignore[arg-type]
    children = fleet(group("serving", row.template, range(3)), highest_slot=2)  # type: ignore[arg-type]
    return after(row, decide(row, children))


def test_instances_are_not_checked_by_the_probe_of_another_template() -> None:
    old = group("serving", ASKS_OLD, range(3))
    row = running(ASKS_OLD)
    assert route_check(row) == ASKS_OLD.readiness_probe
    row = asked(row, template=ASKS_NEW)
    row = after(row, decide(row, fleet(old)))
    assert route_check(row) == ASKS_OLD.readiness_probe, "only old ones run"
    row = after(row, decide(row, fleet(old, group("pending", ASKS_NEW, range(100, 101)))))
    mixed = route_check(row)
    assert mixed is not None and mixed.tcp_socket is not None, "both run: what both of them pass"
    row = after(row, decide(row, fleet(group("serving", ASKS_NEW, range(100, 103)))))
    assert route_check(row) == ASKS_NEW.readiness_probe, "only new ones run"


def test_going_back_to_the_good_template_checks_as_it_asked() -> None:
    row = asked(running(ASKS_OLD), template=ASKS_NEW)
    row = after(row, decide(row, fleet(group("serving", ASKS_OLD, range(3)))))
    broken = fleet(group("serving", ASKS_OLD, range(3)), failed=failures(ASKS_NEW, 6, newest=NOW + 20))
    row = after(row, decide(row, broken, NOW + 21))
    assert status_of(decide(row, broken, NOW + 21)).given_up == digest(ASKS_NEW)
    assert route_check(after(row, decide(row, broken, NOW + 21))) == ASKS_OLD.readiness_probe


def test_a_restart_ends_though_the_clock_went_back_after_it() -> None:
    row = asked(running(), restarted_at=NOW + 10)
    row = after(row, decide(row, fleet(group("serving", OLD, range(3)), highest_slot=2), NOW + 10))
    hour_ago = NOW - 3600
    fresh = fleet(group("serving", OLD, range(3, 6), created_at=hour_ago), highest_slot=5)
    plan = decide(row, fresh, hour_ago + 60)
    assert (plan.children, plan.state) == ((), "available")


def test_a_restart_replaces_every_instance_that_was_there() -> None:
    row = asked(running(), restarted_at=NOW + 10)
    children = fleet(group("serving", OLD, range(3)), highest_slot=2)
    row = after(row, decide(row, children, NOW + 10))
    plan = decide(row, children, NOW + 10.1)
    assert plan.state == "progressing"
    both = fleet(group("serving", OLD, range(4)), highest_slot=3)
    assert [change.uid for change in deleted(decide(row, both, NOW + 11))] == ["child-0"]


def test_a_version_asked_for_at_zero_replicas_has_its_whole_time_when_it_is_scaled_up() -> None:
    row = asked(running(), replicas=0)
    row = after(row, decide(row, fleet()))
    row = asked(row, template=NEW)
    row = after(row, decide(row, fleet()))
    plan = decide(asked(row, replicas=3), fleet(), NOW + 86400)
    assert status_of(plan).given_up == ""
    assert {change.template_digest for change in made(plan)} == {digest(NEW)}


def test_a_version_given_up_once_is_tried_again_when_it_is_asked_for_again() -> None:
    serving = group("serving", OLD, range(3))
    before = failures(NEW, 6, newest=NOW - 1)
    row = asked(running(), template=NEW)
    row = after(row, decide(row, fleet(serving, failed=before), NOW - 30))
    row = after(row, decide(row, fleet(serving, failed=before)))
    assert status_of(decide(row, fleet(serving, failed=before))).given_up == digest(NEW)
    row = asked(row, template=OLD)
    row = after(row, decide(row, fleet(serving, failed=before), NOW + 10))
    row = asked(row, template=NEW)
    plan = decide(row, fleet(serving, failed=before), NOW + 20)
    assert status_of(plan).given_up == ""


def test_a_thousand_instances_that_do_not_start_are_not_started_for_ever_at_full_speed() -> None:
    row = asked(running(), template=NEW, replicas=1000)
    row = replace(row, status=b"", state="progressing")
    crashed = failures(NEW, 32, newest=NOW, apart=0.01)
    plan = decide(row, fleet(failed=crashed))
    assert made(plan) == []
    assert plan.wake_at is not None
    half_open = decide(row, fleet(failed=crashed), NOW + 61)
    assert len(made(half_open)) == 1
    proven = fleet(group("serving", NEW, range(200, 201)), failed=crashed, last_served_at=((digest(NEW), NOW + 61),))
    assert len(made(decide(row, proven, NOW + 62))) > 1


def test_failures_that_a_jump_left_in_the_future_stop_no_start() -> None:
    row = running()
    plan = decide(row, fleet(failed=failures(OLD, 12, newest=NOW + 3600)))
    assert len(made(plan)) == 3


def test_a_service_that_lacks_instances_is_not_looked_at_all_the_time() -> None:
    row = running()
    plan = decide(row, fleet(group("pending", OLD, range(3))), NOW + 5000)
    assert plan.wake_at is not None and plan.wake_at >= NOW + 5005


def test_force_reaches_children_that_are_on_their_way_out_already() -> None:
    row = replace(running(), state="terminating", delete_at=NOW, force=True)
    stuck = fleet(group("terminating", OLD, range(2), deleting=True), group("serving", OLD, range(2, 3)))
    changes = deleted(decide(row, stuck))
    assert {change.uid for change in changes} == {"child-0", "child-1", "child-2"}
    assert all(change.force for change in changes)


def test_a_deletion_without_force_forces_no_child() -> None:
    row = replace(running(), state="terminating", delete_at=NOW)
    changes = deleted(decide(row, fleet(group("serving", OLD, range(3)))))
    assert len(changes) == 3 and not any(change.force for change in changes)


def test_a_directory_of_another_provider_does_not_hold_up_the_service() -> None:
    shared = replace(OLD, data_directories=(DataDirectory("data", DirectoryScope.SERVICE),))
    key = resource_key(UID, "dir/data")
    row = service(replace(shared, provider="other"), resources=(Resource(key, UID, "process", "directory", True),))
    plan = decide(row, fleet())
    assert made(plan), plan.why


def test_a_directory_that_only_an_older_template_named_is_made_all_the_same() -> None:
    """Its row is open until the Service goes; its making got lost before the template changed (simulation, 10278)."""
    key = resource_key(UID, "dir/data")
    row = running()
    row = replace(row, resources=(*row.resources, Resource(key, UID, "fake", "directory", True)))
    plan = decide(row, fleet(group("serving", OLD, range(3))), absent=(key,))
    assert [action.key for action in plan.actions] == [key]


def test_what_was_ours_goes_when_the_service_becomes_external() -> None:
    row = asked(running(), external=External((ExternalEndpoint("10.0.0.1", 80),)))
    assert isinstance(row.spec, ServiceSpec)
    row = replace(row, spec=replace(row.spec, template_digest=""), template=None)  # type: ignore[arg-type]
    children = fleet(group("serving", OLD, range(3)))
    row = after(row, decide(row, children))
    for _ in range(3):
        plan = decide(row, children)
        row = after(row, plan)
    assert len(deleted(plan)) == 3


def test_a_status_of_before_is_understood() -> None:
    row = service(status=ServiceStatus(since=NOW - 5, target=digest(OLD), good=digest(OLD)))
    assert decide(row, fleet(group("serving", OLD, range(3)))).children == ()


def test_a_version_that_starts_and_dies_is_given_up_though_all_of_it_was_up_for_a_moment() -> None:
    """A program without a probe is up as soon as it runs."""
    old, new = digest(OLD), digest(NEW)
    status = ServiceStatus(since=NOW - 60, good=old, target=new, progressed_at=NOW - 30, best_updated_ready=2)
    row = service(NEW, status)
    row = after(row, decide(row, fleet()))
    up = fleet(group("serving", NEW, range(100, 103)), last_served_at=((new, NOW - 1),))
    first = decide(row, up)
    assert status_of(first).good == old
    assert first.wake_at is not None and NOW + 9 < first.wake_at < NOW + 10
    row = after(row, first)
    died = tuple(replace(one, served_at=one.failed_at - 0.1) for one in failures(NEW, 5, newest=NOW + 20))
    second = decide(row, fleet(failed=died, last_served_at=((new, NOW + 19.9),)), NOW + 20)
    assert status_of(second).given_up == new
    held_out = decide(row, up, NOW + 10)
    assert status_of(held_out).good == new


def test_the_time_in_which_a_roll_was_paused_does_not_count_though_nobody_looked() -> None:
    old, new = digest(OLD), digest(NEW)
    row = service(NEW, ServiceStatus(since=NOW - 60, good=old, target=new, progressed_at=NOW), paused=True)
    row = after(row, decide(row, fleet()))
    beside = fleet(group("serving", OLD, range(3)))
    row = after(row, decide(row, beside, NOW + 1))
    resumed = replace(row, paused=False)
    for moment in (NOW + 3600, NOW + 3601):
        plan = decide(resumed, beside, moment)
        assert status_of(plan).given_up == ""
        resumed = after(resumed, plan)
    assert status_of(decide(resumed, beside, NOW + 3600 + 601)).given_up == new


def test_failures_that_a_clock_left_in_the_future_do_not_hide_that_nothing_starts() -> None:
    row = service()
    row = after(row, decide(row, fleet()))
    hidden = failures(OLD, 32, newest=NOW + 3600)
    plan = decide(row, fleet(failed=hidden), NOW)
    assert plan.children == () and plan.wake_at is not None and plan.wake_at <= NOW + 5
    few = decide(row, fleet(failed=hidden[:8]), NOW)
    assert few.children, "what is not hidden is known"
