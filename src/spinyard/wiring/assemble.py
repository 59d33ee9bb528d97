"""Puts the parts together; the only place that names concrete ones."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from spinyard.api.notifier import CommitNotifier
from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import LookGauge, LookJoin, LookShadow
from spinyard.core.want import Want
from spinyard.engine.context import Context, EngineSettings
from spinyard.engine.loop import Engine
from spinyard.failpoints import failpoints
from spinyard.ports.clock import Clock
from spinyard.ports.store import Store
from spinyard.probes import LivenessWatch, RealProber
from spinyard.providers.fake.provider import FakeProvider
from spinyard.providers.fake.world import World
from spinyard.providers.process.client import KeeperClient, starter
from spinyard.providers.process.provider import ProcessProvider
from spinyard.proxy.bootstrap import node_cluster
from spinyard.proxy.provider import ProxyProvider
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.translate_listener import gateway_of
from spinyard.settings import Settings
from spinyard.shadow.comparator import Comparator
from spinyard.telemetry.gauges import PrometheusGauges
from spinyard.wiring.domains import domains, spin_rules
from spinyard.wiring.flags import open_flags
from spinyard.wiring.inside import comparator_of, inside_of
from spinyard.wiring.joins import JoinReader
from spinyard.wiring.stores import open_store
from spinyard.wiring.threads import Threads, make_threads
from spinyard.wiring.traces import Traces, open_traces
from spinyard.wiring.watch import EngineWatch


@dataclass(frozen=True, slots=True)
class Parts:
    settings: Settings
    clock: Clock
    store: Store
    threads: Threads
    process: ProcessProvider
    proxy: ProxyProvider
    context: Context
    engine: Engine
    watch: LivenessWatch
    traces: Traces
    inside: Inside
    comparator: Comparator
    started_at: float


@contextlib.asynccontextmanager
async def assembled(settings: Settings) -> AsyncIterator[Parts]:
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
        epoch = await claim_epoch(settings, clock)
        failpoint("epoch:after")
        process = ProcessProvider(settings.home, installation=store.installation, scope=scope, clock=clock, epoch=epoch)
        stack.push_async_callback(process.close)
        inside = inside_of(settings)
        notifier = CommitNotifier()
        flags = open_flags(store, threads, notifier, clock, f"{inside.address}:{inside.port}")
        traces = open_traces(settings, clock, flags)
        stack.callback(traces.close)
        proxy = ProxyProvider(
            scope=scope,
            node_cluster=node_cluster(settings.home),
            xds_socket=settings.xds_socket,
            admin_socket=settings.admin_socket,
            gateway=gateway_of(
                settings.gateway,
                settings.gateway_tls_certificate,
                settings.gateway_tls_key,
                settings.trace_share,
            ),
            otlp_socket=settings.otlp_socket,
            inside=inside,
            clock=clock,
            first_version=epoch << 32,
        )
        proxy.restore(ledger_wants(store, "proxy"))
        failpoint("proxy:restored")
        await proxy.start()
        failpoint("proxy:started")
        stack.push_async_callback(proxy.stop)

        comparator = comparator_of(inside, store, threads.read, clock)
        await comparator.start()
        stack.push_async_callback(comparator.stop)
        gauges = PrometheusGauges(clock)
        stack.push_async_callback(gauges.close)

        async def run_command(
            key: ResourceKey, command: Sequence[str], timeout_seconds: float, output_bytes: int
        ) -> tuple[int | None, str]:
            result = await process.run_command(key, command, timeout_seconds=timeout_seconds, output_bytes=output_bytes)
            return result.exit_code, result.output

        prober = RealProber(clock, run_command)
        engine_box: list[Engine] = []
        watch = LivenessWatch(prober, clock, lambda uid: engine_box[0].hint(uid))
        context = Context(
            store=store,
            providers={
                "process": process,
                "proxy": proxy,
                "fake": FakeProvider(World(store.installation), clock, scope="host:fake"),
            },
            domains=domains(spin_rules(settings, scope, traces.address)),
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
            watch=EngineWatch(watch),
            traffic=proxy.traffic,
            readers={LookJoin: JoinReader(traces.store, clock), LookShadow: comparator, LookGauge: gauges},
            failpoint=failpoint,
            committed=notifier.notify,
        )
        engine = Engine(context)
        engine_box.append(engine)
        failpoint("catch_up:before")
        await threads.write(lambda: store.catch_up(now=clock.now()))
        failpoint("catch_up:after")
        yield Parts(
            settings,
            clock,
            store,
            threads,
            process,
            proxy,
            context,
            engine,
            watch,
            traces,
            inside,
            comparator,
            clock.now(),
        )


async def claim_epoch(settings: Settings, clock: Clock) -> int:
    """One more than any server of this home ever had; the keeper remembers it and refuses lower ones."""
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
