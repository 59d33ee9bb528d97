"""`?dryRun=plan`: the same plan that a real change carries out, only shown, with the preflight checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.responses import Response

from spinyard.api.calls import Calls
from spinyard.api.deps import PreflightResult
from spinyard.api.render import plan_json, respond_json
from spinyard.core.spec import TemplateSpec
from spinyard.ports.store import Transaction
from spinyard.usecases.declared import Declared, ObjectId
from spinyard.usecases.plan import ApplyRequest, Change, plan_apply, plan_delete
from spinyard.usecases.routes import taken_routes
from spinyard.usecases.views import get_live

Planned = list[tuple[Change, TemplateSpec | None]]


async def answer_plan(calls: Calls, plan: Callable[[Transaction], Planned], declared: Sequence[Declared]) -> Response:
    changes = await calls.read(plan)
    return respond_json(plan_json(changes, await preflight(calls, declared)))


async def preflight(calls: Calls, declared: Sequence[Declared]) -> list[PreflightResult]:
    out: list[PreflightResult] = []
    if declared:
        taken = await calls.read(lambda tx: taken_routes(tx, declared))
        out += [_taken(asks, host + prefix, has) for asks, (host, prefix), has in taken]
        for check in calls.deps.preflight:
            out += await check(declared)
    return out


def _taken(asks: ObjectId, address: str, has: ObjectId) -> PreflightResult:
    why = f"{address} leads to {has} already, and goes on doing so"
    return PreflightResult(
        "route", "failed", asks.path, why, "Take another host or path prefix, or delete the other one."
    )


def planned_apply(tx: Transaction, request: ApplyRequest) -> Planned:
    return _with_templates(tx, plan_apply(tx, request))


def planned_delete(tx: Transaction, id: ObjectId) -> Planned:
    return _with_templates(tx, [plan_delete(tx, get_live(tx, id))])


def _with_templates(tx: Transaction, changes: Sequence[Change]) -> Planned:
    out: Planned = []
    for change in changes:
        digest = change.before.row.template_digest if change.before else ""
        out.append((change, tx.template(change.before.row.template_digest) if change.before and digest else None))
    return out
