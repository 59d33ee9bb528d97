"""`spinyard trace`: one trace as a picture, or a list of recent ones."""

from __future__ import annotations

import re
import shutil
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import COMMON, Common
from spinyard.cli.output import print_data
from spinyard.cli.streams import is_utf8
from spinyard.cli.table import print_table
from spinyard.cli.waterfall import PLAIN, took, waterfall_lines
from spinyard.cli.words import age, is_live, seconds_of
from spinyard.clock import SystemClock

Json = dict[str, Any]
_ID = re.compile(r"[0-9a-f]{32}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace(
    what: Annotated[str, Parameter(name="ID", help="A trace's id (or a whole traceparent); ls: recent traces.")],
    /,
    *,
    service: Annotated[str, Parameter(name="--service", help="With ls: those that this service was part of.")] = "",
    side: Annotated[str, Parameter(name="--side", help="With ls: those with this side, such as unit.")] = "",
    failed: Annotated[bool, Parameter(name="--failed", help="With ls: those in which something failed.")] = False,
    slower_than: Annotated[str, Parameter(name="--slower-than", help="With ls: those that took longer: 200ms.")] = "",
    slowest: Annotated[bool, Parameter(name="--slowest", help="With ls: the slowest first, not the newest.")] = False,
    limit: Annotated[int, Parameter(name="--limit", help="With ls: how many (at most 200).")] = 20,
    common: Common = COMMON,
) -> int:
    """Where a request was, and for how long: parent, gateway and unit in one picture."""
    if what == "ls":
        seconds = seconds_of(slower_than) if slower_than else 0.0
        found = common.client().traces(
            service=service,
            side=side,
            failed=failed,
            slower_than_seconds=seconds,
            slowest=slowest,
            limit=max(1, min(limit, 200)),
        )
        _list(found, common)
        return Exit.OK
    if service or side or failed or slower_than or slowest:
        raise Usage(
            "these options choose among many traces", next_step="spinyard trace ls --failed --slower-than 200ms"
        )
    one = common.client().trace(_id_of(what))
    if common.is_data:
        print_data(one, common.output)
    elif common.output == "name":
        print(one["traceId"])
    else:
        width = shutil.get_terminal_size().columns if is_live(sys.stdout) else None
        text = "\n".join(waterfall_lines(one, width=width))
        print(text if is_utf8(sys.stdout) else text.translate(PLAIN))
    return Exit.OK


def _list(found: Json, common: Common) -> None:
    items = found["items"]
    if common.is_data:
        print_data(found, common.output)
    elif common.output == "name":
        for one in items:
            print(one["traceId"])
    elif not items:
        print("no traces; which requests are recorded: docs/traces.md")
    else:
        now = SystemClock().now()
        rows = [
            [
                one["traceId"],
                age(one["startedAt"], now),
                took(one["seconds"]),
                str(one["spans"]),
                str(one["failed"] or "-"),
                ",".join(one["sides"]),
                ",".join(one["services"]),
                one["name"],
            ]
            for one in items
        ]
        print_table(["TRACE", "AGE", "TOOK", "SPANS", "FAILED", "SIDES", "SERVICES", "NAME"], rows, state_column="")


def _id_of(text: str) -> str:
    found = text.strip().lower()
    whole = _TRACEPARENT.fullmatch(found)
    if whole is not None:
        return whole.group(1)
    if not _ID.fullmatch(found):
        raise Usage(f"{text[:80]!r} is no trace id: 32 characters of 0-9 and a-f", next_step="spinyard trace ls")
    return found
