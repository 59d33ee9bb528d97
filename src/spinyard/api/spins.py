"""What only spins have: logs and exec. And `explain`, which reads a spin's log as evidence."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.documented import ExecBody, answers
from spinyard.api.execute import execute
from spinyard.api.logs import LogFile, stream
from spinyard.api.objects import Name
from spinyard.api.parse import KINDS
from spinyard.api.render import explanation_json, respond_json
from spinyard.api.streams import Streams
from spinyard.core.ids import Uid
from spinyard.core.observed import Children
from spinyard.core.spec import JobSpec, Kind, ServiceSpec, SpinSpec
from spinyard.errors import Conflict, NotFound
from spinyard.ports.store import StoredEvent
from spinyard.spin.translate import ERRAND
from spinyard.usecases.declared import ObjectId
from spinyard.usecases.explain import EVENTS_SHOWN_MAX, LOG_LINES_MAX, Facts, explain
from spinyard.usecases.views import SETTLED, ObjectView, get_named

MAIN = "main"
COMMAND = "command"
MAIN_FILE = "process"
PART_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def add_spin_routes(router: APIRouter, calls: Calls, streams: Streams) -> None:
    one = "/v1/namespaces/{namespace}/spins/{name}"
    tags: list[str | Enum] = ["spins"]
    routes = SpinRoutes(calls, streams)
    text = answers(404, media_type="text/plain")
    router.get(f"{one}/logs", responses=text, operation_id="logs", tags=tags)(routes.logs)
    router.post(f"{one}/exec", responses=answers(404, 409, 502), operation_id="exec", tags=tags)(routes.execute)
    for plural, kind in KINDS.items():
        path = f"/v1/namespaces/{{namespace}}/{plural}/{{name}}/explain"
        endpoint = ExplainRoute(kind, calls).explain
        router.get(path, responses=answers(404), operation_id=f"explain{kind}", tags=[plural])(endpoint)


class SpinRoutes:
    def __init__(self, calls: Calls, streams: Streams) -> None:
        self._calls = calls
        self._streams = streams

    async def logs(
        self,
        namespace: Name,
        name: Name,
        follow: bool = False,
        tail: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
        part: Annotated[str, Query(pattern=PART_PATTERN)] | None = None,
    ) -> Response:
        """Kept logs of a finished spin too, as long as its record is there. Of a Job's member without `part`: the
        command."""
        deps = self._calls.deps
        found = await get(self._calls, ObjectId(Kind.SPIN, namespace, name))
        uid = found.stored.row.uid
        file = log_file(self._calls, found, part)

        async def is_over() -> bool:
            now = await self._calls.read(lambda tx: tx.find_uid(uid))
            return now is None or now.finished_at is not None

        async def pause() -> None:
            await deps.clock.sleep(deps.limits.poll_seconds / 4)

        parts = stream(file, tail=tail, follow=follow, run=deps.run_read, pause=pause, is_over=is_over)
        return self._streams.respond(parts, media_type="text/plain; charset=utf-8")

    async def execute(self, namespace: Name, name: Name, body: ExecBody) -> Response:
        """A command beside the program, without stdin. With `stream` its output comes while it runs, as lines of JSON
        (see docs/api.md), and who goes away ends it; else at its end, the first 64 KiB of it."""
        found = await get(self._calls, ObjectId(Kind.SPIN, namespace, name))
        row = found.stored.row
        if found.is_finished:
            raise Conflict(f"{found.id} has ended: nothing can be run in it.", next_step="Name a spin that runs.")
        return await execute(self._calls, self._streams, row.uid, body)


class ExplainRoute:
    def __init__(self, kind: Kind, calls: Calls) -> None:
        self._kind = kind
        self._calls = calls

    async def explain(self, namespace: Name, name: Name) -> Response:
        found = await get(self._calls, ObjectId(self._kind, namespace, name))
        facts = await self._calls.deps.run_read(lambda: gather(self._calls, found))
        return respond_json(explanation_json(explain(facts)))


async def get(calls: Calls, id: ObjectId) -> ObjectView:
    deps, now = calls.deps, calls.deps.clock.now()
    return await deps.run_read(lambda: get_named(deps.store, id, now=now, deleted=True))


def gather(calls: Calls, found: ObjectView) -> Facts:
    """Blocking: reads the store and the log of the instance that matters."""
    store, uid = calls.deps.store, found.stored.row.uid
    parent = found.stored.row.kind in (Kind.SERVICE, Kind.JOB, Kind.WARM_POOL, Kind.CLAIM)
    children = store.children(uid) if parent else Children()
    # Failed claims are children of their pool, and say nothing about it.
    failures = [failure for failure in children.failures if failure.template_digest]
    events: list[StoredEvent] = list(store.events(uid=uid, newest_first=True, limit=EVENTS_SHOWN_MAX))
    if parent:
        events += store.events(owner_uid=uid, newest_first=True, limit=EVENTS_SHOWN_MAX)
        events.sort(key=lambda event: (event.commit_seq, event.index), reverse=True)
    speaker = failures[0].uid if failures else uid
    tail = _log_tail(calls, speaker) if not parent or failures else ""
    return Facts(found, calls.deps.clock.now(), events, failures, tail, _waits_for(calls, found))


def log_file(calls: Calls, found: ObjectView, part: str | None) -> LogFile:
    """Raises NotFound with the parts that there are."""
    steps = [step.name for step in found.template.bootstrap] if found.template else []
    directory = calls.deps.log_dir(found.stored.row.uid)
    has_command = has_errand(found)
    if has_command and (part is None or (part == COMMAND and COMMAND not in steps)):
        return LogFile(directory / f"{ERRAND}.log")
    if part is None or part == MAIN:
        return LogFile(directory / f"{MAIN_FILE}.log")
    if part not in steps:
        there = ", ".join([MAIN, *([COMMAND] if has_command else []), *steps])
        raise NotFound(f"{found.id} has no part {part!r}; it has {there}.", next_step="Ask for one of these parts.")
    return LogFile(directory / f"step-{steps.index(part)}.log")


def has_errand(found: ObjectView) -> bool:
    spec = found.stored.row.spec
    return isinstance(spec, SpinSpec) and spec.claim is not None and spec.claim.errand is not None


def _log_tail(calls: Calls, uid: Uid) -> str:
    """Of a Job's command, when it was run; else of the program."""
    directory = calls.deps.log_dir(uid)
    command = LogFile(directory / f"{ERRAND}.log")
    data, _ = (command if command.exists else LogFile(directory / f"{MAIN_FILE}.log")).tail(LOG_LINES_MAX)
    return data.decode(errors="replace")


def _waits_for(calls: Calls, found: ObjectView) -> list[str]:
    row = found.stored.row
    if row.state != "pending" or not isinstance(row.spec, ServiceSpec | JobSpec):
        return []
    out = []
    for wanted in row.spec.depends_on:
        brief = calls.deps.store.brief(wanted.kind, row.namespace, wanted.name)
        good = SETTLED[wanted.kind] - {"failed"}
        if brief is None or brief.state not in good:
            state = f"is {brief.state}" if brief else "does not exist"
            out.append(f"{wanted.kind.lower()}/{wanted.name} (it {state})")
    return out
