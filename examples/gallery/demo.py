"""`make demo`: the whole life of a service on this machine, under load, with accidents. Exit code 1: a broken
promise."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from examples.gallery.claims import ClaimAct
from examples.gallery.play import Play, run
from examples.gallery.report import report
from examples.gallery.rollouts import BAD, GOOD, RolloutAct
from examples.gallery.show import Show
from examples.gallery.spinouts import SpinoutDemo
from examples.gallery.stage import DEADLINE_SECONDS, EVERY, FILE, Stage, free_gateway
from spinyard.testing.load import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult

RATE = 80.0
LOAD_SECONDS_MAX = 900.0  # it is ended when the play is; the machine may be slow
REQUEST_SECONDS_MAX = 30.0


class SpinDemo(Play):
    """The whole life of a service on this machine, under load, with accidents."""

    def __init__(self, stage: Stage, show: Show) -> None:
        super().__init__(stage, show)
        self.claims = ClaimAct(stage)
        self.rollouts = RolloutAct(stage, show, self._loaded)

    def perform(self, *, keep: bool) -> bool:
        with self.show:
            result = self.play()
            left = None if keep else self.delete("service/gallery")
        records = self.stage.spins(EVERY, finished=True)
        if keep:
            records = [record for record in records if record["status"]["state"] == "terminated"]
        return report(self.show, self.claims, self.rollouts, result, left, records)

    def how_to_look(self) -> Sequence[str]:
        return ("get spins", "explain rollout gallery")

    def play(self) -> LoadResult:
        self.step("start keeper, server and Envoy", self.start)
        self.show.follow(self.stage.glance)
        self.step("gallery: 3 instances", self._up)
        self._start_load()
        self.step("steady load", lambda: self._steady(2.0))
        self.step("kill -9 one instance", self._kill_instance)
        self.step("replace all by version 2", self._roll)
        self.step("kill -9 the control plane", self._kill_server)
        self.step("scale 3 -> 5", lambda: self._scale(5))
        self.step("scale 5 -> 2", lambda: self._scale(2))
        self.step("claim from an empty pool", self.in_phase("claims", self.claims.claim_cold))
        self.step("let the pool keep one warm", self.claims.fill)
        self.step("claim from the warm pool", self.claims.claim_warm)
        self.step("release, delete the pool", self.claims.give_back)
        self.step(f"version {BAD}: 20 % errors", self.in_phase(f"version {BAD}", self.rollouts.bad_version))
        self.step(f"version {GOOD}: a good one", self.in_phase(f"version {GOOD}", self.rollouts.good_version))
        self.step("steady load", lambda: self._steady(1.0))
        self.set_phase("end")
        return self._loaded().stop(2 * REQUEST_SECONDS_MAX)

    # -- the acts ------------------------------------------------------------------------------------------------------

    def _up(self) -> str:
        self.stage.spinyard("up", "-f", str(FILE), "--timeout", f"{DEADLINE_SECONDS:g}s", timeout=2 * DEADLINE_SECONDS)
        self.stage.remember_ports()
        return f"http://gallery.localhost:{self.stage.gateway.rpartition(':')[2]}/"

    def _steady(self, seconds: float) -> str:
        self.set_phase("steady")
        self.steady(seconds)
        return f"{RATE:g} requests/s, GET and POST"

    def _kill_instance(self) -> str:
        victim = self.stage.spins()[0]
        self.set_phase("kill instance")
        self.stage.kill_instance(victim["metadata"]["uid"])

        def replaced() -> bool:
            alive = {spin["metadata"]["uid"] for spin in self.stage.spins() if spin["status"]["state"] == "serving"}
            return victim["metadata"]["uid"] not in alive and len(alive) == 3

        took = self.stage.wait("three instances serve again", replaced)
        self.stage.remember_ports()
        return f"three serve again after {took:.1f} s"

    def _roll(self) -> str:
        self.set_phase("roll")
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
        self.set_phase("kill control plane")
        old = self.stage.kill_server()

        def back() -> bool:
            new = self.stage.server_pid()
            return new not in (0, old) and self.stage.client.is_ready()

        took = self.stage.wait("the control plane is back", back)
        return f"back by itself after {took:.1f} s"

    def _scale(self, replicas: int) -> str:
        self.set_phase(f"scale to {replicas}")
        began = time.monotonic()
        self.stage.spinyard("scale", "gallery", "--replicas", str(replicas))

        def there() -> bool:
            self.stage.remember_ports()
            spins = self.stage.spins()
            return len(spins) == replicas and all(spin["status"]["state"] == "serving" for spin in spins)

        self.stage.wait(f"{replicas} instances serve", there)
        return f"{time.monotonic() - began:.1f} s"

    def _loaded(self) -> LoadProcess:
        return self.loads[0]

    def _start_load(self) -> None:
        photos = [one["id"] for one in self.photos()]
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
        self.loads = [LoadProcess(spec, self.stage.home / "load.json", self.show.on_load)]


ACTS: dict[str, type[Play]] = {"spin": SpinDemo, "spinout": SpinoutDemo}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--act", choices=tuple(ACTS), default="spin", help="what is played")
    parser.add_argument("--keep", action="store_true", help="leave it up to play with, instead of deleting it")
    parser.add_argument("--gateway", default="127.0.0.1:8080", help="address of the gateway")
    parser.add_argument("--svg", type=Path, help="draw the end as a picture into this file, too")
    options = parser.parse_args()
    stage, show = Stage.build(free_gateway(options.gateway)), Show()
    if stage.gateway != options.gateway:
        show.say(f"{options.gateway} is taken, the gateway listens on {stage.gateway}")
    return run(ACTS[options.act](stage, show), keep=options.keep, svg=options.svg)


if __name__ == "__main__":
    sys.exit(main())
