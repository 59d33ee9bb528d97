"""Doing what was committed. Each action is idempotent, and bounded by less time than is left of the lease: a worker
that lost its lease must not still be creating things."""

from __future__ import annotations

import asyncio
from typing import assert_never

import structlog

from spinyard.core.actions import Action, Ensure, Remove
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Failure
from spinyard.core.row import ObjectRow
from spinyard.core.want import FileWant
from spinyard.engine.context import Context
from spinyard.errors import ErrorClass, ProviderFailure

log = structlog.get_logger()

LEASE_MARGIN_SECONDS = 2.0


async def execute(
    context: Context, row: ObjectRow, actions: tuple[Action, ...], lease_left: float
) -> dict[ResourceKey, Failure]:
    """Failures by key; what succeeded says nothing here: the next observation tells."""
    limit = min(context.settings.action_seconds, lease_left - LEASE_MARGIN_SECONDS)
    if limit <= 0:
        return {}
    if len(actions) == 1 or all(_is_at_once(context, action) for action in actions):
        results = [await _one(context, row, action, limit) for action in actions]
    else:
        results = list(await asyncio.gather(*(_one(context, row, action, limit) for action in actions)))
    return {action.key: failure for action, failure in zip(actions, results, strict=True) if failure is not None}


async def _one(context: Context, row: ObjectRow, action: Action, limit: float) -> Failure | None:
    verb = type(action).__name__.lower()
    scope = _scope(context, action)
    wait = context.rates.ask(scope, verb, action.key, context.clock.monotonic())
    if wait is not None:
        context.figures.actions_put_off += 1
        return Failure(ErrorClass.RATE_LIMITED, f"{action.provider} takes only so many at a time", True, wait)
    context.figures.actions += 1
    part = _part(action)
    context.failpoint(f"{verb}:before:{part}")
    try:
        if _is_at_once(context, action):
            await _call(context, action)
        else:
            async with asyncio.timeout(limit):
                await _call(context, action)
    except TimeoutError:
        failure = Failure(
            ErrorClass.PROVIDER_ERROR, f"{action.provider} did not answer the {verb} within {limit:.1f} s", True
        )
    except ProviderFailure as error:
        retry_after = error.retry_after_seconds
        if error.error_class is ErrorClass.RATE_LIMITED:
            now = context.clock.monotonic()
            retry_after = context.rates.limited(scope, verb, action.key, now, retry_after)
        failure = Failure(error.error_class, error.message, error.retryable, retry_after)
    except Exception as error:  # noqa: BLE001  a failed action is a value
        failure = Failure(ErrorClass.PROVIDER_ERROR, f"{action.provider}: {error!r}", True)
    else:
        context.rates.passed(scope, verb, context.clock.monotonic())
        context.failpoint(f"{verb}:after:{part}")
        return None
    context.figures.action_failures += 1
    log.warning(
        "action failed",
        uid=row.uid,
        name=row.name,
        action=verb,
        key=action.key,
        why=failure.message,
        cls=failure.error_class,
    )
    return failure


def _part(action: Action) -> str:
    """What its failpoints are called after. A claim's file is asked for under the key of its directory."""
    if isinstance(action, Ensure) and isinstance(action.want, FileWant):
        return "file"
    return action.key.split("/", 1)[1].split("-", 1)[0].split("/", 1)[0]


def _scope(context: Context, action: Action) -> str:
    provider = context.providers.get(action.provider)
    return action.provider if provider is None else f"{action.provider} {provider.capabilities.scope}"


def _is_at_once(context: Context, action: Action) -> bool:
    provider = context.providers.get(action.provider)
    return provider is None or provider.capabilities.at_once


async def _call(context: Context, action: Action) -> None:
    provider = context.providers.get(action.provider)
    if provider is None:
        raise ProviderFailure(f"no provider called {action.provider!r} is configured here", retryable=False)
    match action:
        case Ensure(key=key, want=want):
            context.absences.forget(action.provider, key)
            await provider.ensure(key, want)
        case Remove(key=key, now=now):
            await provider.remove(key, now=now)
        case never:
            assert_never(never)
