"""Events over HTTP: a page of history, or a watch."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.documented import answers
from spinyard.api.parse import parse_involved, parse_token
from spinyard.api.render import event_json, event_token, list_json, respond_json
from spinyard.api.watch import EventScope, Watches
from spinyard.core.ids import Uid
from spinyard.ports.store import StoredEvent
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.views import find_view, not_found

Word = Annotated[str, Query(max_length=200)]


def add_event_routes(router: APIRouter, calls: Calls, watches: Watches) -> None:
    deps = calls.deps

    async def list_events(
        request: Request,
        involved: Word = "",
        owner: Word = "",
        namespace: Word = "",
        after: Annotated[str, Query(max_length=60)] = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        newest: bool = False,
        watch: bool = False,
        resume: Annotated[str, Query(max_length=60)] = "",
    ) -> Response:
        uid = await _involved_uid(calls, involved)
        scope = EventScope(uid, Uid(owner) if owner else None, namespace or None)
        if watch:
            return await watches.events(request, scope, resume or after)
        start = parse_token(after) if after else (0, 0)

        def work() -> tuple[int, list[StoredEvent]]:
            seq = deps.store.commit_seq()
            found = deps.store.events(
                after=start,
                uid=scope.uid,
                owner_uid=scope.owner_uid,
                namespace=scope.namespace,
                limit=limit,
                newest_first=newest,
            )
            return seq, list(found)

        seq, found = await deps.run_read(work)
        more = event_token(found[-1]) if len(found) == limit and not newest else ""
        return respond_json(list_json([event_json(e) for e in found], next=more, resource_version=str(seq)))

    router.get("/v1/events", responses=answers(404, 410), operation_id="listEvents", tags=["events"])(list_events)


async def _involved_uid(calls: Calls, involved: str) -> Uid | None:
    if not involved:
        return None
    named = parse_involved(involved)
    if not isinstance(named, ObjectId):
        return Uid(named)
    deps, now = calls.deps, calls.deps.clock.now()
    found = await deps.run_read(lambda: find_view(deps.store, named, now=now, deleted=True))
    if found is None:
        raise not_found(named)
    return found.stored.row.uid
