"""Holds over HTTP: set, list, release."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.camel import time_text
from spinyard.api.documented import HoldBody, answers
from spinyard.api.objects import NAME_PATTERN, done_with
from spinyard.api.render import respond_json
from spinyard.core.spec import HoldSpec
from spinyard.errors import NotFound
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.change import Caller
from spinyard.usecases.holds import HoldRequest, hold, holds, release_hold
from spinyard.usecases.once import Done

Namespace = Annotated[str, Query(pattern=NAME_PATTERN, max_length=63)]


def add_hold_routes(router: APIRouter, calls: Calls) -> None:
    routes = HoldRoutes(calls)
    made = answers(404, 409, ok=(200, 201))
    router.post("/v1/holds", responses=made, status_code=201, operation_id="hold", tags=["holds"])(routes.create)
    router.get("/v1/holds", responses=answers(), operation_id="listHolds", tags=["holds"])(routes.list_all)
    gone = answers(404)
    router.delete("/v1/holds", responses=gone, operation_id="releaseHold", tags=["holds"])(routes.release)


class HoldRoutes:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, request: Request, body: HoldBody) -> Response:
        """Puts off what happens by itself in `scope`; the same scope again: the newest reason and time count."""
        wanted = HoldRequest(body.scope, body.namespace, body.why, body.forSeconds)
        uid = self._calls.deps.clock.new_uid()

        def work(tx: Transaction, caller: Caller) -> Done:
            made, is_new = hold(tx, wanted, caller, uid=uid)
            return done_with(made, created=is_new)

        changed = await self._calls.change(request, work)
        return self._answer(changed.found.stored if changed.found else None, 201 if changed.created else 200)

    async def list_all(self, namespace: Namespace | None = None) -> Response:
        """Those in force; with `namespace` those over something in it."""
        found = await self._calls.read(lambda tx: holds(tx, namespace))
        return respond_json({"kind": "List", "items": [hold_json(one) for one in found]})

    async def release(
        self,
        request: Request,
        scope: Annotated[str, Query(max_length=200)] = "",
        namespace: Namespace = "default",
    ) -> Response:
        changed = await self._calls.change(request, lambda tx, caller: release_hold(tx, scope, namespace, caller))
        return self._answer(changed.found.stored if changed.found else None, 200)

    def _answer(self, found: StoredObject | None, status: int) -> Response:
        if found is None:
            raise NotFound("The hold's record is gone by now.", next_step="See what is held: spinyard get holds -A.")
        return respond_json(hold_json(found), status)


def hold_json(found: StoredObject) -> dict[str, Any]:
    spec = found.row.spec
    assert isinstance(spec, HoldSpec)
    return {
        "kind": "Hold",
        "scope": spec.scope,
        "namespace": found.row.namespace,
        "why": spec.why,
        "by": spec.by,
        "since": time_text(found.row.created_at),
        "until": time_text(spec.until),
    }
