"""Looking at the world: every failure to look becomes Unknown, never Absent."""

from __future__ import annotations

import asyncio

import structlog

from spinyard.core.observed import (
    Answer,
    Look,
    LookChildren,
    LookGauge,
    LookHold,
    LookJoin,
    LookObject,
    LookPeer,
    LookPool,
    LookProbe,
    LookResource,
    LookShadow,
    LookStarts,
    LookTraffic,
    LookWatch,
    ProbeAnswer,
    ProbeResult,
    Unknown,
)
from spinyard.core.row import ObjectRow
from spinyard.engine.context import Context
from spinyard.ports.reader import ReadLook

log = structlog.get_logger()


async def observe(context: Context, row: ObjectRow, looks: tuple[Look, ...]) -> dict[Look, Answer]:
    watched = frozenset(look for look in looks if isinstance(look, LookWatch))
    context.watch.keep(row.uid, watched)
    if not looks:
        return {}
    if len(looks) == 1:
        return {looks[0]: await _answer(context, row, looks[0])}
    if all(_is_at_once(context, look) for look in looks):
        return {look: await _answer(context, row, look) for look in looks}
    answers = await asyncio.gather(*(_answer(context, row, look) for look in looks))
    return dict(zip(looks, answers, strict=True))


def _is_at_once(context: Context, look: Look) -> bool:
    """To look at several of these one after the other costs less than a task for each."""
    if isinstance(look, LookResource):
        provider = context.providers.get(look.provider)
        return provider is None or provider.capabilities.at_once
    return isinstance(look, LookWatch)


async def _answer(context: Context, row: ObjectRow, look: Look) -> Answer:
    match look:
        case LookResource(provider=provider, key=key):
            return await _resource(context, provider, look) if provider in context.providers else _no_provider(key)
        case LookProbe():
            return await _probe(context, look)
        case LookWatch():
            return context.watch.answer(row.uid, look)
        case LookChildren(owner=owner):
            return await context.read(lambda: context.store.children(owner))
        case LookObject(kind=kind, namespace=namespace, name=name):
            return await context.read(lambda: context.store.brief(kind, namespace, name))
        case LookPool(pool=pool, warm_state=state):
            return await context.read(lambda: context.store.pool(pool, warm_state=state))
        case LookPeer(uid=uid):
            return await context.read(lambda: context.store.peer(uid))
        case LookHold(namespace=namespace, kind=kind, name=name):
            now = context.clock.now()
            return await context.read(lambda: context.store.held(namespace, kind, name, now=now))
        case LookStarts(template_digest=digest, scope=scope, limit=limit):
            return await context.read(lambda: context.store.starts(digest, scope, limit=limit))
        case LookTraffic(clusters=clusters):
            return await _traffic(context, clusters)
        case LookGauge() | LookJoin() | LookShadow():
            return await _read(context, look)


def _no_provider(key: str) -> Unknown:
    return Unknown(f"no provider is configured here for {key}")


async def _resource(context: Context, name: str, look: LookResource) -> Answer:
    provider = context.providers[name]
    try:
        if provider.capabilities.at_once:
            answer = await provider.observe(look.key)
        else:
            async with asyncio.timeout(context.settings.observe_seconds):
                answer = await provider.observe(look.key)
    except TimeoutError:
        context.figures.unknowns += 1
        return Unknown(f"{name} did not answer within {context.settings.observe_seconds:g} s")
    except Exception as error:  # noqa: BLE001  any failure to look is Unknown
        context.figures.unknowns += 1
        log.warning("observe failed", provider=name, key=look.key, error=repr(error))
        return Unknown(f"{name}: {error}")
    if isinstance(answer, Unknown):
        context.figures.unknowns += 1
    if provider.capabilities.gone_after_seconds > 0:
        return context.absences.told(name, look.key, answer, context.clock.monotonic())
    return answer


async def _traffic(context: Context, clusters: tuple[str, ...]) -> Answer:
    try:
        async with asyncio.timeout(context.settings.observe_seconds):
            return await context.traffic.read(clusters)
    except TimeoutError:
        return Unknown(f"the data plane gave no counters within {context.settings.observe_seconds:g} s")
    except Exception as error:  # noqa: BLE001  any failure to look is Unknown
        log.warning("counters could not be read", clusters=clusters, error=repr(error))
        return Unknown(f"the data plane gave no counters: {error}")


async def _read(context: Context, look: ReadLook) -> Answer:
    reader = context.readers.get(type(look))
    if reader is None:
        return Unknown(f"nothing here answers {type(look).__name__}")
    try:
        async with asyncio.timeout(context.settings.observe_seconds):
            return await reader.read(look)
    except TimeoutError:
        return Unknown(f"no answer within {context.settings.observe_seconds:g} s")
    except Exception as error:  # noqa: BLE001  any failure to look is Unknown
        log.warning("figure could not be read", look=repr(look), error=repr(error))
        return Unknown(f"could not be read: {error}")


async def _probe(context: Context, look: LookProbe) -> ProbeResult:
    try:
        async with asyncio.timeout(look.probe.timeout_seconds + 2.0):
            return await context.prober.check(look.process, look.address, look.ports, look.probe)
    except TimeoutError:
        return ProbeResult(ProbeAnswer.UNKNOWN, "the probe itself did not return")
    except Exception as error:  # noqa: BLE001  any failure to look is Unknown
        log.warning("probe failed", key=look.process, error=repr(error))
        return ProbeResult(ProbeAnswer.UNKNOWN, f"the probe could not be made: {error}")
