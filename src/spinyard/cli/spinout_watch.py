"""`spinout status NAME -w`: a picture of it with its last events, until nothing more happens by itself."""

from __future__ import annotations

import re
from typing import Any

from spinyard.cli.drawn_watch import follow_drawn
from spinyard.cli.exits import Exit
from spinyard.cli.output import state_of
from spinyard.cli.side_picture import Line
from spinyard.cli.spinout_picture import change_of, picture
from spinyard.cli.spinout_view import BACK, EVENTS_SHOWN_MAX, HELD, SpinoutView, spinout_view
from spinyard.client import Client
from spinyard.clock import SystemClock

Json = dict[str, Any]


def follow_spinout(client: Client, item: Json, output: str) -> int:
    """`item`: as it was just read. Exit codes as `exit_of_state`."""
    return follow_drawn(client, item, output, SpinoutDrawing(client))


def exit_of_state(state: str, *, is_gone: bool = False) -> int:
    """1 when it went back or is gone, 3 when it is held: whether it will do is not known. Else 0."""
    if state in BACK or is_gone:
        return Exit.FAILED
    return Exit.INCONCLUSIVE if state == HELD else Exit.OK


class SpinoutDrawing:
    """With a client it shows the last events too, read again when the object says something else."""

    kind = "Spinout"

    def __init__(self, client: Client | None = None) -> None:
        self._client = client
        self._said: object = None
        self._events: list[Json] = []

    def lines(self, item: Json, *, width: int, plain: bool) -> list[Line]:
        return picture(self._view(item), width=width, plain=plain)

    def change(self, item: Json) -> tuple[str, str]:
        view = spinout_view(item, SystemClock().now())
        return _without_numbers(view), f"{view.age_seconds or 0:6.1f}s  {view.name}: {change_of(view)}"

    def has_ended(self, item: Json) -> bool:
        return spinout_view(item, 0.0).has_stopped

    def exit_code(self, item: Json) -> int:
        return exit_of_state(state_of(item), is_gone=not self.has_ended(item))

    def _view(self, item: Json) -> SpinoutView:
        status = item.get("status") or {}
        said = (status.get("state"), status.get("reason"), status.get("step"), status.get("shownWeight"))
        if self._client is not None and said != self._said:
            self._said = said
            found = self._client.events(involved=item["metadata"]["uid"], newest=True, limit=EVENTS_SHOWN_MAX)
            self._events = list(reversed(found["items"]))
        return spinout_view(item, SystemClock().now(), self._events)


def _without_numbers(view: SpinoutView) -> str:
    words: list[object] = [view.state, view.step, view.asked, view.confirmed, view.mirror, view.held_from]
    words += [(gate.name, gate.verdict) for gate in view.gates]
    return f"{words} {re.sub(r'[0-9.,]+', '#', view.last_words)}"
