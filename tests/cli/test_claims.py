"""Pools and claims at the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object, problem, ran

BOX = "/v1/namespaces/default/warmpools/box"
MEMBER = {"name": "box-1", "address": "127.0.0.1", "ports": {"http": 4711}, "url": "http://a.box.localhost:8080/"}


def answers_with(stub: Stub, state: str, **status: Any) -> None:
    item = make_object("Claim", "a", spec={"pool": "box"}, state=state, **status)
    stub.answers[("POST", f"{BOX}/claims")] = (201, item)


def asked(stub: Stub) -> tuple[dict[str, str], Any]:
    ((_, query, _, body),) = [sent for sent in stub.sent("POST") if sent[0] == f"{BOX}/claims"]
    return query, body


def test_a_claim_prints_its_address_and_how_long_it_took(run: Run, stub: Stub, tmp_path: Path) -> None:
    answers_with(stub, "ready", member=MEMBER, bound=True, cold=False)
    (tmp_path / "task").write_text("do this\n")
    words = ["--env", "A=b=c", "--file", f"task.txt={tmp_path}/task", "--ttl", "10m", "--wait", "5s", "--name", "a"]
    found = run("claim", "pool/box", *words)
    first, second = found.out.splitlines()
    assert (found.code, second) == (0, "http://a.box.localhost:8080/")
    assert first.startswith("claim/a ready in ") and first.endswith("(warm)")
    query, body = asked(stub)
    assert query == {"wait": "5"}
    assert body == {
        "name": "a",
        "env": {"A": "b=c"},
        "files": [{"name": "task.txt", "content": "do this\n"}],
        "ttl": 600,
        "wait": 5,
    }


def test_a_cold_start_is_told(run: Run, stub: Stub) -> None:
    answers_with(stub, "ready", member=MEMBER, bound=True, cold=True)
    assert "(cold start)" in run("claim", "box").out


def test_who_does_not_wait_is_told_the_place_in_the_queue(run: Run, stub: Stub) -> None:
    answers_with(stub, "pending", placeInQueue=3, bound=False)
    found = run("claim", "box", "--name", "a", "--wait", "0")
    assert (found.code, found.out.splitlines()[0]) == (0, "claim/a pending, place 3 in the queue")


def test_a_claim_that_failed_says_why_and_what_next(run: Run, stub: Stub) -> None:
    answers_with(stub, "failed", message="the pool box is at its maximum of 5")
    found = run("claim", "box", "--name", "a")
    assert found.code == 1
    assert "at its maximum of 5" in found.err
    assert "spinyard release a" in found.err


def test_a_claim_that_is_not_ready_in_time_is_a_timeout(run: Run, stub: Stub) -> None:
    answers_with(stub, "pending", bound=False)
    assert run("claim", "box", "--wait", "1s").code == 5


def test_json_is_the_claim(run: Run, stub: Stub) -> None:
    answers_with(stub, "ready", member=MEMBER)
    assert json.loads(run("claim", "box", "-o", "json").out)["status"]["member"] == MEMBER


@pytest.mark.parametrize("words", [["--env", "A"], ["--file", "x=/nowhere/at/all"], ["--ttl", "soon"]])
def test_what_cannot_be_asked_is_not_sent(run: Run, stub: Stub, words: list[str]) -> None:
    assert run("claim", "box", *words).code == 2
    assert stub.sent("POST") == []


def test_renew_and_release(run: Run, stub: Stub) -> None:
    stub.add(make_object("Claim", "a", state="ready"))
    stub.add(make_object("Claim", "b", state="ready"))
    assert run("renew", "claim/a", "--ttl", "10m").out == "claim/a ends in 10m00s\n"
    assert stub.sent("POST")[0][0].endswith("/claims/a/renew")
    assert run("release", "a", "claim/b").out == "claim/a released\nclaim/b released\n"
    assert run("release", "a").code == 7


def test_run_gives_the_exit_code_and_gives_the_claim_up(run: Run, stub: Stub) -> None:
    answers_with(stub, "ready", member=MEMBER)
    stub.answers[("POST", "/v1/namespaces/default/spins/box-1/exec")] = ran(7, b"hi\n")
    found = run("run", "box", "--timeout", "1m", "--", "sh", "-c", "exit 7")
    assert (found.code, found.out) == (7, "hi\n")
    _, body = asked(stub)
    assert body["ttl"] == 60 + 30 + 60
    assert stub.sent("POST")[-1][3]["command"] == ["sh", "-c", "exit 7"]
    assert [path for path, *_ in stub.sent("DELETE")] == [f"/v1/namespaces/default/claims/{body['name']}"]


def test_run_gives_the_claim_up_when_the_command_cannot_be_run(run: Run, stub: Stub) -> None:
    answers_with(stub, "ready", member=MEMBER)
    failure = problem(502, "provider_failure", "no such program")
    stub.answers[("POST", "/v1/namespaces/default/spins/box-1/exec")] = failure
    assert run("run", "box", "--", "nonsense").code != 0
    assert len(stub.sent("DELETE")) == 1


def test_pools_with_hit_rate_idle_time_and_a_picture(run: Run, stub: Stub) -> None:
    pool = make_object("WarmPool", "box", spec={"min": 2, "max": 5}, state="ready", warm=2, min=2, held=3, max=5)
    stub.add(pool)
    steps = [{"warm": 0, "cold": 0, "failed": 0, "waiting": 0}] * 10
    steps += [{"warm": 1, "cold": 1, "failed": 0, "waiting": 0}, {"warm": 7, "cold": 1, "failed": 0, "waiting": 0}]
    members = [{"name": "box-1", "ageSeconds": 300.0, "idleSeconds": 240.0}]
    stub.answers[("GET", f"{BOX}/stats")] = (200, {"hitRate": 0.8, "steps": steps, "members": members})
    header, row = run("get", "pools").out.splitlines()
    assert header.split() == ["NAME", "STATE", "WARM", "HELD", "WAITING", "HITS", "IDLE", "AGE", "LAST", "HOUR"]
    assert row.split()[:7] == ["box", "ready", "2/2", "3/5", "-", "80%", "4m00s"]
    assert row.split()[-1] == "··········▂█"


@pytest.mark.parametrize("word", ["pool", "pools", "wp", "warmpool", "warmpools", "WarmPool"])
def test_words_for_pools(run: Run, stub: Stub, word: str) -> None:
    stub.add(make_object("WarmPool", "box", state="ready"))
    assert run("get", word, "-o", "name").out == "warmpool/box\n"


def test_all_has_pools_and_claims(run: Run, stub: Stub) -> None:
    stub.add(make_object("WarmPool", "box", state="ready"))
    stub.add(make_object("Claim", "a", state="ready"))
    assert run("get", "all", "-o", "name").out.split() == ["warmpool/box", "claim/a"]
