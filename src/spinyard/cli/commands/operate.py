"""`scale`, `restart` and `exec`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.attend import raise_if_not, until_available
from spinyard.cli.execute import SECONDS_MAX
from spinyard.cli.execute import execute as run_in
from spinyard.cli.exits import Exit, Usage
from spinyard.cli.kinds import target
from spinyard.cli.options import COMMON, SCOPE, Common, Scope, Timeout
from spinyard.cli.output import print_data
from spinyard.cli.words import duration, seconds_of
from spinyard.client import Client
from spinyard.clock import SystemClock

Json = dict[str, Any]

Wait = Annotated[bool, Parameter(name="--wait", negative="--no-wait", help="Stay until it is done.")]


def scale(
    *words: Annotated[str, Parameter(name="NAME", help="A service: NAME, or svc NAME, or svc/NAME.")],
    replicas: Annotated[int, Parameter(name="--replicas", help="How many instances; 0 keeps the service without any.")],
    wait: Wait = False,
    timeout: Timeout = "5m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Set the number of instances of a service."""
    seconds = seconds_of(timeout)
    if replicas < 0:
        raise Usage(f"--replicas {replicas}: not less than 0")
    client = common.client()
    name = _service(words)
    item = client.scale(scope.namespace, name, replicas, key=f"cli-{SystemClock().new_uid()}")
    return _finish(client, item, f"scaled to {replicas}", wait, seconds, timeout, common)


def restart(
    *words: Annotated[str, Parameter(name="NAME", help="A service: NAME, or svc NAME, or svc/NAME.")],
    wait: Wait = False,
    timeout: Timeout = "5m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Replace all instances of a service by new ones, rolling, without losing a request."""
    seconds = seconds_of(timeout)
    client = common.client()
    item = client.restart(scope.namespace, _service(words), key=f"cli-{SystemClock().new_uid()}")
    return _finish(client, item, "restarted" if wait else "restarting", wait, seconds, timeout, common)


def execute(
    spin: Annotated[str, Parameter(name="SPIN", help="The spin; its command follows after --")],
    *command: Annotated[str, Parameter(name="COMMAND", allow_leading_hyphen=True)],
    timeout: Annotated[str, Parameter(name="--timeout", help="How long the command may take, at most 24h.")] = "30s",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Run a command beside a spin, with its environment and directory, without input. Its exit code is ours."""
    if not command:
        raise Usage("which command? for example: spinyard exec SPIN -- env")
    name = spin.removeprefix("spins/").removeprefix("spin/").removeprefix("sp/")
    seconds = seconds_of(timeout)
    if not 0 < seconds <= SECONDS_MAX:
        raise Usage(f"--timeout {timeout}: more than 0, and at most {duration(SECONDS_MAX)}")
    client = common.client()
    try:
        return run_in(client, common, scope.namespace, name, command, timeout_seconds=seconds)
    except KeyboardInterrupt:
        print("spinyard: interrupted; the command is ended", file=sys.stderr)
        return Exit.INCONCLUSIVE


def _service(words: tuple[str, ...]) -> str:
    found = target(words, default_kind="Service")
    if len(found) != 1 or found[0][0] != "Service":
        raise Usage("one service, please")
    return found[0][1]


def _finish(client: Client, item: Json, done: str, wait: bool, seconds: float, timeout: str, common: Common) -> int:
    item.setdefault("kind", "Service")
    if wait:
        outcome = until_available(client, [item], timeout_seconds=seconds, quiet=common.is_data)
        item = (outcome.done + outcome.failed + outcome.late)[0]
    if common.is_data:
        print_data(item, common.output)
    else:
        print(f"service/{item['metadata']['name']} {done}")
    if wait:
        raise_if_not(outcome, timeout)
    return Exit.OK
