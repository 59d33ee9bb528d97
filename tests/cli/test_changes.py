"""apply, plan, diff, delete, scale: what is sent, once, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import MANIFEST, Run
from tests.cli.stub import Stub, make_object, problem


def test_apply_sends_the_whole_file_as_one_transaction_and_says_what_happened(
    run: Run, stub: Stub, manifest: str
) -> None:
    result = run("apply", "-f", manifest)
    assert (result.code, result.out) == (0, "service/web created\n")
    (path, _, headers, body) = stub.sent("POST")[0]
    assert path == "/v1/apply"
    assert body["objects"][0]["metadata"] == {"name": "web", "namespace": "default"}
    assert body["objects"][0]["spec"]["template"]["command"] == ["sleep", "60"]
    assert headers["x-spinyard-actor"].endswith("@cli")
    assert headers["idempotency-key"]


def test_the_namespace_option_is_for_objects_that_name_none(run: Run, stub: Stub, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    named = MANIFEST.replace("{name: web}", "{name: own, namespace: mine}")
    path.write_text(MANIFEST + "---\n" + named)
    assert run("apply", "-f", str(path), "-n", "theirs").code == 0
    sent = stub.sent("POST")[0][3]["objects"]
    assert [item["metadata"]["namespace"] for item in sent] == ["theirs", "mine"]


def test_a_broken_connection_repeats_the_request_with_the_same_key(run: Run, stub: Stub, manifest: str) -> None:
    stub.drop = 1
    assert run("apply", "-f", manifest).code == 0
    keys = [headers["idempotency-key"] for _, _, headers, _ in stub.sent("POST")]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_every_invocation_has_a_key_of_its_own(run: Run, stub: Stub, manifest: str) -> None:
    run("apply", "-f", manifest)
    run("apply", "-f", manifest)
    keys = [headers["idempotency-key"] for _, _, headers, _ in stub.sent("POST")]
    assert len(set(keys)) == 2


def test_a_connection_that_always_breaks_ends_with_an_error(run: Run, stub: Stub, manifest: str) -> None:
    stub.drop = 99
    result = run("apply", "-f", manifest)
    assert result.code == 4
    assert len(stub.sent("POST")) == 3


def test_all_problems_of_all_files_are_told_at_once_and_nothing_is_sent(run: Run, stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST.replace("replicas: 2", "replcas: 2"))
    (tmp_path / "b.yaml").write_text(MANIFEST.replace("kind: Service", "kind: Servise").replace("web", "b"))
    result = run("apply", "-f", str(tmp_path), "-o", "json")
    assert result.code == 2
    assert stub.requests == []
    lines = [line.strip() for line in result.err.splitlines() if ".yaml:" in line]
    assert any(line.startswith(f"{tmp_path}/a.yaml:6:") and "replicas" in line for line in lines), lines
    assert any(line.startswith(f"{tmp_path}/b.yaml:2:") and "Service" in line for line in lines), lines
    told = json.loads(result.out)
    assert told["code"] == "invalid_manifest"
    assert {"source", "line", "column", "path", "message"} <= told["details"]["errors"][0].keys()


def test_problems_that_only_the_server_sees_are_told_too(run: Run, stub: Stub, manifest: str) -> None:
    errors = [{"path": "spec.dependsOn[0]", "code": "x", "message": "there is no Service db", "suggestion": "dbs"}]
    stub.failures.append(problem(422, "invalid_manifest", "1 problem.", errors=errors))
    result = run("apply", "-f", manifest)
    assert result.code == 2
    assert "spec.dependsOn[0]: there is no Service db (did you mean dbs?)" in result.err


def test_plan_changes_nothing(run: Run, stub: Stub, manifest: str) -> None:
    result = run("plan", "-f", manifest)
    assert result.code == 0
    assert "+ service/web: create" in result.out
    assert stub.objects == {}


def test_a_failed_preflight_check_is_exit_1_with_what_to_do(run: Run, stub: Stub, manifest: str) -> None:
    check = {"check": "command", "status": "failed", "object": "Service/default/web", "message": "sleep: not found"}
    stub.answers[("POST", "/v1/apply")] = (
        200,
        {"kind": "Plan", "changes": [], "preflight": [check | {"nextStep": "install it"}]},
    )
    result = run("plan", "-f", manifest)
    assert result.code == 1
    assert "sleep: not found" in result.out
    assert "next: install it" in result.out


def test_diff_is_exit_1_when_something_differs_and_0_when_nothing_does(run: Run, stub: Stub, manifest: str) -> None:
    change = {"action": "update", "kind": "Service", "namespace": "default", "name": "web"}
    diff = [{"path": "spec.replicas", "before": 1, "after": 2}]
    stub.answers[("POST", "/v1/apply")] = (200, {"kind": "Plan", "changes": [change | {"diff": diff}]})
    result = run("diff", "-f", manifest)
    assert result.code == 1
    assert "spec.replicas: 1 -> 2" in result.out
    stub.answers[("POST", "/v1/apply")] = (200, {"kind": "Plan", "changes": [change | {"action": "unchanged"}]})
    assert run("diff", "-f", manifest).code == 0


def test_prune_names_the_same_set_for_the_same_files(run: Run, stub: Stub, manifest: str) -> None:
    run("apply", "-f", manifest, "--prune")
    run("apply", "-f", manifest, "--prune")
    run("apply", "-f", manifest)
    bodies = [body for _, _, _, body in stub.sent("POST")]
    assert bodies[0]["appliedSet"] == bodies[1]["appliedSet"]
    assert [body["prune"] for body in bodies] == [True, True, False]
    assert "appliedSet" not in bodies[2]


def test_delete_waits_until_it_is_gone(run: Run, stub: Stub) -> None:
    stub.add(make_object("Service", "web"))
    result = run("delete", "svc", "web")
    assert (result.code, result.out) == (0, "service/web gone\n")
    assert stub.objects == {}


def test_delete_that_does_not_end_in_time_goes_on_and_says_so(run: Run, stub: Stub) -> None:
    stub.add(make_object("Service", "web"))
    stub.deletes_finish = False
    result = run("delete", "svc/web", "--timeout", "300ms")
    assert result.code == 5
    assert "the deletion goes on" in result.err
    assert run("delete", "svc/web", "--no-wait").code == 0


def test_delete_by_file_takes_what_the_file_names(run: Run, stub: Stub, manifest: str) -> None:
    stub.add(make_object("Service", "web"))
    assert run("delete", "-f", manifest).code == 0
    assert stub.objects == {}


@pytest.mark.parametrize(
    ("more", "code"), [pytest.param([], 7, id="an error"), pytest.param(["--ignore-not-found"], 0, id="unless told")]
)
def test_deleting_what_is_not_there(run: Run, more: list[str], code: int) -> None:
    assert run("delete", "svc", "nope", *more).code == code


def test_force_is_sent(run: Run, stub: Stub) -> None:
    stub.add(make_object("Spin", "web-1"))
    run("delete", "sp/web-1", "--force")
    assert stub.sent("DELETE")[0][1] == {"force": "true"}


def test_scale_sends_the_number(run: Run, stub: Stub) -> None:
    stub.add(make_object("Service", "web", spec={"replicas": 1}))
    assert run("scale", "web", "--replicas", "5").out == "service/web scaled to 5\n"
    assert stub.sent("POST")[0][3] == {"replicas": 5}
