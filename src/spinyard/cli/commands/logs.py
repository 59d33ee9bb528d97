"""`spinyard logs`: of one spin as it is, of several interleaved with the spin's name before each line."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.exits import Exit
from spinyard.cli.kinds import kind_of
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import print_line, state_of
from spinyard.cli.streams import coloured, raw_of
from spinyard.cli.words import is_live, paint
from spinyard.client import Client
from spinyard.clock import SystemClock
from spinyard.errors import NotFound, SpinyardError

Json = dict[str, Any]

SPINS_MAX = 32
QUEUE_MAX = 10_000
LOOK_SECONDS = 1.0
_COLOURS = ("36", "33", "32", "35", "34", "31")


def logs(
    name: Annotated[str, Parameter(name="NAME", help="A service, job or spin; KIND/NAME when the name is not enough.")],
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on with what comes.")] = False,
    tail: Annotated[int, Parameter(name="--tail", help="How many of the last lines; 0 for all that is kept.")] = 100,
    part: Annotated[str, Parameter(name="--part", help="main, a bootstrap step, or command (a Job on a pool).")] = "",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Output of a spin, or of all spins of a service."""
    client = common.client()
    kind, uid, name = _find(client, scope.namespace, name)
    spins = [name] if kind == "Spin" else _spins_of(client, scope.namespace, uid)
    if not spins and not follow:
        raise NotFound(f"{kind} {name} has no spins to show logs of", next_step=f"spinyard explain {name}")
    reader = _Reader(common, scope.namespace, follow, tail if tail > 0 else None, part)
    if len(spins) == 1 and (kind == "Spin" or not follow):
        return reader.one(spins[0])
    again = (lambda: _spins_of(client, scope.namespace, uid)) if follow else None
    return reader.many(spins, again)


def _find(client: Client, namespace: str, name: str) -> tuple[str, str, str]:
    """(kind, uid, name). Of a bare name: the service, else the job, else the spin of that name."""
    word, slash, rest = name.partition("/")
    for kind in (kind_of(word),) if slash else ("Service", "Job", "WarmPool", "Claim", "Spin"):
        try:
            found = client.get(kind, namespace, rest or name, finished=True)
        except NotFound:
            continue
        return kind, str(found["metadata"]["uid"]), rest or name
    raise NotFound(
        f"there is no service, job or spin {name!r} in namespace {namespace!r}", next_step="spinyard get all"
    )


def _spins_of(client: Client, namespace: str, uid: str) -> list[str]:
    return _newest(client.list("Spin", namespace, owner=uid, finished="all")["items"])


def _newest(owned: Sequence[Json]) -> list[str]:
    """Those that run; when none does, the one that ended last."""
    running = [spin for spin in owned if state_of(spin) != "terminated"]
    if running:
        if len(running) > SPINS_MAX:
            print(f"spinyard: the first {SPINS_MAX} of {len(running)} spins are shown", file=sys.stderr)
        return [str(spin["metadata"]["name"]) for spin in running[:SPINS_MAX]]
    ended = sorted(owned, key=lambda spin: str(spin["metadata"].get("creationTimestamp", "")))
    return [str(spin["metadata"]["name"]) for spin in ended[-1:]]


class _Reader:
    """One thread for each spin; the lines meet in a bounded queue, so a fast writer waits for a slow terminal."""

    def __init__(self, common: Common, namespace: str, follow: bool, tail: int | None, part: str) -> None:
        self._common = common
        self._namespace = namespace
        self._follow = follow
        self._tail = tail
        self._part = part
        self._lines: queue.Queue[tuple[str, bytes | None]] = queue.Queue(QUEUE_MAX)
        self._failures: list[SpinyardError] = []
        self._order: dict[str, int] = {}

    def one(self, spin: str) -> int:
        with self._open(spin, self._tail) as lines:
            for line in lines:
                if self._common.output == "json":
                    print_line({"spin": spin, "line": _text(line)})
                elif is_live(sys.stdout):
                    print(coloured(_text(line)), file=raw_of(sys.stdout), flush=True)
                else:
                    sys.stdout.buffer.write(line)
                    sys.stdout.flush()
        return Exit.OK

    def many(self, spins: Sequence[str], again: Callable[[], Sequence[str]] | None) -> int:
        """`again`: which spins there are now, asked every second, so that those of a new version are followed too."""
        for spin in spins:
            self._begin(spin, self._tail)
        open_count = len(spins)
        clock = SystemClock()
        asked_at = clock.monotonic()
        while open_count or again is not None:
            if again is not None and clock.monotonic() - asked_at > LOOK_SECONDS:
                asked_at = clock.monotonic()
                for spin in again():
                    if spin not in self._order:
                        self._begin(spin, None)
                        open_count += 1
            try:
                spin, line = self._lines.get(timeout=LOOK_SECONDS if again is not None else None)
            except queue.Empty:
                continue
            if line is None:
                open_count -= 1
            else:
                self._show(spin, line)
        if self._failures and len(self._failures) == len(self._order):
            raise self._failures[0]
        return Exit.OK

    def _open(self, spin: str, tail: int | None) -> AbstractContextManager[Iterator[bytes]]:
        client = self._common.client()
        return client.logs(self._namespace, spin, follow=self._follow, tail=tail, part=self._part)

    def _begin(self, spin: str, tail: int | None) -> None:
        self._order[spin] = len(self._order)
        threading.Thread(target=self._read, args=(spin, tail), daemon=True).start()

    def _read(self, spin: str, tail: int | None) -> None:
        try:
            with self._open(spin, tail) as found:
                for line in found:
                    self._lines.put((spin, line))
        except SpinyardError as error:
            self._failures.append(error)
        finally:
            self._lines.put((spin, None))

    def _show(self, spin: str, line: bytes) -> None:
        if self._common.output == "json":
            print_line({"spin": spin, "line": _text(line)})
            return
        width = max(len(name) for name in self._order)
        colour = _COLOURS[self._order[spin] % len(_COLOURS)]
        print(f"{paint(f'{spin:<{width}}', colour)}  {coloured(_text(line))}", file=raw_of(sys.stdout), flush=True)


def _text(line: bytes) -> str:
    return line.decode(errors="replace").rstrip("\r\n")
