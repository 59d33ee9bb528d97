"""Rollouts over HTTP. What the engine does is done by hand."""

from __future__ import annotations

import json
import threading
from typing import Any

import msgspec
import pytest

from spinyard.api import rollouts
from spinyard.core.figures import Gate, Reading, SideFigures
from spinyard.core.ids import Uid
from spinyard.core.observed import ClusterTraffic, Traffic, Unknown
from spinyard.core.plan import EndRollout, Plan, SetRollout
from spinyard.core.row import ObjectRow
from spinyard.core.spec import Kind, RolloutPart, RolloutSpec
from spinyard.core.verdict import Counts, Evidence, Increment, fold
from spinyard.ports.store import Commit
from spinyard.spin.rollout.status import RolloutStatus, StepRecord
from spinyard.spin.service.status import ServiceStatus
from spinyard.usecases.rollout_plan import forecast
from tests.api.conftest import World, running

pytestmark = pytest.mark.anyio

WEB = "/v1/namespaces/default/services/web"
ROLLOUTS = "/v1/namespaces/default/rollouts"


def service(version: str, **spec: Any) -> dict[str, Any]:
    template = {"command": ["serve", version], "ports": [{"name": "http"}]}
    rollout = {"steps": [{"weight": 10}, {"weight": 100}]}
    base = {"replicas": 2, "route": {"hosts": ["web.localhost"]}, "rollout": rollout, "template": template}
    return {"spec": {**base, **spec}}


def in_list(version: str, **spec: Any) -> dict[str, Any]:
    return {"objects": [{"apiVersion": "spinyard.dev/v1", "kind": "Service", "metadata": {"name": "web"},
                         **service(version, **spec)}]}  # fmt: skip


def drive(world: World, kind: Kind, state: str, status: msgspec.Struct, **fields: Any) -> ObjectRow:
    now = world.deps.clock.now()
    rows = world.store.claim(holder="test", now=now, lease_seconds=5.0, limit=100)
    row = next(r for r in rows if r.kind is kind)
    plans = [
        (r, Plan(state, msgspec.json.encode(status), "driven", "Test", None, **fields))
        if r is row
        else (r, Plan(r.state, r.status, "as it was", "Test", None))
        for r in rows
    ]
    world.store.commit([Commit(r, plan, release=True) for r, plan in plans], now=now)
    return row


async def up(world: World) -> None:
    answer = await world.call("PUT", WEB, service("v1"))
    assert answer.status == 201
    digest = world.store.read(lambda tx: tx.find(Kind.SERVICE, "default", "web"), now=0.0)
    assert digest is not None
    status = ServiceStatus(good=digest.row.template_digest, observed_generation=1)
    drive(world, Kind.SERVICE, "available", status)


STATUS = RolloutStatus(
    step=0,
    weight=1000,
    shown_weight=1000,
    replicas=1,
    step_begun_at=1000.0,
    evidence=fold(Evidence(0.05), Increment(1, Counts(900), Counts(100, 2))),
    reading=Reading("epoch", 1.0, 1, ClusterTraffic(), ClusterTraffic(latency=((0.1, 3),))),
    new=SideFigures(requests=100, failures=2, per_second=1.5, low=0.93, high=0.99, p95=0.02, ready=1, alive=1),
    old=SideFigures(requests=900),
    gates=(Gate("success rate", "inconclusive", "not decided", 40, 1.0, 0.98, 0.05),),
    needs="40 more",
    steps=(StepRecord(500, 10.0, 40.0, "passed", "well", SideFigures(), SideFigures()),),
)


async def judging(world: World) -> str:
    """The name of a Rollout in its first step, its part in the Service."""
    await up(world)
    applied = (await world.call("POST", "/v1/apply", in_list("v2"))).json["results"][0]
    name = str(applied["rollout"])
    assert applied["message"] == f"rollout {name} started"
    found = world.store.read(lambda tx: tx.find(Kind.ROLLOUT, "default", name), now=0.0)
    assert found is not None and isinstance(found.row.spec, RolloutSpec)
    spec = found.row.spec
    part = RolloutPart(found.row.uid, name, spec.template_digest, "side", 1, 1, 1000)
    change = SetRollout(Uid(spec.service_uid), spec.old_digest, part)
    drive(world, Kind.ROLLOUT, "judging", STATUS, children=(change,))
    return name


async def end(world: World, state: str) -> None:
    found = world.store.read(lambda tx: tx.select(Kind.ROLLOUT), now=0.0)[0].row
    assert isinstance(found.spec, RolloutSpec)
    change = EndRollout(Uid(found.spec.service_uid), found.uid, promote=state == "succeeded")
    world.store.wake([found.uid], now=world.deps.clock.now())
    drive(world, Kind.ROLLOUT, state, STATUS, children=(change,), finished=True)


async def test_another_template_is_answered_with_the_rollout_it_started(world: World) -> None:
    name = await judging(world)
    web = (await world.call("GET", WEB)).json
    assert web["spec"]["template"]["command"] == ["serve", "v1"]
    assert web["status"]["rollout"] == {
        "name": name, "state": "judging", "step": 0, "weight": 1000, "shownWeight": 1000
    }  # fmt: skip
    again = (await world.call("POST", "/v1/apply", in_list("v2"))).json["results"][0]
    assert again["result"] == "unchanged" and "rollout" not in again
    for body in (in_list("v3"), in_list("v1"), in_list("v2", rollout=None)):
        answer = await world.call("POST", "/v1/apply", body)
        assert answer.code == (409, "rollout_running")
        assert f"spinyard rollout abort {name}" in answer.json["nextStep"]
    assert (await world.call("POST", f"{WEB}/restart")).code == (409, "rollout_running")


async def test_a_dry_run_says_that_it_will_be_rolled_out_and_starts_nothing(world: World) -> None:
    await up(world)
    plan = (await world.call("POST", "/v1/apply?dryRun=plan", in_list("v2"))).json["changes"][0]
    assert plan["action"] == "update"
    assert [d["path"] for d in plan["diff"]] == ["spec.template.command"]
    assert plan["details"][0].startswith("Rolled out:") and "10 / 100 %" in plan["details"][0]
    assert (await world.call("GET", ROLLOUTS)).json["items"] == []


async def test_a_rollout_is_shown_with_what_a_person_reads_and_no_more(world: World) -> None:
    name = await judging(world)
    answer = await world.call("GET", f"{ROLLOUTS}/{name}")
    shown, status = answer.json, answer.json["status"]
    assert answer.headers["etag"] == f'"{shown["metadata"]["resourceVersion"]}"'
    assert shown["spec"]["service"] == status["service"] == "web"
    assert shown["spec"]["oldTemplateDigest"] == status["oldTemplateDigest"] != status["templateDigest"]
    assert (status["state"], status["step"], status["weight"], status["shownWeight"]) == ("judging", 0, 1000, 1000)
    assert status["new"] == {"requests": 100, "failures": 2, "perSecond": 1.5, "low": 0.93, "high": 0.99, "p95": 0.02,
                             "ready": 1, "alive": 1}  # fmt: skip
    assert status["gates"][0]["needs"] == 40 and status["needs"] == "40 more"
    assert status["steps"][0]["weight"] == 500 and status["steps"][0]["leftAt"] == "1970-01-01T00:00:40.000Z"
    assert status["evidence"]["new"] == {"requests": 100, "failures": 2}
    assert status["evidence"]["bound"] == pytest.approx(2.9957)
    assert not {"reading", "stepReading", "still"} & set(status)
    assert (await world.call("GET", f"{ROLLOUTS}/web")).json == shown
    assert (await world.call("GET", f"{ROLLOUTS}/wep")).status == 404
    assert [i["metadata"]["name"] for i in (await world.call("GET", "/v1/rollouts")).json["items"]] == [name]
    explained = (await world.call("GET", f"{ROLLOUTS}/web/explain")).json
    assert {"gate", "judge", "figures", "step"} <= {e["source"] for e in explained["evidence"]}
    assert (await world.call("PUT", f"{ROLLOUTS}/{name}", shown)).status == 405


async def test_a_watch_sends_a_rollout_as_it_goes_on(world: World) -> None:
    name = await judging(world)
    headers = {"Authorization": f"Bearer {world.token[0]}"}
    async with world.session.get(f"{world.base}{ROLLOUTS}/{name}?watch=true", headers=headers) as response:
        seen = []
        async for raw in response.content:
            line = raw.decode().strip()
            if line.startswith("data:"):
                seen.append(json.loads(line.removeprefix("data:"))["spec"].get("promoted", 0))
                if len(seen) == 2:
                    break
                await world.call("POST", f"{ROLLOUTS}/{name}/promote")
    assert seen == [0, 1]


async def test_promote_pause_resume_and_abort_by_either_name_and_once_for_a_key(world: World) -> None:
    name = await judging(world)
    promoted = await world.call("POST", f"{ROLLOUTS}/web/promote", Idempotency_Key="k1")
    again = await world.call("POST", f"{ROLLOUTS}/web/promote", Idempotency_Key="k1")
    assert (promoted.status, promoted.json["spec"]["promoted"]) == (200, 1)
    assert again.headers["idempotency-replayed"] == "true"
    full = await world.call("POST", f"{ROLLOUTS}/{name}/promote", {"full": True})
    assert full.json["spec"]["promotedFully"] is True
    assert (await world.call("POST", f"{ROLLOUTS}/web/pause")).json["status"]["paused"] is True
    assert "paused" not in (await world.call("POST", f"{ROLLOUTS}/web/resume")).json["status"]
    version = (await world.call("GET", f"{ROLLOUTS}/web")).json["metadata"]["resourceVersion"]
    stale = await world.call("POST", f"{ROLLOUTS}/web/abort", If_Match=str(int(version) - 1))
    assert stale.code == (412, "precondition_failed")
    aborted = await world.call("POST", f"{ROLLOUTS}/web/abort", {"why": "too slow"})
    assert aborted.json["spec"]["abort"] == "too slow"
    assert (await world.call("POST", f"{ROLLOUTS}/web/abort")).json["spec"]["abort"] == "too slow"
    assert (await world.call("POST", f"{ROLLOUTS}/web/promote")).code == (409, "rollout_retreating")
    assert world.hints


async def test_rollback_says_which_of_the_two_it_did(world: World) -> None:
    name = await judging(world)
    first = await world.call("POST", f"{ROLLOUTS}/web/rollback")
    assert (first.json["did"], first.json["object"]["kind"]) == ("aborted", "Rollout")
    await end(world, "rolled_back")
    assert (await world.call("POST", f"{ROLLOUTS}/{name}/rollback")).code == (409, "rollout_over")


async def test_rollback_after_success_gives_the_old_template_back_once(world: World) -> None:
    await judging(world)
    await end(world, "succeeded")
    assert (await world.call("GET", WEB)).json["spec"]["template"]["command"] == ["serve", "v2"]
    done = await world.call("POST", f"{ROLLOUTS}/web/rollback", Idempotency_Key="k")
    assert (done.json["did"], done.json["object"]["kind"]) == ("changed", "Service")
    assert (await world.call("GET", WEB)).json["spec"]["template"]["command"] == ["serve", "v1"]
    again = await world.call("POST", f"{ROLLOUTS}/web/rollback", Idempotency_Key="k")
    assert (again.status, again.json["did"], again.headers["idempotency-replayed"]) == (200, "changed", "true")
    assert (await world.call("POST", f"{ROLLOUTS}/web/rollback")).code == (409, "template_changed")


async def test_verbs_on_nothing_are_refused_in_our_words(world: World) -> None:
    await up(world)
    assert (await world.call("POST", f"{ROLLOUTS}/web/promote")).code == (404, "no_rollout")
    assert (await world.call("POST", f"{ROLLOUTS}/other/abort")).code == (404, "not_found")
    assert (await world.call("POST", f"{ROLLOUTS}/web/promote", {"all": True})).status == 422


async def test_a_deleted_rollout_goes_back_first(world: World) -> None:
    name = await judging(world)
    gone = await world.call("DELETE", f"{ROLLOUTS}/{name}")
    assert gone.status == 202 and "deletionTimestamp" in gone.json["metadata"]
    assert (await world.call("DELETE", WEB)).status == 202


class Counted:
    """Counters of a gateway that answers ten requests between two looks."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.at = 0.0

    async def read(self, clusters: Any) -> Traffic | Unknown:
        self.asked.append(tuple(clusters))
        self.at += 2.0
        return Traffic("epoch", self.at, {clusters[0]: ClusterTraffic(requests=int(self.at) * 5)})


async def test_a_plan_says_what_each_step_needs_and_how_long_it_takes(world: World, tmp_path: Any) -> None:
    await up(world)
    unknown = (await world.call("GET", f"{ROLLOUTS}/web/plan")).json
    assert (unknown["requestsPerSecond"], unknown["estimatedSeconds"]) == ("unknown", "unknown")
    assert [step["weight"] for step in unknown["steps"]] == [10, 100]
    assert unknown["steps"][0]["requestsNeeded"] > 20
    assert unknown["strategy"]["type"] == "canary"
    counted = Counted()
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "other", world.deps.limits, traffic=counted) as other:
        await up(other)
        known = (await other.call("GET", f"{ROLLOUTS}/web/plan")).json
    assert known["requestsPerSecond"] == 5.0
    first, last = (step["requestsNeeded"] for step in known["steps"])
    assert known["estimatedSeconds"] == pytest.approx(first / 0.5 + last / 5.0, abs=0.3)
    assert len(counted.asked) == 2 and counted.asked[0][0].startswith("default/web/")


async def test_a_forecast_is_not_made_where_all_requests_are_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(*args: Any) -> Any:
        threads.append(threading.get_ident())
        return forecast(*args)

    monkeypatch.setattr(rollouts, "forecast", noted)
    await up(world)
    assert (await world.call("GET", f"{ROLLOUTS}/web/plan")).status == 200
    assert threads and threads[0] != threading.get_ident()
