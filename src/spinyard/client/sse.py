"""Server-sent events from lines, by the rules of the HTML standard (section 9.2.6), reconnection left to the caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentEvent:
    """`id` is the last one the server gave: the resume token."""

    type: str
    data: str
    id: str


def sent_events(lines: Iterable[bytes]) -> Iterator[SentEvent]:
    event_type, data, last_id = "", list[str](), ""
    for raw in lines:
        line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        if not line:
            if data:
                yield SentEvent(event_type or "message", "\n".join(data), last_id)
            event_type, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            event_type = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            last_id = value
