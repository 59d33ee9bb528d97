"""Explain and diff are pure: from facts to words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import ChildFailure
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, ServiceSpec
from spinyard.errors import ErrorClass
from spinyard.ports.store import StoredObject
from spinyard.usecases.diff import diff
from spinyard.usecases.explain import Facts, Who, explain
from spinyard.usecases.views import ObjectView

NOW = 1000.0


def seen(state: str = "progressing", *, status: dict[str, Any] | None = None, **fields: Any) -> ObjectView:
    row = ObjectRow(Uid("u"), Kind.SERVICE, "default", "web", ServiceSpec(), b"", state, 1.0)
    stored = StoredObject(
        row, {}, fields.pop("why", "It makes instances."), fields.pop("reason", "Making"), 42.0, **fields
    )
    return ObjectView(stored, None, status or {})


@pytest.mark.parametrize("error_class", list(ErrorClass))
def test_each_error_class_names_who_must_act_and_what_to_do(error_class: ErrorClass) -> None:
    status = {"last_error_class": str(error_class), "last_error": "the reply"}
    found = explain(Facts(seen(status=status), NOW))
    assert found.cause == f"{error_class}: the reply"
    assert found.who in (Who.USER, Who.PROVIDER, Who.SPINYARD)
    assert len(found.next_step) > 20
    assert found.next_try_at == 42.0


def test_a_failure_of_a_child_is_the_cause_while_the_service_is_not_well() -> None:
    failure = ChildFailure(Uid("c"), Digest("d"), 1.0, None, "ProbeFailed", "GET /health answered 500\nwith a body")
    found = explain(Facts(seen(), NOW, failures=[failure], log_tail="boom\n"))
    assert found.cause == "ProbeFailed: GET /health answered 500"
    assert [e.source for e in found.evidence] == ["log", "provider"]
    assert explain(Facts(seen("available"), NOW, failures=[failure])).who is Who.NOBODY


def test_a_service_that_was_well_for_a_moment_still_has_its_cause() -> None:
    failure = ChildFailure(Uid("c"), Digest("d"), NOW - 5, None, "ProcessExited", "exit code 1")
    assert explain(Facts(seen("available"), NOW, failures=[failure])).cause == "ProcessExited: exit code 1"


def test_what_went_back_to_its_old_version_is_not_well() -> None:
    status = {
        "conditions": [{"type": "Progressing", "status": "False", "reason": "RolledBack"}],
        "last_error_class": "ProbeFailed",
        "last_error": "500",
    }
    assert explain(Facts(seen("available", status=status), NOW)).who is Who.USER


def test_an_old_error_of_what_is_well_is_history() -> None:
    status = {"last_error_class": "ProbeFailed", "last_error": "500"}
    assert explain(Facts(seen("available", status=status), NOW)).who is Who.NOBODY


def test_a_long_log_is_cut_to_its_end() -> None:
    tail = "\n".join(f"line {n}" for n in range(1000))
    status = {"last_error_class": "ProcessExited", "last_error": "exit 1"}
    (evidence,) = explain(Facts(seen(status=status), NOW, log_tail=tail)).evidence
    assert evidence.text.endswith("line 999")
    assert evidence.text.count("\n") == 19


def test_conditions_that_do_not_hold_are_evidence_and_those_not_requested_are_not() -> None:
    conditions = [
        {"type": "Ready", "status": "False", "reason": "ProbeFailed", "message": "500", "last_transition_at": 7.0},
        {"type": "Routed", "status": "False", "reason": "NotRequested"},
        {"type": "Available", "status": "True", "reason": "Enough"},
    ]
    found = explain(Facts(seen(status={"conditions": conditions}), NOW))
    assert [(e.source, e.text, e.at) for e in found.evidence] == [
        ("condition", "Ready is False: ProbeFailed (500)", 7.0)
    ]


def test_a_change_is_named_by_its_path_and_lists_go_by_name() -> None:
    before = {"a": 1, "list": [{"name": "x", "v": 1}, {"name": "y", "v": 2}], "same": [1, 2]}
    after = {"a": 2, "list": [{"name": "y", "v": 3}, {"name": "z", "v": 1}], "same": [1, 2], "new": True}
    assert [(d.path, d.before, d.after) for d in diff(before, after)] == [
        ("a", 1, 2),
        ("list[x]", {"name": "x", "v": 1}, None),
        ("list[y].v", 2, 3),
        ("list[z]", None, {"name": "z", "v": 1}),
        ("new", None, True),
    ]


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["name", "a", "b"]), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON)
def test_there_is_a_difference_exactly_when_two_things_differ(before: Any, after: Any) -> None:
    assert not diff(before, before)
    assert bool(diff(before, after)) == (before != after)
