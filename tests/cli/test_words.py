"""Durations, ages, sizes, tables: small things that every output uses."""

from __future__ import annotations

import io
from typing import Any

import pytest

from spinyard.cli.exits import Usage
from spinyard.cli.table import table_lines
from spinyard.cli.tell import wants_json
from spinyard.cli.verdict import Verdict, verdict
from spinyard.cli.words import byte_size, duration, epoch_of, may_colour, seconds_of
from spinyard.client.sse import SentEvent, sent_events
from tests.cli.stub import make_object


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("1.5s", 1.5), ("250ms", 0.25), ("1m30s", 90), ("2h", 7200), ("1d", 86400)]
)
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-3s", "3 s", "5x", "1m 30s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        seconds_of(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.34, "0.3s"), (42, "42s"), (185, "3m05s"), (7800, "2h10m"), (356400, "4d3h")]
)
def test_durations_are_shown_with_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_stamps_are_utc() -> None:
    assert epoch_of("1970-01-02T00:00:01.500Z") == 86401.5
    assert epoch_of("1970-01-02T00:00:01+00:00") == 86401
    assert epoch_of("yesterday") is None
    assert epoch_of(None) is None


def test_sizes() -> None:
    assert [byte_size(n) for n in (0, 512, 2048, 5 << 20, 3 << 30)] == ["-", "512 B", "2 KiB", "5 MiB", "3.0 GiB"]


def test_a_table_is_cut_at_the_width_and_only_in_its_last_column() -> None:
    lines = table_lines(["NAME", "STATE", "REASON"], [["web", "failed", "x" * 100]], width=40)
    assert [len(line) <= 40 for line in lines] == [True, True]
    assert lines[1].startswith("web    failed   xxx")
    assert lines[1].endswith("…")
    assert table_lines(["NAME", "REASON"], [["web", "x" * 500]])[1].count("x") == 500


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert may_colour(Terminal())
    assert not may_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not may_colour(Terminal())


def test_json_is_recognised_also_in_a_wrong_command_line_but_not_behind_the_dashes() -> None:
    assert wants_json(["get", "-o", "json", "--bogus"])
    assert wants_json(["get", "--output=json"])
    assert not wants_json(["get", "-o", "yaml"])
    assert not wants_json(["exec", "web", "--", "tool", "-o", "json"])


def test_events_of_a_stream_have_type_data_and_the_last_id() -> None:
    lines = b": keep\n\nid: 5.1\nevent: ADDED\ndata: {\ndata: }\n\ndata: x\n\n".splitlines(keepends=True)
    assert list(sent_events(lines)) == [SentEvent("ADDED", "{\n}", "5.1"), SentEvent("message", "x", "5.1")]


SERVICE_CASES = [
    pytest.param({"state": "available"}, Verdict.DONE, id="available"),
    pytest.param({"state": "available", "observedGeneration": 0}, Verdict.WAITING, id="of an older generation"),
    pytest.param({"state": "progressing"}, Verdict.WAITING, id="progressing"),
    pytest.param({"state": "degraded", "reason": "CrashLoopBackOff"}, Verdict.WAITING, id="retrying"),
    pytest.param(
        {"state": "degraded", "conditions": [{"type": "Progressing", "status": "False", "reason": "RolledBack"}]},
        Verdict.FAILED,
        id="went back to the old version",
    ),
]


@pytest.mark.parametrize(("status", "expected"), SERVICE_CASES)
def test_when_a_service_has_arrived(status: dict[str, Any], expected: Verdict) -> None:
    assert verdict(make_object("Service", "web", **status)) is expected


JOB_CASES = [
    ("succeeded", Verdict.DONE),
    ("failed", Verdict.FAILED),
    ("running", Verdict.WAITING),
    ("pending", Verdict.WAITING),
]


@pytest.mark.parametrize(("state", "expected"), JOB_CASES)
def test_when_a_job_has_arrived(state: str, expected: Verdict) -> None:
    assert verdict(make_object("Job", "load", state=state)) is expected
