"""What only WarmPools and Claims have: claim, renew, and how a pool did."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.documented import ClaimBody, RenewBody, answers
from spinyard.api.objects import NAME_PATTERN, Name, Wait, answer_changed, done_with
from spinyard.api.parse import invalid_manifest
from spinyard.api.render import respond_json, stats_json
from spinyard.core.ids import child_name
from spinyard.core.spec import ClaimSpec, Kind
from spinyard.manifest import from_json
from spinyard.ports.store import Transaction
from spinyard.usecases.change import Caller, renew
from spinyard.usecases.claims import NewClaim, claim
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.once import Done
from spinyard.usecases.pool_stats import pool_stats
from spinyard.usecases.views import is_settled

POOL = "/v1/namespaces/{namespace}/warmpools/{pool}"
CLAIM = "/v1/namespaces/{namespace}/claims/{name}"
NAME = re.compile(NAME_PATTERN)
REMEMBERED_CHARACTERS_MAX = 2_000


def add_claim_routes(router: APIRouter, calls: Calls) -> ClaimRoutes:
    routes = ClaimRoutes(calls)
    made, changed = answers(404, 409, ok=(200, 201)), answers(404, 409, 412)
    router.post(f"{POOL}/claims", responses=made, status_code=201, operation_id="claim", tags=["claims"])(routes.create)
    router.post(f"{CLAIM}/renew", responses=changed, operation_id="renewClaim", tags=["claims"])(routes.renew)
    router.get(f"{POOL}/stats", responses=answers(404), operation_id="poolStats", tags=["warmpools"])(routes.stats)
    return routes


class ClaimRoutes:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(
        self, request: Request, namespace: Name, pool: Name, body: ClaimBody | None = None, wait: Wait = None
    ) -> Response:
        """A member of the pool, at once when one is warm. `wait`: answer when it is ready, and without `wait` in the
        body also how long the claim may wait while the pool is at its maximum."""
        uid = self._calls.deps.clock.new_uid()
        new = parse_claim(body or ClaimBody(), namespace, pool, child_name(pool, uid))
        if wait and (body is None or body.wait is None):
            new = replace(new, spec=replace(new.spec, wait_seconds=wait))

        def work(tx: Transaction, caller: Caller) -> Done:
            return done_with(claim(tx, new, uid=uid, actor=caller.actor), created=True)

        changed = await self._calls.change(request, work)
        return await answer_changed(self._calls, changed, wait, is_settled, 201)

    async def renew(self, request: Request, namespace: Name, name: Name, body: RenewBody) -> Response:
        """Ends `ttl` from now; null: only when it is released."""
        spec = parse_claim(ClaimBody(ttl=body.ttl), namespace, "pool", name).spec
        id = ObjectId(Kind.CLAIM, namespace, name)
        changed = await self._calls.change(
            request, lambda tx, caller: done_with(renew(tx, id, spec.ttl_seconds, caller))
        )
        return await answer_changed(self._calls, changed, None, is_settled, 200)

    async def stats(self, namespace: Name, pool: Name) -> Response:
        """Claims of the last hour by five minutes, and the age of warm members."""
        id = ObjectId(Kind.WARM_POOL, namespace, pool)
        found = await self._calls.read(lambda tx: pool_stats(tx, id))
        return respond_json(stats_json(id, found))


def parse_claim(body: ClaimBody, namespace: str, pool: str, name: str) -> NewClaim:
    """Raises InvalidInput (invalid_manifest), with paths of the body."""
    name = body.name or name
    rest = body.model_dump_json(exclude={"name"})
    if len(rest) > REMEMBERED_CHARACTERS_MAX or not NAME.fullmatch(name):
        return _parse_claim(body, namespace, pool, name)
    return replace(_parse_alike(rest, namespace, pool), name=name)


@lru_cache(maxsize=256)
def _parse_alike(rest: str, namespace: str, pool: str) -> NewClaim:
    """Claims that differ only in their names are the rule, and a good name changes nothing else of them."""
    return _parse_claim(ClaimBody.model_validate_json(rest), namespace, pool, "claim")


def _parse_claim(body: ClaimBody, namespace: str, pool: str, name: str) -> NewClaim:
    spec: dict[str, Any] = {"pool": pool, **body.model_dump(exclude_none=True, include=_SPEC_FIELDS)}
    metadata = {"namespace": namespace, "name": name, "labels": body.labels}
    manifests, problems = from_json(
        {"apiVersion": "spinyard.dev/v1", "kind": "Claim", "metadata": metadata, "spec": spec}, "request"
    )
    if problems:
        raise invalid_manifest(
            [replace(p, path=p.path.removeprefix("spec.").removeprefix("metadata.")) for p in problems]
        )
    written = manifests[0]
    assert isinstance(written.spec, ClaimSpec)
    return NewClaim(namespace, written.name, written.spec, written.labels)


_SPEC_FIELDS = {"owner", "env", "files", "ttl", "wait"}
