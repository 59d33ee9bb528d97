"""The published description and the server agree: a bounded run of generated requests finds no 5xx and no surprise."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from spinyard.api.deps import ApiLimits
from spinyard.usecases.forced_side import new_key
from tests.api.conftest import SERVICE, TOKEN, World, running

pytestmark = pytest.mark.anyio
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
EXAMPLES = 3
TEMPLATE = SERVICE["spec"]["template"]
ROUTE = {"hosts": ["web.localhost"]}
BODIES = {
    "templates": {"spec": TEMPLATE},
    "services": {"spec": {**SERVICE["spec"], "route": ROUTE, "rollout": {"steps": [{"weight": 10}, {"weight": 100}]}}},
    "jobs": {"spec": {"template": TEMPLATE}},
    "warmpools": {"spec": {"min": 0, "max": 5, "hostSuffix": "box.localhost", "template": TEMPLATE}},
    "spinouts": {"spec": {"parent": "web", "unit": "unit", "boundary": {"routes": ["GET /photos/{id}"]}}},
}
UNIT = {"spec": {**SERVICE["spec"], "route": {"hosts": ["unit.localhost"]}}}
ENDLESS = {"watch": False, "follow": False, "wait": 0}


@pytest.fixture
def limits() -> ApiLimits:
    return ApiLimits(poll_seconds=0.05, body_seconds=0.5)


async def test_the_description_names_each_route_and_its_problems(world: World) -> None:
    described = (await world.call("GET", "/v1/openapi.json")).json
    put = described["paths"]["/v1/namespaces/{namespace}/services/{name}"]["put"]
    assert {"200", "201", "401", "409", "412", "413", "422", "429"} <= set(put["responses"])
    assert put["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("ObjectBody")
    ids = [op["operationId"] for path in described["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids))
    assert "Problem" in described["components"]["schemas"]


@pytest.mark.timeout(180)
async def test_generated_requests_get_no_server_error_and_no_undocumented_answer(
    tmp_path: Path, limits: ApiLimits
) -> None:
    private = new_key()
    async with running(tmp_path, limits, side_key=lambda: private) as world:
        await make_one_of_each(world)
        described = (await world.call("GET", "/v1/openapi.json")).json
        answers = await asyncio.to_thread(fuzz, described, world.base)
    assert answers[200] > 50, answers
    assert answers[404] > 5, answers
    assert answers[422] > 50, answers


async def make_one_of_each(world: World) -> None:
    assert (await world.call("PUT", "/v1/namespaces/default/services/unit", UNIT)).status == 201
    for plural, body in BODIES.items():
        answer = await world.call("PUT", f"/v1/namespaces/default/{plural}/web", body)
        assert answer.status == 201, (plural, answer.json)
    claimed = await world.call("POST", "/v1/namespaces/default/warmpools/web/claims", {"name": "web"})
    assert claimed.status in (201, 202), claimed.json


def fuzz(described: dict[str, Any], base: str) -> Counter[int]:
    """How many answers there were of each status. Positive cases ask for objects that exist."""
    # A backup writes a file wherever a generated path says.
    schema = schemathesis.openapi.from_dict(described).exclude(path="/v1/backup")
    answers = Counter[int]()
    # A backup writes a file wherever a generated path says.
    schema = schemathesis.openapi.from_dict(described).exclude(path="/v1/backup")
    for found in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            ask_about(found.ok(), mode, base, answers)
    return answers


def ask_about(operation: Any, mode: schemathesis.GenerationMode, base: str, answers: Counter[int]) -> None:
    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        if mode is schemathesis.GenerationMode.POSITIVE and case.path_parameters:
            case.path_parameters.update(namespace="default", name="web")
        if isinstance(case.query, dict):
            case.query.update({k: v for k, v in ENDLESS.items() if k in case.query})
        response = case.call(base_url=base, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
        answers[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    ask()
