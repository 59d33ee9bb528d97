"""What `get` shows: the stable JSON contract, tables, names, selectors, watches."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object


@pytest.fixture(autouse=True)
def some_objects(stub: Stub) -> None:
    route = {"hosts": ["web.localhost"], "pathPrefix": "/"}
    web = make_object("Service", "web", spec={"replicas": 3, "route": route}, state="available", ready=3)
    web["metadata"]["labels"] = {"app": "web"}
    stub.add(web)
    stub.add(make_object("Service", "api", spec={"replicas": 2}, state="degraded", ready=1, reason="CrashLoopBackOff"))
    stub.add(make_object("Service", "far", namespace="other", state="pending"))
    spin = make_object("Spin", "web-abc123", state="serving", message="in traffic")
    spin["metadata"]["ownerReferences"] = [{"uid": "uid-service-web"}]
    stub.add(spin)


def test_json_of_a_list_is_a_list_with_items(run: Run) -> None:
    data = json.loads(run("get", "services", "-o", "json").out)
    assert list(data) == ["apiVersion", "kind", "items", "metadata"]
    assert (data["apiVersion"], data["kind"]) == ("spinyard.dev/v1", "List")
    assert [item["metadata"]["name"] for item in data["items"]] == ["api", "web"]
    assert all({"metadata", "spec", "status"} <= item.keys() for item in data["items"])


def test_json_of_one_object_is_the_object(run: Run) -> None:
    for words in (["svc", "web"], ["svc/web"], ["Services", "web"]):
        data = json.loads(run("get", *words, "-o", "json").out)
        assert (data["kind"], data["metadata"]["name"], data["status"]["state"]) == ("Service", "web", "available")


def test_yaml_says_the_same_as_json(run: Run) -> None:
    assert yaml.safe_load(run("get", "svc", "-o", "yaml").out) == json.loads(run("get", "svc", "-o", "json").out)


def test_names_can_be_given_to_other_commands(run: Run) -> None:
    assert run("get", "svc", "-o", "name").out.split() == ["service/api", "service/web"]


def test_a_table_has_a_line_for_each_object_and_the_word_of_its_state(run: Run) -> None:
    lines = run("get", "svc").out.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATE", "AGE", "HOSTS"]
    assert lines[1].split()[:3] == ["api", "1/2", "degraded"]
    assert lines[2].split()[:3] == ["web", "3/3", "available"]


def test_wide_has_the_reason(run: Run) -> None:
    assert "CrashLoopBackOff" in run("get", "svc", "-o", "wide").out


def test_all_shows_every_kind_that_runs(run: Run) -> None:
    out = run("get", "all").out
    assert "web-abc123" in out and "api" in out and "far" not in out


def test_all_namespaces_have_a_column(run: Run) -> None:
    out = run("get", "svc", "-A").out
    assert out.splitlines()[0].startswith("NAMESPACE")
    assert any(line.split()[:2] == ["other", "far"] for line in out.splitlines())


def test_a_selector_is_sent_to_the_server(run: Run) -> None:
    assert run("get", "svc", "-l", "app=web", "-o", "name").out.split() == ["service/web"]


def test_nothing_there_is_a_sentence_and_not_an_error(run: Run) -> None:
    result = run("get", "jobs", "-n", "empty")
    assert (result.code, result.out) == (0, "no jobs in empty\n")


def test_a_pipe_gets_no_colour(run: Run) -> None:
    assert "\x1b" not in run("get", "all").out


def test_pages_are_followed_to_the_end(run: Run, stub: Stub) -> None:
    path = "/v1/namespaces/default/services"
    pages = [
        (200, {"items": [make_object("Service", "a")], "metadata": {"continue": "next", "resourceVersion": "1.0"}}),
        (200, {"items": [make_object("Service", "b")], "metadata": {"continue": "", "resourceVersion": "2.0"}}),
    ]
    stub.failures += pages
    data = json.loads(run("get", "svc", "-o", "json").out)
    assert [item["metadata"]["name"] for item in data["items"]] == ["a", "b"]
    assert data["metadata"]["resourceVersion"] == "1.0"
    assert [query.get("continue") for sent, query, _, _ in stub.sent("GET") if sent == path] == [None, "next"]


def test_a_watch_shows_what_is_there_then_what_changes_and_ends_with_the_object(run: Run, stub: Stub) -> None:
    web = make_object("Service", "web", spec={"replicas": 3}, state="progressing", ready=1)
    path = "/v1/namespaces/default/services/web"
    gone = {**web, "status": {"state": "terminated"}}
    stub.answers[("WATCH", path)] = (200, [("ADDED", web), ("DELETED", gone)])
    lines = run("get", "svc/web", "-w").out.splitlines()
    assert [line.split()[2] for line in lines] == ["STATE", "progressing", "terminated"]


def test_a_watch_as_json_is_one_line_for_each_change(run: Run, stub: Stub) -> None:
    web = make_object("Service", "web", state="progressing")
    stub.answers[("WATCH", "/v1/namespaces/default/services/web")] = (200, [("ADDED", web), ("DELETED", web)])
    lines = run("get", "svc/web", "-w", "-o", "json").out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["ADDED", "DELETED"]
