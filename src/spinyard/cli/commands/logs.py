"""`spinyard logs`: of one spin as it is, of several interleaved with the spin's name before each line."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.exits import Exit
from spinyard.cli.kinds import kind_of
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import print_line, state_of
from spinyard.cli.words import paint
from spinyard.client import Client
from spinyard.errors import NotFound, SpinyardError

Json = dict[str, Any]

SPINS_MAX = 32
QUEUE_MAX = 10_000
_COLOURS = ("36", "33", "32", "35", "34", "31")


def logs(
    name: Annotated[str, Parameter(name="NAME", help="A service, job or spin; KIND/NAME when the name is not enough.")],
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on with what comes.")] = False,
    tail: Annotated[int, Parameter(name="--tail", help="How many of the last lines; 0 for all that is kept.")] = 100,
    part: Annotated[str, Parameter(name="--part", help="main, or the name of a bootstrap step.")] = "",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Output of a spin, or of all spins of a service."""
    client = common.client()
    spins = _spins(client, scope.namespace, name)
    if not spins:
        raise NotFound(f"{name} has no spins to show logs of", next_step=f"spinyard explain {name}")
    tail_lines = tail if tail > 0 else None
    if len(spins) == 1:
        return _one(client, scope.namespace, spins[0], follow, tail_lines, part, common)
    return _many(common, scope.namespace, spins, follow, tail_lines, part)


def _spins(client: Client, namespace: str, name: str) -> list[str]:
    """Of a bare name: the service, else the job, else the spin of that name."""
    word, slash, rest = name.partition("/")
    kinds = (kind_of(word),) if slash else ("Service", "Job", "Spin")
    for kind in kinds:
        try:
            found = client.get(kind, namespace, rest or name, finished=True)
        except NotFound:
            continue
        if kind == "Spin":
            return [rest or name]
        owned = client.list("Spin", namespace, owner=found["metadata"]["uid"], finished="all")["items"]
        return _newest(owned)
    raise NotFound(
        f"there is no service, job or spin {name!r} in namespace {namespace!r}", next_step="spinyard get all"
    )


def _newest(owned: Sequence[Json]) -> list[str]:
    """Those that run; when none does, the one that ended last."""
    running = [spin for spin in owned if state_of(spin) != "terminated"]
    if running:
        if len(running) > SPINS_MAX:
            print(f"spinyard: the first {SPINS_MAX} of {len(running)} spins are shown", file=sys.stderr)
        return [str(spin["metadata"]["name"]) for spin in running[:SPINS_MAX]]
    ended = sorted(owned, key=lambda spin: str(spin["metadata"].get("creationTimestamp", "")))
    return [str(spin["metadata"]["name"]) for spin in ended[-1:]]


def _one(client: Client, namespace: str, spin: str, follow: bool, tail: int | None, part: str, common: Common) -> int:
    with client.logs(namespace, spin, follow=follow, tail=tail, part=part) as lines:
        for line in lines:
            if common.output == "json":
                print_line({"spin": spin, "line": _text(line)})
            else:
                sys.stdout.buffer.write(line)
                sys.stdout.flush()
    return Exit.OK


def _many(common: Common, namespace: str, spins: Sequence[str], follow: bool, tail: int | None, part: str) -> int:
    """One reader each; the lines come together in a bounded queue, so a fast writer waits for a slow terminal."""
    lines: queue.Queue[tuple[str, bytes | None]] = queue.Queue(QUEUE_MAX)
    failures: list[SpinyardError] = []

    def read(spin: str) -> None:
        try:
            with common.client().logs(namespace, spin, follow=follow, tail=tail, part=part) as found:
                for line in found:
                    lines.put((spin, line))
        except SpinyardError as error:
            failures.append(error)
        finally:
            lines.put((spin, None))

    for spin in spins:
        threading.Thread(target=read, args=(spin,), daemon=True).start()
    _drain(lines, spins, common)
    if failures and len(failures) == len(spins):
        raise failures[0]
    return Exit.OK


def _drain(lines: queue.Queue[tuple[str, bytes | None]], spins: Sequence[str], common: Common) -> None:
    width = max(len(spin) for spin in spins)
    colours = {spin: _COLOURS[n % len(_COLOURS)] for n, spin in enumerate(spins)}
    open_count = len(spins)
    while open_count:
        spin, line = lines.get()
        if line is None:
            open_count -= 1
        elif common.output == "json":
            print_line({"spin": spin, "line": _text(line)})
        else:
            print(f"{paint(f'{spin:<{width}}', colours[spin])}  {_text(line)}", flush=True)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")
