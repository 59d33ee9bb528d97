"""Holds at the command line: what is sent, what is shown, and what is refused before anything is sent."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Run
from tests.cli.stub import Stub, problem

HOLD = {
    "kind": "Hold",
    "scope": "service/web",
    "namespace": "default",
    "why": "the market is open",
    "by": "alice@cli",
    "since": "2026-01-01T00:00:00.000Z",
    "until": None,
}


def test_a_hold_is_sent_with_its_reason_and_its_time(run: Run, stub: Stub) -> None:
    stub.answers["POST", "/v1/holds"] = (201, HOLD | {"until": "2026-01-01T01:00:00.000Z"})
    done = run("hold", "svc/web", "--why", "the market is open", "--for", "1h")
    assert done.code == 0, done.err
    assert done.out == "service/web held for 1h00m: the market is open\n"
    method, path, _, headers, body = stub.requests[-1]
    assert (method, path) == ("POST", "/v1/holds") and headers["idempotency-key"]
    assert body == {
        "scope": "service/web",
        "namespace": "default",
        "why": "the market is open",
        "forSeconds": 3600.0,
    }


def test_without_a_time_it_says_how_it_ends(run: Run, stub: Stub) -> None:
    stub.answers["POST", "/v1/holds"] = (201, HOLD)
    assert "until `spinyard release-hold service/web`" in run("hold", "pool/web", "--why", "x").out
    assert stub.requests[-1][4]["scope"] == "warmpool/web"


@pytest.mark.parametrize(
    "words",
    [
        ("hold",),
        ("hold", "service/web", "--why", " "),
        ("hold", "spin/web", "--why", "x"),
        ("hold", "nonsense", "--why", "x"),
        ("hold", "service/", "--why", "x"),
        ("hold", "service/web", "--why", "x", "--for", "0s"),
        ("hold", "service/web", "--why", "x", "--for", "soon"),
        ("release-hold", "claim/x"),
        ("get", "holds", "-w"),
        ("get", "holds", "web"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused_before_it_is_sent(run: Run, stub: Stub, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.code == 2 and "next:" in done.err
    assert stub.requests == []


def test_what_is_not_held_cannot_be_released(run: Run, stub: Stub) -> None:
    stub.failures.append(problem(404, "not_found", "everything is not held."))
    done = run("release-hold")
    assert done.code == 7 and "not held" in done.err


def test_holds_are_listed(run: Run, stub: Stub) -> None:
    everything = HOLD | {"scope": "everything", "why": "an incident"}
    stub.answers["GET", "/v1/holds"] = (200, {"kind": "List", "items": [HOLD, everything]})
    lines = run("get", "holds").out.splitlines()
    assert lines[0].split() == ["SCOPE", "NAMESPACE", "BY", "AGE", "LEFT", "WHY"]
    assert "the market is open" in lines[1] and "default" in lines[1]
    assert "default" not in lines[2]
    assert stub.requests[-1][2] == {"namespace": "default"}
    assert json.loads(run("get", "holds", "-A", "-o", "json").out)["items"] == [HOLD, everything]
    assert run("get", "holds", "-o", "name").out.split() == ["service/web", "everything"]
    stub.answers["GET", "/v1/holds"] = (200, {"kind": "List", "items": []})
    assert "nothing is held" in run("get", "hold").out
