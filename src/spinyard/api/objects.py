"""Objects over HTTP: read, apply, delete, and the small changes. One set of routes for each kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls, Changed, caller_of, json_body
from spinyard.api.documented import ObjectBody, ScaleBody, answers, body_of
from spinyard.api.parse import KINDS, parse_object
from spinyard.api.planned import answer_plan, planned_apply, planned_delete
from spinyard.api.render import list_json, respond_json
from spinyard.api.watch import ObjectScope, Watches
from spinyard.core.ids import Uid
from spinyard.core.spec import Kind
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.apply import ApplyResult, apply
from spinyard.usecases.change import Caller, delete, pause, restart, scale
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.once import Done
from spinyard.usecases.plan import ApplyRequest
from spinyard.usecases.views import (
    ListRequest,
    ObjectView,
    PageView,
    get_live,
    get_named,
    is_settled,
    list_page,
    parse_labels,
)

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Path(pattern=NAME_PATTERN, max_length=63)]
Finished = Literal["true", "false", "all"]
NOT_APPLIED = frozenset({Kind.SPIN, Kind.ROLLOUT})
"""kinds that others make"""
FINISHED: Mapping[str, bool | None] = {"true": True, "false": False, "all": None}
Wait = Annotated[float | None, Query(ge=0, le=60, description="seconds")]
DryRun = Annotated[Literal["plan"] | None, Query(alias="dryRun")]
Resume = Annotated[str, Query(max_length=60)]
Text = Annotated[str, Query(max_length=1000)]


def add_object_routes(router: APIRouter, calls: Calls, watches: Watches) -> None:
    for plural, kind in KINDS.items():
        all_of = f"/v1/namespaces/{{namespace}}/{plural}"
        one = f"{all_of}/{{name}}"
        routes = ObjectRoutes(kind, calls, watches)
        tags: list[str | Enum] = [plural]
        seen = answers(404, 410)
        router.get(one, responses=seen, operation_id=f"get{kind}", tags=tags)(routes.get_one)
        router.get(all_of, responses=seen, operation_id=f"list{kind}", tags=tags)(routes.list_namespace)
        router.get(f"/v1/{plural}", responses=seen, operation_id=f"listEvery{kind}", tags=tags)(routes.list_everywhere)
        gone = answers(404, 409, 412, ok=(200, 202))
        router.delete(one, responses=gone, status_code=202, operation_id=f"delete{kind}", tags=tags)(routes.delete_one)
        if kind in NOT_APPLIED:
            continue
        made, body = answers(404, 409, 412, ok=(200, 201)), body_of(ObjectBody)
        router.put(one, responses=made, openapi_extra=body, operation_id=f"apply{kind}", tags=tags)(routes.put_one)
        _add_actions(router, routes, one, tags)


def _add_actions(router: APIRouter, routes: ObjectRoutes, one: str, tags: list[str | Enum]) -> None:
    responses = answers(404, 409, 412)
    actions: dict[Kind, dict[str, Callable[..., Awaitable[Response]]]] = {
        Kind.SERVICE: {
            "scale": routes.scale,
            "restart": routes.restart,
            "pause": routes.pause,
            "resume": routes.resume,
        },
        Kind.JOB: {"pause": routes.pause, "resume": routes.resume},
        Kind.WARM_POOL: {"pause": routes.pause, "resume": routes.resume},
    }
    for name, endpoint in actions.get(routes.kind, {}).items():
        router.post(f"{one}/{name}", responses=responses, operation_id=f"{name}{routes.kind}", tags=tags)(endpoint)


class ObjectRoutes:
    def __init__(self, kind: Kind, calls: Calls, watches: Watches) -> None:
        self.kind = kind
        self._calls = calls
        self._watches = watches

    # -- reading -----------------------------------------------------------------------------------------------------

    async def get_one(
        self,
        request: Request,
        namespace: Name,
        name: Name,
        finished: Finished = "false",
        watch: bool = False,
        resume: Resume = "",
    ) -> Response:
        id = ObjectId(self.kind, namespace, name)
        if watch:
            scope = ObjectScope(self.kind, namespace=namespace, name=name, finished=FINISHED[finished])
            return await self._watches.objects(request, scope, resume)
        return answer_object(self._calls, await self._find(id, deleted=finished != "false"))

    async def list_everywhere(
        self,
        request: Request,
        labelSelector: Text = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        continue_: Annotated[str, Query(alias="continue", max_length=300)] = "",
        finished: Finished = "false",
        owner: Text = "",
        watch: bool = False,
        resume: Resume = "",
    ) -> Response:
        wanted = self._list_request(labelSelector, limit, continue_, finished, owner)
        return await self._list(request, wanted, watch, resume)

    async def list_namespace(
        self,
        request: Request,
        namespace: Name,
        labelSelector: Text = "",
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        continue_: Annotated[str, Query(alias="continue", max_length=300)] = "",
        finished: Finished = "false",
        owner: Text = "",
        watch: bool = False,
        resume: Resume = "",
    ) -> Response:
        wanted = replace(self._list_request(labelSelector, limit, continue_, finished, owner), namespace=namespace)
        return await self._list(request, wanted, watch, resume)

    # -- changing ----------------------------------------------------------------------------------------------------

    async def put_one(
        self, request: Request, namespace: Name, name: Name, dryRun: DryRun = None, wait: Wait = None
    ) -> Response:
        id = ObjectId(self.kind, namespace, name)
        declared = parse_object(await json_body(request), id)
        asked = ApplyRequest((declared,), if_match=caller_of(request).if_match)
        if dryRun:
            return await answer_plan(self._calls, lambda tx: planned_apply(tx, asked), asked.declared)
        new_uid = self._calls.deps.clock.new_uid

        def work(tx: Transaction, caller: Caller) -> Done:
            applied = apply(tx, asked, new_uid=new_uid, actor=caller.actor)[0]
            return done_with(applied.stored, created=applied.result is ApplyResult.CREATED)

        changed = await self._calls.change(request, work)
        return await answer_changed(self._calls, changed, wait, is_settled, 201 if changed.created else 200)

    async def delete_one(
        self,
        request: Request,
        namespace: Name,
        name: Name,
        force: bool = False,
        dryRun: DryRun = None,
        wait: Wait = None,
    ) -> Response:
        id = ObjectId(self.kind, namespace, name)
        if dryRun:
            return await answer_plan(self._calls, lambda tx: planned_delete(tx, id), ())
        changed = await self._calls.change(
            request, lambda tx, caller: done_with(delete(tx, get_live(tx, id), caller, force=force))
        )
        return await answer_changed(self._calls, changed, wait, lambda found: found.is_finished, 202)

    async def scale(self, request: Request, namespace: Name, name: Name, body: ScaleBody) -> Response:
        return await self._small(request, namespace, name, lambda tx, id, caller: scale(tx, id, body.replicas, caller))

    async def restart(self, request: Request, namespace: Name, name: Name) -> Response:
        return await self._small(request, namespace, name, restart)

    async def pause(self, request: Request, namespace: Name, name: Name) -> Response:
        return await self._small(request, namespace, name, lambda tx, id, caller: pause(tx, id, caller, paused=True))

    async def resume(self, request: Request, namespace: Name, name: Name) -> Response:
        return await self._small(request, namespace, name, lambda tx, id, caller: pause(tx, id, caller, paused=False))

    # -- how ---------------------------------------------------------------------------------------------------------

    async def _small(
        self,
        request: Request,
        namespace: str,
        name: str,
        work: Callable[[Transaction, ObjectId, Caller], StoredObject],
    ) -> Response:
        id = ObjectId(self.kind, namespace, name)
        changed = await self._calls.change(request, lambda tx, caller: done_with(work(tx, id, caller)))
        return await answer_changed(self._calls, changed, None, is_settled, 200)

    async def _find(self, id: ObjectId, *, deleted: bool) -> ObjectView:
        deps, now = self._calls.deps, self._calls.deps.clock.now()
        return await deps.run_read(lambda: get_named(deps.store, id, now=now, deleted=deleted))

    def _list_request(self, selector: str, limit: int, after: str, finished: Finished, owner: str) -> ListRequest:
        return ListRequest(
            kind=self.kind,
            labels=parse_labels(selector) or None,
            owner_uid=Uid(owner) if owner else None,
            finished=FINISHED[finished],
            after=after,
            limit=limit,
        )

    async def _list(self, request: Request, wanted: ListRequest, watch: bool, resume: str) -> Response:
        if watch:
            scope = ObjectScope(
                self.kind,
                namespace=wanted.namespace,
                labels=wanted.labels or {},
                owner_uid=wanted.owner_uid,
                finished=wanted.finished,
            )
            return await self._watches.objects(request, scope, resume)
        seq, page = await self._page(wanted)
        items = [self._calls.shown(found) for found in page.items]
        return respond_json(list_json(items, next=page.next, resource_version=str(seq)))

    async def _page(self, wanted: ListRequest) -> tuple[int, PageView]:
        """The token first: what changes in between comes twice rather than never."""
        deps, now = self._calls.deps, self._calls.deps.clock.now()

        def work() -> tuple[int, PageView]:
            seq = deps.store.commit_seq()
            return seq, deps.store.read(lambda tx: list_page(tx, wanted), now=now)

        return await deps.run_read(work)


def done_with(stored: StoredObject, *, created: bool = False) -> Done:
    """With the little that is kept for the time after the object's record is pruned."""
    row = stored.row
    identity = {
        "apiVersion": "spinyard.dev/v1",
        "kind": str(row.kind),
        "metadata": {"namespace": row.namespace, "name": row.name, "uid": row.uid},
        "status": {"state": "pruned"},
    }
    return Done(row.uid, msgspec.json.encode(identity), created=created, stored=stored)


async def answer_changed(
    calls: Calls, changed: Changed, wait: float | None, is_done: Callable[[ObjectView], bool], status: int
) -> Response:
    headers = {"idempotency-replayed": "true"} if changed.replayed else {}
    if changed.found is None:
        return respond_json(msgspec.json.decode(changed.response), headers=headers)
    found = changed.found
    if wait:
        found = await calls.wait_for(changed.uid, wait, is_done)
    if status == 202 and found.is_finished:
        status = 200
    return answer_object(calls, found, 200 if changed.replayed and status == 201 else status, headers)


def answer_object(
    calls: Calls, found: ObjectView, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    tag = {"etag": f'"{found.stored.row.resource_version}"'}
    return respond_json(calls.shown(found), status, {**tag, **(headers or {})})
