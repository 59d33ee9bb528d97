"""Watches: objects and events as they change, as server-sent events with a token to go on from.

The commit sequence of the store is the truth. The notifier only makes a look sooner; without it there is one a second.
Objects are sent as they are now, so changes in between may be lost, and the last one never is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.parse import WHOLE_COMMIT, parse_token
from spinyard.api.problems import problem_json
from spinyard.api.render import event_json, event_token
from spinyard.api.streams import Parts, Streams
from spinyard.core.ids import Uid
from spinyard.core.spec import Kind
from spinyard.errors import Expired, SpinyardError
from spinyard.ports.store import StoredEvent
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.views import (
    ListRequest,
    ObjectView,
    PageView,
    changes_page,
    list_page,
    not_found,
)

PAGE = 200
MISSED_PAGES_MAX = 50
HEARTBEAT = b": still here\n\n"


@dataclass(frozen=True, slots=True)
class ObjectScope:
    """`finished` as in a list: with False what finishes is gone for this watch, else nothing ever goes."""

    kind: Kind
    namespace: str | None = None
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    owner_uid: Uid | None = None
    finished: bool | None = False

    def selects(self, found: ObjectView) -> bool:
        row = found.stored.row
        labels = dict(row.labels)
        return (
            (not self.name or row.name == self.name)
            and (self.owner_uid is None or row.owner_uid == self.owner_uid)
            and all(labels.get(k) == v for k, v in self.labels.items())
            and (self.finished is not True or found.is_finished)
        )

    def is_gone(self, found: ObjectView) -> bool:
        return self.finished is False and found.is_finished


@dataclass(frozen=True, slots=True)
class EventScope:
    uid: Uid | None = None
    owner_uid: Uid | None = None
    namespace: str | None = None


class Watches:
    def __init__(self, calls: Calls, streams: Streams) -> None:
        self._calls = calls
        self._streams = streams

    async def objects(self, request: Request, scope: ObjectScope, resume: str) -> Response:
        """Raises Expired, TooMany, InvalidInput, and NotFound for an object that is not there."""
        start = await self._start(request, resume)
        first = await self._first(scope) if start is None else None
        if scope.name and start is None and not (first and first[1]):
            raise not_found(ObjectId(scope.kind, scope.namespace or "default", scope.name))
        missed = await self._missed(scope, start) if start else []
        return self._respond(ObjectWatch(self._calls, scope).run(start, first, missed))

    async def events(self, request: Request, scope: EventScope, resume: str) -> Response:
        start = await self._start(request, resume)
        if start is None:
            start = (await self._calls.deps.run_read(self._calls.deps.store.commit_seq), WHOLE_COMMIT)
        return self._respond(EventWatch(self._calls, scope).run(start))

    async def _start(self, request: Request, resume: str) -> tuple[int, int] | None:
        text = resume or request.headers.get("last-event-id", "")
        if not text:
            return None
        token = parse_token(text)
        store = self._calls.deps.store
        newest = await self._calls.deps.run_read(store.commit_seq)
        if token[0] > newest:
            raise expired("The token is newer than the store: it was restored from a backup, or is another one.")
        if token != (0, 0):
            await self._calls.deps.run_read(lambda: store.events(after=token, limit=1))
        return token

    async def _first(self, scope: ObjectScope) -> tuple[int, list[ObjectView]]:
        deps = self._calls.deps
        seq = await deps.run_read(deps.store.commit_seq)
        found: list[ObjectView] = []
        after = ""
        while True:
            page = await self._page(scope, after)
            found += [f for f in page.items if scope.selects(f) and not scope.is_gone(f)]
            if not page.next:
                return seq, found
            after = page.next

    async def _page(self, scope: ObjectScope, after: str) -> PageView:
        wanted = ListRequest(
            kind=scope.kind,
            namespace=scope.namespace,
            labels=scope.labels or None,
            owner_uid=scope.owner_uid,
            finished=scope.finished,
            after=after,
            limit=PAGE,
        )
        return await self._calls.read(lambda tx: list_page(tx, wanted))

    async def _missed(self, scope: ObjectScope, start: tuple[int, int]) -> list[StoredEvent]:
        """The last event of each object that finished, and whose record was pruned, while nobody watched."""
        deps = self._calls.deps
        last: dict[Uid, StoredEvent] = {}
        after = start
        for _ in range(MISSED_PAGES_MAX):
            page = await deps.run_read(
                partial(
                    deps.store.events, after=after, namespace=scope.namespace, owner_uid=scope.owner_uid, limit=PAGE
                )
            )
            last |= {e.uid: e for e in page if e.kind is scope.kind and (not scope.name or e.name == scope.name)}
            if len(page) < PAGE:
                break
            after = (page[-1].commit_seq, page[-1].index)
        else:
            raise expired("Too much has happened since this token.")
        there = await self._calls.read(lambda tx: {uid for uid in last if tx.find_uid(uid) is not None})
        return [event for uid, event in last.items() if uid not in there]

    def _respond(self, parts: Parts) -> Response:
        return self._streams.respond(parts, media_type="text/event-stream")


class ObjectWatch:
    """One watch. `_known`: the uids sent and not gone, so that it can tell ADDED, and what left the selection."""

    def __init__(self, calls: Calls, scope: ObjectScope) -> None:
        self._calls = calls
        self._scope = scope
        self._known: set[Uid] = set()

    async def run(
        self, start: tuple[int, int] | None, first: tuple[int, list[ObjectView]] | None, missed: list[StoredEvent]
    ) -> Parts:
        if first is not None:
            done, found = first
            for one in found:
                self._known.add(one.stored.row.uid)
                yield message("0.0", "ADDED", self._calls.shown(one))
            yield message(str(done), "", None)
        else:
            assert start is not None
            done = start[0] if start[1] == WHOLE_COMMIT else start[0] - 1
        for event in missed:
            yield message(str(done), "DELETED", _pruned_json(event))
        async for part in self._follow(done):
            yield part

    async def _follow(self, done: int) -> Parts:
        """`done`: everything up to that commit is sent. `cursor` stands within the commit that is being sent."""
        deps, scope = self._calls.deps, self._scope
        cursor = (done + 1, "")
        quiet_since = deps.clock.monotonic()
        while True:
            newest = await deps.run_read(deps.store.commit_seq)
            page = await self._calls.read(
                partial(changes_page, kind=scope.kind, namespace=scope.namespace, after=cursor, limit=PAGE)
            )
            for index, one in enumerate(page, 1):
                seq = one.stored.commit_seq
                ends_commit = page[index].stored.commit_seq > seq if index < len(page) else len(page) < PAGE
                done = seq if ends_commit else max(done, seq - 1)
                cursor = (seq, one.stored.row.uid)
                kind = self._kind_of_change(one)
                if kind:
                    quiet_since = deps.clock.monotonic()
                    yield message(str(done), kind, self._calls.shown(one))
            if len(page) == PAGE:
                continue
            done = max(done, newest)
            if cursor < (done + 1, ""):
                cursor = (done + 1, "")
            if deps.clock.monotonic() - quiet_since >= deps.limits.heartbeat_seconds:
                quiet_since = deps.clock.monotonic()
                yield message(str(done), "", None)
            await deps.notifier.wait(done, deps.limits.poll_seconds)

    def _kind_of_change(self, found: ObjectView) -> str:
        uid = found.stored.row.uid
        known = uid in self._known
        if not self._scope.selects(found):
            self._known.discard(uid)
            return "DELETED" if known else ""
        if self._scope.is_gone(found):
            self._known.discard(uid)
            return "DELETED"
        self._known.add(uid)
        return "MODIFIED" if known or found.stored.row.resource_version > 1 else "ADDED"


class EventWatch:
    def __init__(self, calls: Calls, scope: EventScope) -> None:
        self._calls = calls
        self._scope = scope

    async def run(self, start: tuple[int, int]) -> Parts:
        deps, scope = self._calls.deps, self._scope
        after = start
        quiet_since = deps.clock.monotonic()
        while True:
            newest = await deps.run_read(deps.store.commit_seq)
            try:
                page = await deps.run_read(
                    partial(
                        deps.store.events,
                        after=after,
                        uid=scope.uid,
                        owner_uid=scope.owner_uid,
                        namespace=scope.namespace,
                        limit=PAGE,
                    )
                )
            except Expired as error:
                yield message(f"{after[0]}.{after[1]}", "ERROR", problem_json(error))
                return
            for event in page:
                after = (event.commit_seq, event.index)
                quiet_since = deps.clock.monotonic()
                yield message(event_token(event), "EVENT", event_json(event))
            if len(page) == PAGE:
                continue
            after = max(after, (newest, WHOLE_COMMIT))
            if deps.clock.monotonic() - quiet_since >= deps.limits.heartbeat_seconds:
                quiet_since = deps.clock.monotonic()
                yield message(str(after[0]), "", None)
            await deps.notifier.wait(after[0], deps.limits.poll_seconds)


def message(token: str, event: str, data: Any) -> bytes:
    """Without an event it only moves the token on (and is a heartbeat: a comment, and an id)."""
    if not event:
        return HEARTBEAT + f"id: {token}\n\n".encode()
    return f"id: {token}\nevent: {event}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"


def expired(why: str) -> SpinyardError:
    return Expired(why, next_step="List again, and watch from the resourceVersion of that list.")


def _pruned_json(event: StoredEvent) -> dict[str, Any]:
    return {
        "apiVersion": "spinyard.dev/v1",
        "kind": str(event.kind),
        "metadata": {"namespace": event.namespace, "name": event.name, "uid": event.uid},
        "spec": {},
        "status": {"state": event.state, "conditions": []},
    }
