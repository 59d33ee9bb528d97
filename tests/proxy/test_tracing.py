"""Which requests Envoy records, what it tells, and that it serves on when nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from spinyard.clock import SystemClock
from spinyard.core.trace import Span
from spinyard.core.want import boundary_cluster
from spinyard.proxy import bootstrap, proto, translate_tracing
from spinyard.proxy.provider import ProxyProvider
from spinyard.proxy.translate_listener import gateway_of, listener
from spinyard.settings import Settings
from spinyard.spinout.join import is_entry
from spinyard.wiring.traces import open_traces
from tests.proxy.boundary_world import CLUSTER, BoundaryWorld
from tests.proxy.world import until


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_what_is_told_to_envoy_is_what_its_messages_take(share: float) -> None:
    told = listener(gateway_of("127.0.0.1:8080", trace_share=share))
    proto.encode("envoy.config.listener.v3.Listener", told)
    (chain,) = told["filter_chains"]
    tracing = chain["filters"][0]["typed_config"]["tracing"]
    assert tracing["random_sampling"]["value"] == share * 100
    proto.encode("envoy.config.cluster.v3.Cluster", translate_tracing.receiver_cluster(Path("/x/otlp.sock")))
    proto.encode("envoy.config.route.v3.Route", {"match": {"prefix": "/"}, **translate_tracing.always()})


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="share of traces"):
        gateway_of("127.0.0.1:8080", trace_share=share)


def test_without_tracing_nothing_of_it_is_told() -> None:
    (chain,) = listener(gateway_of("127.0.0.1:8080"))["filter_chains"]
    config = chain["filters"][0]["typed_config"]
    assert "tracing" not in config
    assert translate_tracing.FORCING_HEADER not in str(config["early_header_mutation_extensions"])


class TracedWorld(BoundaryWorld):
    """With the receiver of the server; `share` of requests without a traceparent: none."""

    def new_provider(self) -> ProxyProvider:
        self.settings = Settings(self.home, otlp="")
        self.settings.run_dir.mkdir(exist_ok=True)
        self.gateway = replace(self.gateway, trace_share=0.0)
        return ProxyProvider(
            scope="host:test",
            node_cluster=bootstrap.node_cluster(self.home),
            xds_socket=self.home / "xds.sock",
            admin_socket=self.home / "admin.sock",
            gateway=self.gateway,
            inside=self.inside,
            clock=SystemClock(),
            otlp_socket=self.settings.otlp_socket,
        )

    async def receive(self) -> None:
        self.stopping = asyncio.Event()
        self.traces = open_traces(self.settings, SystemClock())
        self.receiving = asyncio.create_task(self.traces.serve(self.stopping))

    async def receive_no_more(self) -> None:
        self.stopping.set()
        await self.receiving
        self.traces.close()

    async def found(self, trace: str, count: int) -> list[Span]:
        async def is_there() -> bool:
            return len(self.traces.store.find(trace)) == count

        await until(is_there, f"{count} spans of {trace}: {self.traces.store.find(trace)}")
        return list(self.traces.store.find(trace))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[TracedWorld]:
    world = TracedWorld()
    try:
        await world.start()
        await world.share(0)
        await world.receive()
        yield world
        await world.receive_no_more()
    finally:
        await world.stop()


def caller(number: int, *, sampled: bool = True) -> tuple[str, dict[str, str]]:
    trace = f"{number:032x}"
    return trace, {"traceparent": f"00-{trace}-00000000000000aa-0{int(sampled)}"}


@pytest.mark.anyio
async def test_what_the_caller_says_is_kept_and_told_to_whom_it_is_passed(world: TracedWorld) -> None:
    trace, headers = caller(1)
    echoed = await world.echo("/x", headers)
    entry, egress = await world.found(trace, 2)
    assert (entry.name, entry.kind, entry.parent_id) == ("GET /x/echo", "server", "00000000000000aa")
    assert (egress.name, egress.kind, egress.parent_id) == ("to default/web/1", "client", entry.span_id)
    assert echoed["traceparent"] == f"00-{trace}-{egress.span_id}-01"
    assert entry.attributes["spinyard.service"] == "default/web/1"
    assert translate_tracing.FORCING_HEADER not in echoed
    silent, headers = caller(2, sampled=False)
    echoed = await world.echo("/x", headers)
    assert echoed["traceparent"].startswith(f"00-{silent}-") and echoed["traceparent"].endswith("-00")
    without = await world.echo("/x")
    assert without["traceparent"].endswith("-00")
    last, headers = caller(3)
    await world.echo("/x", headers)
    await world.found(last, 2)
    assert not world.traces.store.find(silent) and not world.traces.store.find(without["traceparent"][3:35])


@pytest.mark.anyio
@pytest.mark.parametrize("forced", ["x-client-trace-id", "x-envoy-force-trace"])
async def test_an_outsider_forces_nothing_by_envoys_own_headers(forced: str, world: TracedWorld) -> None:
    echoed = await world.echo("/x", {forced: "1"})
    assert echoed["traceparent"].endswith("-00") and forced not in echoed


@pytest.mark.anyio
async def test_requests_of_a_boundary_are_all_recorded_with_their_side_and_joined_by_its_name(
    world: TracedWorld,
) -> None:
    for weight, side, behind in ((0, "parent", "old"), (10_000, "unit", "new")):
        await world.share(weight)
        echoed = await world.echo("/thumbs", {"x-user": "me", "x-spinyard-side": "forged"})
        entry, egress = await world.found(echoed["traceparent"][3:35], 2)
        assert echoed["traceparent"][36:52] == egress.span_id
        assert (entry.side, entry.attributes["spinyard.service"]) == (side, boundary_cluster(CLUSTER, behind))
        assert egress.side in (side, "")
        assert is_entry(entry, {boundary_cluster(CLUSTER, behind)})
    await world.share(0)


@pytest.mark.anyio
async def test_requests_are_answered_while_nobody_takes_spans_and_later_ones_arrive_again(world: TracedWorld) -> None:
    await world.receive_no_more()
    for number in range(100, 160):
        assert (await world.call("/", caller(number)[1]))[0] == 200
    await world.receive()
    trace, headers = caller(200)
    await world.call("/", headers)
    await world.found(trace, 2)
