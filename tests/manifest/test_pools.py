"""WarmPool and Claim in files: what is right comes back, what is wrong is told where it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from spinyard.core.spec import (
    ClaimSpec,
    Exec,
    HttpGet,
    Kind,
    OnClaim,
    PoolWindow,
    Port,
    TemplateSpec,
    WarmPoolSpec,
    digest_of,
)
from spinyard.manifest import from_json, load, schema, to_json, to_yaml
from spinyard.manifest.pool_shapes import WarmPoolSpecShape

TEMPLATE = TemplateSpec(command=("run",), ports=(Port("http"), Port("admin")))
POOLS = {
    "smallest": WarmPoolSpec(route_port="http"),
    "full": WarmPoolSpec(
        owner="me",
        min=0,
        max=7,
        windows=(PoolWindow("0 8 * * 1-5", 28800.0, 4, 9), PoolWindow("*/5 * * * *", 60.5, 0, 1)),
        max_idle_seconds=90.0,
        freshness_seconds=3600.0,
        replace_stale=False,
        host_suffix="box.localhost",
        route_port="admin",
        on_claim=OnClaim(http_get=HttpGet(path="/claimed", port="admin"), timeout_seconds=2.5),
    ),
    "with a command": WarmPoolSpec(route_port="http", on_claim=OnClaim(exec=Exec(("true",)))),
}
CLAIMS = {
    "smallest": ClaimSpec(pool="box"),
    "full": ClaimSpec(
        pool="box",
        owner="me",
        env=(("A", "yes"), ("B", "1")),
        files=(("task.json", "{}\n"), ("x.txt", "")),
        ttl_seconds=600.0,
        wait_seconds=1.5,
    ),
}
FIXED = {"command": ["a"], "ports": [{"name": "p", "number": 8080}]}


def window(cron: str, duration: int, minimum: int) -> dict[str, Any]:
    return {"schedule": [{"cron": cron, "duration": duration, "min": minimum, "max": 2}]}


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_comes_back(name: str) -> None:
    spec = WarmPoolSpec(
        **{f: getattr(POOLS[name], f) for f in POOLS[name].__slots__} | {"template_digest": digest_of(TEMPLATE)}
    )
    assert_comes_back(Kind.WARM_POOL, spec, TEMPLATE)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_comes_back(name: str) -> None:
    assert_comes_back(Kind.CLAIM, CLAIMS[name], None)


def assert_comes_back(kind: Kind, spec: WarmPoolSpec | ClaimSpec, template: TemplateSpec | None) -> None:
    shown = to_json(kind, {"name": "x"}, spec, template)
    for manifests, problems in (load(to_yaml(shown)), from_json(shown)):
        assert problems == []
        assert manifests[0].spec == spec
        assert list(manifests[0].templates.values()) == ([template] if template else [])
    assert jsonschema_rs.validator_for(schema()).is_valid(shown)


def test_a_reference_needs_no_template() -> None:
    manifests, problems = read("WarmPool", {"templateRef": {"name": "base"}, "min": 0})
    assert (problems, manifests[0].template_ref) == ([], "base")


def test_env_of_a_claim_is_a_list_as_well() -> None:
    body: dict[str, Any] = {"pool": "box", "env": [{"name": "A", "value": "b"}]}
    manifests, problems = read("Claim", body)
    assert problems == []
    assert manifests[0].spec == ClaimSpec(pool="box", env=(("A", "b"),))
    shown = {"apiVersion": "spinyard.dev/v1", "kind": "Claim", "metadata": {"name": "x"}, "spec": body}
    assert jsonschema_rs.validator_for(schema()).is_valid(shown)


@pytest.mark.parametrize(
    ("spec", "path", "code"),
    [
        ({"min": 3, "max": 2}, "spec.min", "out_of_range"),
        ({"min": 11}, "spec.min", "out_of_range"),
        ({"max": 0}, "spec.max", "out_of_range"),
        ({"max": 10001}, "spec.max", "out_of_range"),
        ({"min": -1}, "spec.min", "out_of_range"),
        (window("0 0 30 2 *", 60, 1), "spec.schedule[0].cron", "invalid_cron"),
        (window("hourly", 60, 1), "spec.schedule[0].cron", "invalid_cron"),
        (window("0 8 * * *", 0, 1), "spec.schedule[0].duration", "out_of_range"),
        (window("0 8 * * *", 60, 3), "spec.schedule[0].min", "out_of_range"),
        ({"hostSuffix": "*.box.localhost"}, "spec.hostSuffix", "invalid_host"),
        ({"hostSuffix": "127.0.0.1"}, "spec.hostSuffix", "invalid_host"),
        ({"port": "htp"}, "spec.port", "unknown_port"),
        ({"onClaim": {}}, "spec.onClaim", "missing_field"),
        ({"onClaim": {"exec": {"command": ["a"]}, "httpGet": {}}}, "spec.onClaim.exec", "one_of"),
        ({"onClaim": {"httpGet": {"port": "x"}}}, "spec.onClaim.httpGet.port", "unknown_port"),
        ({"updateStrategy": "RollingUpdate"}, "spec.updateStrategy", "invalid_value"),
        ({"template": FIXED}, "spec.template.ports[0]", "fixed_port"),
        ({"template": {"command": ["a"]}, "hostSuffix": "box.localhost"}, "spec.hostSuffix", "missing_port"),
    ],
)  # fmt: skip
def test_a_wrong_pool_is_told_where(spec: dict[str, Any], path: str, code: str) -> None:
    whole = {"template": {"command": ["run"], "ports": [{"name": "http"}]}} | spec
    assert [(problem.path, problem.code) for problem in read("WarmPool", whole)[1]] == [(path, code)]


@pytest.mark.parametrize(
    ("spec", "path", "code"),
    [
        ({"ttl": 0}, "spec.ttl", "out_of_range"),
        ({"ttl": -1}, "spec.ttl", "out_of_range"),
        ({"ttl": "soon"}, "spec.ttl", "invalid_duration"),
        ({"env": {"A": 1}}, "spec.env[0].value", "wrong_type"),
        ({"env": [{"name": "A"}, {"name": "A"}]}, "spec.env[1].name", "duplicate_name"),
        ({"env": {"1A": "b"}}, "spec.env[0].name", "invalid_variable"),
        ({"files": [{"name": "../x"}]}, "spec.files[0].name", "invalid_name"),
        ({"files": [{"name": "claim.json"}]}, "spec.files[0].name", "invalid_name"),
        ({"files": [{"name": "a"}, {"name": "a"}]}, "spec.files[1].name", "duplicate_name"),
        ({"pool": "A b"}, "spec.pool", "invalid_name"),
    ],
)
def test_a_wrong_claim_is_told_where(spec: dict[str, Any], path: str, code: str) -> None:
    found = [(problem.path, problem.code) for problem in read("Claim", {"pool": "box"} | spec)[1]]
    assert found == [(path, code)]


def read(kind: str, spec: dict[str, Any]) -> Any:
    whole = {"apiVersion": "spinyard.dev/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    return load(yaml.safe_dump(whole))


def test_what_docs_and_examples_show_is_right() -> None:
    root = Path(__file__).parents[2]
    text = (root / "docs" / "pools.md").read_text()
    example = (root / "examples" / "pool.yaml").read_text()
    blocks = [block for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S) if "kind:" in block]
    assert blocks[0] == example
    for block in blocks:
        manifests, problems = load(block, base_dir="/x")
        assert (problems, len(manifests)) == ([], 1)
    names = {info.alias or name for name, info in WarmPoolSpecShape.model_fields.items()} - {"owner"}
    assert {name for name in names if f"`{name}`" not in text} == set()
