"""The demo's act of the rollouts: a version with 20 % errors comes back by itself, a good one goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from examples.gallery.show import Show
from examples.gallery.stage import FILE, BrokenPromise, Json, Stage
from spinyard.testing.load_process import LoadProcess

BAD, GOOD = "3", "4"
FAIL_RATE = 0.2
STRATEGY = "{steps: [{weight: 10}, {weight: 50}, {weight: 100}], analysis: {margin: 5, alpha: 0.05}}"
LOOK_SECONDS = 0.1
ROLLOUT_SECONDS_MAX = 300.0


@dataclass(slots=True)
class RolloutAct:
    """`first`, `zero`: when the first request went to the bad version, and when the weight 0 was verified (Unix)."""

    stage: Stage
    show: Show
    load: Callable[[], LoadProcess]
    first: float = 0.0
    zero: float = 0.0
    ended: list[Json] = field(default_factory=list)

    def bad_version(self) -> str:
        rollout = self._roll_out(BAD, FAIL_RATE)
        if rollout["status"]["state"] != "rolled_back":
            raise BrokenPromise(f"version {BAD} fails {FAIL_RATE:.0%} of its requests, and was taken")
        events = self.stage.client.events(involved=rollout["metadata"]["uid"])["items"]
        self.zero = min(unix(one["at"]) for one in events if one.get("state") == "removing")
        self.first = self._first_request(BAD)
        return f"by itself at 0 % again after {self.zero - self.first:.1f} s"

    def good_version(self) -> str:
        began = time.monotonic()
        rollout = self._roll_out(GOOD, 0.0)
        if rollout["status"]["state"] != "succeeded":
            raise BrokenPromise(f"version {GOOD} is good, and was not taken: {rollout['status'].get('stopped')}")
        return f"100 % after {time.monotonic() - began:.1f} s"

    def judged(self) -> list[tuple[str, float, Json]]:
        """(version, percent, record) of each step that was left."""
        versions = (BAD, GOOD)
        return [
            (version, step["weight"] / 100, step)
            for version, rollout in zip(versions, self.ended, strict=False)
            for step in rollout["status"].get("steps") or ()
        ]

    def _roll_out(self, version: str, fail_rate: float) -> Json:
        """The Rollout as it ended."""
        file = self.file(version, fail_rate, replicas=self.stage.service()["spec"]["replicas"])
        self.stage.spinyard("apply", "-f", str(file))
        name = self._newest()
        began = time.monotonic()
        try:
            while True:
                rollout = self.stage.client.get("Rollout", "default", name, finished=True)
                self.show.rollout(version, rollout)
                self.stage.remember_ports()
                if rollout["status"]["state"] in ("succeeded", "rolled_back"):
                    self.ended.append(rollout)
                    return rollout
                if time.monotonic() - began > ROLLOUT_SECONDS_MAX:
                    needs = rollout["status"].get("needs")
                    raise BrokenPromise(
                        f"rollout {name} did not end within {ROLLOUT_SECONDS_MAX:g} s; it needs {needs}"
                    )
                time.sleep(LOOK_SECONDS)
        finally:
            self.show.rollout(version, None)

    def _newest(self) -> str:
        """The name of the one that has just been made: the only one that runs."""
        known = {one["metadata"]["name"] for one in self.ended}
        listed = self.stage.client.list("Rollout", "default", finished="all")["items"]
        new = [one["metadata"]["name"] for one in listed if one["metadata"]["name"] not in known]
        if len(new) != 1:
            raise BrokenPromise(f"one rollout was to be made, found: {', '.join(new) or 'none'}")
        return str(new[0])

    def file(self, version: str, fail_rate: float, *, replicas: int) -> Path:
        changes = {
            '{name: GALLERY_VERSION, value: "1"}': f'{{name: GALLERY_VERSION, value: "{version}"}}\n'
            f'      - {{name: GALLERY_FAIL_RATE, value: "{fail_rate:g}"}}',
            "  replicas: 3\n": f"  replicas: {replicas}\n  rollout: {STRATEGY}\n",
        }
        return self.stage.variant(FILE, f"gallery-v{version}.yaml", changes)

    def _first_request(self, version: str) -> float:
        """As the load knows it, which says each half second what it knows."""
        times: list[float] = []

        def told() -> bool:
            seen = self.load().latest.get("times")
            if isinstance(seen, dict) and version in seen:
                times.append(float(seen[version][0]))
            return bool(times)

        self.stage.wait(f"the load had an answer of version {version}", told)
        return times[0]


def unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
