"""How routes reach the store: reads in reader threads, changes once per Idempotency-Key, waits without blocking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from spinyard.api.deps import ApiDeps
from spinyard.api.parse import parse_actor, parse_if_match, parse_key
from spinyard.api.render import object_json
from spinyard.api.together import Together
from spinyard.core.ids import Uid
from spinyard.errors import InvalidInput, NotFound
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.change import Caller
from spinyard.usecases.once import Done, KeyUse, fingerprint, once
from spinyard.usecases.views import ObjectView, view

T = TypeVar("T")

LOOKS_PER_SECOND_MAX = 500.0
"""of all who wait for an object together"""
UNBOUND_QUERY = frozenset({"wait"})
"""query parameters that do not make another request of it"""


@dataclass(frozen=True, slots=True)
class Changed:
    """`found` None: the key was used before, and the object's record is pruned by now. `response`: what was kept."""

    found: ObjectView | None
    created: bool
    replayed: bool
    response: bytes
    uid: Uid


class Calls:
    def __init__(self, deps: ApiDeps) -> None:
        self.deps = deps
        self._gateway: str | None = None
        self._waiting = 0
        self._together = Together(deps)

    def shown(self, found: ObjectView) -> dict[str, Any]:
        """As published, with the addresses that only this server knows."""
        if self._gateway is None:
            self._gateway = str(self.deps.info().get("gateway") or "")
        return object_json(found, self._gateway)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        now = self.deps.clock.now()
        return await self.deps.run_read(lambda: self.deps.store.read(work, now=now))

    async def change(self, request: Request, work: Callable[[Transaction, Caller], StoredObject | Done]) -> Changed:
        """One transaction with the key's record; wakes the engine afterwards."""
        caller = caller_of(request)
        use = await key_use(request)

        def once_and_view(tx: Transaction) -> Changed:
            done = once(tx, use, lambda inner: _done(work(inner, caller)))
            stored = done.stored or (tx.find_uid(done.uid) if done.uid else None)
            found = view(tx, stored) if stored else None
            return Changed(found, done.created, done.replayed, done.response, done.uid)

        changed: Changed = await self._together.change(once_and_view)
        if not changed.replayed:
            self.deps.hint()
        return changed

    async def wait_for(self, uid: Uid, seconds: float, is_done: Callable[[ObjectView], bool]) -> ObjectView:
        """The object as soon as `is_done`, or as it is after `seconds`. Quick by the notifier, true by the poll."""
        limits, clock = self.deps.limits, self.deps.clock
        until = clock.monotonic() + min(seconds, limits.wait_seconds_max)
        self._waiting += 1
        try:
            while True:
                seq = await self.deps.run_read(self.deps.store.commit_seq)
                found = await self.read(lambda tx: _get_uid(tx, uid))
                left = until - clock.monotonic()
                if is_done(found) or left <= 0:
                    return found
                await self.deps.notifier.wait(seq, min(limits.poll_seconds, left))
                # Every commit wakes everybody: many who wait look less often, each.
                await clock.sleep(min((self._waiting - 1) / LOOKS_PER_SECOND_MAX, limits.poll_seconds, left))
        finally:
            self._waiting -= 1


def caller_of(request: Request) -> Caller:
    return Caller(
        actor=parse_actor(request.headers.get("x-spinyard-actor", "")),
        if_match=parse_if_match(request.headers.get("if-match", "")),
    )


async def key_use(request: Request) -> KeyUse:
    key = parse_key(request.headers.get("idempotency-key", ""))
    if not key:
        return KeyUse("", "")
    pairs = sorted((k, v) for k, v in request.query_params.multi_items() if k not in UNBOUND_QUERY)
    query = msgspec.json.encode(pairs).decode()
    return KeyUse(key, fingerprint(request.method, request.url.path, query, await request.body()))


async def json_body(request: Request) -> Any:
    """The guard has checked that it is JSON. Raises InvalidInput when there is none."""
    body = await request.body()
    if not body:
        raise InvalidInput("A JSON body is needed.", code="invalid_json", next_step="Send the object as JSON.")
    return msgspec.json.decode(body)


def _done(result: StoredObject | Done) -> Done:
    return result if isinstance(result, Done) else Done(result.row.uid, stored=result)


def _get_uid(tx: Transaction, uid: Uid) -> ObjectView:
    stored = tx.find_uid(uid)
    if stored is None:
        raise NotFound("The object's record is pruned by now: it is gone.", next_step="Nothing: it is gone.")
    return view(tx, stored)
