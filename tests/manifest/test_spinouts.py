"""Kind Spinout in files: what is right comes back, what is wrong is told where it stands, all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.shift import Sticky
from spinyard.core.spec import Kind
from spinyard.core.spinout import (
    Approval,
    Bound,
    BoundaryRoute,
    Inconclusive,
    LatencyGoal,
    Objective,
    Shadow,
    SpinoutGates,
    SpinoutSpec,
    SpinoutStep,
    ThresholdGate,
)
from spinyard.core.want import BoundaryRule
from spinyard.manifest import from_json, load, schema, to_json, to_yaml
from spinyard.proxy.translate_paths import rule_problem
from spinyard.spinout.config import config_digest
from spinyard.spinout.routes import overlap

VALIDATOR = jsonschema_rs.validator_for(schema())
LEAST: dict[str, Any] = {
    "apiVersion": "spinyard.dev/v1",
    "kind": "Spinout",
    "metadata": {"name": "thumbnails"},
    "spec": {"parent": "gallery", "unit": "thumbs", "boundary": {"routes": ["GET /photos/{id}/thumb"]}},
}
CONTRACT = '{"info":{"title":"t","version":"1"},"openapi":"3.1.0","paths":{}}'

words = st.text("abcdefghij", min_size=1, max_size=6)
parts = st.integers(1, 10_000)
shares = st.integers(1, 99_999).map(lambda number: number / 100_000)
seconds = st.integers(1, 10**6).map(lambda number: number / 1000)
names = st.lists(words, max_size=3).map(tuple)
stickies = st.sampled_from(
    [Sticky(), Sticky(header="x-user"), Sticky(cookie="session", no_key_old=False), Sticky(client_address=True)]
)
pauses = st.one_of(seconds.map(lambda hold: (hold, False)), st.just((0.0, True)), st.just((0.0, False)))


@st.composite
def goals(draw: st.DrawFn) -> tuple[LatencyGoal, ...]:
    ratios = st.none() | st.integers(101, 9_999).map(lambda number: number / 100)
    return tuple(
        LatencyGoal(quantile / 1000, draw(ratios), draw(seconds), draw(st.none() | seconds))
        for quantile in sorted(draw(st.sets(st.integers(1, 999), max_size=3)))
    )


@st.composite
def specs(draw: st.DrawFn) -> SpinoutSpec:
    weights = sorted(draw(st.sets(st.integers(1, 9_999), max_size=4)))
    gates = SpinoutGates(
        margin=draw(shares),
        alpha=draw(st.floats(0.0001, 0.5)),
        latency=draw(goals()),
        objective=draw(st.none() | st.builds(Objective, shares, st.just(3600.0), parts, parts)),
        trace_join_min=draw(st.none() | shares),
        thresholds=tuple(
            ThresholdGate(name, "http://m:9090", "up", draw(st.floats(-1e6, 1e6)), draw(st.sampled_from(Bound)), 30.0)
            for name in sorted(draw(st.sets(words, max_size=2)))
        ),
    )
    shadow = st.builds(Shadow, st.just(True), parts, parts, shares, names, names, names) | st.just(Shadow(False))
    return SpinoutSpec(
        parent="gallery",
        unit="thumbs",
        routes=(BoundaryRoute("/a/{id}/b", "GET"), BoundaryRoute("/c/*", "", ("photos",))),
        owner=draw(words),
        escalation=draw(words),
        objective=draw(words),
        contract=CONTRACT,
        key=draw(stickies),
        forward_to_owner=draw(st.booleans()),
        steps=tuple(SpinoutStep(weight, *draw(pauses)) for weight in [*weights, 10_000]),
        gates=gates,
        shadow=draw(shadow),
        baseline_seconds=draw(st.floats(0.1, 86400)),
        baseline_requests=draw(st.integers(0, 10_000)),
        soak_seconds=draw(seconds),
        inconclusive=draw(st.sampled_from(Inconclusive)),
        deadline_seconds=draw(st.floats(1, 1e6)),
        abort_deadline_seconds=draw(st.floats(1, 86400)),
    )


@settings(deadline=None, max_examples=40)
@given(specs())
def test_a_spinout_comes_back(spec: SpinoutSpec) -> None:
    shown = to_json(Kind.SPINOUT, {"name": "thumbnails"}, spec)
    assert list(VALIDATOR.iter_errors(shown)) == []
    for manifests, problems in (from_json(shown), load(to_yaml(shown))):
        assert problems == []
        again = manifests[0].spec
        assert isinstance(again, SpinoutSpec)
        assert again.contract_digest.startswith("sha256:") and len(again.contract_digest) == 71
        assert again == replace(spec, contract_digest=again.contract_digest)


def test_three_fields_are_enough_and_the_rest_has_defaults_that_move_requests_in_three_steps() -> None:
    spec = right(LEAST)
    assert [step.weight for step in spec.steps] == [1_000, 5_000, 10_000]
    assert spec.shadow.enabled and spec.inconclusive is Inconclusive.HOLD
    assert spec.routes == (BoundaryRoute("/photos/{id}/thumb", "GET"),)
    assert VALIDATOR.is_valid(LEAST)


def test_what_people_did_with_the_verbs_is_not_shown_as_written_and_names_no_other_configuration() -> None:
    spec = right(LEAST)
    done = replace(spec, started=2, promoted=1, abort="slow", approvals=(Approval("decided", "ann", "minutes", 1.0),))
    assert to_json(Kind.SPINOUT, {}, done) == to_json(Kind.SPINOUT, {}, spec)
    assert config_digest(done) == config_digest(spec)
    assert config_digest(replace(spec, soak_seconds=61.0)) != config_digest(spec)


WRONG = [
    ("unit", "gallery", "spec.unit", "same_service"),
    ("boundary.routes", [], "spec.boundary.routes", "out_of_range"),
    ("boundary.routes", ["FETCH /x"], "spec.boundary.routes[0]", "invalid_route"),
    ("boundary.routes", ["GET x"], "spec.boundary.routes[0].path", "invalid_path"),
    ("boundary.routes", ["/a/*/b"], "spec.boundary.routes[0].path", "invalid_path"),
    ("boundary.routes", ["GET /a/b{c}"], "spec.boundary.routes[0].path", "invalid_path"),
    ("boundary.routes", ["GET /a?b=c"], "spec.boundary.routes[0].path", "invalid_path"),
    ("boundary.routes", ["GET /a/../b"], "spec.boundary.routes[0].path", "invalid_path"),
    ("boundary.routes", ["GET /a/{x}", "GET /a/*"], "spec.boundary.routes[1]", "overlapping_routes"),
    ("boundary.routes", ["POST /a"], "spec.boundary.routes", "nothing_to_move"),
    ("key", {"cookie": "a", "header": "b"}, "spec.key.cookie", "one_of"),
    ("key", {"clientAddress": True, "noKey": "any"}, "spec.key.noKey", "one_of"),
    ("key", {"noKey": "parent"}, "spec.key", "missing_field"),
    ("steps", [{"weight": 50}, {"weight": 10}, {"weight": 100}], "spec.steps[1].weight", "out_of_range"),
    ("steps", [{"weight": 50}], "spec.steps[0].weight", "out_of_range"),
    ("steps", [{"weight": 0}, {"weight": 100}], "spec.steps[0].weight", "out_of_range"),
    ("gates", {"success": {"margin": 0}}, "spec.gates.success.margin", "out_of_range"),
    ("gates", {"latency": [{"quantile": 0.5}]}, "spec.gates.latency[0]", "missing_field"),
    ("gates", {"latency": [{"quantile": 0.5, "maxRatio": 1}]}, "spec.gates.latency[0].maxRatio", "out_of_range"),
    ("gates", {"latency": [{"quantile": 0.5, "max": 1}] * 2}, "spec.gates.latency[1].quantile", "duplicate_name"),
    ("gates", {"objective": {"target": 100}}, "spec.gates.objective.target", "out_of_range"),
    ("gates", {"thresholds": [{"name": "q", "prometheus": {"url": "http://m", "query": "x"}}]},
     "spec.gates.thresholds[0]", "missing_field"),
    ("gates", {"thresholds": [{"name": "q", "prometheus": {"url": "m:9", "query": "x"}, "max": 1}]},
     "spec.gates.thresholds[0].prometheus.url", "invalid_url"),
    ("gates", {"traceJoin": {"min": 0}}, "spec.gates.traceJoin.min", "out_of_range"),
    ("shadow", {"share": 0}, "spec.shadow.share", "out_of_range"),
    ("shadow", "no", "spec.shadow", "wrong_type"),
    ("contract", {}, "spec.contract", "missing_field"),
    ("contract", {"file": "/etc/passwd"}, "spec.contract.file", "file_not_read"),
    ("contract", {"text": "openapi: 2.0"}, "spec.contract.text", "invalid_contract"),
    ("inconclusive", "abrot", "spec.inconclusive", "invalid_value"),
    ("stepz", [], "spec.stepz", "unknown_field"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "path", "code"), WRONG, ids=[f"{w[2]}-{w[3]}-{n}" for n, w in enumerate(WRONG)]
)
def test_what_is_wrong_is_told_at_its_place(field: str, value: object, path: str, code: str) -> None:
    body = yaml.safe_load(yaml.safe_dump(LEAST))
    owner, *rest = field.split(".")
    if rest:
        body["spec"][owner][rest[0]] = value
    else:
        body["spec"][owner] = value
    manifests, problems = from_json(body)
    assert manifests == []
    assert [(problem.path, problem.code) for problem in problems] == [(path, code)]
    assert problems[0].message


def test_all_problems_are_told_at_once_with_their_lines() -> None:
    text = """\
apiVersion: spinyard.dev/v1
kind: Spinout
metadata: {name: x}
spec:
  parent: gallery
  unit: gallery
  boundary: {routes: [GET /a, FETCH /b]}
  steps: [{weight: 50}, {weight: 10}, {weight: 100}]
  gates: {success: {margin: 0}}
  soak: later
"""
    _, problems = load(text, "x.yaml")
    assert [(problem.line, problem.code) for problem in problems] == [
        (6, "same_service"),
        (7, "invalid_route"),
        (8, "out_of_range"),
        (9, "out_of_range"),
        (10, "invalid_duration"),
    ]


GOOD_PATHS = ["/photos/{photo-id}", "/photos/{photo_id}/x-y/*", "/a%20b", "/" + "/".join("a" * 64), "/~!$&'()+,;=:@/"]
BAD_PATHS = ["/a%2", "/a%", "/{1}", "/{a}b", "/" + "/".join("a" * 65), "/a/..", "/.", "/{" + "a" * 64 + "}"]


@pytest.mark.parametrize("path", [*GOOD_PATHS, *BAD_PATHS])
def test_the_data_plane_takes_the_paths_that_a_manifest_may_have_and_no_others(path: str) -> None:
    _, problems = from_json({**LEAST, "spec": {**LEAST["spec"], "boundary": {"routes": [f"GET {path}"]}}})
    assert bool(problems) == bool(rule_problem(BoundaryRule(path=path))) == (path in BAD_PATHS), problems


def test_routes_overlap_when_a_request_is_of_both() -> None:
    def meet(one: str, other: str) -> bool:
        return overlap(*(BoundaryRoute(text.split()[-1], " ".join(text.split()[:-1])) for text in (one, other)))

    assert meet("GET /a/{x}", "GET /a/b")
    assert meet("/a/*", "POST /a/b/c")
    assert meet("/*", "GET /")
    assert meet("GET /a/{x}/c", "GET /a/b/{y}")
    assert not meet("GET /a", "POST /a")
    assert not meet("GET /a/{x}", "GET /a/b/c")
    assert not meet("GET /a/*", "GET /a")
    assert not meet("GET /a/{x}/c", "GET /a/b/d")


# -- the contract's file -----------------------------------------------------------------------------------------------


def test_the_contract_is_read_beside_the_file_and_sent_as_json_text(tmp_path: Path) -> None:
    (tmp_path / "openapi.yaml").write_text("openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths: {}  # none yet\n")
    manifests, problems = load_in(tmp_path, {"file": "openapi.yaml"})
    assert problems == []
    spec = manifests[0].spec
    assert isinstance(spec, SpinoutSpec)
    assert spec.contract == CONTRACT
    assert manifests[0].body["spec"]["contract"] == {"text": CONTRACT}  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "line", "code", "said"),
    [
        (None, 6, "no_such_file", "cannot read openapi.yaml"),
        (b"openapi: 3.0.1\npaths: [\n", 3, "invalid_contract", "not YAML"),
        (b'{"openapi": "3.0.1",\n "paths": ]}', 2, "invalid_contract", "not JSON"),
        (b"swagger: '2.0'\n", 1, "invalid_contract", "OpenAPI 2.0"),
        (
            b"openapi: 3.0.1\ninfo: {title: t, version: '1'}\npaths:\n  /a: {get: 3}\n",
            4,
            "invalid_contract",
            "/paths/~1a/get",
        ),
        (b"\xff\xfe", 6, "invalid_contract", "UTF-8"),
        (b"#" * (257 * 1024), 6, "too_large", "256 KiB"),
    ],
)
def test_what_is_wrong_with_the_contract_is_told_with_its_line(
    tmp_path: Path, content: bytes | None, line: int, code: str, said: str
) -> None:
    if content is not None:
        (tmp_path / "openapi.yaml").write_bytes(content)
    manifests, problems = load_in(tmp_path, {"file": "openapi.yaml"})
    assert manifests == []
    assert [(problem.line, problem.code) for problem in problems] == [(line, code)]
    assert said in problems[0].message
    inside = line != 6
    assert problems[0].source == (str(tmp_path / "openapi.yaml") if inside else str(tmp_path / "spinout.yaml"))


def load_in(directory: Path, contract: dict[str, str]) -> tuple[list[Any], list[Any]]:
    text = f"""\
apiVersion: spinyard.dev/v1
kind: Spinout
metadata: {{name: x}}
spec:
  parent: a
  contract: {{file: {contract["file"]}}}
  unit: b
  boundary: {{routes: [GET /a]}}
"""
    return load(
        text, str(directory / "spinout.yaml"), base_dir=str(directory), read_file=lambda path: Path(path).read_bytes()
    )


def right(body: dict[str, Any]) -> SpinoutSpec:
    manifests, problems = from_json(body)
    assert problems == []
    spec = manifests[0].spec
    assert isinstance(spec, SpinoutSpec)
    return spec
