"""`get rollout NAME -w`: a picture of it, until it has ended."""

from __future__ import annotations

import re
from typing import Any

from spinyard.cli.drawn_watch import follow_drawn, print_drawn
from spinyard.cli.exits import Exit
from spinyard.cli.output import state_of
from spinyard.cli.rollout_picture import change_of, picture
from spinyard.cli.rollout_view import SUCCEEDED, RolloutView, rollout_view
from spinyard.cli.side_picture import Line
from spinyard.client import Client
from spinyard.clock import SystemClock

Json = dict[str, Any]


def follow_rollout(client: Client, item: Json, output: str) -> int:
    """`item`: as it was just read. Exit code 0 when it succeeded, 1 when it went back or is gone."""
    return follow_drawn(client, item, output, RolloutDrawing())


def print_picture(item: Json) -> None:
    """Once, as `describe` has it."""
    print_drawn(item, RolloutDrawing())


class RolloutDrawing:
    kind = "Rollout"

    def lines(self, item: Json, *, width: int, plain: bool) -> list[Line]:
        return picture(rollout_view(item, SystemClock().now()), width=width, plain=plain)

    def change(self, item: Json) -> tuple[str, str]:
        view = rollout_view(item, SystemClock().now())
        return _without_numbers(view), f"{view.age_seconds or 0:6.1f}s  {view.name}: {change_of(view)}"

    def has_ended(self, item: Json) -> bool:
        return rollout_view(item, 0.0).has_ended

    def exit_code(self, item: Json) -> int:
        return Exit.OK if state_of(item) == SUCCEEDED else Exit.FAILED


def _without_numbers(view: RolloutView) -> str:
    words = [view.state, view.step, view.asked, view.confirmed, view.is_paused, view.old.ready, view.new.ready]
    words += [(gate.name, gate.verdict) for gate in view.gates]
    return f"{words} {re.sub(r'[0-9.,]+', '#', view.last_words)}"
