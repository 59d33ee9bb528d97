"""Use cases straight on the real store: what they write, and what they refuse."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from spinyard.core.ids import Uid
from spinyard.core.plan import Plan
from spinyard.core.spec import Dependency, JobSpec, Kind, NamedTemplateSpec, ServiceSpec, TemplateSpec, digest_of
from spinyard.errors import Conflict, InvalidInput, NotFound, PreconditionFailed
from spinyard.ports.store import Commit, StoredObject, Transaction
from spinyard.store import SqlStore
from spinyard.usecases.apply import Applied, ApplyResult, apply
from spinyard.usecases.change import Caller, delete, pause, restart, scale
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.plan import ApplyRequest
from spinyard.usecases.views import get_live, get_view

TEMPLATE = TemplateSpec(command=("sleep", "60"))
T = TypeVar("T")
ME = Caller("me")
WEB = ObjectId(Kind.SERVICE, "default", "web")


class Yard:
    """The store with a clock that moves one second a call."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.now = 1000.0
        self.store = SqlStore(":memory:", new_id=self.new_uid)

    def new_uid(self) -> Uid:
        return Uid(f"uid{next(self._numbers):017}")

    def apply(self, *declared: Declared, **fields: object) -> tuple[Applied, ...]:
        request = replace(ApplyRequest(declared), **fields)  # type: ignore[arg-type]
        return self.run(lambda tx: apply(tx, request, new_uid=self.new_uid, actor="me"))

    def run(self, work: Callable[[Transaction], T]) -> T:
        self.now += 1
        return self.store.transact(work, now=self.now)

    def change(
        self, work: Callable[..., StoredObject], id: ObjectId = WEB, *args: object, **fields: object
    ) -> StoredObject:
        return self.run(lambda tx: work(tx, id, *args, ME, **fields))

    def delete(self, id: ObjectId, *, force: bool = False) -> StoredObject:
        return self.run(lambda tx: delete(tx, get_live(tx, id), ME, force=force))

    def drive(self, state: str, *, finished: bool = False) -> None:
        self.now += 1
        rows = self.store.claim(holder="t", now=self.now, lease_seconds=5, limit=100)
        plan = Plan(state, b"{}", "driven", "Driven", None, finished=finished)
        self.store.commit([Commit(row, plan, release=True) for row in rows], now=self.now)


@pytest.fixture
def yard() -> Iterator[Yard]:
    found = Yard()
    yield found
    found.store.close()


def service(name: str = "web", *, template: TemplateSpec | None = TEMPLATE, ref: str = "", needs: str = "") -> Declared:
    depends_on = (Dependency(Kind.SERVICE, needs),) if needs else ()
    spec = ServiceSpec(replicas=2, template_ref=ref, depends_on=depends_on)
    return Declared(Kind.SERVICE, "default", name, spec, None if ref else template)


def template(name: str, command: str = "sleep") -> Declared:
    return Declared(Kind.TEMPLATE, "default", name, NamedTemplateSpec(), TemplateSpec(command=(command, "1")))


def test_a_new_service_waits_for_the_engine_with_its_template_stored(yard: Yard) -> None:
    (made,) = yard.apply(service())
    assert made.result is ApplyResult.CREATED
    assert made.stored.row.state == "pending"
    assert made.stored.row.template_digest == digest_of(TEMPLATE)
    (row,) = yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=10)
    assert row.template == TEMPLATE


def test_a_template_is_active_at_once_and_nobody_drives_it(yard: Yard) -> None:
    (made,) = yard.apply(template("t"))
    assert made.stored.row.state == "active"
    assert not yard.store.claim(holder="t", now=yard.now, lease_seconds=5, limit=10)


def test_the_same_again_is_not_even_a_commit(yard: Yard) -> None:
    yard.apply(service())
    before = yard.store.commit_seq()
    (again,) = yard.apply(service())
    assert again.result is ApplyResult.UNCHANGED
    assert again.stored.row.generation == 1
    assert yard.store.commit_seq() == before


def test_labels_alone_are_a_change_without_a_new_generation(yard: Yard) -> None:
    yard.apply(service())
    (changed,) = yard.apply(replace(service(), labels={"a": "b"}))
    assert changed.result is ApplyResult.CONFIGURED
    assert changed.stored.row.generation == 1
    assert changed.stored.row.resource_version == 2


def test_an_object_keeps_its_set_when_it_is_applied_alone(yard: Yard) -> None:
    yard.apply(service(), applied_set="shop")
    (again,) = yard.apply(service())
    assert again.result is ApplyResult.UNCHANGED
    assert again.stored.annotations["spinyard.dev/applied-set"] == "shop"


def test_a_reference_is_resolved_when_it_is_applied_and_stays_until_then(yard: Yard) -> None:
    yard.apply(template("t"), service(ref="t"))
    old = yard.run(lambda tx: get_live(tx, WEB)).row.template_digest
    yard.apply(template("t", "other"))
    assert yard.run(lambda tx: get_live(tx, WEB)).row.template_digest == old
    (again,) = yard.apply(service(ref="t"))
    assert again.result is ApplyResult.CONFIGURED
    assert again.stored.row.template_digest != old


def test_every_missing_reference_is_told_at_once(yard: Yard) -> None:
    with pytest.raises(InvalidInput) as failure:
        yard.apply(service("a", ref="x"), service("b", ref="y"))
    errors = failure.value.details["errors"]
    assert [e["path"] for e in errors] == ["objects[0].spec.templateRef", "objects[1].spec.templateRef"]  # type: ignore[index, attr-defined]


def test_a_name_that_is_being_deleted_is_not_free_and_says_when(yard: Yard) -> None:
    yard.apply(service())
    yard.delete(WEB)
    for attempt in (lambda: yard.apply(service()), lambda: yard.change(scale, WEB, 3), lambda: yard.change(restart)):
        with pytest.raises(Conflict) as failure:
            attempt()
        assert failure.value.code == "being_deleted"
        assert failure.value.retryable
    yard.drive("terminated", finished=True)
    (anew,) = yard.apply(service())
    assert anew.result is ApplyResult.CREATED


def test_a_template_in_use_stays_until_its_last_user_is_on_its_way_out(yard: Yard) -> None:
    yard.apply(template("t"), service("a", ref="t"), service("b", ref="t"))
    one = ObjectId(Kind.TEMPLATE, "default", "t")
    with pytest.raises(Conflict) as failure:
        yard.delete(one)
    assert failure.value.code == "in_use"
    assert failure.value.details["usedBy"] == ["Service/default/a", "Service/default/b"]
    yard.delete(ObjectId(Kind.SERVICE, "default", "a"))
    yard.apply(service("b"))
    yard.delete(one)
    with pytest.raises(NotFound):
        yard.run(lambda tx: get_live(tx, one))


def test_prune_takes_a_template_together_with_its_only_user(yard: Yard) -> None:
    yard.apply(template("t"), service("a", ref="t"), service("b"), applied_set="shop")
    done = yard.apply(service("b"), applied_set="shop", prune=True)
    assert [(str(a.result), a.stored.row.name) for a in done] == [
        ("unchanged", "b"),
        ("deleted", "a"),
        ("deleted", "t"),
    ]


def test_prune_refuses_a_template_that_someone_else_uses_and_does_nothing(yard: Yard) -> None:
    yard.apply(template("t"), applied_set="shop")
    yard.apply(service("other", ref="t"))
    with pytest.raises(Conflict):
        yard.apply(service("new"), applied_set="shop", prune=True)
    assert yard.store.read(lambda tx: tx.find(Kind.SERVICE, "default", "new"), now=yard.now) is None


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a", "b", "c", "d")], ids=["itself", "two", "four"])
def test_a_cycle_is_found_with_its_way(yard: Yard, names: tuple[str, ...]) -> None:
    declared = [service(n, needs=names[(i + 1) % len(names)]) for i, n in enumerate(names)]
    with pytest.raises(InvalidInput, match="go round"):
        yard.apply(*declared)


def test_a_diamond_is_not_a_cycle(yard: Yard) -> None:
    left, right = service("left", needs="base"), service("right", needs="base")
    top = replace(
        service("top"), spec=ServiceSpec(depends_on=tuple(Dependency(Kind.SERVICE, n) for n in ("left", "right")))
    )
    assert len(yard.apply(top, left, right, service("base"))) == 4


def test_a_restart_is_kept_when_the_file_is_applied_again(yard: Yard) -> None:
    yard.apply(service())
    restarted = yard.change(restart)
    (again,) = yard.apply(service())
    assert again.result is ApplyResult.UNCHANGED
    assert again.stored.row.spec == restarted.row.spec


def test_scaling_to_the_same_number_changes_nothing(yard: Yard) -> None:
    yard.apply(service())
    before = yard.store.commit_seq()
    assert yard.change(scale, WEB, 2).row.generation == 1
    assert yard.store.commit_seq() == before


def test_pause_and_resume_are_flags_and_no_new_generation(yard: Yard) -> None:
    yard.apply(service())
    assert yard.change(pause, WEB, paused=True).row.paused
    assert not yard.change(pause, WEB, paused=False).row.paused
    assert yard.run(lambda tx: get_live(tx, WEB)).row.generation == 1


def test_a_stale_version_is_refused(yard: Yard) -> None:
    (made,) = yard.apply(service())
    yard.change(scale, WEB, 5)
    with pytest.raises(PreconditionFailed):
        yard.apply(replace(service(), labels={"a": "b"}), if_match=made.stored.row.resource_version)


def test_delete_is_monotone_and_force_is_never_taken_back(yard: Yard) -> None:
    yard.apply(service())
    first = yard.delete(WEB)
    assert yard.delete(WEB).row.delete_at == first.row.delete_at
    assert yard.delete(WEB, force=True).row.force
    assert yard.delete(WEB).row.force


def test_a_deleted_record_is_seen_only_by_who_asks_for_it(yard: Yard) -> None:
    yard.apply(service())
    yard.delete(WEB)
    yard.drive("terminated", finished=True)
    with pytest.raises(NotFound):
        get_view(yard.store, WEB, now=yard.now)
    assert get_view(yard.store, WEB, now=yard.now, deleted=True).stored.row.state == "terminated"


def test_a_job_that_ended_is_unchanged_by_the_same_file_and_refuses_another(yard: Yard) -> None:
    job = Declared(Kind.JOB, "default", "j", JobSpec(), TEMPLATE)
    yard.apply(job)
    yard.drive("succeeded")
    assert yard.apply(job)[0].result is ApplyResult.UNCHANGED
    with pytest.raises(Conflict) as failure:
        yard.apply(replace(job, spec=JobSpec(retries=3)))
    assert failure.value.code == "job_ended"
