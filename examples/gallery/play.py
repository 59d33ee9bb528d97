"""What the acts of the demo have in common: a stage, a show, load, one step after the other, and an end that leaves
nothing."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from rich.markup import escape

from examples.gallery.show import Show
from examples.gallery.stage import BrokenPromise, Json, Stage
from spinyard.errors import SpinyardError
from spinyard.testing.load_process import LoadProcess

STOPPED = 130  # as a shell says it of a program that Ctrl-C ended
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Ctrl-C, or a polite kill."""


class Play(ABC):
    """One act. `perform` says whether every promise was kept; `loads` are ended with it, whatever happens."""

    def __init__(self, stage: Stage, show: Show) -> None:
        self.stage = stage
        self.show = show
        self.loads: list[LoadProcess] = []

    @abstractmethod
    def perform(self, *, keep: bool) -> bool: ...

    def how_to_look(self) -> Sequence[str]:
        """Commands for whoever keeps it up."""
        return ("get spins",)

    def start(self) -> str:
        self.stage.start()
        self.stage.remember_installation()
        return f"gateway {self.stage.gateway}"

    def step(self, what: str, act: Callable[[], str]) -> None:
        self.show.begin(what)
        try:
            self.show.done(act())
        except BaseException:
            self.show.broken()
            raise

    def in_phase(self, name: str, act: Callable[[], str]) -> Callable[[], str]:
        def in_phase() -> str:
            self.set_phase(name)
            return act()

        return in_phase

    def set_phase(self, name: str) -> None:
        for load in self.loads:
            load.set_phase(name)

    def steady(self, seconds: float) -> None:
        """Nothing happens but the load."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)

    def photos(self) -> list[Json]:
        return list(json.loads(self.fetch("/photos"))["items"])

    def fetch(self, path: str) -> bytes:
        """What the gallery answers, through the gateway."""
        connection = http.client.HTTPConnection(self.stage.gateway, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": "gallery.localhost"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise BrokenPromise(f"GET {path} was answered {answer.status}")
        return data

    def delete(self, *services: str) -> list[str]:
        """Deletes them and looks at the machine; what is left."""
        left: list[str] = []

        def delete() -> str:
            began = time.monotonic()
            for service in services:
                self.stage.spinyard("delete", *service.split("/"), "--wait")
            return f"{time.monotonic() - began:.1f} s"

        def look() -> str:
            left.extend(self.stage.left())
            return "/proc, ports, files, Envoy, ledger"

        self.step("delete the " + ("services" if len(services) > 1 else "service"), delete)
        self.step("look for what is left", look)
        return left


def run(play: Play, *, keep: bool, svg: Path | None) -> int:
    """The exit code: 0 when every promise was kept, 1 when not, 130 when it was stopped."""
    for number in ENDING:
        signal.signal(number, _stop)
    began = time.monotonic()
    stage, show = play.stage, play.show
    good = stopped = False
    try:
        good = play.perform(keep=keep)
        if svg:
            show.draw(svg)
    except Stopped:
        stopped = True
    except (BrokenPromise, SpinyardError, RuntimeError, OSError, subprocess.TimeoutExpired) as broken:
        show.say(f"\n[bold red]{escape(str(broken))}[/]")
    finally:
        # Cleaning up is not to be stopped: it is short, and the machine is to be as it was.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        for load in play.loads:
            load.kill()
        if keep and good:
            _say_how_to_stop(play)
        elif not _tear_down(stage, show, good=good, stopped=stopped):
            good = False
    if stopped:
        show.say("stopped")
        return STOPPED
    verdict = "[bold green]every promise kept[/]" if good else "[bold red]a promise is broken[/]"
    show.say(f"\n{verdict}, {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def _say_how_to_stop(play: Play) -> None:
    port = play.stage.gateway.rpartition(":")[2]
    say = play.show.say
    say(f"\nIt goes on: http://gallery.localhost:{port}/")
    say(f"  export SPINYARD_HOME={play.stage.home}")
    for command in play.how_to_look():
        say(f"  .venv/bin/spinyard {command}")
    say('  .venv/bin/spinyard down --delete && rm -r "$SPINYARD_HOME"      # stops all of it, and nothing is left')


def _tear_down(stage: Stage, show: Show, *, good: bool, stopped: bool) -> bool:
    """Nothing that runs is left afterwards, whatever happened; False when that took force. A broken promise leaves the
    logs, for whoever looks into it."""
    if stopped:
        show.say("\nstopping, and removing all of it ...")
    try:
        stage.spinyard("down", "--delete", "--timeout", "60s", timeout=90)
    except (BrokenPromise, subprocess.TimeoutExpired) as broken:
        show.say(f"[red]{escape(str(broken) if good or stopped else str(broken).splitlines()[0])}[/]")
    killed = stage.kill_all()
    if killed:
        show.say(f"[red]these processes had to be killed: {', '.join(map(str, killed))}[/]")
    if good or stopped:
        shutil.rmtree(stage.home, ignore_errors=True)
    else:
        stage.keep_only_logs()
        show.say(f"logs are in {stage.home / 'logs'}")
    return not killed
