"""`make demo ACT=spinout`: thumbnails leave the gallery while it is used, and come back by themselves when they are
bad."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from examples.gallery.play import Play
from examples.gallery.report_spinout import AFTER, BEFORE, report
from examples.gallery.rollouts import unix
from examples.gallery.stage import DEADLINE_SECONDS, BrokenPromise, Json
from spinyard.testing.load import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult

MONOLITH = Path(__file__).with_name("monolith.yaml")
SPINOUT = Path(__file__).with_name("spinout.yaml")
NAME = "thumbnails"
PAGES_RATE = 25.0
# Thumbnails are asked for at this share of what the monolith can render here: busy, and not beyond its means.
BUSY, THUMBS_RATE_MIN, THUMBS_RATE_MAX = 0.35, 8.0, 40.0
TRIAL_SECONDS = 2.0
USERS = 95
SIZE = 640
MEASURE_SECONDS = 12.0
LOAD_SECONDS_MAX = 900.0  # it is ended when the play is; the machine may be slow
REQUEST_SECONDS_MAX = 30.0
SPINOUT_SECONDS_MAX = 600.0
LOOK_SECONDS = 0.1
FAIL_RATE, DELAY_MS = "0.2", "400"


class SpinoutDemo(Play):
    def perform(self, *, keep: bool) -> bool:
        with self.show:
            pages, thumbs = self.play()
            left = None if keep else self.delete(f"spinout/{NAME}", "service/thumbs", "service/gallery")
        return report(self.show, pages, thumbs, self.backs, left)

    def how_to_look(self) -> Sequence[str]:
        return (f"spinout status {NAME}", f"spinout explain {NAME}", f"spinout history {NAME}")

    def play(self) -> tuple[LoadResult, LoadResult]:
        self.backs: list[tuple[str, float, Json]] = []
        self.thumbs_rate = 0.0
        self.step("start keeper, server and Envoy", self.start)
        self.show.follow(self.stage.glance)
        self.step("the gallery: a monolith", self._up)
        self._start_load()
        self.step("people look and upload", self.in_phase(BEFORE, self._measure))
        self.step("thumbs, a service of its own", self.in_phase("preparing", self._apply))
        self.step("spin out: shadow, 10, 50, 100 %", self.in_phase("moving", self._go))
        self.step("people look and upload", self.in_phase(AFTER, self._measure))
        self.step("deploy thumbs with 20 % errors", self.in_phase("bad", lambda: self._goes_back("20 % errors")))
        self.step("begin again, 400 ms slower", self.in_phase("slow", lambda: self._goes_back("400 ms slower")))
        self.set_phase("end")
        pages, thumbs = (load.stop(2 * REQUEST_SECONDS_MAX) for load in self.loads)
        return pages, thumbs

    # -- the acts ------------------------------------------------------------------------------------------------------

    def _up(self) -> str:
        file = self.stage.variant(MONOLITH, "monolith.yaml", {})
        self._apply_and_wait(file)
        return f"http://gallery.localhost:{self.stage.gateway.rpartition(':')[2]}/"

    def _measure(self) -> str:
        self.steady(MEASURE_SECONDS)
        return f"{PAGES_RATE:g} pages and {self.thumbs_rate:.0f} thumbnails a second"

    def _apply(self) -> str:
        self._apply_and_wait(self._file())
        return "2 instances, and what is to be carried over"

    def _go(self) -> str:
        began = time.monotonic()
        self._start(f"make demo measured {MEASURE_SECONDS:g} s of the monolith")
        self._follow("soaking")
        return f"all thumbnails after {time.monotonic() - began:.0f} s"

    def _goes_back(self, what: str) -> str:
        """A bad version is deployed while it has everything; a slow one begins anew. Both are back by themselves."""
        if what == "20 % errors":
            self._apply_and_wait(self._file(fail_rate=FAIL_RATE))
        else:
            self._apply_and_wait(self._file(delay_ms=DELAY_MS))
            self._start("make demo tries a slow version")
        spinout = self._follow("rolled_back")
        events = self.stage.client.events(involved=spinout["metadata"]["uid"])["items"]
        decided = max(unix(one["at"]) for one in events if one.get("state") == "rolling_back")
        ended = max(unix(one["at"]) for one in events if one.get("state") == "rolled_back")
        self.backs.append((what, ended - decided, spinout))
        return f"verdict to verified 0 %: {ended - decided:.1f} s"

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _start(self, evidence: str) -> None:
        self.stage.spinyard("spinout", "start", NAME, "--evidence", evidence)

    def _follow(self, until: str) -> Json:
        """Until it is in that state. Raises BrokenPromise when it ends elsewhere, or takes too long."""
        began = time.monotonic()
        others = {"rolled_back", "held", "completed", "abandoned"} - {until}
        attempt = self._attempt()
        try:
            while True:
                spinout = self.stage.client.get("Spinout", "default", NAME)
                self.show.spinout(spinout)
                self.stage.remember_ports()
                status = spinout["status"]
                is_new = status.get("attempt", 0) >= attempt
                if is_new and status["state"] == until:
                    return dict(spinout)
                is_over = (
                    is_new
                    and status["state"] in others
                    and not (until == "rolled_back" and status["state"] == "soaking")
                )
                if is_over or time.monotonic() - began > SPINOUT_SECONDS_MAX:
                    why = status.get("stopped") or status.get("needs") or "nothing"
                    raise BrokenPromise(f"the spinout was to be {until}, it is {status['state']}: {why}")
                time.sleep(LOOK_SECONDS)
        finally:
            self.show.spinout(None)

    def _attempt(self) -> int:
        return int(self.stage.client.get("Spinout", "default", NAME)["status"].get("started", 0))

    def _apply_and_wait(self, file: Path) -> None:
        self.stage.spinyard("apply", "-f", str(file))
        for service in ("gallery", "thumbs")[: 1 + (file.name != "monolith.yaml")]:
            self.stage.spinyard("wait", f"service/{service}", "--for", "available", timeout=DEADLINE_SECONDS)
        self.stage.remember_ports()

    def _file(self, *, fail_rate: str = "0", delay_ms: str = "0") -> Path:
        changes = {
            "http://127.0.0.1:8080": f"http://{self.stage.gateway}",
            'THUMBS_FAIL_RATE, value: "0"': f'THUMBS_FAIL_RATE, value: "{fail_rate}"',
            'THUMBS_DELAY_MS, value: "0"': f'THUMBS_DELAY_MS, value: "{delay_ms}"',
        }
        return self.stage.variant(SPINOUT, f"spinout-{fail_rate}-{delay_ms}.yaml", changes)

    def _rendered_a_second(self, photos: Sequence[str]) -> float:
        """With both of its threads busy."""
        end = time.monotonic() + TRIAL_SECONDS

        def render(offset: int) -> int:
            done = 0
            while time.monotonic() < end:
                self.fetch(f"/photos/{photos[(done + offset) % len(photos)]}/thumb/{SIZE}")
                done += 1
            return done

        with ThreadPoolExecutor(2) as pool:
            return sum(pool.map(render, range(2))) / TRIAL_SECONDS

    def _start_load(self) -> None:
        photos = [one["id"] for one in self.photos()]
        self.thumbs_rate = max(THUMBS_RATE_MIN, min(THUMBS_RATE_MAX, BUSY * self._rendered_a_second(photos)))
        upload = self.stage.home / "upload.jpg"
        upload.write_bytes(self.fetch(f"/photos/{photos[0]}/thumb/320"))
        pages = [
            MixEntry(name="page", path="/", weight=4),
            MixEntry(name="photo", path="/photos/{photo}", weight=4),
            MixEntry(
                name="comment",
                method="POST",
                path="/photos/{photo}/comments",
                json={"author": "demo", "text": "comment {n}"},
                idempotency_key=True,
                weight=1,
            ),
            MixEntry(
                name="upload",
                method="POST",
                path="/photos?title=upload-{n}",
                body_file=str(upload),
                headers={"content-type": "image/jpeg"},
                idempotency_key=True,
                weight=1,
            ),
        ]
        thumbs = [
            MixEntry(name="thumbnail", path=f"/photos/{{photo}}/thumb/{SIZE}", headers={"x-user": f"user-{user}"})
            for user in range(USERS)
        ]
        self.loads = [
            LoadProcess(
                LoadSpec(
                    url=f"http://{self.stage.gateway}",
                    host="gallery.localhost",
                    rate=rate,
                    seconds=LOAD_SECONDS_MAX,
                    timeout_seconds=REQUEST_SECONDS_MAX,
                    mix=Mix(requests=mix, variables={"photo": photos}),
                    apart_header="x-gallery-failed-on-purpose",
                ),
                self.stage.home / f"load-{name}.json",
                self.show.on_load if name == "pages" else None,
            )
            for name, rate, mix in (("pages", PAGES_RATE, pages), ("thumbs", self.thumbs_rate, thumbs))
        ]
