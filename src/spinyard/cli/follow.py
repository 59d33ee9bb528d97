"""`get -w`: what is there, then a row for each change. Goes on over a restart of the server, from the last token."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from spinyard.cli.columns import headers_of, row_of
from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import RESTART_PATIENCE_SECONDS
from spinyard.cli.output import print_line, reference, state_of
from spinyard.cli.table import GAP, table_lines
from spinyard.client import Client, SentEvent
from spinyard.clock import SystemClock
from spinyard.errors import Expired, Unreachable

Json = dict[str, Any]

RECONNECT_PAUSE_SECONDS = 0.3
STATE_WIDTH = len("bootstrapping")


def follow_lists(
    client: Client,
    kinds: Sequence[str],
    namespace: str | None,
    labels: dict[str, str],
    pages: Sequence[Json],
    output: str,
) -> int:
    """`pages`: the list as it was just read; the watch goes on from its token and misses nothing."""
    if len(kinds) != 1:
        raise Usage("--watch takes one kind", next_step="for example: spinyard get spins -w")
    kind, page = kinds[0], pages[0]
    rows = _Rows(kind, output, all_namespaces=namespace is None)
    for item in page["items"]:
        rows.show({**item, "kind": kind})
    token = str((page.get("metadata") or {}).get("resourceVersion", ""))
    for event in endless(client, lambda resume: client.watch(kind, namespace, labels=labels, resume=resume), token):
        rows.event(event)
    return Exit.OK


def follow_one(client: Client, kind: str, name: str, namespace: str, output: str) -> int:
    rows = _Rows(kind, output, all_namespaces=False)
    for event in endless(client, lambda resume: client.watch(kind, namespace, name, resume=resume), ""):
        rows.event(event)
        if event.type == "DELETED":
            return Exit.OK
    return Exit.OK


def endless(client: Client, connect: Callable[[str], Any], token: str) -> Iterator[SentEvent]:
    """Events over as many connections as it takes. A pruned token begins anew with what is there now."""
    clock = SystemClock()
    lost_at: float | None = None
    while True:
        try:
            with connect(token) as events:
                for event in events:
                    lost_at = None
                    token = event.id or token
                    yield event
        except Expired:
            token = ""
        except Unreachable:
            lost_at = clock.monotonic() if lost_at is None else lost_at
            if clock.monotonic() - lost_at > RESTART_PATIENCE_SECONDS:
                raise
        time.sleep(RECONNECT_PAUSE_SECONDS)


class _Rows:
    """Rows as they come: columns are as wide as the first rows need, and grow."""

    def __init__(self, kind: str, output: str, *, all_namespaces: bool) -> None:
        self._kind = kind
        self._output = output
        self._all_namespaces = all_namespaces
        self._headers = headers_of(kind, wide=output == "wide", all_namespaces=all_namespaces)
        self._widths: list[int] = []

    def event(self, event: SentEvent) -> None:
        item = json.loads(event.data)
        item.setdefault("kind", self._kind)
        if self._output in ("json", "yaml"):
            print_line({"type": event.type, "object": item})
        else:
            self.show(item, gone=event.type == "DELETED")

    def show(self, item: Json, *, gone: bool = False) -> None:
        if self._output in ("json", "yaml"):
            print_line({"type": "ADDED", "object": item})
            return
        if self._output == "name":
            print(f"{reference(item)} {'gone' if gone else state_of(item)}", flush=True)
            return
        row = row_of(
            item, self._kind, SystemClock().now(), wide=self._output == "wide", all_namespaces=self._all_namespaces
        )
        cells = [cell or "-" for cell in row]
        if not self._widths:
            self._widths = [
                max(len(head), len(cell), STATE_WIDTH if head == "STATE" else 0)
                for head, cell in zip(self._headers, cells, strict=True)
            ]
            print((" " * GAP).join(f"{h:<{w}}" for h, w in zip(self._headers, self._widths, strict=True)).rstrip())
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, cells, strict=True)]
        padded = [f"{cell:<{width}}" for cell, width in zip(cells, self._widths, strict=True)]
        print(table_lines(self._headers, [padded])[1], flush=True)
