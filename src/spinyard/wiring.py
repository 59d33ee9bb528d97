"""Puts the parts together; the only place that names concrete ones.

Order at start: the store (which locks it), the epoch (which fences whoever was here before), the data plane from the
ledger, then Envoy, the engine and the API. `run/server.json` is written last: what it names answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from spinyard.core.ids import ResourceKey, Uid, resource_key
from spinyard.core.observed import LookWatch, ProbeAnswer, ProbeResult
from spinyard.core.spec import Kind
from spinyard.core.want import Want
from spinyard.errors import ServerAlreadyRunning, StoreFailure, SystemFailure
from spinyard.failpoints import failpoints
from spinyard.settings import Settings

if TYPE_CHECKING:
    from spinyard.api.deps import ApiDeps, ExecResult, Figure, PreflightResult, Stray, Swept
    from spinyard.engine.context import Context
    from spinyard.engine.loop import Engine
    from spinyard.ports.clock import Clock
    from spinyard.ports.store import Store
    from spinyard.probes import LivenessWatch
    from spinyard.providers.process.provider import ProcessProvider
    from spinyard.proxy.provider import ProxyProvider
    from spinyard.spin.snapshot import SpinRules
    from spinyard.usecases.declared import Declared

T = TypeVar("T")
log = structlog.get_logger()

ENVOY = "envoy"
GATEWAY_SECONDS = 20.0
FAKE_PORTS = (1, 100_000_000)


def serve(settings: Settings) -> int:
    """The server in the foreground, until SIGTERM or SIGINT. Raises from our tree when it cannot start."""
    import uvloop

    configure_logs()
    return uvloop.run(_serve(settings))


# -- the store --------------------------------------------------------------------------------------------------------


def open_store(settings: Settings, clock: Clock) -> Store:
    from spinyard.store.store import SqlStore

    return SqlStore(settings.database_url or str(settings.store_file), new_id=clock.new_uid)


def restore_backup(settings: Settings, path: Path) -> None:
    from spinyard.store.restore import restore

    restore(str(path), str(settings.store_file))


# -- the token --------------------------------------------------------------------------------------------------------


def rotate_token(settings: Settings) -> None:
    """A new one, 0600, in one rename: there is no moment without a token."""
    from spinyard.clock import SystemClock

    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = settings.token_file.with_suffix(".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(SystemClock().new_secret() + "\n")
    fresh.replace(settings.token_file)


@dataclass(slots=True)
class _Token:
    """Read again when the file changes, so that a rotated token counts at once."""

    path: Path
    mark: tuple[int, int] = (0, 0)
    value: str = ""

    def __call__(self) -> str:
        found = self.path.stat()
        mark = (found.st_mtime_ns, found.st_ino)
        if mark != self.mark:
            self.value, self.mark = self.path.read_text().strip(), mark
        return self.value


# -- assembly ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Threads:
    """One writer, a few readers. `inline`, for in-memory stores and simulations, runs where it is called."""

    writer: ThreadPoolExecutor
    readers: ThreadPoolExecutor

    async def write(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.writer, work)

    async def read(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.readers, work)


def make_threads() -> Threads:
    return Threads(ThreadPoolExecutor(1, "store-writer"), ThreadPoolExecutor(2, "store-reader"))


class _Watch:
    """The engine's view of the periodic probes."""

    def __init__(self, watch: LivenessWatch) -> None:
        self._watch = watch
        self._kept: dict[str, frozenset[LookWatch]] = {}

    def answer(self, uid: str, look: LookWatch) -> ProbeResult:
        from spinyard.probes import WatchPurpose

        purpose = WatchPurpose(look.purpose)
        verdict = self._watch.verdict(Uid(uid), purpose)
        return ProbeResult(ProbeAnswer(verdict.value), self._watch.message(Uid(uid), purpose))

    def keep(self, uid: str, looks: frozenset[LookWatch]) -> None:
        from spinyard.probes import WatchPurpose

        before = self._kept.get(uid, frozenset())
        if looks == before:
            return
        for look in before - looks:
            self._watch.remove(Uid(uid), WatchPurpose(look.purpose))
        for look in looks - before:
            self._watch.add(Uid(uid), WatchPurpose(look.purpose), look.process, look.address, look.ports, look.probe)
        if looks:
            self._kept[uid] = looks
        else:
            self._kept.pop(uid, None)


def spin_rules(settings: Settings, scope: str) -> SpinRules:
    from spinyard.spin.snapshot import ProviderFacts, SpinRules

    return SpinRules(
        providers={
            "process": ProviderFacts(scope, settings.port_range),
            "fake": ProviderFacts("host:fake", FAKE_PORTS),
        }
    )


def domains(rules: SpinRules) -> Mapping[Kind, Any]:
    from spinyard.spin.claim.decide import ClaimDomain
    from spinyard.spin.decide import SpinDomain
    from spinyard.spin.job.decide import JobDomain
    from spinyard.spin.pool.decide import PoolDomain
    from spinyard.spin.service.decide import ServiceDomain

    return {
        Kind.SPIN: SpinDomain(rules),
        Kind.SERVICE: ServiceDomain(rules),
        Kind.JOB: JobDomain(),
        Kind.WARM_POOL: PoolDomain(rules),
        Kind.CLAIM: ClaimDomain(),
    }


@dataclass(frozen=True, slots=True)
class _Parts:
    settings: Settings
    clock: Clock
    store: Store
    threads: Threads
    process: ProcessProvider
    proxy: ProxyProvider
    context: Context
    engine: Engine
    watch: LivenessWatch
    started_at: float


@contextlib.asynccontextmanager
async def _assembled(settings: Settings) -> AsyncIterator[_Parts]:
    from spinyard.api.notifier import CommitNotifier
    from spinyard.clock import SystemClock
    from spinyard.engine.context import Context, EngineSettings
    from spinyard.engine.loop import Engine
    from spinyard.probes import LivenessWatch, RealProber
    from spinyard.providers.fake.provider import FakeProvider
    from spinyard.providers.fake.world import World
    from spinyard.providers.process.provider import ProcessProvider
    from spinyard.proxy.bootstrap import node_cluster
    from spinyard.proxy.provider import ProxyProvider
    from spinyard.proxy.translate_listener import gateway_of

    clock = SystemClock()
    failpoint = failpoints(os.environ.get("SPINYARD_FAILPOINT", ""), settings.run_dir)
    failpoint("store:before")
    store = open_store(settings, clock)
    failpoint("store:after")
    threads = make_threads()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(store.close)
        scope = f"host:{store.installation}"
        failpoint("epoch:before")
        epoch = await _claim_epoch(settings, clock)
        failpoint("epoch:after")
        process = ProcessProvider(settings.home, installation=store.installation, scope=scope, clock=clock, epoch=epoch)
        stack.push_async_callback(process.close)
        proxy = ProxyProvider(
            scope=scope,
            node_cluster=node_cluster(settings.home),
            xds_socket=settings.xds_socket,
            admin_socket=settings.admin_socket,
            gateway=gateway_of(settings.gateway, settings.gateway_tls_certificate, settings.gateway_tls_key),
            clock=clock,
            first_version=epoch << 32,
        )
        proxy.restore(ledger_wants(store, "proxy"))
        failpoint("proxy:restored")
        await proxy.start()
        failpoint("proxy:started")
        stack.push_async_callback(proxy.stop)

        async def run_command(
            key: ResourceKey, command: Sequence[str], timeout_seconds: float, output_bytes: int
        ) -> tuple[int | None, str]:
            result = await process.run_command(key, command, timeout_seconds=timeout_seconds, output_bytes=output_bytes)
            return result.exit_code, result.output

        prober = RealProber(clock, run_command)
        engine_box: list[Engine] = []
        watch = LivenessWatch(prober, clock, lambda uid: engine_box[0].hint(uid))
        notifier = CommitNotifier()
        context = Context(
            store=store,
            providers={
                "process": process,
                "proxy": proxy,
                "fake": FakeProvider(World(store.installation), clock, scope="host:fake"),
            },
            domains=domains(spin_rules(settings, scope)),
            prober=prober,
            clock=clock,
            write=threads.write,
            read=threads.read,
            settings=EngineSettings(
                holder=f"{socket.gethostname()}/{os.getpid()}",
                lease_seconds=settings.lease_seconds,
                poll_seconds=settings.poll_seconds,
                in_flight_max=settings.in_flight_max,
                batch_max=settings.batch_max,
                sweep_seconds=settings.sweep_seconds,
                sweep_grace_seconds=settings.sweep_grace_seconds,
                finished_keep_max=settings.finished_keep_max,
                events_keep_max=settings.events_keep_max,
                events_keep_seconds=settings.events_keep_seconds,
            ),
            watch=_Watch(watch),
            failpoint=failpoint,
            committed=notifier.notify,
        )
        engine = Engine(context)
        engine_box.append(engine)
        failpoint("catch_up:before")
        await threads.write(lambda: store.catch_up(now=clock.now()))
        failpoint("catch_up:after")
        yield _Parts(settings, clock, store, threads, process, proxy, context, engine, watch, clock.now())


async def _claim_epoch(settings: Settings, clock: Clock) -> int:
    """One more than any server of this home ever had; the keeper remembers it and refuses lower ones."""
    from spinyard.providers.process.client import KeeperClient, starter

    keeper = KeeperClient(settings.home, clock, start_keeper=starter(settings.home))
    try:
        epoch = int((await keeper.hello())["epoch"]) + 1
        await keeper.claim_epoch(epoch)
    finally:
        await keeper.close()
    return epoch


def ledger_wants(store: Store, provider: str) -> list[tuple[ResourceKey, Want]]:
    """What that provider is asked for, from the ledger alone, oldest first: of two that collide, the first one wins."""
    out = []
    after = ""
    while True:
        page = store.open_resources(provider=provider, after=after, limit=1000)
        out += [(row.created_at, row.key, row.stored_want) for row in page if row.wanted and row.stored_want]
        if len(page) < 1000:
            return [(key, want) for _, key, want in sorted(out, key=lambda one: one[:2])]
        after = page[-1].key


# -- the server -------------------------------------------------------------------------------------------------------


async def _serve(settings: Settings) -> int:
    import uvicorn

    from spinyard.api.connection import BoundedConnection

    for directory in (settings.home, settings.run_dir, settings.log_dir, settings.data_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not settings.token_file.exists():
        rotate_token(settings)
    settings.server_file.unlink(missing_ok=True)
    async with _assembled(settings) as parts:
        listener = _listen(settings.api)
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        stopping = asyncio.Event()
        problems: list[str] = ["starting"]
        app = _app(parts, url, lambda: problems[0] if problems else "")
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
            lifespan="off",
            loop="uvloop",
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        tasks = [
            asyncio.create_task(_api(server, listener), name="api"),
            asyncio.create_task(parts.engine.run(), name="engine"),
            asyncio.create_task(parts.watch.run(), name="watch"),
            asyncio.create_task(stopping.wait(), name="signal"),
        ]
        try:
            await _start_gateway(parts)
            problems.clear()
            parts.context.failpoint("ready:before")
            _write_server_file(settings, url)
            parts.context.failpoint("ready:after")
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            settings.server_file.unlink(missing_ok=True)
            app.state.streams.close()
            server.should_exit = True
            await asyncio.gather(tasks[0], return_exceptions=True)
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return 0


async def _api(server: Any, listener: socket.socket) -> None:
    """uvicorn without its own signal handling: ours stops everything in order."""
    with contextlib.suppress(asyncio.CancelledError):
        await server._serve([listener])


async def _start_gateway(parts: _Parts) -> None:
    """Returns when Envoy has confirmed everything of the ledger, or raises with its own words for why not."""
    from spinyard.proxy.bootstrap import argv, write_config

    settings = parts.settings
    config = settings.run_dir / "envoy.json"
    write_config(config, settings.xds_socket, settings.admin_socket)
    parts.context.failpoint("supervise:before")
    await parts.process.keeper.supervise(ENVOY, argv(settings.home, config), restart=True, hot=True)
    parts.context.failpoint("supervise:after")
    began = parts.clock.monotonic()
    while not parts.proxy.is_serving():
        refused = parts.proxy.listener_problem()
        if refused:
            raise _gateway_refused(settings, refused)
        if parts.clock.monotonic() - began > GATEWAY_SECONDS:
            raise SystemFailure(
                f"Envoy did not get ready within {GATEWAY_SECONDS:g} s",
                code="gateway_not_ready",
                next_step=f"see the end of {settings.log_dir}/envoy*.log, and `spinyard doctor`",
            )
        await parts.clock.sleep(0.02)


def _gateway_refused(settings: Settings, words: str) -> SystemFailure:
    taken = "address already in use" in words.lower()
    failure = SystemFailure(
        f"the gateway cannot listen on {settings.gateway}: "
        + ("the address is in use by another program" if taken else words),
        code="gateway_port_taken" if taken else "gateway_refused",
        next_step="stop what uses it, or give another address with --gateway",
        details={"envoy": words},
    )
    failure.fault = "user"
    return failure


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, or asyncio leaves out TCP_NODELAY and each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as cause:
        listener.close()
        failure = SystemFailure(
            f"the API cannot listen on {address}: {cause.strerror}",
            code="api_port_taken",
            next_step="give another address with --api, or 127.0.0.1:0 for any free port",
        )
        failure.fault = "user"
        raise failure from cause
    return listener


def _write_server_file(settings: Settings, url: str) -> None:
    from spinyard.clock import SystemClock

    data = {
        "url": url,
        "pid": os.getpid(),
        "gateway": settings.gateway,
        "version": version("spinyard"),
        "started_at": SystemClock().now(),
    }
    fresh = settings.server_file.with_suffix(".new")
    fresh.write_text(json.dumps(data) + "\n")
    fresh.replace(settings.server_file)


def _app(parts: _Parts, url: str, not_ready: Callable[[], str]) -> Any:
    from spinyard.api.app import create_app

    return create_app(_deps(parts, url, not_ready))


def _deps(parts: _Parts, url: str, not_ready: Callable[[], str]) -> ApiDeps:
    from spinyard.api.deps import ApiDeps, ApiLimits, ExecResult, Stray, Swept
    from spinyard.api.notifier import CommitNotifier

    settings, engine = parts.settings, parts.engine
    notifier = getattr(parts.context.committed, "__self__", None)
    assert isinstance(notifier, CommitNotifier)

    async def execute(uid: Uid, command: Sequence[str], timeout_seconds: float) -> ExecResult:
        key = resource_key(uid, "process")
        result = await parts.process.run_command(key, command, timeout_seconds=timeout_seconds)
        if result.error_class:
            from spinyard.errors import ErrorClass, ProviderFailure

            raise ProviderFailure(result.error, error_class=ErrorClass(result.error_class), retryable=False)
        code = result.exit_code if result.exit_code is not None else 128 + (result.exit_signal or 0)
        return ExecResult(code, result.output)

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
        token=_Token(settings.token_file),
        hint=engine.hint,
        notifier=notifier,
        log_dir=lambda uid: parts.process.log_directory(uid),
        execute=execute,
        orphans=orphans,
        sweep=sweep,
        info=info,
        ready=not_ready,
        figures=lambda: _figures(parts),
        preflight=(lambda declared: _preflight(parts, declared),),
        hosts=frozenset({settings.api.rpartition(":")[0]}),
        limits=ApiLimits(body_bytes_max=settings.body_bytes_max, page_max=settings.page_max),
    )


def _figures(parts: _Parts) -> Sequence[Figure]:
    from spinyard.api.deps import Figure

    figures = parts.context.figures
    counters = {
        "spinyard_engine_passes_total": (figures.passes, "Passes over rows."),
        "spinyard_engine_commits_total": (figures.commits, "Plans committed."),
        "spinyard_engine_stale_total": (figures.stale, "Plans that came too late to be written."),
        "spinyard_engine_leases_lost_total": (figures.leases_lost, "Leases lost."),
        "spinyard_engine_actions_total": (figures.actions, "Calls to providers that change something."),
        "spinyard_engine_action_failures_total": (figures.action_failures, "Those that failed."),
        "spinyard_engine_unknowns_total": (figures.unknowns, "Observations without an answer."),
        "spinyard_orphans_removed_total": (figures.orphans_removed, "Orphans removed by the sweep."),
    }
    gauges = {
        "spinyard_engine_in_flight": (parts.engine.in_flight, "Rows in hand."),
        "spinyard_sweep_timestamp_seconds": (figures.swept_at, "When the sweep last saw every provider."),
        "spinyard_gateway_connected": (parts.proxy.connected_envoys, "Envoys connected."),
    }
    return [
        *(Figure(name, float(value), text, "counter") for name, (value, text) in counters.items()),
        *(Figure(name, float(value), text) for name, (value, text) in gauges.items()),
    ]


async def _preflight(parts: _Parts, declared: Sequence[Declared]) -> Sequence[PreflightResult]:
    from spinyard.api.deps import PreflightResult
    from spinyard.providers.process.preflight import preflight

    out = []
    capabilities = await parts.process.keeper.capabilities()
    for one in declared:
        if one.template is None or one.template.provider != "process":
            continue
        for check in preflight(one.template, parts.settings.port_range, capabilities):
            out.append(PreflightResult(check.check, check.status, one.id.path, check.message, check.next_step))
    return out


# -- doctor -----------------------------------------------------------------------------------------------------------


def doctor(settings: Settings) -> list[dict[str, object]]:
    """What this machine and this home offer; `ok` is True, False or "warn"."""
    from spinyard.clock import SystemClock
    from spinyard.keeper import capabilities
    from spinyard.providers.process.preflight import machine_checks
    from spinyard.proxy.bootstrap import find_envoy

    checks: list[dict[str, object]] = []

    def add(name: str, ok: object, detail: str, next_step: str = "") -> None:
        checks.append({"name": name, "ok": ok, "detail": detail, "next_step": next_step})

    add("python", True, f"{sys.version.split()[0]} at {sys.executable}")
    try:
        add("envoy", True, str(find_envoy()))
    except SystemFailure as failure:
        add("envoy", False, failure.message, failure.next_step)
    try:
        store = open_store(settings, SystemClock()) if settings.store_file.exists() else None
        add("store", True, "readable" if store is not None else "not made yet")
        if store is not None:
            store.close()
    except (StoreFailure, ServerAlreadyRunning) as failure:
        in_use = failure.code in ("store_locked", "server_already_running")
        add("store", in_use, "in use by the server" if in_use else failure.message, failure.next_step)
    for name, found in capabilities.describe().items():
        add(f"limit {name}", bool(found["enforced"]) or "warn", str(found["how"]))
    for check in machine_checks(settings.home, settings.port_range):
        add(
            check.check,
            True if check.status == "ok" else "warn" if check.status == "warning" else False,
            check.message,
            check.next_step,
        )
    return checks


def configure_logs() -> None:
    """One JSON object a line on stdout, which the keeper keeps in bounded files."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(),
    )
