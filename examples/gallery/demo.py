"""`make demo`: the whole life of a service on this machine, under load, with accidents. Exit code 1: a broken
promise."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rich.markup import escape

from examples.gallery.claims import ClaimAct
from examples.gallery.report import report
from examples.gallery.rollouts import BAD, GOOD, RolloutAct
from examples.gallery.show import Show
from examples.gallery.stage import DEADLINE_SECONDS, EVERY, FILE, BrokenPromise, Json, Stage, free_gateway
from spinyard.errors import SpinyardError
from spinyard.testing.load import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult

RATE = 80.0
LOAD_SECONDS_MAX = 900.0  # it is ended when the play is; the machine may be slow
REQUEST_SECONDS_MAX = 30.0
STOPPED = 130  # as a shell says it of a program that Ctrl-C ended


class Stopped(Exception):
    """Ctrl-C, or a polite kill."""


class Demo:
    def __init__(self, stage: Stage, show: Show) -> None:
        self.stage = stage
        self.show = show
        self.load: LoadProcess | None = None
        self.claims = ClaimAct(stage)
        self.rollouts = RolloutAct(stage, show, self._loaded)

    def play(self) -> LoadResult:
        self._step("start keeper, server and Envoy", self._start)
        self.show.follow(self.stage.glance)
        self._step("gallery: 3 instances", self._up)
        self._start_load()
        self._step("steady load", lambda: self._steady(2.0))
        self._step("kill -9 one instance", self._kill_instance)
        self._step("replace all by version 2", self._roll)
        self._step("kill -9 the control plane", self._kill_server)
        self._step("scale 3 -> 5", lambda: self._scale(5))
        self._step("scale 5 -> 2", lambda: self._scale(2))
        self._step("claim from an empty pool", self._in_phase("claims", self.claims.claim_cold))
        self._step("let the pool keep one warm", self.claims.fill)
        self._step("claim from the warm pool", self.claims.claim_warm)
        self._step("release, delete the pool", self.claims.give_back)
        self._step(f"version {BAD}: 20 % errors", self._in_phase(f"version {BAD}", self.rollouts.bad_version))
        self._step(f"version {GOOD}: a good one", self._in_phase(f"version {GOOD}", self.rollouts.good_version))
        self._step("steady load", lambda: self._steady(1.0))
        self._loaded().set_phase("end")
        return self._loaded().stop(2 * REQUEST_SECONDS_MAX)

    # -- the acts ------------------------------------------------------------------------------------------------------

    def _start(self) -> str:
        self.stage.start()
        self.stage.remember_installation()
        return f"gateway {self.stage.gateway}"

    def _up(self) -> str:
        self.stage.spinyard("up", "-f", str(FILE), "--timeout", f"{DEADLINE_SECONDS:g}s", timeout=2 * DEADLINE_SECONDS)
        self.stage.remember_ports()
        return f"http://gallery.localhost:{self.stage.gateway.rpartition(':')[2]}/"

    def _steady(self, seconds: float) -> str:
        assert self.load is not None
        self.load.set_phase("steady")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
        return f"{RATE:g} requests/s, GET and POST"

    def _kill_instance(self) -> str:
        assert self.load is not None
        victim = self.stage.spins()[0]
        self.load.set_phase("kill instance")
        self.stage.kill_instance(victim["metadata"]["uid"])

        def replaced() -> bool:
            alive = {spin["metadata"]["uid"] for spin in self.stage.spins() if spin["status"]["state"] == "serving"}
            return victim["metadata"]["uid"] not in alive and len(alive) == 3

        took = self.stage.wait("three instances serve again", replaced)
        self.stage.remember_ports()
        return f"three serve again after {took:.1f} s"

    def _roll(self) -> str:
        assert self.load is not None
        self.load.set_phase("roll")
        version_2 = {'{name: GALLERY_VERSION, value: "1"}': '{name: GALLERY_VERSION, value: "2"}'}
        before = {spin["metadata"]["uid"] for spin in self.stage.spins()}
        began = time.monotonic()
        self.stage.spinyard("apply", "-f", str(self.stage.variant(FILE, "gallery-v2.yaml", version_2)))

        def rolled() -> bool:
            self.stage.remember_ports()
            spins = self.stage.spins()
            new = [s for s in spins if s["status"]["state"] == "serving" and s["metadata"]["uid"] not in before]
            return len(new) == 3 and len(spins) == 3

        self.stage.wait("all instances are of version 2", rolled)
        return f"surge 1, unavailable 0; {time.monotonic() - began:.1f} s"

    def _kill_server(self) -> str:
        assert self.load is not None
        self.load.set_phase("kill control plane")
        old = self.stage.kill_server()

        def back() -> bool:
            new = self.stage.server_pid()
            return new not in (0, old) and self.stage.client.is_ready()

        took = self.stage.wait("the control plane is back", back)
        return f"back by itself after {took:.1f} s"

    def _scale(self, replicas: int) -> str:
        assert self.load is not None
        self.load.set_phase(f"scale to {replicas}")
        began = time.monotonic()
        self.stage.spinyard("scale", "gallery", "--replicas", str(replicas))

        def there() -> bool:
            self.stage.remember_ports()
            spins = self.stage.spins()
            return len(spins) == replicas and all(spin["status"]["state"] == "serving" for spin in spins)

        self.stage.wait(f"{replicas} instances serve", there)
        return f"{time.monotonic() - began:.1f} s"

    def delete(self) -> list[str]:
        left: list[str] = []

        def delete() -> str:
            began = time.monotonic()
            self.stage.spinyard("delete", "service", "gallery", "--wait")
            return f"{time.monotonic() - began:.1f} s"

        def look() -> str:
            left.extend(self.stage.left())
            return "/proc, ports, files, Envoy, ledger"

        self._step("delete the service", delete)
        self._step("look for what is left", look)
        return left

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _step(self, what: str, act: Callable[[], str]) -> None:
        self.show.begin(what)
        try:
            self.show.done(act())
        except BaseException:
            self.show.broken()
            raise

    def _in_phase(self, name: str, act: Callable[[], str]) -> Callable[[], str]:
        def in_phase() -> str:
            self._loaded().set_phase(name)
            return act()

        return in_phase

    def _loaded(self) -> LoadProcess:
        assert self.load is not None
        return self.load

    def _start_load(self) -> None:
        photos = [one["id"] for one in self._photos()]
        requests = [
            MixEntry(name="page", path="/", weight=1),
            MixEntry(name="list", path="/photos", weight=4),
            MixEntry(name="photo", path="/photos/{photo}", weight=7),
            MixEntry(name="thumbnail", path="/photos/{photo}/thumb/160", weight=2),
            MixEntry(
                name="comment, with key",
                method="POST",
                path="/photos/{photo}/comments",
                json={"author": "demo", "text": "comment {n}"},
                idempotency_key=True,
                weight=2,
            ),
            MixEntry(
                name="comment",
                method="POST",
                path="/photos/{photo}/comments",
                json={"author": "demo", "text": "comment {n}"},
                weight=1,
            ),
        ]
        spec = LoadSpec(
            url=f"http://{self.stage.gateway}",
            host="gallery.localhost",
            rate=RATE,
            seconds=LOAD_SECONDS_MAX,
            timeout_seconds=REQUEST_SECONDS_MAX,
            mix=Mix(requests=requests, variables={"photo": photos}),
            apart_header="x-gallery-failed-on-purpose",
            timed_header="x-gallery-version",
        )
        self.load = LoadProcess(spec, self.stage.home / "load.json", self.show.on_load)

    def _photos(self) -> list[Json]:
        import http.client
        import json

        connection = http.client.HTTPConnection(self.stage.gateway, timeout=10)
        connection.request("GET", "/photos", headers={"Host": "gallery.localhost"})
        listed = json.loads(connection.getresponse().read())
        return list(listed["items"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it up to play with, instead of deleting it")
    parser.add_argument("--gateway", default="127.0.0.1:8080", help="address of the gateway")
    parser.add_argument("--svg", type=Path, help="draw the end as a picture into this file, too")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    began = time.monotonic()
    stage = Stage.build(free_gateway(options.gateway))
    show = Show()
    demo = Demo(stage, show)
    good = stopped = False
    try:
        if stage.gateway != options.gateway:
            show.say(f"{options.gateway} is taken, the gateway listens on {stage.gateway}")
        good = perform(demo, keep=options.keep)
        if options.svg:
            show.draw(options.svg)
    except Stopped:
        stopped = True
    except (BrokenPromise, SpinyardError, RuntimeError, OSError, subprocess.TimeoutExpired) as broken:
        show.say(f"\n[bold red]{escape(str(broken))}[/]")
    finally:
        # Cleaning up is not to be stopped: it is short, and the machine is to be as it was.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if demo.load is not None:
            demo.load.kill()
        if options.keep and good:
            say_how_to_stop(stage, show)
        elif not tear_down(stage, show, good=good, stopped=stopped):
            good = False
    if stopped:
        show.say("stopped")
        return STOPPED
    verdict = "[bold green]every promise kept[/]" if good else "[bold red]a promise is broken[/]"
    show.say(f"\n{verdict}, {time.monotonic() - began:.0f} s")
    return 0 if good else 1


def stop(_number: int, _frame: FrameType | None) -> None:
    raise Stopped


def perform(demo: Demo, *, keep: bool) -> bool:
    with demo.show:
        result = demo.play()
        left = None if keep else demo.delete()
    records = demo.stage.spins(EVERY, finished=True)
    if keep:
        records = [record for record in records if record["status"]["state"] == "terminated"]
    return report(demo.show, demo.claims, demo.rollouts, result, left, records)


def say_how_to_stop(stage: Stage, show: Show) -> None:
    port = stage.gateway.rpartition(":")[2]
    show.say(f"\nIt goes on: http://gallery.localhost:{port}/")
    show.say(f"  export SPINYARD_HOME={stage.home}")
    show.say("  .venv/bin/spinyard get spins")
    show.say("  .venv/bin/spinyard explain rollout gallery")
    show.say('  .venv/bin/spinyard down --delete && rm -r "$SPINYARD_HOME"      # stops all of it, and nothing is left')


def tear_down(stage: Stage, show: Show, *, good: bool, stopped: bool) -> bool:
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


if __name__ == "__main__":
    sys.exit(main())
