"""The installation as a whole: what it is, what it has in the world, what is left over, its backup, its health."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.documented import BackupBody, answers
from spinyard.api.render import list_json, resource_json, respond_json
from spinyard.core.ids import ResourceKey, owner_of
from spinyard.core.plan import Resource
from spinyard.errors import Conflict, InvalidInput, NotFound, StoreFailure
from spinyard.ports.store import Store

Word = Annotated[str, Query(max_length=200)]


def add_installation_routes(router: APIRouter, calls: Calls) -> None:
    deps = calls.deps
    tag: list[str | Enum] = ["installation"]

    async def info() -> Response:
        return respond_json({"kind": "Info", "installation": deps.store.installation, **deps.info()})

    async def list_resources(
        owner: Word = "",
        provider: Word = "",
        key: Annotated[str, Query(max_length=300)] = "",
        open: bool = True,
        limit: Annotated[int, Query(ge=1, le=200)] = 200,
        continue_: Annotated[str, Query(alias="continue", max_length=300)] = "",
    ) -> Response:
        """Ledger rows that are not closed; with `key` that one, closed or not."""
        if key:
            found = await deps.run_read(lambda: deps.store.resources([ResourceKey(key)]))
            return respond_json(list_json([resource_json(r) for r in found.values()]))
        if not open:
            raise InvalidInput(
                "Closed rows are not listed; one can be read by its key.", next_step="Ask with `key=`, or `open=true`."
            )
        rows, next = await deps.run_read(lambda: _open_rows(calls, owner, provider or None, continue_, limit))
        return respond_json(list_json([resource_json(r) for r in rows], next=next))

    async def list_orphans() -> Response:
        strays = await deps.orphans()
        items = [
            {"kind": "Orphan", "key": s.key, "provider": s.provider, "description": s.description, "why": s.why}
            for s in strays
        ]
        return respond_json(list_json(items))

    async def collect(dryRun: bool = False) -> Response:
        swept = await deps.sweep(dryRun)
        items = [{"key": s.key, "provider": s.provider, "action": s.action, "why": s.why} for s in swept]
        return respond_json({"kind": "GcResult", "dryRun": dryRun, "items": items})

    async def backup(body: BackupBody) -> Response:
        """A consistent copy of the store, at an absolute path of the server's machine that must not exist."""
        await deps.run_write(lambda: back_up(deps.store, body.path))
        return respond_json({"kind": "Backup", "path": body.path})

    router.get("/v1/info", responses=answers(), operation_id="info", tags=tag)(info)
    router.get("/v1/resources", responses=answers(), operation_id="listResources", tags=tag)(list_resources)
    router.get("/v1/orphans", responses=answers(502), operation_id="listOrphans", tags=tag)(list_orphans)
    router.post("/v1/gc", responses=answers(502), operation_id="collectGarbage", tags=tag)(collect)
    router.post("/v1/backup", responses=answers(404, 409), operation_id="backup", tags=tag)(backup)


def add_health_routes(router: APIRouter, calls: Calls) -> None:
    deps = calls.deps

    async def healthz(_: Request) -> Response:
        """The process answers."""
        return respond_json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        """The store can be read and the server's parts work."""
        why = deps.ready()
        if why:
            raise StoreFailure(why, code="not_ready", retryable=True, retry_after_seconds=1.0)
        await deps.run_read(deps.store.commit_seq)
        return respond_json({"status": "ok"})

    router.get("/healthz", responses=answers(), tags=["health"])(healthz)
    router.get("/readyz", responses=answers(), tags=["health"])(readyz)


def back_up(store: Store, path: str) -> None:
    """Raises InvalidInput, NotFound, Conflict, StoreFailure."""
    target = Path(path)
    if not target.is_absolute():
        raise InvalidInput("`path` must be absolute.", next_step="Send a path that begins with /.")
    try:
        if not target.parent.is_dir():
            raise NotFound(f"There is no directory {target.parent}.", next_step="Make the directory first.")
        if target.exists():
            raise Conflict(f"{target} exists.", code="already_exists", next_step="Take another path.")
        store.backup(path)
    except (OSError, ValueError) as error:
        why = f"The backup to {path} failed: {error}"
        raise StoreFailure(why, next_step="Check the path, the disk and its rights.") from error


def _open_rows(calls: Calls, owner: str, provider: str | None, after: str, limit: int) -> tuple[list[Resource], str]:
    """At most `limit` rows, and where to go on. Keys begin with the owner's uid, so an owner's rows stand together."""
    store = calls.deps.store
    if owner and after < owner:
        after = owner
    rows = list(store.open_resources(provider=provider, after=after, limit=limit))
    if not owner:
        return rows, rows[-1].key if len(rows) == limit else ""
    mine = [row for row in rows if owner_of(row.key) == owner]
    return mine, mine[-1].key if len(mine) == limit else ""
