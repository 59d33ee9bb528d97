"""`spinyard up`: files in, a service that answers out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.attend import raise_if_not, until_available
from spinyard.cli.commands.apply import print_results, send
from spinyard.cli.exits import Exit
from spinyard.cli.manifests import read_manifests
from spinyard.cli.options import COMMON, SCOPE, Common, Files, Scope, Timeout
from spinyard.cli.output import dig, list_of, print_data
from spinyard.cli.settings_file import load_settings
from spinyard.cli.start import Started, ensure_running
from spinyard.cli.words import seconds_of
from spinyard.client import Client

Json = dict[str, Any]


def up(
    file: Files,
    wait: Annotated[
        bool, Parameter(name="--wait", negative="--no-wait", help="Stay until everything is available.")
    ] = True,
    timeout: Timeout = "5m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Apply files and wait until everything is available; keeper and server are started when none runs."""
    seconds = seconds_of(timeout)
    objects = read_manifests(file, scope.namespace)
    settings = load_settings(common.home_path)
    started = ensure_running(settings)
    _say_started(started, quiet=common.is_data)
    client = common.client()
    results = send(client, objects, "", False, {})
    if not common.is_data:
        print_results(results)
    items = [one["object"] for one in results]
    if not wait:
        if common.is_data:
            print_data(list_of(items), common.output)
        return Exit.OK
    items += [_rollout(client, one) for one in results if one.get("rollout")]
    outcome = until_available(client, items, timeout_seconds=seconds, quiet=common.is_data)
    if common.is_data:
        print_data(list_of([*outcome.done, *outcome.failed, *outcome.late]), common.output)
    else:
        print_addresses(outcome.done, started.server.gateway)
    raise_if_not(outcome, timeout)
    return Exit.OK


def _rollout(client: Client, one: Json) -> Json:
    """Its Service is available all the time; what was applied is there when the rollout has succeeded."""
    return client.get("Rollout", one["object"]["metadata"]["namespace"], str(one["rollout"]), finished=True)


def print_addresses(items: Sequence[Json], gateway: str) -> None:
    """Where each route answers; *.localhost needs no resolver in browsers and curl."""
    for item in items:
        route = dig(item, "spec", "route")
        if not isinstance(route, dict):
            continue
        prefix = str(route.get("pathPrefix") or "/")
        port = gateway.rpartition(":")[2]
        for name in route.get("hosts") or ["*"]:
            if name == "*":
                print(f"{item['metadata']['name']} answers at http://{gateway}{prefix}")
            elif name.endswith(".localhost") or name == "localhost":
                print(f"{item['metadata']['name']} answers at http://{name}:{port}{prefix}")
            else:
                print(f"{item['metadata']['name']} answers to curl -H 'Host: {name}' http://{gateway}{prefix}")


def _say_started(started: Started, *, quiet: bool) -> None:
    if quiet or not (started.server_started or started.keeper_started):
        return
    what = "keeper and server" if started.keeper_started and started.server_started else "server"
    if not started.server_started:
        what = "keeper"
    print(
        f"started {what} in the background (pid {started.server.pid}, gateway http://{started.server.gateway});"
        " `spinyard down` stops it",
        file=sys.stderr,
    )
