"""The application: guard, figures, routes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from spinyard.api.apply import add_apply_route
from spinyard.api.calls import Calls
from spinyard.api.claims import POOL, add_claim_routes
from spinyard.api.deps import ApiDeps
from spinyard.api.direct import DirectClaims
from spinyard.api.documented import components
from spinyard.api.events import add_event_routes
from spinyard.api.guard import Guard
from spinyard.api.holds import add_hold_routes
from spinyard.api.installation import add_health_routes, add_installation_routes
from spinyard.api.metrics import HttpFigures, add_metrics_route
from spinyard.api.objects import add_object_routes
from spinyard.api.problems import add_handlers
from spinyard.api.rollouts import add_rollout_routes
from spinyard.api.spinouts import add_spinout_routes
from spinyard.api.spins import add_spin_routes
from spinyard.api.streams import Streams
from spinyard.api.traces import add_trace_routes
from spinyard.api.watch import Watches

VERSION = "v1"


def create_app(deps: ApiDeps) -> FastAPI:
    """`app.state.streams.close()` ends all watches: call it before the server is stopped."""
    app = FastAPI(
        title="Spinyard",
        version=VERSION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    registry = CollectorRegistry()
    calls = Calls(deps)
    streams = Streams(deps.limits.streams_max)
    watches = Watches(calls, streams)
    router = APIRouter()
    # Routes are tried in this order, and claims come by the hundred in a second.
    claims = add_claim_routes(router, calls)
    add_object_routes(router, calls, watches)
    add_rollout_routes(router, calls)
    add_spinout_routes(router, calls)
    add_hold_routes(router, calls)
    add_apply_route(router, calls)
    add_spin_routes(router, calls, streams)
    add_event_routes(router, calls, watches)
    add_trace_routes(router, calls)
    add_installation_routes(router, calls)
    add_health_routes(router, calls)
    add_metrics_route(router, calls, registry, streams)
    app.include_router(router)
    add_handlers(app)
    app.add_middleware(DirectClaims, claim=claims.create, route=f"{POOL}/claims")
    app.add_middleware(Guard, token=deps.token, clock=deps.clock, limits=deps.limits, hosts=deps.hosts)
    app.add_middleware(HttpFigures, registry=registry, clock=deps.clock)
    app.state.streams = streams
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            parts = schema.setdefault("components", {})
            parts["schemas"] = {**components(), **parts.get("schemas", {})}
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
