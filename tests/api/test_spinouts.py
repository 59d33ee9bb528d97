"""Spinouts over HTTP. What the engine does is done by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from spinyard.api import rates
from spinyard.api.deps import ApiLimits
from spinyard.core.figures import Gate, SideFigures
from spinyard.core.observed import ClusterTraffic, ShadowFound, Traffic, Unknown
from spinyard.core.plan import Plan
from spinyard.core.spec import Kind
from spinyard.core.spinout import SpinoutSpec
from spinyard.core.verdict import Counts, Evidence, Increment, fold
from spinyard.ports.store import Commit
from spinyard.spinout.compare import Sample
from spinyard.spinout.status import Passed, SpinoutStatus, spinout_cluster
from spinyard.usecases.forced_side import new_key, public_keys
from tests.api.conftest import World, running

pytestmark = pytest.mark.anyio

ONE = "/v1/namespaces/default/spinouts/thumbnails"
SPEC: dict[str, Any] = {
    "parent": "gallery",
    "unit": "thumbs",
    "boundary": {"routes": ["GET /photos/{id}/thumb", "POST /photos/{id}/rotate"]},
    "steps": [{"weight": 10, "pause": 30}, {"weight": 50, "pause": True}, {"weight": 100}],
    "gates": {"latency": [{"quantile": 0.95, "maxRatio": 1.2}]},
}
STATUS = SpinoutStatus(
    attempt=1,
    step=0,
    weight=1000,
    shown_weight=1000,
    serial=3,
    evidence=fold(Evidence(0.01), Increment(1, Counts(900), Counts(100, 2))),
    new=SideFigures(requests=100, failures=2, per_second=1.5, low=0.93, high=0.99, p95=0.02),
    old=SideFigures(requests=900),
    baseline=SideFigures(requests=200, p95=0.03),
    gates=(Gate("success rate", "inconclusive", "not decided", 40, 1.0, 0.98, 0.01),),
    needs="40 more requests",
    passed=(Passed("shadowing", 10.0, 40.0, "passed", "50 compared, none different"),),
)


def item(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "spinyard.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


async def applied(world: World, **spec: Any) -> dict[str, Any]:
    template = {"command": ["serve"], "ports": [{"name": "http"}]}
    services = [
        item("Service", name, {"replicas": 2, "route": {"hosts": [f"{name}.localhost"]}, "template": template})
        for name in ("gallery", "thumbs")
    ]
    objects = [*services, item("Spinout", "thumbnails", {**SPEC, **spec})]
    answer = await world.call("POST", "/v1/apply", {"objects": objects})
    assert answer.status == 200, answer.text
    return dict(answer.json)


def drive(world: World, state: str, status: SpinoutStatus = STATUS, **fields: Any) -> None:
    found = world.store.read(lambda tx: tx.select(Kind.SPINOUT), now=0.0)[0].row
    now = world.deps.clock.now()
    world.store.wake([found.uid], now=now)
    rows = world.store.claim(holder="test", now=now, lease_seconds=5.0, limit=100)
    plans = [
        (r, Plan(state, msgspec.json.encode(status), "driven", "Test", None, **fields))
        if r.uid == found.uid
        else (r, Plan(r.state, r.status, "as it was", "Test", None))
        for r in rows
    ]
    world.store.commit([Commit(r, plan, release=True) for r, plan in plans], now=now)


async def test_it_is_shown_as_it_was_written_and_as_it_stands(world: World) -> None:
    await applied(world)
    await world.call("POST", f"{ONE}/start", {"evidence": "minutes of 12 May"}, x_spinyard_actor="ann")
    drive(world, "ramping")
    found = (await world.call("GET", ONE)).json
    assert found["spec"]["steps"] == [{"weight": 10, "pause": 30}, {"weight": 50, "pause": True}, {"weight": 100}]
    status = found["status"]
    assert (status["state"], status["started"], status["attempt"]) == ("ramping", 1, 1)
    assert (status["weight"], status["shownWeight"], status["capacityFloor"]) == (1000, 1000, 2)
    assert status["new"]["failures"] == 2 and status["baseline"]["p95"] == 0.03
    assert status["gates"][0]["needs"] == 40
    assert status["evidence"]["new"] == {"requests": 100, "failures": 2}
    assert status["passed"][0]["leftAt"].startswith("1970-")
    assert [one["phase"] for one in status["approvals"]] == ["analysed", "decided", "contracted"]
    assert {one["actor"] for one in status["approvals"]} == {"ann"}
    assert [one["metadata"]["name"] for one in (await world.call("GET", "/v1/spinouts")).json["items"]] == [
        "thumbnails"
    ]


async def test_every_verb_is_answered_with_the_object_and_its_refusals_are_problems(world: World) -> None:
    await applied(world)
    refused = await world.call("POST", f"{ONE}/promote")
    assert (refused.status, refused.json["code"], refused.json["fault"]) == (409, "not_ramping", "user")
    assert refused.headers["content-type"] == "application/problem+json"
    refused = await world.call("POST", f"{ONE}/approve", {"phase": "analysed"})
    assert (refused.status, refused.json["code"]) == (422, "evidence_missing")
    assert (await world.call("POST", f"{ONE}/approve", {"phase": "analysed", "evidence": "read it"})).status == 200
    assert (await world.call("POST", f"{ONE}/start")).status == 200
    drive(world, "ramping")
    assert (await world.call("POST", f"{ONE}/hold", {"why": "lunch"})).json["status"]["paused"] is True
    assert "paused" not in (await world.call("POST", f"{ONE}/resume")).json["status"]
    assert (await world.call("POST", f"{ONE}/promote", {"to": 50})).json["status"]["promoted"] == 1
    waived = {"waive": "success rate", "evidence": "known", "expiresSeconds": 60}
    approvals = (await world.call("POST", f"{ONE}/approve", waived)).json["status"]["approvals"]
    assert approvals[-1]["waives"] == "success rate" and approvals[-1]["expiresAt"]
    assert (await world.call("POST", f"{ONE}/abort", {"why": "slow"})).json["status"]["abort"] == "slow"
    assert (await world.call("POST", f"{ONE}/start")).json["code"] == "spinout_started"
    gone = await world.call("POST", "/v1/namespaces/default/spinouts/thumbnail/start")
    assert (gone.status, gone.json["nextStep"]) == (404, "Did you mean thumbnails?")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("approve", {"phase": "analysed", "evidence": "x", "decision": "maybe"}),
        ("approve", {"waive": "x", "evidence": "x", "expiresSeconds": -1}),
        ("promote", {"to": 0}),
        ("start", {"evidence": "x" * 16_001}),
        ("abort", {"reason": "x"}),
    ],
)
async def test_a_body_that_makes_no_sense_is_told_at_its_field(world: World, verb: str, body: dict[str, Any]) -> None:
    await applied(world)
    answer = await world.call("POST", f"{ONE}/{verb}", body)
    assert answer.status == 422 and answer.json["errors"]


async def test_a_tester_gets_a_token_for_a_while_and_it_is_recorded_without_its_value(
    tmp_path: Path, limits: ApiLimits
) -> None:
    private = new_key()
    async with running(tmp_path, limits, side_key=lambda: private) as world:
        await applied(world)
        asked = {"side": "unit", "forSeconds": 600}
        refused = await world.call("POST", f"{ONE}/token", asked)
        assert (refused.status, refused.json["code"]) == (409, "not_started")
        await world.call("POST", f"{ONE}/start")
        found = (await world.call("POST", f"{ONE}/token", asked, x_spinyard_actor="ann")).json
        assert (found["header"], found["side"]) == ("x-spinyard-force", "unit")
        keys = KeySet.import_key_set(json.loads(public_keys(private)))
        claims = jwt.decode(found["token"], keys).claims
        assert (claims["aud"], claims["side"], claims["exp"] - claims["iat"]) == (
            "spinout:default/thumbnails", "unit", 600
        )  # fmt: skip
        stored = world.store.read(lambda tx: tx.select(Kind.SPINOUT), now=0.0)[0].row.spec
        assert isinstance(stored, SpinoutSpec) and stored.jwks == public_keys(private)
        history = await world.call("GET", f"{ONE}/history")
        assert history.json["items"][-1]["body"]["verb"] == "token"
        assert found["token"] not in history.text
        assert (await world.call("POST", f"{ONE}/token", asked | {"forSeconds": 1e6})).status == 422
        first = await world.call("POST", f"{ONE}/token", asked, idempotency_key="k1")
        again = await world.call("POST", f"{ONE}/token", asked, idempotency_key="k1")
        assert (first.status, again.status, again.json["code"]) == (200, 409, "token_was_given")
        assert "eyJ" not in again.text, "each token is recorded, and what was not recorded is none"


async def test_what_copied_requests_were_answered_differently_is_shown_by_field_with_samples(
    tmp_path: Path, limits: ApiLimits
) -> None:
    class Found:
        boundary = ""

        def found(self, boundary: str) -> ShadowFound | None:
            return ShadowFound(50, 2, 1, 0, (("body /size", 2),)) if boundary == self.boundary else None

        def samples(self, boundary: str) -> list[Sample]:
            one = Sample(10.0, "GET", "/photos/1/thumb", (("body /size", "12", "13"),))
            return [one, replace(one, at=20.0)]

    shadow = Found()
    async with running(tmp_path, limits, shadow=shadow) as world:
        await applied(world)
        row = world.store.read(lambda tx: tx.select(Kind.SPINOUT), now=0.0)[0].row
        shadow.boundary = spinout_cluster("default", "thumbnails", row.uid)
        found = (await world.call("GET", f"{ONE}/diffs")).json
    assert (found["known"], found["compared"], found["different"], found["errors"]) == (True, 50, 2, 1)
    assert found["fields"] == [{"name": "body /size", "count": 2}]
    assert [one["at"] for one in found["samples"]] == ["1970-01-01T00:00:20.000Z", "1970-01-01T00:00:10.000Z"]
    assert found["samples"][0]["fields"] == [{"name": "body /size", "parent": "12", "unit": "13"}]


async def test_where_nothing_was_compared_that_is_said(world: World) -> None:
    await applied(world)
    found = (await world.call("GET", f"{ONE}/diffs")).json
    assert (found["known"], found["fields"], found["samples"]) == (False, [], [])


async def test_a_server_without_a_key_makes_no_token(world: World) -> None:
    await applied(world)
    await world.call("POST", f"{ONE}/start")
    answer = await world.call("POST", f"{ONE}/token", {"side": "unit"})
    assert (answer.status, answer.json["code"]) == (503, "no_side_key")


async def test_the_parent_keeps_its_instances_over_http_too(world: World) -> None:
    await applied(world)
    await world.call("POST", f"{ONE}/start")
    parent = "/v1/namespaces/default/services/gallery"
    answer = await world.call("POST", f"{parent}/scale", {"replicas": 1})
    assert (answer.status, answer.json["code"], answer.json["capacityFloor"]) == (409, "capacity_floor", 2)
    answer = await world.call("DELETE", parent)
    assert (answer.status, answer.json["code"]) == (409, "in_use")


async def test_the_history_comes_in_pages_with_the_word_that_it_is_whole(world: World) -> None:
    await applied(world)
    await world.call("POST", f"{ONE}/start", {"evidence": "minutes"}, x_spinyard_actor="ann")
    drive(world, "ramping")
    first = (await world.call("GET", f"{ONE}/history?limit=2")).json
    assert first["verification"]["whole"] is True
    assert [one["seq"] for one in first["items"]] == [1, 2]
    rest = (await world.call("GET", f"{ONE}/history?continue={first['metadata']['continue']}")).json
    assert rest["metadata"]["continue"] == ""
    assert [(one["kind"], one["actor"]) for one in rest["items"]] == [("approval", "ann")] * 3
    assert rest["items"][0]["before"] == first["items"][-1]["hash"]
    assert (await world.call("GET", f"{ONE}/verify")).json["records"] == 5


async def test_the_history_of_a_deleted_one_is_still_there(world: World) -> None:
    await applied(world)
    await world.call("DELETE", ONE)
    drive(world, "abandoned", finished=True, keep_seconds=1e6)
    assert (await world.call("GET", ONE)).status == 404
    kinds = [one["body"].get("verb") for one in (await world.call("GET", f"{ONE}/history")).json["items"]]
    assert kinds == ["create", "delete"]


async def test_a_plan_says_what_moves_what_it_needs_and_what_is_refused(world: World) -> None:
    await applied(world)
    plan = (await world.call("GET", f"{ONE}/plan")).json
    assert [(one["route"], one["moves"]) for one in plan["routes"]] == [
        ("GET /photos/{id}/thumb", True), ("POST /photos/{id}/rotate", False)
    ]  # fmt: skip
    assert [one["code"] for one in plan["refused"]] == ["route_writes"]
    assert plan["requestsPerSecond"] == "unknown" and plan["estimatedSeconds"] == "unknown"
    needed = [step["requestsNeeded"] for step in plan["steps"]]
    assert all(isinstance(count, int) and count > 50 for count in needed)
    assert plan["waitsForPromotion"] is True
    by_people = [one["phase"] for one in plan["phases"] if one["by"] == "people"]
    assert by_people == ["analysed", "decided", "contracted", "completed"]


async def test_a_plan_with_traffic_says_how_long(
    tmp_path: Path, limits: ApiLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        count = 0

        async def read(self, clusters: tuple[str, ...]) -> Traffic | Unknown:
            assert clusters[0].startswith("default/gallery/")
            self.count += 1
            seen = ClusterTraffic(requests=100 * self.count)
            return Traffic("epoch", float(self.count), {clusters[0]: seen})

    monkeypatch.setattr(rates, "LOOK_SECONDS", 0.0)
    async with running(tmp_path, limits, traffic=Counting()) as counted:
        steps = [{"weight": 50}, {"weight": 100}]
        await applied(counted, steps=steps, shadow=False, soak=10)
        plan = (await counted.call("GET", f"{ONE}/plan")).json
    assert (plan["requestsPerSecond"], plan["requestsOf"], plan["shadow"]) == (100.0, "parent", None)
    first, last = (step["seconds"] for step in plan["steps"])
    assert first == pytest.approx(plan["steps"][0]["requestsNeeded"] / 50, abs=0.1)
    assert plan["estimatedSeconds"] == pytest.approx(5 + first + last + 10, abs=0.2)


async def test_explain_says_the_cause_the_numbers_and_what_next(world: World) -> None:
    await applied(world)
    found = (await world.call("GET", f"{ONE}/explain")).json
    assert "not started" in found["cause"] and "spinyard spinout start thumbnails" in found["nextStep"]
    await world.call("POST", f"{ONE}/start", {"evidence": "minutes"})
    drive(world, "ramping")
    found = (await world.call("GET", f"{ONE}/explain")).json
    sources = [one["source"] for one in found["evidence"]]
    assert {"spinout", "gate", "judge", "figures", "phase", "approval"} <= set(sources)
    stopped = msgspec.structs.replace(
        STATUS, weight=0, shown_weight=0, stopped="success rate: worse", stopped_reason="GateFailed"
    )
    drive(world, "rolled_back", stopped)
    found = (await world.call("GET", f"{ONE}/explain")).json
    assert found["cause"] == "Rolled back: success rate: worse" and found["who"] == "user"
    assert "Correct the unit" in found["nextStep"]


async def test_a_dry_run_of_a_change_shows_what_differs(world: World) -> None:
    await applied(world)
    changed = {"spec": {**SPEC, "soak": 5}}
    plan = (await world.call("PUT", f"{ONE}?dryRun=plan", changed)).json
    assert plan["changes"][0]["diff"] == [{"path": "spec.soak", "before": 60, "after": 5}]
