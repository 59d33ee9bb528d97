"""`spinyard down`: server, then Envoy, then keeper. Instances go on, unless --delete."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.attend import leaving, spins_of
from spinyard.cli.exits import Exit, WaitedTooLong
from spinyard.cli.keeper_link import KeeperLink
from spinyard.cli.options import COMMON, Common, Timeout
from spinyard.cli.output import print_data
from spinyard.cli.progress import Group, Progress, Scene, poll, progress
from spinyard.cli.settings_file import load_settings
from spinyard.cli.start import (
    ENVOY,
    SERVER,
    ensure_keeper,
    ensure_running,
    process_exists,
    stop_keeper,
    stop_supervised,
)
from spinyard.cli.words import counted, seconds_of
from spinyard.client import Client, read_server_file
from spinyard.errors import Conflict, NotFound, SpinyardError
from spinyard.settings import Settings

Json = dict[str, Any]

SERVER_GRACE_SECONDS = 20.0
ENVOY_GRACE_SECONDS = 10.0
OWNERS = ("Spinout", "Claim", "Service", "Job", "WarmPool", "Template")
"""in the order in which they are asked to go: a pool goes when its claims do"""


def down(
    delete: Annotated[
        bool, Parameter(name="--delete", help="Delete all objects first, and stay until nothing is left.")
    ] = False,
    timeout: Timeout = "10m",
    common: Common = COMMON,
) -> int:
    """Stop server, Envoy and keeper of a home. Instances go on and are found again by the next start."""
    seconds = seconds_of(timeout)
    settings = load_settings(common.home_path)
    if not settings.home.is_dir():
        return _nothing(common, settings.home)
    retained = _delete_all(settings, seconds, common) if delete else []
    stopped, running = _stop(settings)
    if not stopped and not delete:
        return _nothing(common, settings.home)
    if common.is_data:
        print_data(
            {
                "apiVersion": "spinyard.dev/v1",
                "kind": "Down",
                "stopped": stopped,
                "instances": running,
                "retained": retained,
            },
            common.output,
        )
        return Exit.OK
    print(f"stopped {', '.join(stopped)}")
    for key in retained:
        print(f"retained as its file says: {key}")
    if running:
        print(f"{counted(running, 'instance')} left running; `spinyard server` finds them again,")
        print("`spinyard down --delete` ends them")
    elif delete:
        print("nothing is left")
    return Exit.OK


def _nothing(common: Common, home: Path) -> int:
    if common.is_data:
        print_data(
            {"apiVersion": "spinyard.dev/v1", "kind": "Down", "stopped": [], "instances": 0, "retained": []},
            common.output,
        )
    else:
        print(f"nothing runs for home {home}")
    return Exit.OK


def _delete_all(settings: Settings, seconds: float, common: Common) -> list[str]:
    """Objects are deleted by the server, so one that is dead is started for it. Returns what is retained."""
    started = ensure_running(settings)
    if started.server_started and not common.is_data:
        print("no server ran; started one to delete with", file=sys.stderr)
    client = common.client()
    sweep = _Sweep(client)
    with leaving("the deletion goes on, nothing was stopped", ""), progress(quiet=common.is_data) as shown:
        done = poll(lambda: sweep.step(shown), timeout_seconds=seconds)
    if not done:
        raise WaitedTooLong(
            f"{sweep.left} thing{'s are' if sweep.left != 1 else ' is'} still there; nothing was stopped",
            next_step="see `spinyard get all -A` and `spinyard explain`, then run it again",
        )
    return sweep.retained


class _Sweep:
    """Asks for the end of everything, again for what appears meanwhile, until the ledger has no open line."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: set[str] = set()
        self.left = 0
        self.retained: list[str] = []

    def step(self, shown: Progress) -> bool:
        owners = [item for kind in OWNERS for item in self._client.list(kind)["items"]]
        spins = self._client.list("Spin")["items"]
        for item in self._in_order(owners, spins):
            self._ask(item)
        resources = self._client.resources()["items"]
        self.retained = [str(one.get("key", "")) for one in resources if one.get("retained")]
        open_count = len(resources) - len(self.retained)
        self.left = max(len(owners) + len(spins), open_count)
        groups = [Group(item, spins_of(self._client, item)) for item in owners if item.get("kind") != "Template"]
        note = ", ".join(
            (counted(len(owners), "object"), counted(len(spins), "spin"), f"{counted(open_count, 'resource')} left")
        )
        shown.show(Scene("deleting everything", groups, note))
        return self.left == 0

    def _in_order(self, owners: Sequence[Json], spins: Sequence[Json]) -> list[Json]:
        """Spins of an owner end by its word; templates can only go when nobody names them any more."""
        alone = [spin for spin in spins if not (spin["metadata"].get("ownerReferences") or [])]
        runs = [item for item in owners if item.get("kind") != "Template"]
        return runs + alone if runs or spins else list(owners)

    def _ask(self, item: Json) -> None:
        meta = item["metadata"]
        if meta["uid"] in self._asked or meta.get("deletionTimestamp"):
            return
        try:
            self._client.delete(item["kind"], meta["namespace"], meta["name"], key=f"down-{meta['uid']}")
        except (NotFound, Conflict):
            # A pool that is claimed from at this moment is asked again.
            return
        self._asked.add(str(meta["uid"]))


def _stop(settings: Settings) -> tuple[list[str], int]:
    """What was stopped, and how many instances go on. A server whose keeper is dead is ended by its pid."""
    link = KeeperLink(settings.keeper_socket)
    stopped: list[str] = []
    running = 0
    if not link.is_alive() and _left_by_a_keeper(settings):
        # What a dead keeper supervised still runs; only a new keeper knows it from other processes.
        ensure_keeper(settings)
    if link.is_alive():
        # The server first: it would start Envoy again, and nobody may decide anything from here on.
        stopped += ["server"] if stop_supervised(link, SERVER, grace_seconds=SERVER_GRACE_SECONDS) else []
        stopped += ["Envoy"] if stop_supervised(link, ENVOY, grace_seconds=ENVOY_GRACE_SECONDS) else []
        running = _running_instances(link)
        stop_keeper(link, instances=False)
        stopped.append("keeper")
    server = read_server_file(settings.home)
    if server is not None and _is_our_server(server.pid, settings.home):
        os.kill(server.pid, signal.SIGTERM)
        if poll(lambda: not process_exists(server.pid), timeout_seconds=SERVER_GRACE_SECONDS):
            stopped.insert(0, "server")
    settings.server_file.unlink(missing_ok=True)
    return stopped, running


def _left_by_a_keeper(settings: Settings) -> bool:
    try:
        return bool(json.loads((settings.run_dir / "supervised.json").read_bytes()))
    except (OSError, ValueError):
        return False


def _running_instances(link: KeeperLink) -> int:
    try:
        instances = link.ask("list").get("instances") or []
    except SpinyardError:
        return 0
    return sum(one.get("state") == "running" for one in instances)


def _is_our_server(pid: int, home: Path) -> bool:
    """A pid in a file may by now belong to somebody else: its command line must be that of this home's server."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"server-process" in words and os.fsencode(home) in words
