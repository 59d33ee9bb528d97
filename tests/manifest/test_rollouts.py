"""spec.rollout in files: what is right comes back, what is wrong is told where it stands, all at once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spinyard.core.ids import Digest
from spinyard.core.shift import Sticky
from spinyard.core.spec import (
    Analysis,
    Gauge,
    GaugeLimit,
    Kind,
    LatencyLimit,
    Port,
    RolloutPart,
    RolloutSpec,
    RolloutStep,
    RolloutStrategy,
    Route,
    ServiceSpec,
    TemplateSpec,
    digest_of,
)
from spinyard.manifest import from_json, load, schema, to_json, to_yaml
from spinyard.spin.rollout.status import RolloutState

TEMPLATE = TemplateSpec(command=("run",), ports=(Port("http"),))
ALL = RolloutStep(10_000)
VALIDATOR = jsonschema_rs.validator_for(schema())
TEMPLATE_BODY = {"command": ["run"], "ports": [{"name": "http"}]}

seconds = st.integers(0, 10**8).map(lambda number: number / 1000)
points = st.integers(1, 99_999).map(lambda number: number / 100_000)
stickies = st.sampled_from(
    [Sticky(), Sticky(header="x-user"), Sticky(cookie="session", no_key_old=False), Sticky(client_address=True)]
)


@st.composite
def strategies(draw: st.DrawFn) -> RolloutStrategy:
    weights = sorted(draw(st.sets(st.integers(1, 9_999), max_size=5)))
    pauses = st.one_of(seconds.map(lambda hold: (hold, False)), st.just((0.0, True)))
    latency = [
        LatencyLimit(quantile / 1000, draw(st.none() | seconds.filter(bool)), 1.5, draw(st.integers(1, 1000)))
        for quantile in draw(st.sets(st.integers(1, 999), max_size=3))
    ]
    gauges = draw(st.sets(st.sampled_from(Gauge), max_size=3))
    return RolloutStrategy(
        steps=tuple(RolloutStep(weight, *draw(pauses)) for weight in [*weights, 10_000]),
        analysis=Analysis(
            enabled=draw(st.booleans()),
            margin=draw(points),
            alpha=draw(st.floats(0.0001, 0.5)),
            latency=tuple(latency),
            gauges=tuple(GaugeLimit(gauge, draw(points)) for gauge in sorted(gauges)),
        ),
        sticky=draw(stickies),
        ready_deadline_seconds=draw(st.floats(0.1, 86400)),
        soak_seconds=draw(seconds),
    )


@settings(deadline=None, max_examples=40)
@given(strategies())
def test_a_strategy_comes_back(strategy: RolloutStrategy) -> None:
    assert_comes_back(strategy)


def test_blue_green_comes_back() -> None:
    assert_comes_back(RolloutStrategy(blue_green=True, steps=(ALL,), soak_seconds=0.0))


def assert_comes_back(strategy: RolloutStrategy) -> None:
    spec = ServiceSpec(template_digest=digest_of(TEMPLATE), route=Route(("a.b",), port="http"), strategy=strategy)
    shown = to_json(Kind.SERVICE, {"name": "x"}, spec, TEMPLATE)
    for manifests, problems in (load(to_yaml(shown)), from_json(shown)):
        assert problems == []
        assert manifests[0].spec == spec
    assert list(VALIDATOR.iter_errors(shown)) == []


@pytest.mark.parametrize(
    ("rollout", "strategy"),
    [
        ({}, RolloutStrategy(steps=(RolloutStep(1_000), RolloutStep(5_000), ALL))),
        ({"type": "blueGreen"}, RolloutStrategy(blue_green=True, steps=(ALL,), soak_seconds=60.0)),
        ({"steps": [{"weight": 100, "pause": True}]}, RolloutStrategy(steps=(RolloutStep(10_000, wait=True),))),
        (
            {"steps": [{"weight": 0.01, "pause": "1m30s"}, {"weight": 33.33, "pause": False}, {"weight": 100}]},
            RolloutStrategy(steps=(RolloutStep(1, 90.0), RolloutStep(3_333), ALL)),
        ),
    ],
    ids=["nothing said", "blueGreen", "waits for a person", "parts of a percent"],
)
def test_what_is_not_said_is_filled_in(rollout: dict[str, Any], strategy: RolloutStrategy) -> None:
    manifests, problems = read({"rollout": rollout})
    assert problems == []
    assert manifests[0].spec.strategy == strategy


STEP, AT = {"weight": 100}, "spec.rollout"
RATE = {"name": "failureRate", "max": 101}


@pytest.mark.parametrize(
    ("rollout", "path", "code"),
    [
        ({"type": "canari"}, f"{AT}.type", "invalid_value"),
        ({"steps": []}, f"{AT}.steps", "out_of_range"),
        ({"steps": [{"weight": 10}, {"weight": 10}, STEP]}, f"{AT}.steps[1].weight", "out_of_range"),
        ({"steps": [{"weight": 10}, {"weight": 99.99}]}, f"{AT}.steps[1].weight", "out_of_range"),
        ({"steps": [{"weight": 0}, STEP]}, f"{AT}.steps[0].weight", "out_of_range"),
        ({"steps": [{"weight": 101}]}, f"{AT}.steps[0].weight", "out_of_range"),
        ({"steps": [{"weight": 1.234}, STEP]}, f"{AT}.steps[0].weight", "out_of_range"),
        ({"steps": [{"weight": "10%"}, STEP]}, f"{AT}.steps[0].weight", "wrong_type"),
        ({"steps": [{"weight": 100, "pause": "soon"}]}, f"{AT}.steps[0].pause", "invalid_duration"),
        ({"steps": [{"weight": 100, "pause": {"duration": "1m"}}]}, f"{AT}.steps[0].pause", "wrong_type"),
        ({"type": "blueGreen", "steps": [{"weight": 50}, STEP]}, f"{AT}.steps", "one_of"),
        ({"analysis": {"margin": 0}}, f"{AT}.analysis.margin", "out_of_range"),
        ({"analysis": {"margin": 100}}, f"{AT}.analysis.margin", "out_of_range"),
        ({"analysis": {"alpha": 0.00001}}, f"{AT}.analysis.alpha", "out_of_range"),
        ({"analysis": {"latency": [{"quantile": 0.5}]}}, f"{AT}.analysis.latency[0]", "missing_field"),
        ({"analysis": {"latency": [{"quantile": 95, "max": 1}]}}, f"{AT}.analysis.latency[0].quantile", "out_of_range"),
        ({"analysis": {"gauges": [{"name": "cpu", "max": 1}]}}, f"{AT}.analysis.gauges[0].name", "invalid_value"),
        ({"analysis": {"gauges": [RATE]}}, f"{AT}.analysis.gauges[0].max", "out_of_range"),
        ({"sticky": {}}, f"{AT}.sticky", "missing_field"),
        ({"sticky": {"header": "a", "cookie": "b"}}, f"{AT}.sticky.cookie", "one_of"),
        ({"sticky": {"header": "a b"}}, f"{AT}.sticky.header", "invalid_header"),
        ({"sticky": {"clientAddress": True, "noKey": "any"}}, f"{AT}.sticky.noKey", "one_of"),
        ({"sticky": {"clientAddress": False}}, f"{AT}.sticky.clientAddress", "invalid_value"),
        ({"soak": -1}, f"{AT}.soak", "out_of_range"),
        ({"readyDeadline": 0}, f"{AT}.readyDeadline", "out_of_range"),
    ],
)  # fmt: skip
def test_a_wrong_rollout_is_told_where(rollout: dict[str, Any], path: str, code: str) -> None:
    assert [(problem.path, problem.code) for problem in read({"rollout": rollout})[1]] == [(path, code)]


@pytest.mark.parametrize(
    ("spec", "path", "code"),
    [
        ({"template": TEMPLATE_BODY}, "spec.rollout", "missing_field"),
        ({"external": {"endpoints": [{"address": "a", "port": 1}]}}, "spec.rollout", "one_of"),
        (
            {"route": {"hosts": ["a"]}, "template": {"command": ["a"], "ports": [{"name": "p", "number": 80}]}},
            "spec.template.ports[0]",
            "fixed_port",
        ),
    ],
    ids=["without a route", "of something external", "with a fixed port"],
)
def test_a_rollout_has_to_have_something_to_weigh(spec: dict[str, Any], path: str, code: str) -> None:
    found = load(yaml.safe_dump(whole({"rollout": {}} | spec)))[1]
    assert [(problem.path, problem.code) for problem in found] == [(path, code)]


def test_every_problem_is_told_at_once_with_its_line_and_what_to_write() -> None:
    text = """apiVersion: spinyard.dev/v1
kind: Service
metadata: {name: a}
spec:
  route: {hosts: [a]}
  template: {command: [run], ports: [{name: http}]}
  rollout:
    steps:
      - {weight: 10%}
      - {weight: 20, pause: soon}
    analysis: {margin: 0}
"""
    found = [
        (problem.line, problem.path.removeprefix("spec.rollout."), problem.suggestion) for problem in load(text)[1]
    ]
    assert found == [
        (9, "steps[0].weight", "write 10, without quotes"),
        (10, "steps[1].pause", ""),
        (11, "analysis.margin", ""),
    ]
    _, problems = load(text.replace("10%", "10").replace("soon", "1s").replace("margin: 0", "margin: 1"))
    assert [problem.suggestion for problem in problems] == ["add - {weight: 100}"]


def test_what_the_engine_writes_is_not_shown() -> None:
    part = RolloutPart("u", "shop-1", Digest("sha256:0"), "b")
    spec = ServiceSpec(template_digest=digest_of(TEMPLATE), route=Route(("a.b",), port="http"))
    engines = replace(spec, side="b", rollout=part)
    assert to_json(Kind.SERVICE, {"name": "x"}, engines) == to_json(Kind.SERVICE, {"name": "x"}, spec)


def test_a_rollout_is_shown_and_refused_in_a_file() -> None:
    strategy = RolloutStrategy(steps=(RolloutStep(2_500, wait=True), ALL))
    spec = RolloutSpec(
        "shop", "u", template_digest=Digest("sha256:1"), old_digest=Digest("sha256:0"), strategy=strategy
    )
    shown = to_json(Kind.ROLLOUT, {"name": "shop-1"}, spec)
    body: Any = shown["spec"]
    assert (body["service"], body["templateDigest"], body["oldTemplateDigest"]) == ("shop", "sha256:1", "sha256:0")
    assert body["strategy"]["steps"] == [{"weight": 25, "pause": True}, {"weight": 100}]
    (problem,) = from_json(shown)[1]
    assert (problem.code, "Service" in problem.suggestion) == ("read_only_kind", True)


def read(spec: dict[str, Any]) -> Any:
    return load(yaml.safe_dump(whole({"route": {"hosts": ["a"]}, "template": TEMPLATE_BODY} | spec)))


def whole(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": "x"}, "spec": spec}


def test_what_the_docs_show_is_right_and_names_each_state() -> None:
    text = (Path(__file__).parents[2] / "docs" / "rollouts.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)
    assert [load(block)[1] for block in blocks] == [[]]
    assert {state for state in RolloutState if f"| `{state}` |" not in text} == set()
