"""Rollouts straight on the real store: what apply makes of another template, and what a person may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from spinyard.core.ids import Uid
from spinyard.core.plan import EndRollout, Plan, SetRollout
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    DataDirectory,
    DirectoryScope,
    Exec,
    HttpGet,
    Kind,
    Port,
    Probe,
    RolloutPart,
    RolloutSpec,
    RolloutStep,
    RolloutStrategy,
    Route,
    ServiceSpec,
    TemplateSpec,
    digest_of,
)
from spinyard.errors import Conflict, InvalidInput, NotFound
from spinyard.ports.store import Commit, StoredObject, Transaction
from spinyard.spin.rollout.status import RolloutStatus
from spinyard.spin.service.status import ServiceStatus
from spinyard.usecases.apply import ApplyResult
from spinyard.usecases.change import restart, scale
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.rollout_start import insert_rollout
from spinyard.usecases.rollout_verbs import RolledBack, abort, pause, promote, rollback
from spinyard.usecases.rollouts import find_rollout
from tests.usecases.test_plan_and_apply import ME, TEMPLATE, WEB, Yard, template, yard

__all__ = ["yard"]

OLD = TEMPLATE
NEW = replace(TEMPLATE, args=("new",))
THIRD = replace(TEMPLATE, args=("third",))
STRATEGY = RolloutStrategy(steps=(RolloutStep(1000), RolloutStep(10_000)))
Verb = Callable[..., StoredObject]


def web(template: TemplateSpec = OLD, **fields: object) -> Declared:
    base = ServiceSpec(replicas=2, route=Route(("web.localhost",)), strategy=STRATEGY)
    return Declared(Kind.SERVICE, "default", "web", replace(base, **fields), template)  # type: ignore[arg-type]


def up(yard: Yard, declared: Declared | None = None) -> None:
    """A Service whose version was fully available, as the engine would leave it."""
    (made,) = yard.apply(declared or web())
    status = msgspec.json.encode(ServiceStatus(good=made.stored.row.template_digest))
    drive(yard, Kind.SERVICE, "available", status)


def drive(yard: Yard, kind: Kind, state: str, status: bytes = b"{}", **fields: object) -> ObjectRow:
    yard.now += 1
    rows = yard.store.claim(holder="t", now=yard.now, lease_seconds=0.5, limit=100)
    row = next(row for row in rows if row.kind is kind)
    plan = Plan(state, status, "driven", "Driven", None, **fields)  # type: ignore[arg-type]
    yard.store.commit([Commit(row, plan, release=True)], now=yard.now)
    yard.now += 1
    return row


def started(yard: Yard) -> StoredObject:
    up(yard)
    (applied,) = yard.apply(web(NEW))
    assert applied.rollout is not None
    return applied.rollout


def part_of(rollout: StoredObject, **fields: object) -> RolloutPart:
    base = RolloutPart(rollout.row.uid, rollout.row.name, digest_of(NEW), "side", 1, 1, 1000)
    return replace(base, **fields)  # type: ignore[arg-type]


def running(yard: Yard) -> StoredObject:
    """Judging its first step, its part in the Service."""
    rollout = started(yard)
    change = SetRollout(stored(yard).row.uid, digest_of(OLD), part_of(rollout))
    drive(yard, Kind.ROLLOUT, "judging", msgspec.json.encode(RolloutStatus(weight=1000)), children=(change,))
    return rollout


def succeeded(yard: Yard) -> StoredObject:
    rollout = running(yard)
    yard.store.wake([rollout.row.uid], now=yard.now)
    change = EndRollout(stored(yard).row.uid, rollout.row.uid, promote=True)
    drive(yard, Kind.ROLLOUT, "succeeded", children=(change,), finished=True, keep_seconds=1e6)
    return rollout


def promoting(yard: Yard) -> StoredObject:
    """What it brought is the Service's; the old instances are still there."""
    rollout = running(yard)
    yard.store.wake([rollout.row.uid], now=yard.now)
    change = EndRollout(stored(yard).row.uid, rollout.row.uid, promote=True)
    drive(yard, Kind.ROLLOUT, "promoting", children=(change,))
    return rollout


def stored(yard: Yard) -> StoredObject:
    found = yard.run(lambda tx: tx.find(Kind.SERVICE, "default", "web"))
    assert found is not None
    return found


def service_spec(yard: Yard) -> ServiceSpec:
    spec = stored(yard).row.spec
    assert isinstance(spec, ServiceSpec)
    return spec


def rollout_of(yard: Yard, uid: Uid) -> StoredObject:
    found = yard.run(lambda tx: tx.find_uid(uid))
    assert found is not None
    return found


def spec_of(found: StoredObject) -> RolloutSpec:
    assert isinstance(found.row.spec, RolloutSpec)
    return found.row.spec


def rollouts(yard: Yard) -> list[StoredObject]:
    return list(yard.run(lambda tx: tx.select(Kind.ROLLOUT, finished=None)))


def ask(yard: Yard, verb: Verb, name: str = "web", **fields: object) -> StoredObject:
    return yard.run(lambda tx: verb(tx, "default", name, ME, **fields))


def code(yard: Yard, work: Callable[[], object]) -> str:
    with pytest.raises(Conflict) as caught:
        work()
    assert caught.value.next_step
    return caught.value.code


# -- apply -------------------------------------------------------------------------------------------------------------


def test_another_template_becomes_a_rollout_and_everything_else_is_applied_at_once(yard: Yard) -> None:
    up(yard)
    probe, shared = Probe(http_get=HttpGet()), DataDirectory("data", DirectoryScope.SERVICE)
    new = replace(NEW, readiness_probe=probe, data_directories=(shared, DataDirectory("own")))
    (applied,) = yard.apply(replace(web(new, replicas=5, owner="team"), labels={"tier": "front"}))
    assert applied.result is ApplyResult.CONFIGURED
    spec = service_spec(yard)
    assert (spec.replicas, spec.owner, spec.template_digest) == (5, "team", digest_of(OLD))
    assert stored(yard).row.template_digest == digest_of(OLD)
    assert applied.rollout is not None
    row, wanted = applied.rollout.row, spec_of(applied.rollout)
    assert (row.state, row.template, row.labels) == (
        "pending",
        new,
        (("spinyard.dev/service", "web"), ("tier", "front")),
    )
    assert row.name == f"web-{row.uid[:6]}"
    assert wanted == RolloutSpec(
        "web", stored(yard).row.uid, "team", digest_of(new), "", digest_of(OLD), STRATEGY, probe, (shared,)
    )
    events = yard.store.events(uid=stored(yard).row.uid)
    assert [e.message for e in events if e.reason == "RolloutCreated"] == [
        f"rollout {row.name} started, to {digest_of(new)}"
    ]


def test_a_probe_that_only_we_can_make_is_not_given_to_the_data_plane(yard: Yard) -> None:
    up(yard)
    (applied,) = yard.apply(web(replace(NEW, readiness_probe=Probe(exec=Exec(("true",))))))
    assert applied.rollout is not None and spec_of(applied.rollout).probe is None


def test_a_strategy_that_comes_with_the_template_rolls_it_out(yard: Yard) -> None:
    up(yard, web(strategy=None))
    (applied,) = yard.apply(web(NEW))
    assert applied.rollout is not None
    assert service_spec(yard).strategy == STRATEGY


@pytest.mark.parametrize(
    "before, after",
    [
        (web(), web()),
        (web(), web(strategy=replace(STRATEGY, blue_green=True))),
        (web(), web(NEW, strategy=None)),
        (web(replicas=0), web(NEW)),
        (web(), web(NEW, replicas=0)),
        (web(route=None, strategy=None), web(NEW)),
    ],
    ids=["identical", "another strategy", "no strategy", "from nothing", "to nothing", "no route before"],
)
def test_what_needs_no_rollout_is_a_plain_change(yard: Yard, before: Declared, after: Declared) -> None:
    up(yard, before)
    (applied,) = yard.apply(after)
    assert applied.rollout is None and rollouts(yard) == []
    assert after.template is not None
    assert stored(yard).row.template_digest == digest_of(after.template)


def test_the_first_version_and_one_that_never_worked_are_replaced_without_a_rollout(yard: Yard) -> None:
    (made,) = yard.apply(web())
    assert (made.result, made.rollout) == (ApplyResult.CREATED, None)
    (mended,) = yard.apply(web(NEW))
    assert mended.rollout is None and stored(yard).row.template_digest == digest_of(NEW)


def test_the_same_file_again_changes_nothing_while_it_runs(yard: Yard) -> None:
    for make in (started, running):
        yard.__init__()  # type: ignore[misc]
        make(yard)
        version, seq = stored(yard).row.resource_version, yard.store.commit_seq()
        (again,) = yard.apply(web(NEW))
        assert again.result is ApplyResult.UNCHANGED
        assert (stored(yard).row.resource_version, yard.store.commit_seq()) == (version, seq)
    (scaled,) = yard.apply(web(NEW, replicas=7))
    assert (scaled.result, scaled.rollout) == (ApplyResult.CONFIGURED, None)
    spec = service_spec(yard)
    assert (spec.replicas, spec.template_digest) == (7, digest_of(OLD))
    assert spec.rollout is not None and len(rollouts(yard)) == 1


def test_what_the_engine_wrote_is_kept_whatever_is_sent(yard: Yard) -> None:
    rollout = running(yard)
    yard.apply(web(NEW, replicas=3, side="mine", rollout=part_of(rollout, weight=9999)))
    spec = service_spec(yard)
    assert (spec.side, spec.rollout) == ("", part_of(rollout))
    yard.store.wake([rollout.row.uid], now=yard.now)
    end = EndRollout(stored(yard).row.uid, rollout.row.uid, promote=True)
    drive(yard, Kind.ROLLOUT, "succeeded", children=(end,), finished=True)
    (same,) = yard.apply(web(NEW, replicas=3))
    assert same.result is ApplyResult.UNCHANGED
    assert (service_spec(yard).side, service_spec(yard).rollout) == ("side", None)


def test_what_does_not_go_beside_a_running_rollout_is_refused(yard: Yard) -> None:
    rollout = running(yard)
    before = stored(yard)
    for declared in (web(THIRD), web(OLD), web(NEW, strategy=None), web(NEW, route=None), web(NEW, replicas=0),
                     web(NEW, restarted_at=yard.now)):  # fmt: skip
        with pytest.raises(Conflict) as caught:
            yard.apply(declared)
        assert caught.value.code == "rollout_running"
        assert rollout.row.name in caught.value.message
        assert f"spinyard rollout abort {rollout.row.name}" in caught.value.next_step
    assert code(yard, lambda: yard.change(restart)) == "rollout_running"
    assert code(yard, lambda: yard.change(scale, WEB, 0)) == "rollout_running"
    assert stored(yard) == before
    assert isinstance(yard.change(scale, WEB, 4).row.spec, ServiceSpec)


def test_another_port_of_the_route_is_a_restart_and_refused_like_one(yard: Yard) -> None:
    running(yard)
    assert code(yard, lambda: yard.apply(web(NEW, route=Route(("web.localhost",), port="other")))) == "rollout_running"
    (applied,) = yard.apply(web(NEW, route=Route(("other.localhost",))))
    assert applied.result is ApplyResult.CONFIGURED


@pytest.mark.parametrize(
    "wanted",
    [web(THIRD), web(OLD), web(NEW, strategy=None), web(NEW, replicas=0), web(NEW, restarted_at=1e9)],
    ids=["another template", "back", "no strategy", "to nothing", "a restart"],
)
def test_a_new_version_that_does_not_get_well_after_its_promotion_can_be_replaced(yard: Yard, wanted: Declared) -> None:
    promoting(yard)
    (applied,) = yard.apply(wanted)
    assert (applied.result, applied.rollout) == (ApplyResult.CONFIGURED, None)
    assert wanted.template is not None and len(rollouts(yard)) == 1
    assert service_spec(yard).template_digest == stored(yard).row.template_digest == digest_of(wanted.template)
    assert (service_spec(yard).side, service_spec(yard).rollout) == ("side", None)


def test_what_is_promoted_can_be_restarted_and_scaled_to_nothing(yard: Yard) -> None:
    promoting(yard)
    yard.change(restart)
    assert service_spec(yard).restarted_at
    yard.change(scale, WEB, 0)
    assert service_spec(yard).replicas == 0


@pytest.mark.parametrize("given_up", [digest_of(OLD), ""], ids=["it was given up", "it is on its way"])
def test_back_to_the_last_version_that_was_available_there_is_no_rollout(yard: Yard, given_up: str) -> None:
    succeeded(yard)
    yard.run(lambda tx: rollback(tx, "default", "web", ME))
    status = msgspec.json.encode(ServiceStatus(good=digest_of(NEW), target=digest_of(OLD), given_up=given_up))
    drive(yard, Kind.SERVICE, "degraded", status)
    (applied,) = yard.apply(web(NEW))
    assert applied.rollout is None and len(rollouts(yard)) == 1
    assert stored(yard).row.template_digest == digest_of(NEW)
    (third,) = yard.apply(web(THIRD))
    assert third.rollout is not None


def test_a_rollout_that_ended_leaves_room_for_the_next(yard: Yard) -> None:
    rollout = running(yard)
    yard.store.wake([rollout.row.uid], now=yard.now)
    end = EndRollout(stored(yard).row.uid, rollout.row.uid, promote=False)
    drive(yard, Kind.ROLLOUT, "rolled_back", children=(end,), finished=True)
    (again,) = yard.apply(web(NEW))
    assert again.rollout is not None and spec_of(again.rollout).old_digest == digest_of(OLD)


def test_a_service_with_a_running_rollout_can_be_deleted(yard: Yard) -> None:
    running(yard)
    assert yard.delete(WEB).row.delete_at is not None


def test_two_versions_cannot_both_open_a_fixed_port(yard: Yard) -> None:
    fixed = replace(template("t"), template=replace(OLD, ports=(Port("http", 8080),)))
    with pytest.raises(InvalidInput) as caught:
        yard.apply(fixed, replace(web(template_ref="t"), template=None))
    assert "8080" in caught.value.message


def test_of_many_kept_rollouts_the_newest_is_found_without_reading_all(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(yard)
    service = stored(yard)
    for n in range(60):
        spec = RolloutSpec("web", service.row.uid, "", digest_of(NEW), "", digest_of(OLD), STRATEGY)
        uid = Uid(f"{n * 7919 % 60:02}kept")
        yard.now += 1
        yard.run(lambda tx, uid=uid, spec=spec: insert_rollout(tx, service, spec, uid=uid, actor="me"))  # type: ignore[misc]
        drive(yard, Kind.ROLLOUT, "rolled_back", finished=True, keep_seconds=1e6)
    newest = f"{59 * 7919 % 60:02}kept"
    read: list[str] = []

    def ask_for(name: str) -> str:
        def work(tx: Transaction) -> StoredObject:
            select = tx.select
            read.clear()

            def counted(*a: object, **k: object) -> object:
                found = select(*a, **k)  # type: ignore[arg-type]
                read.extend(one.row.uid for one in found)
                return found

            monkeypatch.setattr(tx, "select", counted)
            return find_rollout(tx, "default", name)

        return yard.run(work).row.uid

    assert ask_for("web") == newest and len(read) <= 20
    assert ask_for("web-00kept") == "00kept" and len(read) <= 40
    with pytest.raises(NotFound) as caught:
        ask_for("wep")
    assert "web" in caught.value.next_step and len(read) <= 300
    (running,) = yard.apply(web(NEW))
    assert running.rollout is not None and ask_for("web") == running.rollout.row.uid


# -- verbs -------------------------------------------------------------------------------------------------------------


def test_promote_lets_the_present_step_pass_or_all_of_them(yard: Yard) -> None:
    rollout = running(yard)
    assert spec_of(ask(yard, promote)).promoted == 1
    version = rollout_of(yard, rollout.row.uid).row.resource_version
    assert ask(yard, promote, rollout.row.name).row.resource_version == version
    full = spec_of(ask(yard, promote, full=True))
    assert (full.promoted, full.promoted_fully) == (1, True)


def test_pause_and_resume_are_of_the_rollout_and_not_of_its_service(yard: Yard) -> None:
    running(yard)
    assert ask(yard, pause, paused=True).row.paused
    assert not stored(yard).row.paused
    assert not ask(yard, pause, paused=False).row.paused


def test_abort_is_said_once_and_the_first_word_stays(yard: Yard) -> None:
    running(yard)
    assert spec_of(ask(yard, abort, why="too slow")).abort == "too slow"
    assert spec_of(ask(yard, abort, why="again")).abort == "too slow"
    for verb in (promote, lambda *a: pause(*a, paused=True)):
        assert code(yard, lambda verb=verb: ask(yard, verb)) == "rollout_retreating"  # type: ignore[misc]
    drive(yard, Kind.ROLLOUT, "rolled_back", finished=True)
    assert ask(yard, abort).row.state == "rolled_back"
    for verb in (promote, lambda *a: pause(*a, paused=True), rollback):
        assert code(yard, lambda verb=verb: ask(yard, verb)) == "rollout_over"  # type: ignore[misc]


def test_what_is_being_promoted_is_not_aborted_any_more(yard: Yard) -> None:
    promoting(yard)
    assert code(yard, lambda: ask(yard, abort)) == "rollout_promoted"
    assert ask(yard, promote).row.state == "promoting"


def test_what_is_being_promoted_is_rolled_back_as_what_was(yard: Yard) -> None:
    rollout = promoting(yard)
    done = yard.run(lambda tx: rollback(tx, "default", "web", ME))
    assert (done.did, done.stored.row.kind) == ("changed", Kind.SERVICE)
    assert (stored(yard).row.template_digest, service_spec(yard).template_digest) == (digest_of(OLD), digest_of(OLD))
    assert rollout.row.name in done.message
    assert code(yard, lambda: ask(yard, rollback)) == "template_changed"


def test_a_promotion_that_its_service_does_not_know_yet_is_not_rolled_back(yard: Yard) -> None:
    rollout = running(yard)
    yard.store.wake([rollout.row.uid], now=yard.now)
    drive(yard, Kind.ROLLOUT, "promoting")
    assert code(yard, lambda: ask(yard, rollback)) == "rollout_running"
    assert code(yard, lambda: yard.apply(web(THIRD))) == "rollout_running"


def test_rollback_of_a_running_rollout_aborts_it(yard: Yard) -> None:
    running(yard)
    done = yard.run(lambda tx: rollback(tx, "default", "web", ME))
    assert isinstance(done, RolledBack)
    assert (done.did, spec_of(done.stored).abort) == ("aborted", "rolled back by me")


def test_rollback_of_one_that_succeeded_gives_the_service_its_old_template(yard: Yard) -> None:
    succeeded(yard)
    assert stored(yard).row.template_digest == digest_of(NEW)
    done = yard.run(lambda tx: rollback(tx, "default", "web", ME))
    assert (done.did, done.stored.row.kind) == ("changed", Kind.SERVICE)
    assert (stored(yard).row.template_digest, service_spec(yard).template_digest) == (digest_of(OLD), digest_of(OLD))
    assert service_spec(yard).side == "side"
    assert len(rollouts(yard)) == 1
    assert code(yard, lambda: ask(yard, rollback)) == "template_changed"
    assert code(yard, lambda: ask(yard, abort)) == "rollout_over"


def test_rollback_refuses_beside_another_rollout_and_without_a_service(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = succeeded(yard)
    status = msgspec.json.encode(ServiceStatus(good=digest_of(NEW)))
    yard.store.wake([stored(yard).row.uid], now=yard.now)
    drive(yard, Kind.SERVICE, "available", status)
    # The yard's uids begin alike, and a Rollout is named by the beginning of its own.
    monkeypatch.setattr(yard, "new_uid", lambda: Uid("other-uid"))
    yard.apply(web(THIRD))
    assert code(yard, lambda: ask(yard, rollback, first.row.name)) == "rollout_running"
    yard.delete(WEB)
    assert code(yard, lambda: ask(yard, rollback, first.row.name)) == "being_deleted"
    drive(yard, Kind.SERVICE, "terminated", finished=True)
    assert code(yard, lambda: ask(yard, rollback, first.row.name)) == "service_gone"


def test_rollback_without_the_old_template_says_so(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    succeeded(yard)

    def without(tx: object) -> None:
        monkeypatch.setattr(tx, "template", lambda digest: None)
        rollback(tx, "default", "web", ME)  # type: ignore[arg-type]

    assert code(yard, lambda: yard.run(without)) == "template_gone"


def test_a_deleted_rollout_is_asked_to_go_back_and_takes_no_other_word(yard: Yard) -> None:
    rollout = running(yard)
    id = ObjectId(Kind.ROLLOUT, "default", rollout.row.name)
    assert yard.delete(id).row.delete_at is not None
    assert code(yard, lambda: ask(yard, promote)) == "being_deleted"


def test_unknown_names_are_told_with_what_is_near(yard: Yard) -> None:
    up(yard)
    with pytest.raises(NotFound) as none:
        ask(yard, promote)
    assert none.value.code == "no_rollout"
    yard.apply(web(NEW))
    with pytest.raises(NotFound) as caught:
        ask(yard, promote, "wep")
    assert "web" in caught.value.next_step
