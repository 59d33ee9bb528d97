"""Whatever is given, the answer is manifests or problems, never an exception."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from spinyard.core.spec import Kind, NamedTemplateSpec, digest_of
from spinyard.manifest import from_json, load, to_json
from tests.manifest.specs import jobs, services, templates
from tests.manifest.test_schema import validator

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["5s", "1Gi", "500m", "25%", "a", "/x", "http", "Service", "0", "1"]),
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
FIELDS = [
    "name",
    "port",
    "ports",
    "command",
    "exec",
    "template",
    "templateRef",
    "replicas",
    "env",
    "value",
    "kind",
    "image",
]
# Objects are large: making a failing one smaller takes minutes, and the first is readable enough.
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    template = draw(templates())
    digest = digest_of(template)
    return draw(
        st.one_of(
            services(template, digest).map(lambda spec: to_json(Kind.SERVICE, {"name": "x"}, spec, template)),
            st.just(to_json(Kind.TEMPLATE, {"name": "x"}, NamedTemplateSpec("", digest), template)),
            jobs(digest).map(lambda spec: to_json(Kind.JOB, {"name": "x"}, spec, template)),
        )
    )


def containers(node: Any) -> list[Any]:
    inside = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = [node] if isinstance(node, dict | list) and node else []
    return own + [found for item in inside for found in containers(item)]


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A right object with one to three changes anywhere."""
    obj = copy.deepcopy(draw(objects()))
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.sampled_from(containers(obj)))
        place = draw(st.sampled_from(sorted(where) if isinstance(where, dict) else range(len(where))))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                where[place] = draw(anything)
            case "remove" if len(where) > 1:
                del where[place]
            case _ if isinstance(where, dict):
                where[draw(st.sampled_from(FIELDS))] = draw(anything)
            case _:
                where.append(draw(anything))
    return obj


@settings(deadline=None, max_examples=60, phases=QUICK)
@given(damaged())
def test_a_damaged_object_is_taken_or_explained(obj: dict[str, Any]) -> None:
    manifests, problems = from_json(obj)
    assert bool(manifests) != bool(problems)
    for problem in problems:
        assert problem.code
        assert problem.message
        assert "pydantic" not in str(problem).lower()
    if manifests:
        errors = [str(error) for error in validator().iter_errors(manifests[0].body)]
        assert errors == [], "what is taken is right by the published schema, too"


@settings(deadline=None, max_examples=40, phases=QUICK)
@given(damaged())
def test_yaml_and_json_are_judged_alike(obj: dict[str, Any]) -> None:
    by_yaml = load(yaml.safe_dump(obj))  # ASCII: PyYAML's own writer loses U+0085 otherwise
    by_json = from_json(obj, "file.yaml")
    keys = [
        {(problem.path, problem.code) for problem in problems if problem.code != "invalid_key"}
        for problems in (by_yaml[1], by_json[1])
    ]
    assert keys[0] == keys[1]
    assert [manifest.spec for manifest in by_yaml[0]] == [manifest.spec for manifest in by_json[0]]


@settings(deadline=None, max_examples=60)
@given(anything)
def test_any_json_at_all(obj: object) -> None:
    assert from_json(obj)[0] == []
    assert from_json({"kind": "List", "items": [obj]})[0] == []
    load(json.dumps(obj))


@settings(deadline=None, max_examples=150)
@given(st.text(st.sampled_from("abk:-[]{}&*!|>'\"#%@`,?<~ \n\t\\0159.é\ud800\x00\x85"), max_size=60))
def test_any_text_at_all(text: str) -> None:
    assert load(text)[0] == []
