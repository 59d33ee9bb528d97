"""A Job on a pool in files: what is right comes back, what is wrong is told with its line and path."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import yaml

from spinyard.core.spec import JobSpec, Kind
from spinyard.manifest import from_json, load, schema, to_json, to_yaml

WHOLE = JobSpec(
    owner="me",
    retries=2,
    timeout_seconds=90.0,
    ttl_seconds=600.0,
    pool="box",
    command=("work", "--hard"),
    args=("x",),
    env=(("A", "b"),),
    files=(("task.json", "{}\n"),),
)


def read(spec: dict[str, Any]) -> Any:
    whole = {"apiVersion": "spinyard.dev/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": spec}
    return load(yaml.safe_dump(whole, sort_keys=False))


@pytest.mark.parametrize("spec", [WHOLE, JobSpec(pool="box", command=("work",))], ids=["full", "smallest"])
def test_a_job_on_a_pool_comes_back(spec: JobSpec) -> None:
    shown = to_json(Kind.JOB, {"name": "x"}, spec, None)
    for manifests, problems in (load(to_yaml(shown)), from_json(shown)):
        assert problems == []
        assert manifests[0].spec == spec
    assert jsonschema_rs.validator_for(schema()).is_valid(shown)


POOL = {"pool": "box", "command": ["work"]}


@pytest.mark.parametrize(
    ("spec", "path", "code"),
    [
        ({}, "spec", "missing_field"),
        ({**POOL, "template": {"command": ["a"]}}, "spec.pool", "one_of"),
        ({**POOL, "templateRef": {"name": "a"}}, "spec.pool", "one_of"),
        ({"pool": "box"}, "spec", "missing_field"),
        ({"pool": "box", "args": ["x"]}, "spec", "missing_field"),
        ({"pool": "box", "command": []}, "spec", "missing_field"),
        ({"pool": "box", "command": [""]}, "spec.command[0]", "invalid_value"),
        ({"pool": "box", "command": ["work --hard"]}, "spec.command[0]", "invalid_value"),
        ({"pool": "box", "command": "work"}, "spec.command", "wrong_type"),
        ({"pool": "A b", "command": ["work"]}, "spec.pool", "invalid_name"),
        ({**POOL, "timeoutSeconds": 0}, "spec.timeoutSeconds", "out_of_range"),
        ({**POOL, "ttl": 0}, "spec.ttl", "out_of_range"),
        ({**POOL, "retries": -1}, "spec.retries", "out_of_range"),
        ({**POOL, "env": [{"name": "A"}, {"name": "A"}]}, "spec.env[1].name", "duplicate_name"),
        ({**POOL, "files": [{"name": "../x"}]}, "spec.files[0].name", "invalid_name"),
        ({"templateRef": {"name": "a"}, "command": ["work"]}, "spec.command", "one_of"),
        ({"templateRef": {"name": "a"}, "env": {"A": "b"}}, "spec.env", "one_of"),
    ],
)
def test_a_wrong_job_is_told_where(spec: dict[str, Any], path: str, code: str) -> None:
    found, problems = read(spec)
    assert [(problem.path, problem.code) for problem in problems] == [(path, code)]
    assert problems[0].line > 0 and found == []
