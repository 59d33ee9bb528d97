"""Spinouts straight on the real store: what apply refuses, what a person may ask, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import pytest

from spinyard.core.chain import Record
from spinyard.core.figures import Gate
from spinyard.core.plan import Plan
from spinyard.core.spec import External, ExternalEndpoint, Kind, Route, ServiceSpec
from spinyard.core.spinout import BoundaryRoute, SpinoutSpec, SpinoutStep
from spinyard.errors import Conflict, InvalidInput, NotFound, SpinyardError
from spinyard.ports.store import Commit, StoredObject
from spinyard.spinout.status import SpinoutStatus
from spinyard.store.link import Sql
from spinyard.usecases.apply import ApplyResult
from spinyard.usecases.change import Caller, delete, scale
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.spinout_approve import Approve, approve
from spinyard.usecases.spinout_history import verify
from spinyard.usecases.spinout_verbs import abort, hold, promote, resume, start
from tests.usecases.test_plan_and_apply import TEMPLATE, Yard, yard

__all__ = ["yard"]

E = TypeVar("E", bound=SpinyardError)
THUMBS = BoundaryRoute("/photos/{id}/thumb", "GET")
SPEC = SpinoutSpec("gallery", "thumbs", (THUMBS,), steps=(SpinoutStep(1_000), SpinoutStep(5_000), SpinoutStep(10_000)))


def service(name: str, **fields: object) -> Declared:
    spec = replace(ServiceSpec(replicas=3, route=Route((f"{name}.localhost",))), **fields)  # type: ignore[arg-type]
    return Declared(Kind.SERVICE, "default", name, spec, None if spec.external else TEMPLATE)


def spinout(name: str = "thumbnails", **fields: object) -> Declared:
    return Declared(Kind.SPINOUT, "default", name, replace(SPEC, **fields))  # type: ignore[arg-type]


def applied(yard: Yard, *more: Declared) -> StoredObject:
    done = yard.apply(service("gallery"), service("thumbs"), spinout(), *more)
    return done[2].stored


def stored(yard: Yard, name: str = "thumbnails", kind: Kind = Kind.SPINOUT) -> StoredObject:
    found = yard.store.read(lambda tx: tx.find(kind, "default", name), now=yard.now)
    assert found is not None
    return found


def spec_of(yard: Yard) -> SpinoutSpec:
    spec = stored(yard).row.spec
    assert isinstance(spec, SpinoutSpec)
    return spec


def put(yard: Yard, state: str, **status: Any) -> None:
    """As the engine would leave it."""
    yard.store.wake([stored(yard).row.uid], now=yard.now)
    yard.now += 1
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=0.5, limit=100)
    row = next(row for row in rows if row.kind is Kind.SPINOUT)
    plan = Plan(state, msgspec.json.encode(SpinoutStatus(**status)), "driven", "Driven", None)
    yard.store.commit([Commit(row, plan, release=True)], now=yard.now)
    yard.now += 1


def ask(yard: Yard, verb: Callable[..., StoredObject], *args: object, **fields: Any) -> StoredObject:
    yard.now += 1
    return yard.store.transact(
        lambda tx: verb(tx, "default", "thumbnails", Caller("ann"), *args, **fields), now=yard.now
    )


def records(yard: Yard) -> list[tuple[str, str, dict[str, Any]]]:
    found = yard.store.records(stored(yard).row.uid)
    return [(one.kind, one.actor, msgspec.json.decode(one.body)) for one in found]


# -- apply -------------------------------------------------------------------------------------------------------------


def test_it_is_made_beside_its_services_and_knows_them(yard: Yard) -> None:
    made = applied(yard)
    assert made.row.state == "proposed"
    spec = spec_of(yard)
    assert spec.parent_uid == stored(yard, "gallery", Kind.SERVICE).row.uid
    assert spec.unit_uid == stored(yard, "thumbs", Kind.SERVICE).row.uid
    ((kind, actor, body),) = records(yard)
    assert (kind, actor, body["verb"]) == ("config", "me", "create")
    assert body["spec"]["parent"] == "gallery" and "approvals" not in body["spec"]


def test_the_same_again_is_unchanged_and_says_nothing_in_the_history(yard: Yard) -> None:
    applied(yard)
    again = yard.apply(service("gallery"), service("thumbs"), spinout())
    assert [one.result for one in again] == [ApplyResult.UNCHANGED] * 3
    assert len(records(yard)) == 1


def test_a_service_that_is_not_there_is_told_with_the_nearest_name(yard: Yard) -> None:
    error = refused(InvalidInput, yard.apply, service("gallery"), service("thumbs"), spinout(parent="galery", unit="x"))
    assert [one["code"] for one in error.details["errors"]] == ["service_not_found"] * 2  # type: ignore[attr-defined]
    yard.apply(service("gallery"), service("thumbs"))
    error = refused(InvalidInput, yard.apply, spinout(parent="galery"))
    assert "did you mean gallery?" in error.message


def test_a_service_without_a_route_is_neither_parent_nor_unit(yard: Yard) -> None:
    error = refused(InvalidInput, yard.apply, service("gallery", route=None), service("thumbs", route=None), spinout())
    assert [one["code"] for one in error.details["errors"]] == ["no_route"] * 2  # type: ignore[attr-defined]


def test_a_request_of_a_parent_has_one_way(yard: Yard) -> None:
    applied(yard)
    other = spinout("other", routes=(BoundaryRoute("/photos/*"),))
    error = refused(InvalidInput, yard.apply, other)
    assert error.details["errors"][0]["code"] == "overlapping_routes"  # type: ignore[index]
    assert "Spinout default/thumbnails" in error.message
    elsewhere = replace(
        other, spec=replace(SPEC, parent="thumbs", unit="gallery", routes=(BoundaryRoute("/photos/*"),))
    )
    assert yard.apply(elsewhere)[0].result is ApplyResult.CREATED
    both = (spinout("a", routes=(BoundaryRoute("/x"),)), spinout("b", routes=(BoundaryRoute("/{any}"),)))
    refused(InvalidInput, yard.apply, *both)


@pytest.mark.parametrize(
    "change",
    [
        {"unit": "other"},
        {"routes": (BoundaryRoute("/else", "GET"),)},
        {"forward_to_owner": True},
        {"steps": (SpinoutStep(500), SpinoutStep(10_000))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_moves_requests_is_not_changed_while_they_move(yard: Yard, change: dict[str, Any]) -> None:
    applied(yard, service("other"))
    ask(yard, start)
    put(yard, "ramping", weight=1000, shown_weight=1000)
    error = refused(Conflict, yard.apply, spinout(**change))
    assert error.code == "spinout_in_traffic" and "spinout abort thumbnails" in error.next_step
    put(yard, "rolled_back", attempt=1)
    assert yard.apply(spinout(**change))[0].result is ApplyResult.CONFIGURED


def test_later_steps_and_gates_may_be_changed_while_requests_move_and_the_change_is_recorded(yard: Yard) -> None:
    applied(yard)
    ask(yard, start, evidence="done")
    put(yard, "ramping", weight=1000, shown_weight=1000)
    yard.apply(spinout(soak_seconds=5.0, steps=(SpinoutStep(1_000), SpinoutStep(10_000))))
    spec = spec_of(yard)
    assert (spec.started, spec.soak_seconds, len(spec.approvals), spec.capacity_floor) == (1, 5.0, 3, 3)
    kinds = [(kind, body.get("verb")) for kind, _, body in records(yard)]
    assert kinds[-1] == ("config", "change")
    assert records(yard)[-1][2]["config"] != records(yard)[0][2]["config"]


# -- start, approve ----------------------------------------------------------------------------------------------------


def test_start_begins_an_attempt_and_keeps_the_parents_room(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    spec = spec_of(yard)
    assert (spec.started, spec.capacity_floor, spec.approvals) == (1, 3, ())
    error = refused(Conflict, ask, yard, start)
    assert error.code == "spinout_started"


def test_evidence_at_the_start_approves_what_only_people_can_judge(yard: Yard) -> None:
    applied(yard)
    ask(yard, start, evidence="minutes of 12 May")
    assert [(one.phase, one.actor, one.attempt) for one in spec_of(yard).approvals] == [
        ("analysed", "ann", 1), ("decided", "ann", 1), ("contracted", "ann", 1)
    ]  # fmt: skip
    said = [(kind, body.get("phase")) for kind, actor, body in records(yard) if actor == "ann"]
    assert said == [("verb", None), ("approval", "analysed"), ("approval", "decided"), ("approval", "contracted")]


def test_with_a_contract_nobody_needs_to_approve_that_phase(yard: Yard) -> None:
    yard.apply(service("gallery"), service("thumbs"), spinout(contract="{}", contract_digest="sha256:0"))
    ask(yard, start, evidence="minutes")
    assert [one.phase for one in spec_of(yard).approvals] == ["analysed", "decided"]


def test_an_external_parent_has_no_floor(yard: Yard) -> None:
    elsewhere = service("gallery", replicas=1, external=External((ExternalEndpoint("10.0.0.7", 80),)))
    yard.apply(elsewhere, service("thumbs"), spinout())
    ask(yard, start)
    assert spec_of(yard).capacity_floor == 0


def test_a_new_attempt_begins_clean_after_it_went_back(yard: Yard) -> None:
    applied(yard)
    ask(yard, start, evidence="minutes")
    put(yard, "ramping", weight=1000)
    ask(yard, promote)
    ask(yard, abort, why="slow")
    error = refused(Conflict, ask, yard, promote)
    assert error.code == "spinout_goes_back" and "slow" in error.message
    put(yard, "rolled_back", attempt=1, stopped="slow")
    ask(yard, start)
    spec = spec_of(yard)
    assert (spec.started, spec.promoted, spec.abort) == (2, 0, "")
    assert {one.phase for one in spec.approvals} == {"analysed", "decided", "contracted"}
    error = refused(Conflict, ask, yard, start)
    assert error.code == "spinout_started"


def test_waivers_are_of_one_attempt(yard: Yard) -> None:
    applied(yard)
    ask(yard, start, evidence="minutes")
    put(yard, "ramping", attempt=1, weight=1000, gates=(Gate("success rate", "inconclusive", "not decided"),))
    ask(yard, approve, Approve(evidence="known", waive="success rate"))
    put(yard, "rolled_back", attempt=1)
    ask(yard, start)
    assert [one.waives for one in spec_of(yard).approvals] == ["", "", ""]


def test_approvals_before_the_start_are_of_the_attempt_to_come(yard: Yard) -> None:
    applied(yard)
    ask(yard, approve, Approve("analysed", "read the code"))
    ask(yard, approve, Approve("contracted", "agreed", through=True))
    assert [(one.phase, one.attempt) for one in spec_of(yard).approvals] == [
        ("analysed", 1), ("decided", 1), ("contracted", 1)
    ]  # fmt: skip
    ask(yard, start)
    assert len(spec_of(yard).approvals) == 3


def test_the_same_approval_again_changes_nothing(yard: Yard) -> None:
    applied(yard)
    ask(yard, approve, Approve("analysed", "read the code"))
    ask(yard, approve, Approve("analysed", "read it again"))
    assert len(spec_of(yard).approvals) == 1


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (Approve("analysed", " "), "evidence_missing"),
        (Approve("analysed", "x" * 16_001), "evidence_too_long"),
        (Approve("ramping", "x"), "not_approvable"),
        (Approve("elsewhere", "x"), "not_approvable"),
        (Approve(evidence="x", waive="success rate"), "not_started"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_approved_says_why(yard: Yard, asked: Approve, code: str) -> None:
    applied(yard)
    error = refused(SpinyardError, ask, yard, approve, asked)
    assert error.code == code and error.next_step


def test_the_end_is_approved_when_it_is_near_and_not_before(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "ramping")
    assert refused(Conflict, ask, yard, approve, Approve("completed", "x")).code == "phase_not_reached"
    put(yard, "retiring")
    ask(yard, approve, Approve("completed", "the module is deleted"))
    assert spec_of(yard).approvals[-1].phase == "completed"


def test_a_phase_that_lies_behind_is_not_approved(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "held", held_from="scaffolded")
    assert refused(Conflict, ask, yard, approve, Approve("decided", "x")).code == "phase_passed"


def test_a_decision_is_the_newest_word_as_long_as_nothing_is_decided(yard: Yard) -> None:
    applied(yard)
    for decision in ("postpone", "go", "no-go"):
        ask(yard, approve, Approve(evidence="so the board", decision=decision))
    said = [(one.phase, one.decision) for one in spec_of(yard).approvals]
    assert said == [("decided", "postpone"), ("decided", "go"), ("decided", "no-go")]
    words = [(kind, body["decision"]) for kind, _, body in records(yard) if "decision" in body]
    assert words == [("decision", "postpone"), ("approval", "go"), ("decision", "no-go")]
    put(yard, "decided")
    assert refused(Conflict, ask, yard, approve, Approve(evidence="x", decision="no-go")).code == "phase_passed"


def test_a_gate_that_is_asked_may_be_waived_with_a_name_a_reason_and_an_end(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "ramping", weight=1000, gates=(Gate("success rate", "inconclusive", "not decided"),))
    error = refused(InvalidInput, ask, yard, approve, Approve(evidence="x", waive="p95"))
    assert error.code == "no_such_gate" and "success rate" in error.next_step
    ask(yard, approve, Approve(evidence="known", waive="success rate", expires_seconds=7200.0))
    (waiver,) = spec_of(yard).approvals
    assert (waiver.waives, waiver.phase, waiver.expires_at) == ("success rate", "ramping", yard.now + 7200)
    assert records(yard)[-1][0] == "waiver"


# -- hold, resume, abort, promote --------------------------------------------------------------------------------------


def test_hold_and_resume_are_recorded_once(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    for _ in range(2):
        assert ask(yard, hold, why="lunch").row.paused
    for _ in range(2):
        assert not ask(yard, resume).row.paused
    verbs = [(body["verb"], body.get("why")) for kind, _, body in records(yard) if kind == "verb"]
    assert verbs == [("start", None), ("hold", "lunch"), ("resume", None)]


def test_what_holds_by_itself_is_not_resumed_by_word_alone(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "held", held_from="ramping", held_why="the old side is below its floor", held_reason="BelowFloor")
    error = refused(Conflict, ask, yard, resume)
    assert error.code == "held_by_itself" and "below its floor" in error.message


def test_what_was_not_decided_in_time_gets_more_of_it(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "held", held_from="ramping", held_why="not decided within 60 s", held_reason="Inconclusive")
    before = stored(yard).row.generation
    assert ask(yard, resume, why="traffic comes at night").row.generation == before + 1
    assert records(yard)[-1][2]["why"] == "traffic comes at night"


def test_abort_keeps_the_first_word_and_is_refused_of_what_is_over(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    ask(yard, abort, why="slow")
    ask(yard, abort, why="other")
    assert spec_of(yard).abort == "slow"
    put(yard, "completed")
    for verb in (abort, start, hold, resume, promote):
        assert refused(Conflict, ask, yard, verb).code == "spinout_over"


def test_abort_of_one_that_is_back_asks_nothing(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "rolled_back", attempt=1)
    ask(yard, abort, why="again")
    assert spec_of(yard).abort == ""
    ask(yard, start)
    ask(yard, abort, why="not now")
    assert spec_of(yard).abort == "not now"


def test_promote_passes_the_present_step_or_those_before_a_weight_or_all(yard: Yard) -> None:
    applied(yard)
    assert refused(Conflict, ask, yard, promote).code == "not_ramping"
    ask(yard, start)
    put(yard, "ramping", weight=1000, step=0)
    ask(yard, promote)
    assert spec_of(yard).promoted == 1
    error = refused(InvalidInput, ask, yard, promote, to=10.0)
    assert error.code == "step_reached" and spec_of(yard).promoted == 1
    ask(yard, promote, to=100.0)
    assert spec_of(yard).promoted == 2
    error = refused(InvalidInput, ask, yard, promote, to=60.0)
    assert error.code == "no_such_step" and "10, 50, 100" in error.next_step
    ask(yard, promote, full=True)
    assert spec_of(yard).promoted_fully


def test_an_unknown_name_is_answered_with_the_nearest(yard: Yard) -> None:
    applied(yard)
    error = refused(
        NotFound,
        yard.store.transact,
        lambda tx: start(tx, "default", "thumbnail", Caller("ann")),
        now=yard.now,
    )
    assert "Did you mean thumbnails?" in error.next_step


# -- what it keeps others from -----------------------------------------------------------------------------------------


def test_the_parent_keeps_its_room_until_soaking_is_over(yard: Yard) -> None:
    applied(yard)
    shrink(yard, 2)
    shrink(yard, 3)
    ask(yard, start)
    for state in ("proposed", "ramping", "soaking", "held", "rolling_back"):
        put(yard, state)
        error = refused(Conflict, shrink, yard, 2)
        assert error.code == "capacity_floor" and error.details["capacityFloor"] == 3
    assert refused(Conflict, yard.apply, service("gallery", replicas=1)).code == "capacity_floor"
    shrink(yard, 5)
    shrink(yard, 3)
    put(yard, "retiring", weight=10_000)
    shrink(yard, 1)
    error = refused(Conflict, shrink, yard, 0)
    assert error.code == "in_use" and "completed" in error.next_step
    put(yard, "completed")
    shrink(yard, 0)


def test_a_parent_may_shrink_again_when_it_is_rolled_back(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "rolled_back", attempt=1)
    shrink(yard, 1)


def test_neither_parent_nor_unit_is_deleted_while_it_runs(yard: Yard) -> None:
    applied(yard)
    ask(yard, start)
    put(yard, "ramping", weight=1000)
    for name in ("gallery", "thumbs"):
        error = refused(Conflict, remove, yard, name)
        assert error.code == "in_use" and "Spinout thumbnails" in error.message
    assert refused(Conflict, shrink, yard, 0, "thumbs").code == "in_use"
    put(yard, "completed")
    remove(yard, "gallery")


# -- history -----------------------------------------------------------------------------------------------------------


def test_the_history_is_whole_as_it_was_written(yard: Yard) -> None:
    applied(yard)
    ask(yard, start, evidence="minutes")
    found = verify(yard.store, stored(yard).row.uid)
    assert (found.is_whole, found.records) == (True, 5)


@pytest.mark.parametrize(
    ("sql", "seq", "why"),
    [
        ("UPDATE records SET body = replace(body, 'minutes', 'nothing') WHERE seq = 3", 3, "content"),
        ("UPDATE records SET actor = 'bob' WHERE seq = 2", 2, "content"),
        ("DELETE FROM records WHERE seq = 2", 2, "missing"),
        ("DELETE FROM records WHERE seq = 5", 5, "end is missing"),
        ("DELETE FROM records", 1, "end is missing"),
    ],
)
def test_a_change_behind_its_back_shows_where_it_is(yard: Yard, sql: str, seq: int, why: str) -> None:
    applied(yard)
    ask(yard, start, evidence="minutes")
    tamper(yard, sql)
    found = verify(yard.store, stored(yard).row.uid)
    assert found.broken is not None
    assert found.broken.seq == seq and why in found.broken.why


def tamper(yard: Yard, sql: str) -> None:
    with yard.store._sessions.write(queue=False) as connection:
        connection.execute(Sql(sql))


def shrink(yard: Yard, replicas: int, name: str = "gallery") -> StoredObject:
    id = ObjectId(Kind.SERVICE, "default", name)
    yard.now += 1
    return yard.store.transact(lambda tx: scale(tx, id, replicas, Caller("ann")), now=yard.now)


def remove(yard: Yard, name: str) -> StoredObject:
    found = stored(yard, name, Kind.SERVICE)
    yard.now += 1
    return yard.store.transact(lambda tx: delete(tx, found, Caller("ann"), force=False), now=yard.now)


def refused(kind: type[E], work: Callable[..., object], *args: object, **fields: object) -> E:
    with pytest.raises(kind) as caught:
        work(*args, **fields)
    return caught.value


def test_no_record_is_of_another_object(yard: Yard) -> None:
    other = spinout("avatars", routes=(BoundaryRoute("/avatars/*"),))
    applied(yard, other)
    for name in ("thumbnails", "avatars"):
        uid = stored(yard, name).row.uid
        found: list[Record] = list(yard.store.records(uid))
        assert found and {one.uid for one in found} == {uid}
    assert yard.store.records(stored(yard, "gallery", Kind.SERVICE).row.uid) == []
