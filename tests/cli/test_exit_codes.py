"""One table of what a script can rely on, and how an error is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object, problem, ran

PROBLEMS = [
    pytest.param(404, "not_found", 7, id="not found"),
    pytest.param(409, "conflict", 8, id="conflict"),
    pytest.param(409, "already_exists", 8, id="already exists"),
    pytest.param(409, "being_deleted", 8, id="being deleted"),
    pytest.param(412, "precondition_failed", 8, id="precondition"),
    pytest.param(422, "idempotency_key_reused", 8, id="key reused"),
    pytest.param(401, "unauthenticated", 6, id="unauthenticated"),
    pytest.param(403, "policy_denied", 6, id="a code of a newer server"),
    pytest.param(422, "invalid_manifest", 2, id="invalid manifest"),
    pytest.param(422, "invalid_request", 2, id="invalid request"),
    pytest.param(413, "too_large", 2, id="too large"),
    pytest.param(421, "wrong_host", 2, id="wrong host"),
    pytest.param(422, "cannot_enforce", 1, id="cannot enforce"),
    pytest.param(429, "too_many_requests", 4, id="too many"),
    pytest.param(410, "expired", 4, id="expired"),
    pytest.param(503, "store_locked", 4, id="store locked"),
    pytest.param(503, "disk_full", 4, id="disk full"),
    pytest.param(502, "provider_failure", 4, id="provider"),
    pytest.param(500, "internal", 4, id="internal"),
]


@pytest.mark.parametrize(("status", "code", "exit_code"), PROBLEMS)
def test_an_error_of_the_server_has_its_exit_code_and_keeps_its_words(
    run: Run, stub: Stub, status: int, code: str, exit_code: int
) -> None:
    stub.failures.append(problem(status, code, "Something happened.", nextStep="Do that."))
    result = run("get", "svc", "-o", "json")
    assert result.code == exit_code
    assert result.err.splitlines()[0] == "spinyard: Something happened."
    assert "next:  Do that." in result.err
    told = json.loads(result.out)
    assert (told["kind"], told["code"], told["exitCode"]) == ("Error", code, exit_code)


def test_an_error_without_json_is_only_on_stderr(run: Run, stub: Stub) -> None:
    result = run("get", "svc", "nope")
    assert result.code == 7
    assert result.out == ""
    assert "code:  not_found" in result.err


def test_an_answer_that_is_no_problem_json_is_still_an_error_with_its_status(run: Run, stub: Stub) -> None:
    stub.failures.append((404, "<html>"))  # type: ignore[arg-type]
    assert run("get", "svc").code == 7


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["get", "svc", "--bogus"], id="unknown option"),
        pytest.param(["frobnicate"], id="unknown command"),
        pytest.param(["get", "gizmos"], id="unknown kind"),
        pytest.param(["get"], id="no kind"),
        pytest.param(["apply"], id="no file"),
        pytest.param(["apply", "-f", "/nowhere.yaml"], id="file not there"),
        pytest.param(["wait", "svc/web", "--for", "moon=full"], id="unknown wait"),
        pytest.param(["wait", "svc/web", "--for", "available", "--timeout", "soon"], id="not a duration"),
        pytest.param(["delete", "svc"], id="delete without a name"),
        pytest.param(["scale", "web", "--replicas", "-1"], id="negative replicas"),
        pytest.param(["scale", "web", "--replicas", "many"], id="replicas not a number"),
        pytest.param(["get", "svc", "-l", "nonsense"], id="selector without a value"),
        pytest.param(["get", "svc", "-o", "xml"], id="unknown format"),
        pytest.param(["exec", "web-1"], id="exec without a command"),
        pytest.param(["get", "svc", "../../v1/info"], id="a name that is a path"),
    ],
)
def test_a_wrong_command_line_is_exit_2_with_a_sentence_and_changes_nothing(
    run: Run, stub: Stub, words: list[str]
) -> None:
    result = run(*words)
    assert result.code == 2, result.err
    assert result.err.startswith("spinyard: ")
    assert "Traceback" not in result.err
    assert stub.sent("POST") == stub.sent("DELETE") == []


def test_a_misspelt_kind_gets_a_suggestion(run: Run) -> None:
    assert "did you mean services?" in run("get", "servics").err


def test_without_a_server_the_next_step_is_named(run: Run, home: Path) -> None:
    (home / "run" / "server.json").unlink()
    result = run("get", "svc")
    assert result.code == 4
    assert str(home) in result.err
    assert "`spinyard server`" in result.err


def test_a_server_that_died_is_not_mistaken_for_an_empty_list(run: Run, home: Path) -> None:
    file = home / "run" / "server.json"
    file.write_text(file.read_text().replace(json.loads(file.read_text())["url"], "http://127.0.0.1:1"))
    result = run("get", "svc", "-o", "json")
    assert result.code == 4
    assert json.loads(result.out)["code"] == "server_unreachable"


def test_a_wrong_token_is_denied(run: Run, home: Path) -> None:
    (home / "token").write_text("other\n")
    assert run("get", "svc").code == 6


def test_a_wait_that_ends_too_early_is_a_timeout(run: Run, stub: Stub) -> None:
    stub.add(make_object("Service", "web", state="progressing"))
    result = run("wait", "svc/web", "--for", "available", "--timeout", "300ms")
    assert result.code == 5
    assert "spinyard explain service web" in result.err


def test_a_job_that_failed_ends_a_wait_for_its_success_at_once(run: Run, stub: Stub) -> None:
    stub.add(make_object("Job", "load", state="failed", outcome="Failed"))
    assert run("wait", "job/load", "--for", "available", "--timeout", "30s").code == 1


def test_orphans_are_a_failure_for_scripts(run: Run, stub: Stub) -> None:
    stub.answers[("GET", "/v1/orphans")] = (200, {"items": [{"key": "x/process", "provider": "process", "why": "old"}]})
    assert run("orphans").code == 1
    stub.answers[("GET", "/v1/orphans")] = (200, {"items": []})
    assert run("orphans").code == 0


def test_exec_ends_with_the_exit_code_of_the_command(run: Run, stub: Stub) -> None:
    path = "/v1/namespaces/default/spins/web-1/exec"
    stub.answers[("POST", path)] = ran(42, b"hello\n", b"oops\n")
    result = run("exec", "web-1", "--", "ls", "-l", "--help")
    assert (result.code, result.out, result.err) == (42, "hello\n", "oops\n")
    assert stub.sent("POST")[0][3]["command"] == ["ls", "-l", "--help"]


def test_exec_says_what_ended_the_command(run: Run, stub: Stub) -> None:
    stub.answers[("POST", "/v1/namespaces/default/spins/web-1/exec")] = ran(137, why="it took longer than 1 s")
    result = run("exec", "web-1", "--timeout", "1s", "--", "sleep", "9")
    assert (result.code, result.err) == (137, "spinyard: the command was ended: it took longer than 1 s\n")
    found = json.loads(run("exec", "web-1", "-o", "json", "--", "sleep", "9").out)
    assert found == {"exitCode": 137, "output": "", "why": "it took longer than 1 s", "truncated": False}


def test_a_command_whose_connection_broke_is_no_success(run: Run, stub: Stub) -> None:
    status, said = ran(0, b"half")
    stub.answers[("POST", "/v1/namespaces/default/spins/web-1/exec")] = status, said[: said.index(b'{"type": "exit')]
    result = run("exec", "web-1", "--", "ls")
    assert (result.code, result.out) == (4, "half")
    assert "it was ended" in result.err


def test_a_program_that_is_not_there_is_a_usage_error(run: Run, stub: Stub) -> None:
    missing = problem(422, "command_not_found", "nonsense: not found in PATH")
    stub.answers[("POST", "/v1/namespaces/default/spins/web-1/exec")] = missing
    result = run("exec", "web-1", "--", "nonsense")
    assert result.code == 2
    assert "not found in PATH" in result.err


@pytest.mark.parametrize("words", [["--timeout", "0"], ["--timeout", "25h"]])
def test_exec_refuses_a_time_that_cannot_be(run: Run, stub: Stub, words: list[str]) -> None:
    assert run("exec", "web-1", *words, "--", "ls").code == 2
    assert run("run", "box", *words, "--", "ls").code == 2
    assert stub.sent("POST") == []
