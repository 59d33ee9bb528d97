"""The way back: from every phase, in one write, believed when it is proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from spinyard.core.chain import first_break
from spinyard.core.ids import Uid
from spinyard.core.observed import LookPeer
from spinyard.core.spec import Route
from spinyard.core.spinout import Approval
from spinyard.spinout.status import FORWARD, SpinoutState
from tests.spinout.worlds import PARENT, SPEC, UNIT, Yard

S = SpinoutState
PHASES = [str(phase) for phase in FORWARD if phase is not S.COMPLETED]


def at(phase: str) -> Yard:
    """A Yard that has just reached that phase."""
    yard = Yard(spec=replace(SPEC, capacity_floor=1))
    if phase == "held":
        yard.until("ramping").run(2)
        yard.pause()
        yard.step()
    return yard.until(phase) if yard.state != phase else yard


Push = Callable[[Yard], None]
REASONS: dict[str, Push] = {
    "Aborted": lambda yard: yard.wish(abort="enough"),
    "UnitGone": lambda yard: setattr(yard.unit, "gone", True),
    "ParentGone": lambda yard: setattr(yard.parent, "deleting", True),
}


@pytest.mark.parametrize("phase", [*PHASES, "held"])
@pytest.mark.parametrize("reason", REASONS)
def test_it_goes_back_from_every_phase(phase: str, reason: str) -> None:
    yard = at(phase)
    REASONS[reason](yard)
    begun = yard.now
    yard.step()
    assert (yard.state, yard.status.weight, yard.status.mirror) == ("rolling_back", 0, 0), "one write"
    yard.until("rolled_back")
    assert (yard.weight, yard.status.stopped_reason) == (0, reason)
    assert yard.now - begun < yard.spec.abort_deadline_seconds
    assert first_break(yard.records) is None


@pytest.mark.parametrize("phase", [*PHASES, "held"])
@pytest.mark.parametrize("uid", [PARENT, UNIT], ids=["parent", "unit"])
def test_a_service_that_cannot_be_read_is_not_gone_and_nothing_rises(phase: str, uid: Uid) -> None:
    yard = at(phase)
    yard.pause(False)
    weight = yard.status.weight
    yard.look_away = lambda look: look == LookPeer(uid)
    yard.approve("completed")
    yard.run(60)
    assert yard.state not in ("rolling_back", "rolled_back", "completed")
    assert yard.status.weight == weight
    yard.look_away = lambda look: False
    yard.until("retiring")


@pytest.mark.parametrize("phase", [*PHASES, "held", "rolled_back"])
def test_what_is_deleted_ends_with_nothing_left_of_it(phase: str) -> None:
    if phase == "rolled_back":
        yard = at("ramping").run(2)
        yard.wish(abort="enough")
        yard.until("rolled_back")
    else:
        yard = at(phase)
    yard.delete()
    yard.until("abandoned")
    assert (yard.finished, yard.row.resources, yard.plane, yard.asked) == (True, (), {}, {})


def test_a_bad_unit_is_sent_back_in_every_phase_with_a_weight_also_while_held() -> None:
    for phase in ("ramping", "switched", "soaking", "retiring", "held"):
        yard = at(phase)
        yard.run(1)
        yard.unit.fails = 0.9
        yard.until("rolled_back")
        assert yard.status.stopped_reason == "GateFailed", phase


def test_a_dead_unit_is_sent_back_soon_but_not_when_the_parent_is_dead_too() -> None:
    yard = at("ramping").run(1)
    yard.unit.ready = 0
    yard.run(2)
    assert yard.state == "ramping"
    yard.until("rolled_back")
    assert yard.status.stopped_reason == "UnitDown"
    yard = at("ramping").run(1)
    yard.unit.ready = yard.parent.ready = 0
    yard.run(30)
    assert (yard.state, yard.status.held_reason) == ("held", "NoWayBack")


def test_0_percent_counts_when_it_is_confirmed_and_the_unit_s_counter_stands_still() -> None:
    yard = at("ramping").run(2)
    yard.confirms = False
    yard.wish(abort="enough")
    yard.run(20)
    assert (yard.state, yard.weight) == ("rolling_back", 1000)
    yard.confirms = True
    yard.plane.update(yard.asked)
    for _ in range(20):
        # Somebody still comes through.
        yard.unit.answers(5)
        yard.look()
        yard.elapse(0.06)
    assert yard.state == "rolling_back"
    yard.until("rolled_back")


@pytest.mark.parametrize("how", ["no counters", "a new epoch at every look"])
def test_0_percent_that_cannot_be_proven_is_not_believed(how: str) -> None:
    yard = at("ramping").run(2)
    yard.wish(abort="enough")
    for _ in range(60):
        if how == "no counters":
            yard.counts = False
        else:
            yard.restart_plane()
        yard.step()
    assert yard.state == "rolling_back"
    yard.counts = True
    yard.until("rolled_back")


def test_what_takes_too_long_is_told_once_and_goes_on() -> None:
    yard = Yard(spec=replace(SPEC, escalation="0800-thumbs")).until("ramping").run(2)
    yard.confirms = False
    yard.wish(abort="enough")
    yard.run(80)
    pages = [e for plan in yard.plans for e in plan.events if e.reason == "AbortOverdue"]
    assert [page.type for page in pages] == ["Warning"]
    assert "To call: 0800-thumbs" in pages[0].message
    assert [r.kind for r in yard.records].count("page") == 1
    yard.confirms = True
    yard.plane.update(yard.asked)
    yard.until("rolled_back")


def test_what_was_never_sent_a_request_is_back_at_once_whatever_the_data_plane_says() -> None:
    yard = Yard(confirms=False).until("scaffolded").run(1)
    yard.wish(abort="enough")
    yard.run(1)
    assert yard.state == "rolled_back"


def test_a_refused_weight_goes_back_with_the_words_of_the_refusal() -> None:
    yard = at("ramping").run(2)
    while yard.status.weight == 1000:
        yard.rejected = "" if yard.weight == 0 else "no such cluster"
        yard.step()
    yard.run(1)
    assert (yard.state, yard.status.stopped_reason) == ("rolling_back", "Rejected")
    assert "no such cluster" in yard.status.stopped
    yard.rejected = ""
    yard.plane.update(yard.asked)
    yard.until("rolled_back")


def test_the_next_start_begins_another_attempt_and_nothing_of_the_last_one_counts() -> None:
    yard = at("ramping").run(5)
    yard.unit.fails = 0.5
    yard.until("rolled_back").run(60)
    assert yard.state == "rolled_back"
    yard.unit.fails = 0.0
    yard.wish(started=2)
    yard.until("scaffolded")
    status = yard.status
    assert (status.attempt, status.evidence, status.stopped, status.highest) == (2, None, "", 0)
    yard.until("retiring")


def test_one_that_is_aborted_before_it_began_again_does_not_begin() -> None:
    yard = at("ramping").run(1)
    yard.wish(abort="enough")
    yard.until("rolled_back")
    yard.wish(started=2)
    yard.run(60)
    assert yard.state == "rolled_back"


def test_a_start_meant_for_an_attempt_that_goes_back_begins_no_other_by_itself() -> None:
    yard = Yard(spec=replace(SPEC, contract_digest="")).until("decided").run(1)
    yard.unit.gone = True
    yard.until("rolled_back")
    yard.unit.gone = False
    yard.wish(contract_digest="sha256:c")
    yard.run(60)
    assert yard.state == "rolled_back"
    yard.wish(started=2)
    yard.until("scaffolded")


def test_an_abort_while_the_boundary_goes_brings_it_back_at_0_percent() -> None:
    yard = at("retiring")
    yard.unit.spec = replace(yard.unit.spec, route=Route(("gallery.local",), "/photos"))
    yard.approve("completed")
    yard.step()
    assert not yard.status.is_bounded
    first = yard.row.resources[0].key
    yard.wish(abort="after all not")
    yard.until("rolled_back")
    assert [r.key for r in yard.row.resources] != [first]
    assert (yard.in_force is not None, yard.weight) == (True, 0)


def test_a_boundary_that_is_lost_after_it_went_back_is_told_again() -> None:
    yard = at("ramping").run(1)
    yard.wish(abort="enough")
    yard.until("rolled_back")
    yard.lose_boundary()
    yard.run(40)
    assert yard.in_force is not None


def test_with_force_nothing_is_waited_for_but_the_end_of_the_boundary() -> None:
    yard = at("ramping").run(1)
    yard.counts = False
    yard.delete()
    yard.run(5)
    assert yard.state == "rolling_back"
    yard.row = replace(yard.row, force=True)
    yard.until("abandoned")
    assert yard.asked == {}


def test_a_waiver_keeps_a_failing_gate_from_sending_it_back() -> None:
    waiver = Approval("ramping", "ann", "known", 0.0, 1, waives="success rate")
    yard = Yard(spec=replace(SPEC, approvals=(*SPEC.approvals, waiver))).until("ramping")
    yard.unit.fails = 0.9
    yard.run(10)
    assert yard.state != "rolling_back"
    yard.wish(approvals=SPEC.approvals)
    yard.until("rolled_back")
