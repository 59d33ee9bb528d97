"""What the fake provider pretends to own. It outlives the control plane that drives it, as a cloud would.

Effects go through here at the moment they happen; `watch` is called with each, which is where simulations put the
checks that must always hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from spinyard.core.want import DirectoryWant, FileWant, ProcessWant, Want, content_mark


@dataclass(slots=True)
class Thing:
    """A pretended process or directory. `exit_code` None while it runs; `gone_at`: when its removal takes effect."""

    key: str
    want: Want
    created_at: float
    ready_at: float
    pid: int
    exited_at: float | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    stopping_at: float | None = None
    gone_at: float | None = None
    sick_until: float = 0.0
    files: dict[str, str] = field(default_factory=dict)

    def running(self, now: float) -> bool:
        return self.exited_at is None or now < self.exited_at


@dataclass(slots=True)
class World:
    """`history` keeps (key, from, to) of what existed, for observers that lag behind. Seconds everywhere."""

    installation: str = "fake"
    start_seconds: float = 0.0
    ready_seconds: float = 0.0
    stop_seconds: float = 0.0
    watch: Callable[[str, str], None] = lambda effect, key: None
    things: dict[str, Thing] = field(default_factory=dict)
    history: list[tuple[str, Thing, float]] = field(default_factory=list)
    created: int = 0
    history_max: int = 1000
    leaving: dict[str, Thing] = field(default_factory=dict)
    """those whose removal was asked for and has not taken effect: settling must not look at all the others"""

    def write(self, want: FileWant) -> None:
        directory = self.things.get(want.directory)
        if directory is not None:
            directory.files[want.name] = content_mark(want.content)

    def create(self, key: str, want: Want, now: float, *, broken: bool = False) -> None:
        self.settle(now)
        if key in self.things:
            return
        self.created += 1
        self.watch("created", key)
        ready = now + self.start_seconds + self.ready_seconds
        thing = Thing(key, want, now, ready, self.created)
        if isinstance(want, ProcessWant) and want.argv:
            # `command: [exit, "3"]` pretends a program that ends by itself, `[never]` one that does not get ready.
            if want.argv[0] == "exit":
                thing.exited_at, thing.exit_code = ready, int(want.argv[1]) if len(want.argv) > 1 else 0
            if want.argv[0] == "never" or broken:
                thing.ready_at = math.inf
        self.things[key] = thing

    def remove(self, key: str, now: float, *, hard: bool) -> None:
        self.settle(now)
        thing = self.things.get(key)
        if thing is None or thing.gone_at is not None:
            return
        self.watch("removed", key)
        stops = isinstance(thing.want, ProcessWant) and thing.running(now) and not hard
        thing.gone_at = now + (self.stop_seconds if stops else 0.0)
        self.leaving[key] = thing
        self.settle(now)

    def kill(self, key: str, now: float, *, signal: int = 9) -> bool:
        """Something outside ended it."""
        thing = self.things.get(key)
        if thing is None or not thing.running(now) or isinstance(thing.want, DirectoryWant):
            return False
        self.watch("killed", key)
        thing.exited_at, thing.exit_signal, thing.exit_code = now, signal, None
        return True

    def sicken(self, key: str, now: float, seconds: float) -> bool:
        """It runs and answers no probe for so long."""
        thing = self.things.get(key)
        if thing is None or not thing.running(now) or isinstance(thing.want, DirectoryWant):
            return False
        thing.sick_until = now + seconds
        return True

    def vanish(self, key: str, now: float) -> bool:
        """Something outside removed it, record and all."""
        if key in self.things:
            self.watch("vanished", key)
        thing = self.things.pop(key, None)
        self.leaving.pop(key, None)
        if thing is None:
            return False
        self._remember(thing, now)
        return True

    def find(self, key: str, now: float) -> Thing | None:
        self.settle(now)
        return self.things.get(key)

    def ready(self, key: str, now: float) -> bool:
        thing = self.find(key, now)
        return thing is not None and thing.running(now) and now >= max(thing.ready_at, thing.sick_until)

    def as_of(self, at: float, now: float) -> dict[str, Thing]:
        """What a lagging observer sees: things as they were at `at`."""
        self.settle(now)
        out = {thing.key: thing for key, thing, until in self.history if thing.created_at <= at < until}
        out.update({key: thing for key, thing in self.things.items() if thing.created_at <= at})
        return out

    def settle(self, now: float) -> None:
        """Removals whose time has come take effect."""
        if not self.leaving:
            return
        for key, thing in list(self.leaving.items()):
            if thing.gone_at is not None and thing.gone_at <= now:
                del self.leaving[key]
                del self.things[key]
                self._remember(thing, now)
                self.watch("gone", key)

    def _remember(self, thing: Thing, until: float) -> None:
        self.history.append((thing.key, thing, until))
        del self.history[: -self.history_max]
