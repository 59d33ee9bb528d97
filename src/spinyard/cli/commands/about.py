"""`spinyard version` and `spinyard schema`."""

from __future__ import annotations

import json
import sys

from spinyard.cli.exits import Exit
from spinyard.cli.options import COMMON, Common
from spinyard.cli.output import print_data
from spinyard.client import read_server_file


def version(common: Common = COMMON) -> int:
    """The version of this program, and of the server of the home when one runs."""
    server = read_server_file(common.home_path)
    own = own_version()
    if common.is_data:
        found = {"version": server.version, "url": server.url, "pid": server.pid} if server else None
        print_data({"apiVersion": "spinyard.dev/v1", "kind": "Version", "client": own, "server": found}, common.output)
        return Exit.OK
    print(f"spinyard {own}")
    if server is not None:
        print(f"server   {server.version or 'unknown'} at {server.url} (pid {server.pid})")
    return Exit.OK


def schema(common: Common = COMMON) -> int:
    """The JSON Schema of manifests, for editors."""
    from spinyard.manifest import schema as manifest_schema

    if common.output == "yaml":
        print_data(manifest_schema(), "yaml")
    else:
        json.dump(manifest_schema(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    return Exit.OK


def own_version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("spinyard")
    except PackageNotFoundError:
        return "unknown (not installed)"
