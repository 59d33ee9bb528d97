"""Every decision is total, moves only along its table, says why, and never takes silence for the end of something."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinyard.core.observed import LookResource
from spinyard.core.plan import CreateChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import ServiceSpec
from spinyard.ports.domain import Domain
from spinyard.spin.claim.decide import ClaimDomain
from spinyard.spin.decide import SpinDomain
from spinyard.spin.job.decide import JobDomain
from spinyard.spin.pool.decide import PoolDomain
from spinyard.spin.service.decide import ServiceDomain
from tests.spin.worlds import NOW, RULES, claims, jobs, met, pools, services, spins

KINDS: dict[str, tuple[Domain, Any]] = {
    "spin": (SpinDomain(RULES), spins()),
    "service": (ServiceDomain(RULES), services()),
    "job": (JobDomain(), jobs()),
    "pool": (PoolDomain(RULES), pools()),
    "claim": (ClaimDomain(), claims()),
}
ENDS = frozenset({"draining", "terminating", "cleaning", "terminated", "leaked", "failed"})
PERSISTENT = frozenset(
    {"ready", "serving", "available", "degraded", "progressing", "running", "succeeded", "failed"}
    | {"warm", "filling", "bound"}
)
"""a parent's children wake it, a warm member's claim does"""

often = settings(max_examples=100, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
kinds = pytest.mark.parametrize("kind", KINDS)


def decided(data: st.DataObject, kind: str, *, unknown: bool = False) -> tuple[ObjectRow, Plan]:
    domain, rows = KINDS[kind]
    row = data.draw(rows)
    seen = data.draw(met(row, domain.looks(row, NOW), unknown=unknown))
    return row, domain.decide(row, seen, NOW)


@kinds
@often
@given(data=st.data())
def test_whatever_is_seen_gives_a_plan_along_the_table_with_a_reason(kind: str, data: st.DataObject) -> None:
    row, plan = decided(data, kind)
    assert KINDS[kind][0].machine.may(row.state, plan.state)
    assert plan.why and plan.reason
    assert plan.finished == (plan.state == "terminated" and row.state != "terminated")


@kinds
@often
@given(data=st.data())
def test_silence_is_never_the_end_of_anything(kind: str, data: st.DataObject) -> None:
    row, plan = decided(data, kind, unknown=True)
    known = {resource.key for resource in row.resources}
    assert [r.key for r in plan.resources if r.closed_at is not None and not r.retained and r.key in known] == []
    assert not plan.finished or not [resource for resource in row.resources if resource.kind != "directory"]


@kinds
@often
@given(data=st.data())
def test_what_is_transient_is_looked_at_again_by_itself(kind: str, data: st.DataObject) -> None:
    row, plan = decided(data, kind)
    if plan.wake_at is None:
        assert plan.finished or plan.state in PERSISTENT or row.state == "terminated"
    else:
        # Nothing is due at once unless something was done or changed: no pass may lead to the same pass.
        acted = plan.actions or plan.resources or plan.children or plan.requires or plan.events
        assert plan.wake_at > NOW or acted or plan.state != row.state or plan.status != row.status


@often
@given(data=st.data())
def test_a_deleted_spin_only_goes_towards_its_end(data: st.DataObject) -> None:
    domain, rows = KINDS["spin"]
    row = replace(data.draw(rows), delete_at=NOW - 5.0)
    plan = domain.decide(row, data.draw(met(row, domain.looks(row, NOW))), NOW)
    assert plan.state in ENDS or plan.state == row.state
    assert not [resource for resource in plan.resources if resource.wanted and resource.kind == "process"] or (
        row.state in ("planned", "provisioning", "bootstrapping")
    )


@often
@given(data=st.data())
def test_rows_come_before_calls_and_removals_after_their_wish(data: st.DataObject) -> None:
    """Whatever is asked for is wanted in the ledger by this plan or an earlier one, and the other way round."""
    row, plan = decided(data, "spin")
    ledger = {resource.key: resource for resource in (*row.resources, *plan.resources)}
    for action in plan.actions:
        assert action.key in ledger
        if type(action).__name__ == "Remove":
            assert not ledger[action.key].wanted


@often
@given(data=st.data())
def test_a_service_never_has_more_than_its_surge_and_never_takes_too_many(data: st.DataObject) -> None:
    domain, rows = KINDS["service"]
    row = data.draw(rows.filter(lambda row: row.state != "terminated"))
    seen = data.draw(met(row, domain.looks(row, NOW)))
    plan = domain.decide(row, seen, NOW)
    spec = row.spec
    assert isinstance(spec, ServiceSpec)
    groups = next(answer for look, answer in seen.answers.items() if not isinstance(look, LookResource)).groups
    alive = [g for g in groups if g.state not in ENDS and not g.deleting]
    created = [change for change in plan.children if isinstance(change, CreateChild)]
    if created:
        assert sum(g.count for g in alive) + len(created) <= spec.replicas + spec.update.max_surge
    assert len({child.uid for child in created}) == len(created)
    up = ("serving",) if spec.route else ("ready", "serving")
    gone = {change.uid for change in plan.children} - {child.uid for child in created}
    before = sum(g.count for g in alive if g.state in up)
    taken = sum(1 for g in alive if g.state in up for child in g.oldest if child.uid in gone)
    if taken and plan.state != "terminating":
        assert before - taken >= spec.replicas - spec.update.max_unavailable


@kinds
def test_every_state_can_be_reached_and_reaches_an_end(kind: str) -> None:
    machine = KINDS[kind][0].machine
    assert set(machine.states()) == set(machine.reachable())
    for state in machine.states():
        assert replace(machine, initial=state).reachable() & machine.terminal, state
    assert all(not machine.edges.get(state) for state in machine.terminal)


@often
@given(data=st.data())
def test_the_same_decision_twice_names_the_same_things(data: st.DataObject) -> None:
    domain, rows = KINDS["service"]
    row = data.draw(rows)
    seen = data.draw(met(row, domain.looks(row, NOW)))
    assert domain.decide(row, seen, NOW) == domain.decide(row, seen, NOW)
