"""Output of one spin as it is, of several with names; events in order, with who asked."""

from __future__ import annotations

import json

import pytest

from spinyard.cli.commands.events import event_line
from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object


@pytest.fixture(autouse=True)
def a_service_with_two_spins(stub: Stub) -> None:
    stub.add(make_object("Service", "web"))
    for name in ("web-aaaaaa", "web-bbbbbb"):
        spin = make_object("Spin", name, state="serving")
        spin["metadata"]["ownerReferences"] = [{"uid": "uid-service-web"}]
        stub.add(spin)
        stub.logs[name] = f"line of {name}\n".encode()


def test_logs_of_a_spin_are_its_bytes(run: Run, stub: Stub) -> None:
    stub.logs["web-aaaaaa"] = b"one\ntwo without an end"
    assert run("logs", "web-aaaaaa").out == "one\ntwo without an end"


def test_logs_of_a_service_have_the_name_of_the_spin_before_each_line(run: Run) -> None:
    lines = run("logs", "web").out.splitlines()
    assert sorted(lines) == ["web-aaaaaa  line of web-aaaaaa", "web-bbbbbb  line of web-bbbbbb"]


def test_logs_as_json_are_a_value_for_each_line(run: Run) -> None:
    values = [json.loads(line) for line in run("logs", "svc/web", "-o", "json").out.splitlines()]
    assert {value["spin"] for value in values} == {"web-aaaaaa", "web-bbbbbb"}


def test_tail_and_part_are_sent(run: Run, stub: Stub) -> None:
    run("logs", "web-aaaaaa", "--tail", "5", "--part", "seed")
    sent = [query for path, query, _, _ in stub.sent("GET") if path.endswith("/logs")]
    assert sent == [{"tail": "5", "part": "seed"}]


def test_logs_of_nothing_is_not_found(run: Run) -> None:
    assert run("logs", "nope").code == 7


def test_events_come_oldest_first_and_name_who_asked(run: Run, stub: Stub) -> None:
    involved = {"kind": "Service", "namespace": "default", "name": "web", "uid": "uid-service-web"}
    common = {"kind": "Event", "type": "Normal", "involved": involved, "state": "pending"}
    stub.events = [
        common | {"token": "10.0", "at": "2026-01-01T10:00:02Z", "reason": "Scaled", "actor": "ann@cli"},
        common | {"token": "9.0", "at": "2026-01-01T10:00:01Z", "reason": "Created", "actor": "engine"},
    ]
    lines = run("events").out.splitlines()
    assert [line.split()[0] for line in lines] == ["10:00:01", "10:00:02"]
    assert "(by ann@cli)" in lines[1]
    assert "(by" not in lines[0]


def test_an_event_line_has_time_object_state_reason_and_message() -> None:
    involved = {"kind": "Spin", "name": "web-1"}
    event = {"at": "2026-01-01T10:00:02.500Z", "involved": involved, "state": "serving", "reason": "Serving"}
    assert event_line(event | {"message": "in traffic"}) == "10:00:02  spin/web-1  serving  Serving: in traffic"
