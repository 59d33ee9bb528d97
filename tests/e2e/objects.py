"""Objects as a user would write them."""

from __future__ import annotations

from typing import Any

from tests.e2e.house import Json, web

READY: Json = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 0.1, "timeoutSeconds": 2}
LIVE: Json = {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 0.2, "timeoutSeconds": 2}


def named(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "spinyard.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def template(*options: str, **more: Any) -> Json:
    """The web server of the tests; `more` as in the manifest."""
    base: Json = {
        "command": web(*options),
        "ports": [{"name": "http"}],
        "readinessProbe": READY,
        "drain": {"timeoutSeconds": 5},
        "terminationGracePeriodSeconds": 5,
    }
    return {name: value for name, value in {**base, **more}.items() if value is not None}


def service(name: str, made_from: Json, *, replicas: int = 1, route: bool = True, **more: Any) -> Json:
    spec: Json = {"replicas": replicas, "template": made_from}
    if route:
        spec["route"] = {"hosts": [f"{name}.localhost"]}
    return named("Service", name, {**spec, **more})


def job(name: str, command: list[str], *, template_more: Json | None = None, **more: Any) -> Json:
    return named("Job", name, {"template": {"command": command, **(template_more or {})}, **more})
