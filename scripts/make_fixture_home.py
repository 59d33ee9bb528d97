"""Writes a home as this version leaves it, for tests of later versions: `tests/fixtures/home-<version>.tar.gz`.

Run by hand when a version is named: PYTHONPATH=src:. .venv/bin/python scripts/make_fixture_home.py. What it holds is
told in tests/e2e/test_upgrade.py. Its instances are stopped afterwards, so whoever opens it finds them gone, as after a
reboot.
"""

from __future__ import annotations

import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.e2e.house import House

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
KEPT = ("spinyard.db", "settings.json", "data", "run/instances")
PROBE = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 0.2}


def objects() -> list[dict[str, Any]]:
    """Programs that every machine with Python has; no path of this one."""
    serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "${PORT}"]
    directories = [
        {"name": "shared", "scope": "service", "env": "SHARED"},
        {"name": "kept", "scope": "service", "env": "KEPT", "retain": True},
    ]
    template = {
        "command": serve,
        "workingDir": "/",
        "ports": [{"name": "http"}],
        "readinessProbe": PROBE,
        "dataDirectories": directories,
        "bootstrap": [{"name": "mark", "command": ["sh", "-c", 'date > "$KEPT/made"'], "timeoutSeconds": 20}],
        "terminationGracePeriodSeconds": 1,
    }
    once = {"command": ["true"], "workingDir": "/"}
    route = {"hosts": ["web.localhost"]}
    named = {"command": serve, "workingDir": "/", "ports": [{"name": "http"}], "readinessProbe": PROBE}
    return [
        declared("Service", "web", {"owner": "team", "replicas": 2, "route": route, "template": template}),
        declared("Template", "named", named),
        declared("Service", "by-reference", {"replicas": 1, "templateRef": {"name": "named"}}),
        declared("Job", "once", {"template": once}),
        declared("Service", "gone", {"replicas": 1, "template": {**template, "bootstrap": []}}),
    ]


def declared(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "spinyard.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def main() -> None:
    house = House()
    try:
        house.start()
        house.apply(*objects())
        house.serve("web", 2)
        house.serve("by-reference", 1, state="ready")
        house.serve("gone", 1, state="ready")
        house.wait("the job has ended", lambda: house.get("Job", "once")["status"]["state"] == "succeeded", 20)
        house.delete("Service", "gone")
        house.cli("down")
        target = FIXTURES / f"home-{version('spinyard')}.tar.gz"
        target.parent.mkdir(exist_ok=True)
        with tarfile.open(target, "w:gz") as archive:
            for name in KEPT:
                archive.add(house.home / name, arcname=name)
        print(f"{target}: {target.stat().st_size} bytes")
    finally:
        house.start()
        house.close()


if __name__ == "__main__":
    main()
