"""/metrics for Prometheus. Series are bounded: routes by template, objects by kind and state, never a name or a uid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spinyard.api.calls import Calls
from spinyard.api.deps import Figure
from spinyard.api.documented import answers
from spinyard.api.streams import Streams
from spinyard.ports.clock import Clock

ABORTED: Final = 499
"""the client was gone before the answer began"""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)


class HttpFigures:
    """ASGI middleware, outside of the guard, so that refusals are counted too."""

    def __init__(self, app: ASGIApp, *, registry: CollectorRegistry, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        names = ("method", "route")
        self._requests = Counter(
            "spinyard_http_requests_total", "Requests answered.", (*names, "status"), registry=registry
        )
        self._seconds = Histogram(
            "spinyard_http_request_seconds", "Time to the end of the answer.", names, registry=registry, buckets=BUCKETS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = ABORTED
        start = self._clock.monotonic()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "") or "unmatched"
            self._requests.labels(method, route, str(status)).inc()
            self._seconds.labels(method, route).observe(self._clock.monotonic() - start)


class Figures(Collector):
    """Numbers that others have, as they are at the time of asking."""

    def __init__(self, counts: Mapping[tuple[str, str], int], figures: Iterable[Figure]) -> None:
        self._counts = counts
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        objects = GaugeMetricFamily("spinyard_objects", "Unfinished objects.", labels=("kind", "state"))
        for (kind, state), number in sorted(self._counts.items()):
            objects.add_metric((kind, state), float(number))
        yield objects
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for figure in self._figures:
            names = [name for name, _ in figure.labels]
            make = CounterMetricFamily if figure.type == "counter" else GaugeMetricFamily
            family = families.setdefault(figure.name, make(figure.name, figure.help or figure.name, labels=names))
            family.add_metric([value for _, value in figure.labels], figure.value)
        yield from families.values()


def add_metrics_route(router: APIRouter, calls: Calls, registry: CollectorRegistry, streams: Streams) -> None:
    Gauge("spinyard_http_streams", "Watches and followed logs.", registry=registry).set_function(lambda: streams.open)

    async def metrics() -> Response:
        deps = calls.deps
        counts = await deps.run_read(deps.store.counts)
        asked = CollectorRegistry()
        asked.register(Figures(counts, deps.figures()))
        return Response(generate_latest(registry) + generate_latest(asked), media_type=MEDIA_TYPE)

    documented = answers(media_type="text/plain")
    router.get("/metrics", responses=documented, operation_id="metrics", tags=["health"])(metrics)
