"""The command of a Job on a claimed member: run once, and how it ends is how the member ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinyard.core.actions import Ensure
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import (
    Absent,
    DirectoryFacts,
    LookProbe,
    LookResource,
    Observed,
    Present,
    ProbeAnswer,
    ProbeResult,
    ProcessFacts,
    Seen,
    Unknown,
)
from spinyard.core.plan import Plan, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, SpinSpec, TemplateSpec, digest_of
from spinyard.core.want import ProcessWant, content_mark
from spinyard.spin.decide import SpinDomain
from spinyard.spin.errand import NOT_BEGUN
from spinyard.spin.snapshot import Snapshot
from spinyard.spin.status import SpinStatus, decode_status, encode_status
from spinyard.spin.translate import claim_files
from tests.spin.worlds import ERRAND_PART, NOW, RULES, UID, met, spins

PROCESS, COMMAND = ResourceKey(f"{UID}/process"), ResourceKey(f"{UID}/command")
TEMPLATE = TemplateSpec(command=("serve",), provider="fake")
DOMAIN = SpinDomain(RULES)
RUNS = Present(ProcessFacts(running=True, pid=7))
GONE = ("terminating", "failed")


def member(state: str = "ready", *, rows: bool = True, **status: Any) -> ObjectRow:
    mine = (Resource(PROCESS, UID, "fake", "process", True), Resource(COMMAND, UID, "fake", "process", True))
    return ObjectRow(
        uid=UID,
        kind=Kind.SPIN,
        namespace="default",
        name="box-1",
        spec=SpinSpec(digest_of(TEMPLATE), cluster="default/box", pool_uid="pool", claim=ERRAND_PART),
        status=encode_status(SpinStatus(**{"since": NOW - 5.0, "started": True, **status})),
        state=state,
        created_at=NOW - 60.0,
        template=TEMPLATE,
        template_digest=digest_of(TEMPLATE),
        resources=mine if rows else mine[:1],
        served_at=NOW - 50.0,
    )


def spec_of(row: ObjectRow) -> SpinSpec:
    assert isinstance(row.spec, SpinSpec)
    return row.spec


def decide(row: ObjectRow, command: Observed, program: Observed = RUNS) -> Plan:
    answers: dict[Any, Any] = {LookResource("fake", PROCESS): program, LookResource("fake", COMMAND): command}
    return DOMAIN.decide(row, Seen(answers), NOW)


def ended(code: int | None = 0, **facts: Any) -> Present:
    return Present(ProcessFacts(running=False, exit_code=code, **facts))


def test_a_claimed_member_starts_the_command_and_is_never_routed() -> None:
    row = member("warm", rows=False, claim_step=2)
    looks = DOMAIN.looks(row, NOW)
    hook = next(look for look in looks if isinstance(look, LookProbe))
    answers: dict[Any, Any] = {LookResource("fake", PROCESS): RUNS, hook: ProbeResult(ProbeAnswer.OK)}
    plan = DOMAIN.decide(row, Seen(answers), NOW)
    assert plan.state == "ready"
    [action] = plan.actions
    assert isinstance(action, Ensure) and action.key == COMMAND and isinstance(action.want, ProcessWant)
    assert (action.want.argv, action.want.timeout_seconds) == (("work", "hard"), 30.0)
    assert ("A", "b") in [(one.name, one.value) for one in action.want.env]
    assert [resource.key for resource in plan.resources] == [COMMAND], "its row is written before it is started"


def test_exit_0_is_success_and_the_member_goes() -> None:
    plan = decide(member(), ended(0))
    assert (plan.state, plan.outcome) == ("terminating", "Succeeded")


@pytest.mark.parametrize(
    ("facts", "outcome", "words"),
    [
        ({"code": 3, "log_tail": "one\nno such table\n\n"}, "ProcessExited", "exited with code 3: no such table"),
        ({"code": None, "exit_signal": 9}, "ProcessExited", "killed by signal 9"),
        ({"code": None, "exit_signal": 9, "error": "timeout"}, "Timeout", "longer than 30 s"),
        ({"code": None, "error_class": "CommandNotFound", "error": "work: not found"}, "CommandNotFound", "not found"),
        ({"code": 0, "error_class": "OutOfMemory", "error": "9 MiB"}, "OutOfMemory", "9 MiB"),
        ({"code": 1, "error_class": "ProbeFailed", "error": "odd"}, "InstanceLost", "odd"),
    ],
)
def test_how_a_command_fails(facts: dict[str, Any], outcome: str, words: str) -> None:
    plan = decide(member(), ended(facts.pop("code"), **facts))
    assert (plan.state, plan.outcome) == ("failed", outcome)
    assert words in plan.why


def test_its_end_counts_more_than_the_end_of_the_program_beside_it() -> None:
    assert decide(member(), ended(0), ended(1)).outcome == "Succeeded"
    assert decide(member(), RUNS, ended(1)).outcome == "InstanceLost"


def test_what_was_seen_and_is_gone_is_not_started_again() -> None:
    running = decide(member(), RUNS)
    assert decode_status(running.status).errand_seen and running.state == "ready"
    plan = decide(member(errand_seen=True), Absent())
    assert (plan.state, plan.outcome, plan.actions) == ("failed", "InstanceLost", ())
    [again] = decide(member(), Absent()).actions
    assert isinstance(again, Ensure) and again.key == COMMAND, "the same key: what is there already stays as it is"


def test_one_that_cannot_be_ended_or_known_is_not_waited_for_for_ever() -> None:
    assert decide(member(since=NOW - 39.0), RUNS).state == "ready"
    assert decide(member(since=NOW - 41.0), RUNS).outcome == "Timeout"
    assert decide(member(since=NOW - 41.0), Unknown("silence")).state == "ready"
    assert decide(member(since=NOW - 91.0), Unknown("silence")).outcome == "InstanceLost"


def test_a_deleted_member_ends_with_its_command() -> None:
    plan = decide(replace(member(), delete_at=NOW), RUNS)
    assert plan.state == "terminating"
    row = replace(member("terminating"), delete_at=NOW)
    answers: dict[Any, Any] = dict.fromkeys(DOMAIN.looks(row, NOW), RUNS)
    removed = {action.key for action in DOMAIN.decide(row, Seen(answers), NOW).actions}
    assert removed == {PROCESS, COMMAND}


def test_what_the_claim_brought_is_written_before() -> None:
    row = member("warm", rows=False, claim_step=1)
    files = claim_files(Snapshot(row, spec_of(row), TEMPLATE, SpinStatus(), Seen(), RULES, NOW))
    half: dict[Any, Any] = dict.fromkeys(DOMAIN.looks(row, NOW), RUNS)
    directory = LookResource("fake", ResourceKey(f"{UID}/dir/claim"))
    half[directory] = Present(DirectoryFacts("/there", ()))
    assert DOMAIN.decide(row, Seen(half), NOW).state == "warm"
    whole = tuple((one.name, content_mark(one.content)) for one in files)
    plan = DOMAIN.decide(row, Seen(half | {directory: Present(DirectoryFacts("/there", whole))}), NOW)
    assert plan.state == "warm" and COMMAND not in [action.key for action in plan.actions], "the hook comes first"


def test_from_its_beginning_on_every_failure_counts_as_an_attempt() -> None:
    """Else a Job without retries could run its command twice."""
    failed = 0

    @given(st.data())
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def look(data: st.DataObject) -> None:
        nonlocal failed
        row = replace(data.draw(spins()), state="ready")
        row = replace(row, spec=replace(spec_of(row), pool_uid="pool", claim=ERRAND_PART), outcome="", failed_at=None)
        plan = DOMAIN.decide(row, data.draw(met(row, DOMAIN.looks(row, NOW))), NOW)
        if plan.state == "failed":
            failed += 1
            assert plan.outcome and plan.outcome not in NOT_BEGUN

    look()
    assert failed, "none was drawn that fails"


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_is_started_twice_whatever_is_seen(data: st.DataObject) -> None:
    row = replace(data.draw(spins()), state=data.draw(st.sampled_from(("ready", *GONE, "cleaning", "leaked"))))
    row = replace(row, spec=replace(spec_of(row), pool_uid="pool", claim=ERRAND_PART))
    plan = DOMAIN.decide(row, data.draw(met(row, DOMAIN.looks(row, NOW))), NOW)
    started = [action for action in plan.actions if isinstance(action, Ensure) and action.key == COMMAND]
    seen = decode_status(row.status).errand_seen
    assert not (started and (seen or row.state != "ready"))
