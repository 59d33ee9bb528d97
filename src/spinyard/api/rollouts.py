"""What only Rollouts have: plan, promote, pause, resume, abort, rollback. NAME is a Rollout's, or its Service's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.documented import AbortBody, PromoteBody, answers
from spinyard.api.objects import Name, answer_changed, done_with
from spinyard.api.rates import per_second
from spinyard.api.render import respond_json
from spinyard.api.render_rollout import forecast_json
from spinyard.core.ids import Uid
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.change import Caller
from spinyard.usecases.once import Done
from spinyard.usecases.rollout_plan import forecast, plan_rollout
from spinyard.usecases.rollout_verbs import abort, pause, promote, rollback
from spinyard.usecases.views import is_settled, view

ONE = "/v1/namespaces/{namespace}/rollouts/{name}"


def add_rollout_routes(router: APIRouter, calls: Calls) -> None:
    routes = RolloutRoutes(calls)
    changed = answers(404, 409, 412)
    for verb, endpoint in (
        ("promote", routes.promote),
        ("pause", routes.pause),
        ("resume", routes.resume),
        ("abort", routes.abort),
        ("rollback", routes.rollback),
    ):
        router.post(f"{ONE}/{verb}", responses=changed, operation_id=f"{verb}Rollout", tags=["rollouts"])(endpoint)
    router.get(f"{ONE}/plan", responses=answers(404, 409), operation_id="planRollout", tags=["rollouts"])(routes.plan)


class RolloutRoutes:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def promote(self, request: Request, namespace: Name, name: Name, body: PromoteBody | None = None) -> Response:
        """Past the present step, or with `full` past all."""
        full = body is not None and body.full
        return await self._small(request, lambda tx, caller: promote(tx, namespace, name, caller, full=full))

    async def pause(self, request: Request, namespace: Name, name: Name) -> Response:
        return await self._small(request, lambda tx, caller: pause(tx, namespace, name, caller, paused=True))

    async def resume(self, request: Request, namespace: Name, name: Name) -> Response:
        return await self._small(request, lambda tx, caller: pause(tx, namespace, name, caller, paused=False))

    async def abort(self, request: Request, namespace: Name, name: Name, body: AbortBody | None = None) -> Response:
        """Back to 0 %. Asking again changes nothing."""
        why = body.why if body is not None else ""
        return await self._small(request, lambda tx, caller: abort(tx, namespace, name, caller, why=why))

    async def rollback(self, request: Request, namespace: Name, name: Name) -> Response:
        """Aborts one that runs; after its success the Service gets its old template back. `did` says which."""
        changed = await self._calls.change(request, lambda tx, caller: self._rollback(tx, namespace, name, caller))
        body = msgspec.json.decode(changed.response)
        if changed.replayed and changed.found is not None:
            body["object"] = self._calls.shown(changed.found)
        return respond_json(body, headers={"idempotency-replayed": "true"} if changed.replayed else {})

    async def plan(self, namespace: Name, name: Name) -> Response:
        """What another template of the Service would go through."""
        planned = await self._calls.read(lambda tx: plan_rollout(tx, namespace, name))
        rate = await per_second(self._calls.deps, planned.clusters)
        # Up to half a second of arithmetic: not beside everybody else's requests.
        return respond_json(forecast_json(await asyncio.to_thread(forecast, planned, rate)))

    async def _small(self, request: Request, work: Callable[[Transaction, Caller], StoredObject]) -> Response:
        changed = await self._calls.change(request, lambda tx, caller: done_with(work(tx, caller)))
        return await answer_changed(self._calls, changed, None, is_settled, 200)

    def _rollback(self, tx: Transaction, namespace: str, name: str, caller: Caller) -> Done:
        done = rollback(tx, namespace, name, caller)
        shown = self._calls.shown(view(tx, done.stored))
        body: dict[str, Any] = {"kind": "RollbackResult", "did": done.did, "message": done.message, "object": shown}
        return Done(Uid(done.stored.row.uid), msgspec.json.encode(body), stored=done.stored)
