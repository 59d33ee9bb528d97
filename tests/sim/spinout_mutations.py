"""Planted bugs of spinouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgspec

from spinyard.core.observed import Traffic
from spinyard.core.verdict import Verdict
from spinyard.engine import reconcile
from spinyard.spinout import decide, gates, phases, retreat
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.store import records

Mutation = Callable[[], AbstractContextManager[None]]


@contextmanager
def advances_on_missing_data() -> Iterator[None]:
    """What cannot be told is taken for good."""
    with patch.object(phases, "holds_up", lambda gate: gate.verdict == Verdict.FAIL):
        yield


@contextmanager
def no_guard_while_held() -> Iterator[None]:
    original = decide.must_go_back

    def must_go_back(s: Any) -> Any:
        return None if s.row.state == "held" and not s.spec.abort and s.row.delete_at is None else original(s)

    with patch.object(decide, "must_go_back", must_go_back):
        yield


@contextmanager
def back_before_it_is_verified() -> Iterator[None]:
    with patch.object(decide, "rolling_back", lambda s: retreat.at_zero(s, "no patience")):
        yield


@contextmanager
def a_record_forgets_the_one_before() -> Iterator[None]:
    original = records.link

    def link(uid: Any, seq: Any, at: Any, actor: Any, draft: Any, before: Any) -> Any:
        return original(uid, seq, at, actor, draft, before if seq % 5 else "")

    with patch.object(records, "link", link):
        yield


@contextmanager
def a_transition_is_not_recorded() -> Iterator[None]:
    original = reconcile.Commit

    def commit(row: Any, plan: Any, **more: Any) -> Any:
        forgets = plan.records and plan.state == "rolled_back"
        return original(row, replace(plan, records=()) if forgets else plan, **more)

    with patch.object(reconcile, "Commit", commit):
        yield


@contextmanager
def rises_before_the_last_weight_is_confirmed() -> Iterator[None]:
    with patch.object(phases, "not_confirmed", lambda s: ""), patch.object(phases, "waits", lambda s, step: []):
        yield


@contextmanager
def the_boundary_goes_before_0_is_still() -> Iterator[None]:
    original = decide.retreat

    def retreat_at_once(s: Any, why: str, reason: str) -> Any:
        plan = original(s, why, reason)
        if reason != "Deleted":
            return plan
        gone = phases.taken_away(s.status)
        return s.plan(decide.S.ROLLING_BACK, why, reason, msgspec.structs.replace(gone, weight=0), wake_in=0.1)

    with patch.object(decide, "retreat", retreat_at_once):
        yield


@contextmanager
def stale_evidence_is_counted_over_epochs() -> Iterator[None]:
    """Gates of the step before are taken for those of this one, and counters that began anew for those that went on."""
    original = vars(SpinoutSnapshot)["traffic"].fget

    def traffic(self: Any) -> Any:
        found = original(self)
        return msgspec.structs.replace(found, epoch="always") if isinstance(found, Traffic) else found

    with patch.object(SpinoutSnapshot, "traffic", property(traffic)), patch.object(gates, "STEP_REQUESTS_MIN", -1000):
        yield


@contextmanager
def an_abort_waits_for_the_gates() -> Iterator[None]:
    original = decide.must_go_back

    def must_go_back(s: Any) -> Any:
        found = original(s)
        return None if found is not None and found[1] == "Aborted" and s.status.step_begun_at == 0.0 else found

    with patch.object(decide, "must_go_back", must_go_back):
        yield


SPINOUT_MUTATIONS: dict[str, Mutation] = {
    mutation.__name__: mutation
    for mutation in (
        advances_on_missing_data,
        no_guard_while_held,
        back_before_it_is_verified,
        a_record_forgets_the_one_before,
        a_transition_is_not_recorded,
        rises_before_the_last_weight_is_confirmed,
        the_boundary_goes_before_0_is_still,
        stale_evidence_is_counted_over_epochs,
        an_abort_waits_for_the_gates,
    )
}

SPINOUT_FIRST_SEED = {"no_guard_while_held": 24}
"""which finds it, where the first ones do not"""
