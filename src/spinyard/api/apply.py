"""POST /v1/apply: many objects in one transaction."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls, json_body
from spinyard.api.documented import ApplyBody, answers, body_of
from spinyard.api.objects import DryRun
from spinyard.api.parse import parse_objects
from spinyard.api.planned import answer_plan, planned_apply
from spinyard.api.render import respond_json
from spinyard.core.ids import Uid
from spinyard.errors import InvalidInput
from spinyard.ports.store import Transaction
from spinyard.usecases.apply import Applied, apply
from spinyard.usecases.change import Caller
from spinyard.usecases.once import Done
from spinyard.usecases.plan import ApplyRequest
from spinyard.usecases.views import view


def add_apply_route(router: APIRouter, calls: Calls) -> None:
    async def apply_many(request: Request, dryRun: DryRun = None) -> Response:
        """Create or replace many objects: all or nothing."""
        asked = await _parse(request, calls)
        if dryRun:
            return await answer_plan(calls, lambda tx: planned_apply(tx, asked), asked.declared)
        changed = await calls.change(request, lambda tx, caller: _work(tx, caller, asked, calls))
        headers = {"idempotency-replayed": "true"} if changed.replayed else {}
        body = msgspec.json.decode(changed.response)
        if changed.replayed:
            body = await calls.read(lambda tx: _as_now(calls, tx, body))
        return respond_json(body, headers=headers)

    extra = body_of(ApplyBody)
    router.post("/v1/apply", responses=answers(404, 409, 412), openapi_extra=extra, tags=["apply"])(apply_many)


async def _parse(request: Request, calls: Calls) -> ApplyRequest:
    raw = await json_body(request)
    try:
        body = ApplyBody.model_validate(raw)
    except ValidationError as error:
        raise _invalid(error) from error
    if body.prune and not body.appliedSet:
        raise InvalidInput("`prune` needs `appliedSet`.", next_step="Name the set whose old members may be deleted.")
    if len(body.objects) > calls.deps.limits.objects_max:
        raise InvalidInput(f"At most {calls.deps.limits.objects_max} objects at once.", next_step="Send them in parts.")
    return ApplyRequest(parse_objects(body.objects), body.appliedSet, body.prune, body.pruneSelector)


def _work(tx: Transaction, caller: Caller, asked: ApplyRequest, calls: Calls) -> Done:
    applied = apply(tx, asked, new_uid=calls.deps.clock.new_uid, actor=caller.actor)
    results = [_result_json(calls, tx, one) for one in applied]
    return Done(Uid(""), msgspec.json.encode({"kind": "ApplyResult", "results": results}))


def _result_json(calls: Calls, tx: Transaction, one: Applied) -> dict[str, Any]:
    shown: dict[str, Any] = {"result": str(one.result), "object": calls.shown(view(tx, one.stored))}
    if one.rollout is not None:
        name = one.rollout.row.name
        shown |= {"rollout": name, "message": f"rollout {name} started"}
    return shown


def _as_now(calls: Calls, tx: Transaction, kept: dict[str, Any]) -> dict[str, Any]:
    """The kept answer, with each object as it is at present."""
    results = []
    for result in kept["results"]:
        stored = tx.find_uid(Uid(result["object"]["metadata"]["uid"]))
        results.append({**result, "object": calls.shown(view(tx, stored))} if stored else result)
    return {**kept, "results": results}


def _invalid(error: ValidationError) -> InvalidInput:
    entries = [
        {"path": ".".join(str(p) for p in e["loc"]), "code": e["type"], "message": e["msg"], "expected": ""}
        for e in error.errors()[:100]
    ]
    first = entries[0]
    return InvalidInput(
        f"{first['path']}: {first['message']}",
        next_step="Send {objects: [...], prune, appliedSet, pruneSelector}.",
        details={"errors": entries},
    )
