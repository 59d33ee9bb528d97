"""What the API is given."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from importlib.metadata import version
from typing import Any, Final, TypeVar

from spinyard.api.app import create_app
from spinyard.api.deps import ApiDeps, ApiLimits, ExecPart, ExecResult, Figure, PreflightResult, Stray, Swept
from spinyard.api.notifier import CommitNotifier
from spinyard.core.ids import Uid, resource_key
from spinyard.errors import ErrorClass, InvalidInput, ProviderFailure
from spinyard.providers.process.preflight import preflight
from spinyard.providers.process.provider import CommandResult
from spinyard.usecases.declared import Declared
from spinyard.wiring.assemble import Parts
from spinyard.wiring.side_key import SideKey
from spinyard.wiring.token import Token

T = TypeVar("T")
NOT_RUN: Final = {"CommandNotFound": "command_not_found", "CommandNotExecutable": "command_not_executable"}


def app_of(parts: Parts, url: str, not_ready: Callable[[], str]) -> Any:
    return create_app(deps_of(parts, url, not_ready))


def deps_of(parts: Parts, url: str, not_ready: Callable[[], str]) -> ApiDeps:
    settings, engine = parts.settings, parts.engine
    notifier = getattr(parts.context.committed, "__self__", None)
    assert isinstance(notifier, CommitNotifier)

    async def execute(uid: Uid, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        key = resource_key(uid, "process")
        result = await parts.process.run_command(key, command, timeout_seconds=timeout_seconds)
        code = exit_code_of(result)
        return ExecResult(code, result.output)

    async def stream(uid: Uid, command: Sequence[str], timeout_seconds: float) -> AsyncGenerator[ExecPart, None]:
        key = resource_key(uid, "process")
        asked = parts.process.stream_command(key, command, timeout_seconds=timeout_seconds)
        async with aclosing(asked) as pieces:
            async for piece in pieces:
                if isinstance(piece, CommandResult):
                    yield ExecPart("exit", exit_code=exit_code_of(piece), why=why_it_ended(piece, timeout_seconds))
                elif piece.stream == "started":
                    yield ExecPart("started")
                else:
                    yield ExecPart("stderr" if piece.stream == "stderr" else "stdout", piece.data)

    async def orphans() -> Sequence[Stray]:
        found = await engine.sweep.sweep(dry_run=True)
        return [Stray(one.key, one.provider, one.description, one.why) for one in found]

    async def sweep(dry_run: bool) -> Sequence[Swept]:
        found = await engine.sweep.sweep(dry_run=dry_run, grace_seconds=0.0)
        return [Swept(one.key, one.provider, "removed" if one.removed else "kept", one.why) for one in found]

    def info() -> Mapping[str, object]:
        return {
            "version": version("spinyard"),
            "home": str(settings.home),
            "gateway": settings.gateway,
            "url": url,
            "installation": parts.store.installation,
            "store": settings.database_url.split(":", 1)[0] or "sqlite",
            "pid": os.getpid(),
            "startedAt": parts.started_at,
        }

    failpoint = parts.context.failpoint

    async def run_write(work: Callable[[], T]) -> T:
        failpoint("api:before")
        result = await parts.threads.write(work)
        failpoint("api:after")
        return result

    return ApiDeps(
        store=parts.store,
        clock=parts.clock,
        run_write=run_write,
        run_read=parts.threads.read,
        token=Token(settings.token_file),
        hint=engine.hint,
        waiting=engine.callers_wait,
        notifier=notifier,
        log_dir=lambda uid: parts.process.log_directory(uid),
        execute=execute,
        stream=stream,
        orphans=orphans,
        sweep=sweep,
        info=info,
        ready=not_ready,
        figures=lambda: figures_of(parts),
        preflight=(lambda declared: preflight_of(parts, declared),),
        traffic=parts.context.traffic,
        traces=parts.traces.store,
        shadow=parts.comparator,
        side_key=SideKey(settings.home / "spinout-key.json"),
        hosts=frozenset({settings.api.rpartition(":")[0]}),
        limits=ApiLimits(body_bytes_max=settings.body_bytes_max, page_max=settings.page_max),
    )


def exit_code_of(result: CommandResult) -> int:
    """Raises InvalidInput when there is no such program, ProviderFailure when it failed for another reason."""
    if code := NOT_RUN.get(result.error_class):
        raise InvalidInput(result.error, code=code, next_step="Name a program that is there, with its arguments.")
    if result.error_class and result.exit_signal is None:
        raise ProviderFailure(result.error, error_class=ErrorClass(result.error_class), retryable=False)
    return result.exit_code if result.exit_code is not None else 128 + (result.exit_signal or 0)


def why_it_ended(result: CommandResult, timeout_seconds: float) -> str:
    if result.timed_out:
        return f"it took longer than {timeout_seconds:g} s and was killed"
    return f"{result.error_class}: {result.error}".removeprefix(": ") if result.error else ""


def figures_of(parts: Parts) -> Sequence[Figure]:
    figures = parts.context.figures
    counters = {
        "spinyard_engine_passes_total": (figures.passes, "Passes over rows."),
        "spinyard_engine_commits_total": (figures.commits, "Plans committed."),
        "spinyard_engine_stale_total": (figures.stale, "Plans that came too late to be written."),
        "spinyard_engine_leases_lost_total": (figures.leases_lost, "Leases lost."),
        "spinyard_engine_actions_total": (figures.actions, "Calls to providers that change something."),
        "spinyard_engine_action_failures_total": (figures.action_failures, "Those that failed."),
        "spinyard_engine_unknowns_total": (figures.unknowns, "Observations without an answer."),
        "spinyard_trace_spans_total": (parts.traces.store.received, "Spans kept, for a while."),
        "spinyard_trace_spans_dropped_total": (parts.traces.store.dropped, "Spans for which there was no room."),
        "spinyard_otlp_refused_total": (parts.traces.app.refused, "Exports of spans refused."),
        "spinyard_orphans_removed_total": (figures.orphans_removed, "Orphans removed by the sweep."),
    }
    gauges = {
        "spinyard_engine_in_flight": (parts.engine.in_flight, "Rows in hand."),
        "spinyard_sweep_timestamp_seconds": (figures.swept_at, "When the sweep last saw every provider."),
        "spinyard_traces": (len(parts.traces.store), "Traces kept at present."),
        "spinyard_traces_one_of": (parts.traces.store.one_of, "Of so many traces one is kept, by its id."),
        "spinyard_traces_bytes": (parts.traces.store.size_bytes, "What they take, about."),
        "spinyard_gateway_connected": (parts.proxy.connected_envoys, "Envoys connected."),
    }
    return [
        *(Figure(name, float(value), text, "counter") for name, (value, text) in counters.items()),
        *(Figure(name, float(value), text) for name, (value, text) in gauges.items()),
    ]


async def preflight_of(parts: Parts, declared: Sequence[Declared]) -> Sequence[PreflightResult]:
    out = []
    capabilities = await parts.process.keeper.capabilities()
    for one in declared:
        if one.template is None or one.template.provider != "process":
            continue
        for check in preflight(one.template, parts.settings.port_range, capabilities):
            out.append(PreflightResult(check.check, check.status, one.id.path, check.message, check.next_step))
    return out
