"""The published schema takes what `load` takes, and refuses what an editor should underline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.spec import Kind, NamedTemplateSpec, TemplateSpec, digest_of
from spinyard.manifest import schema, to_json
from tests.manifest.specs import jobs, services, templates

EXAMPLES = Path(__file__).parents[2] / "examples"


@cache
def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema())


def is_valid(obj: object) -> bool:
    return bool(validator().is_valid(obj))


def test_it_is_a_schema_and_plain_json() -> None:
    found = schema()
    assert jsonschema_rs.meta.is_valid(found)
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(found)) == found
    assert len(found["oneOf"]) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_it_takes_every_example(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    assert all(is_valid(document) for document in documents)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_it_takes_what_we_show(data: st.DataObject) -> None:
    template = data.draw(templates())
    digest = digest_of(template)
    bare = TemplateSpec(command=("run",))
    shown = [
        to_json(Kind.SERVICE, {"name": "x"}, data.draw(services(template, digest)), template),
        to_json(Kind.JOB, {"name": "x"}, data.draw(jobs(digest_of(bare))), bare),
        to_json(Kind.TEMPLATE, {"name": "x"}, NamedTemplateSpec("", digest), template),
    ]
    for obj in shown:
        assert list(validator().iter_errors(obj)) == []


BROKEN = [
    ("metadata: {name: a}", "metadata: {name: A_B}"),
    ("kind: Service", "kind: Deployment"),
    ("spinyard.dev/v1", "v1"),
    ("replicas: 1", "replicas: '1'"),
    ("replicas: 1", "replica: 1"),
    ("replicas: 1", "replicas: 10001"),
    ("command: [x]", "command: x"),
    ("command: [x]", "command: []"),
    ("command: [x]", "args: [x]"),
    ("command: [x]", "command: [x], image: y"),
    ("command: [x]", "command: [1]"),
    ("exec: {command: [y]}", ""),
    ("exec: {command: [y]}", "exec: {command: [y]}, tcpSocket: {}"),
    ("exec: {command: [y]}", "exec: {command: [y]}, periodSeconds: soon"),
    ("memory: 1Gi", "memory: 1m"),
    ("template: {", "templateRef: {name: t}, template: {"),
]
GOOD = """
apiVersion: spinyard.dev/v1
kind: Service
metadata: {name: a}
spec:
  {replicas: 1, dependsOn: [b, {kind: Job, name: c}], ttl: 2h, template: {command: [x], livenessProbe: {exec: {command: [y]}}, resources: {limits: {memory: 1Gi}}}}
"""  # noqa: E501


def test_the_base_of_the_broken_ones_is_right() -> None:
    assert is_valid(yaml.safe_load(GOOD))


@pytest.mark.parametrize(("old", "new"), BROKEN)
def test_it_refuses_broken_ones(old: str, new: str) -> None:
    assert old in GOOD
    assert not is_valid(yaml.safe_load(GOOD.replace(old, new)))


def fields(node: object) -> Iterator[tuple[str, dict[str, object]]]:
    if isinstance(node, dict):
        for name, item in node.get("properties", {}).items():
            yield name, item
        for item in node.values():
            yield from fields(item)


def test_every_field_is_described() -> None:
    found = list(fields(schema()))
    assert len(found) > 90
    assert [name for name, item in found if not item.get("description")] == []
