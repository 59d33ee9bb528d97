"""What is shown can be applied again: load(dump(x)) == x, as YAML and as JSON."""

from __future__ import annotations

import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.ids import Digest
from spinyard.core.spec import (
    JobSpec,
    Kind,
    NamedTemplateSpec,
    RollingUpdate,
    ServiceSpec,
    SpinSpec,
    TemplateSpec,
    digest_of,
)
from spinyard.manifest import from_json, load, to_json, to_yaml
from tests.manifest.specs import jobs, services, templates, texts

META = {
    "name": "x",
    "namespace": "n",
    "labels": {"a": "b"},
    "annotations": {"note": "yes"},
    "uid": "u",
    "generation": 3,
}


def assert_comes_back(
    kind: Kind, spec: ServiceSpec | JobSpec | NamedTemplateSpec, template: TemplateSpec | None
) -> None:
    shown = to_json(kind, META, spec, template)
    text = to_yaml(shown)
    for manifests, problems in (load(text), from_json(json.loads(json.dumps(shown))), load(json.dumps(shown))):
        assert problems == [], text
        assert manifests[0].spec == spec
        assert manifests[0].templates == ({digest_of(template): template} if template else {})
        assert (manifests[0].name, manifests[0].namespace, manifests[0].labels) == ("x", "n", {"a": "b"})
        assert manifests[0].annotations == {"note": "yes"}
    assert yaml.safe_load(text) == shown, "other readers of YAML must see the same"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_services_come_back(data: st.DataObject) -> None:
    template = data.draw(templates())
    assert_comes_back(Kind.SERVICE, data.draw(services(template, digest_of(template))), template)


@settings(deadline=None, max_examples=40)
@given(services(None, Digest("")))
def test_external_services_come_back(spec: ServiceSpec) -> None:
    assert_comes_back(Kind.SERVICE, spec, None)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_jobs_and_templates_come_back(data: st.DataObject) -> None:
    template = data.draw(templates())
    assert_comes_back(Kind.TEMPLATE, NamedTemplateSpec(data.draw(texts), digest_of(template)), template)
    bare = TemplateSpec(command=template.command, env=template.env, limits=template.limits)
    assert_comes_back(Kind.JOB, data.draw(jobs(digest_of(bare))), bare)


def test_a_reference_is_shown_by_its_name() -> None:
    template = TemplateSpec(command=("run",))
    spec = ServiceSpec(template_ref="web", template_digest=digest_of(template), update=RollingUpdate(1, 0))
    shown = to_json(Kind.SERVICE, {"name": "x"}, spec, template)
    assert shown["spec"]["templateRef"] == {"name": "web"}  # type: ignore[index]
    assert "template" not in shown["spec"]  # type: ignore[operator]
    assert from_json(shown)[0][0].template_ref == "web"


def test_a_spin_can_be_shown() -> None:
    template = TemplateSpec(command=("run",))
    spec = SpinSpec(template_digest=digest_of(template), service_name="web", route_port="http")
    shown = to_json(Kind.SPIN, {"name": "web-1"}, spec, template)
    assert shown["kind"] == "Spin"
    assert shown["spec"]["service"] == "web"  # type: ignore[index]
    assert from_json(shown)[1][0].code == "read_only_kind"


def test_several_objects_make_several_documents() -> None:
    template = TemplateSpec(command=("run",))
    shown = to_json(Kind.TEMPLATE, {"name": "x"}, NamedTemplateSpec("", digest_of(template)), template)
    other = {**shown, "metadata": {"name": "y"}}
    assert [manifest.name for manifest in load(to_yaml([shown, other]))[0]] == ["x", "y"]
