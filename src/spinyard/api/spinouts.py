"""What only Spinouts have: plan, start, approve, hold, resume, abort, promote, history, verify."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.documented import AbortBody, answers
from spinyard.api.objects import Name, answer_changed, done_with
from spinyard.api.rates import per_second
from spinyard.api.render import respond_json
from spinyard.api.render_spinout import diffs_json, history_json, spinout_plan_json, token_json, verification_json
from spinyard.core.ids import Uid
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.status import spinout_cluster
from spinyard.usecases.change import Caller
from spinyard.usecases.forced_side import SECONDS_DEFAULT, SECONDS_MAX
from spinyard.usecases.spinout_approve import Approve, approve
from spinyard.usecases.spinout_asked import EVIDENCE_CHARACTERS_MAX
from spinyard.usecases.spinout_history import history, verify
from spinyard.usecases.spinout_plan import forecast_spinout, plan_spinout
from spinyard.usecases.spinout_token import hand_out, make_token, was_given
from spinyard.usecases.spinout_verbs import abort, hold, promote, resume, start
from spinyard.usecases.spinouts import find_spinout
from spinyard.usecases.views import is_settled

ONE = "/v1/namespaces/{namespace}/spinouts/{name}"
Evidence = Annotated[str, Field(max_length=EVIDENCE_CHARACTERS_MAX)]


class StartBody(BaseModel):
    """`evidence` approves the phases before the first request moves that only people can judge."""

    model_config = ConfigDict(extra="forbid")
    evidence: Evidence = ""


class ApproveBody(BaseModel):
    """`phase` with `evidence`; `through`: every phase of people on the way there too. Or `decision`. Or `waive`: a gate
    that may fail in this attempt, until `expiresSeconds` from now."""

    model_config = ConfigDict(extra="forbid")
    phase: str = Field(default="", max_length=40)
    evidence: Evidence = ""
    through: bool = False
    decision: Literal["go", "no-go", "postpone"] | None = None
    waive: str = Field(default="", max_length=200)
    expiresSeconds: float | None = Field(default=None, gt=0, le=366 * 86400)


class SpinoutPromoteBody(BaseModel):
    """`to`: past all steps before the one of that weight, in percent."""

    model_config = ConfigDict(extra="forbid")
    full: bool = False
    to: float | None = Field(default=None, gt=0, le=100)
    evidence: Evidence = ""


class TokenBody(BaseModel):
    """`side`: parent or unit."""

    model_config = ConfigDict(extra="forbid")
    side: Literal["parent", "unit"]
    forSeconds: float = Field(default=SECONDS_DEFAULT, ge=1, le=SECONDS_MAX)


def add_spinout_routes(router: APIRouter, calls: Calls) -> None:
    routes = SpinoutRoutes(calls)
    changed = answers(404, 409, 412)
    for verb, endpoint in (
        ("start", routes.start),
        ("approve", routes.approve),
        ("hold", routes.hold),
        ("resume", routes.resume),
        ("abort", routes.abort),
        ("promote", routes.promote),
        ("token", routes.token),
    ):
        router.post(f"{ONE}/{verb}", responses=changed, operation_id=f"{verb}Spinout", tags=["spinouts"])(endpoint)
    for read, reader in (
        ("plan", routes.plan),
        ("history", routes.history),
        ("verify", routes.verify),
        ("diffs", routes.diffs),
    ):
        router.get(f"{ONE}/{read}", responses=answers(404), operation_id=f"{read}Spinout", tags=["spinouts"])(reader)


class SpinoutRoutes:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def start(self, request: Request, namespace: Name, name: Name, body: StartBody | None = None) -> Response:
        """An attempt begins: the first, or another after it went back."""
        evidence = body.evidence if body is not None else ""
        return await self._small(request, lambda tx, caller: start(tx, namespace, name, caller, evidence=evidence))

    async def approve(self, request: Request, namespace: Name, name: Name, body: ApproveBody) -> Response:
        """A phase that people judge, the decision, or a waiver. Never without evidence."""
        asked = Approve(body.phase, body.evidence, body.through, body.decision, body.waive, body.expiresSeconds)
        return await self._small(request, lambda tx, caller: approve(tx, namespace, name, caller, asked))

    async def hold(self, request: Request, namespace: Name, name: Name, body: AbortBody | None = None) -> Response:
        """Nothing rises; guards go on."""
        why = body.why if body is not None else ""
        return await self._small(request, lambda tx, caller: hold(tx, namespace, name, caller, why=why))

    async def resume(self, request: Request, namespace: Name, name: Name, body: AbortBody | None = None) -> Response:
        """It goes on; of one that was not decided in time, the deadline counts anew."""
        why = body.why if body is not None else ""
        return await self._small(request, lambda tx, caller: resume(tx, namespace, name, caller, why=why))

    async def abort(self, request: Request, namespace: Name, name: Name, body: AbortBody | None = None) -> Response:
        """Back to 0 %. Asking again changes nothing."""
        why = body.why if body is not None else ""
        return await self._small(request, lambda tx, caller: abort(tx, namespace, name, caller, why=why))

    async def promote(
        self, request: Request, namespace: Name, name: Name, body: SpinoutPromoteBody | None = None
    ) -> Response:
        """Past the present step without asking its gates, or past several."""
        asked = body or SpinoutPromoteBody()
        return await self._small(
            request,
            lambda tx, caller: promote(
                tx, namespace, name, caller, to=asked.to, full=asked.full, evidence=asked.evidence
            ),
        )

    async def token(self, request: Request, namespace: Name, name: Name, body: TokenBody) -> Response:
        """By which a tester chooses a side for a while; nowhere stored, so asking again gives another one."""
        deps = self._calls.deps
        key = await deps.run_read(deps.side_key)
        made = make_token(body.side, namespace, name, private_key=key, now=deps.clock.now(), seconds=body.forSeconds)
        changed = await self._calls.change(
            request, lambda tx, caller: done_with(hand_out(tx, namespace, name, caller, made, key))
        )
        if changed.replayed:
            raise was_given(namespace, name)
        return respond_json(token_json(made))

    async def plan(self, namespace: Name, name: Name) -> Response:
        """What it would go through, what that needs, and what is refused."""
        planned = await self._calls.read(lambda tx: plan_spinout(tx, namespace, name))
        rate = await per_second(self._calls.deps, planned.clusters)
        # Up to half a second of arithmetic: not beside everybody else's requests.
        return respond_json(spinout_plan_json(await asyncio.to_thread(forecast_spinout, planned, rate)))

    async def history(
        self,
        namespace: Name,
        name: Name,
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        continue_: Annotated[int, Query(alias="continue", ge=0, le=2**53)] = 0,
    ) -> Response:
        """Every transition, verdict and word of a person, oldest first, and whether the chain of their hashes holds."""
        uid, store = await self._uid(namespace, name), self._calls.deps.store
        found = await self._calls.deps.run_read(lambda: history(store, uid, after=continue_, limit=limit))
        verified = await self._calls.deps.run_read(lambda: verify(store, uid))
        more = found[-1].seq if len(found) == limit else None
        return respond_json(history_json(found, verified, more=more))

    async def verify(self, namespace: Name, name: Name) -> Response:
        """Computes the chain anew and says where it breaks."""
        uid, store = await self._uid(namespace, name), self._calls.deps.store
        return respond_json(verification_json(await self._calls.deps.run_read(lambda: verify(store, uid))))

    async def diffs(self, namespace: Name, name: Name) -> Response:
        """What differed between parent and unit when requests were copied: counts by field, and samples, redacted."""
        row = (await self._calls.read(lambda tx: find_spinout(tx, namespace, name))).row
        boundary, shadow = spinout_cluster(namespace, row.name, row.uid), self._calls.deps.shadow
        return respond_json(diffs_json(shadow.found(boundary), shadow.samples(boundary)))

    async def _uid(self, namespace: str, name: str) -> Uid:
        return Uid((await self._calls.read(lambda tx: find_spinout(tx, namespace, name, deleted=True))).row.uid)

    async def _small(self, request: Request, work: Callable[[Transaction, Caller], StoredObject]) -> Response:
        changed = await self._calls.change(request, lambda tx, caller: done_with(work(tx, caller)))
        return await answer_changed(self._calls, changed, None, is_settled, 200)
