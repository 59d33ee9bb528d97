"""N8: requests lost while instances are replaced, and Services rolled out and sent back, under 300 requests/s.

The load is open loop, keep-alive, half of it POST. Ours: `spinyard restart` in a loop; then Rollouts through 10, 50 and
100 %, and Rollouts that are aborted at one of those weights when the new side has answered a request there. Both
versions are good: whatever is lost, we lost. Peer, in the same run: the naive order on the same Envoy binary with the
same program: the new one is up, then the old one is taken out of the endpoints and gets its SIGTERM in the same moment.
"""

from __future__ import annotations

import os
import queue
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.home import TINY, Home, Json, at_once, first_200, host_of, running_home, service, wait_for
from bench.measured import Figures, Measured, Scale, figures
from bench.naive import naive_gateway
from spinyard.testing.load_mix import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult

REPLACEMENTS = {Scale.QUICK: 20, Scale.NORMAL: 500, Scale.FULL: 500}
ROLLOUTS = {Scale.QUICK: 2, Scale.NORMAL: 100, Scale.FULL: 100}
"""and as many aborts"""
NAIVE = {Scale.QUICK: 20, Scale.NORMAL: 100, Scale.FULL: 500}
REPLICAS = 5
ROLLED_AT_ONCE, ROLLED_REPLICAS = 4, 2
WEIGHTS = (10, 50, 100)
ROLLOUT_SECONDS_MAX = 120.0
RATE = 300.0
WORK = {"TINY_WORK_MS": "5"}


@dataclass(slots=True)
class Rolled:
    """Of the Rollouts, as their records say. `other`: those that did not end as they should have."""

    rollouts: list[float] = field(default_factory=list)
    aborts: list[float] = field(default_factory=list)
    new_requests: int = 0
    other: list[str] = field(default_factory=list)


def measure(scale: Scale) -> Measured:
    with tempfile.TemporaryDirectory() as folder, running_home() as home:
        replaced, seconds, first = _replace(home, REPLACEMENTS[scale], Path(folder) / "replaced.json")
        rolled, rolled_seconds, second = _roll(home, ROLLOUTS[scale], Path(folder) / "rolled.json")
    with tempfile.TemporaryDirectory() as folder:
        naive_replaced, naive_seconds, naive = _naive(NAIVE[scale], Path(folder) / "naive.json")
    lost, naive_lost = float(first.totals.failed + second.totals.failed), float(naive.totals.failed)
    scaled = round(naive_lost * replaced / naive_replaced, 1)
    is_whole = replaced >= REPLACEMENTS[scale] and min(len(rolled.rollouts), len(rolled.aborts)) >= ROLLOUTS[scale]
    return Measured(
        unit="requests lost",
        ours=Figures(lost, lost, lost, replaced + len(rolled.rollouts) + len(rolled.aborts)),
        peers={"naive order": Figures(scaled, scaled, scaled, naive_replaced)},
        floor=0,
        aim=0,
        ok=lost == 0 and is_whole and not rolled.other,
        notes={
            "replacements": replaced, "rollouts": len(rolled.rollouts), "aborts": len(rolled.aborts),
            "lost_in_replacements": first.totals.failed, "lost_in_rollouts_and_aborts": second.totals.failed,
            "replacements_part": _words(first, seconds),
            "rollouts_part": {
                **_words(second, rolled_seconds), "at_once": min(ROLLED_AT_ONCE, ROLLOUTS[scale]),
                "requests_on_new_sides": rolled.new_requests,
                "rollout_p50_s": figures(rolled.rollouts).p50 if rolled.rollouts else None,
                "abort_p50_s": figures(rolled.aborts).p50 if rolled.aborts else None, "ended_otherwise": rolled.other,
            },
            "naive_lost": naive_lost, "naive_replacements": naive_replaced, "naive_part": _words(naive, naive_seconds),
        },
    )  # fmt: skip


def _words(result: LoadResult, seconds: float) -> Json:
    taken = result.totals.latency_ms
    return {
        "seconds": round(seconds, 1),
        "requests": result.totals.sent,
        "p50_ms": taken.p50,
        "p99_ms": taken.p99,
        "load": round(os.getloadavg()[0], 2),
        "kinds_of_failures": dict(Counter(f"{f.status} {f.error} {f.body[:60]}" for f in result.failures)),
        "failures": [f"{f.unix_time:.3f} {f.name} {f.status} {f.error} {f.body[:80]}" for f in result.failures[:10]],
    }


def _mix(hosts: list[str]) -> Mix:
    return Mix(
        requests=[
            entry
            for host in hosts
            for entry in (
                MixEntry(path="/", name=f"GET {host}", headers={"host": host}),
                MixEntry(path="/", name=f"POST {host}", method="POST", body="x" * 200, headers={"host": host}),
            )
        ]
    )


# -- instances replaced ------------------------------------------------------------------------------------------------


def _replace(home: Home, count: int, out: Path) -> tuple[int, float, LoadResult]:
    update = {"rollingUpdate": {"maxSurge": REPLICAS, "maxUnavailable": 0}}
    home.client.apply([service("app", TINY, replicas=REPLICAS, env=WORK, update=update)])
    first_200(home.gateway, "/", host_of("app"))
    wait_for("all serve", lambda: len(home.serving("app")) == REPLICAS, 60)
    load = LoadProcess(LoadSpec(f"http://{home.gateway}", RATE, 3000, _mix([host_of("app")])), out)
    began = time.perf_counter()
    try:
        time.sleep(1)
        replaced = 0
        while replaced < count:
            before = {spin["metadata"]["uid"] for spin in home.serving("app")}
            home.spinyard("restart", "app")

            def rolled(old: set[str] = before) -> bool:
                spins = home.client.list("Spin", "default", labels={"spinyard.dev/service": "app"})["items"]
                new = [s for s in spins if s["metadata"]["uid"] not in old and s["status"]["state"] == "serving"]
                return len(new) == REPLICAS and len(spins) == REPLICAS

            wait_for("all are replaced", rolled, 60)
            replaced += REPLICAS
        time.sleep(1)
        result = load.stop()
    finally:
        load.kill()
    home.delete("app")
    return replaced, time.perf_counter() - began, result


# -- Services rolled out, and sent back --------------------------------------------------------------------------------


def _roll(home: Home, count: int, out: Path) -> tuple[Rolled, float, LoadResult]:
    names = [f"shop-{number}" for number in range(min(ROLLED_AT_ONCE, count))]
    home.client.apply([_shop(name, 0, None) for name in names])
    for name in names:
        first_200(home.gateway, "/", host_of(name))
    wait_for("all serve", lambda: all(len(home.serving(name)) == ROLLED_REPLICAS for name in names), 60)
    turns: queue.SimpleQueue[tuple[int, int | None]] = queue.SimpleQueue()
    for number in range(count):
        turns.put((2 * number + 1, None))
        turns.put((2 * number + 2, WEIGHTS[number % len(WEIGHTS)]))
    rolled = Rolled()
    load = LoadProcess(LoadSpec(f"http://{home.gateway}", RATE, 3000, _mix([host_of(name) for name in names])), out)
    began = time.perf_counter()
    try:
        time.sleep(1)
        at_once(lambda name: _take_turns(home, name, turns, rolled), names)
        time.sleep(1)
        return rolled, time.perf_counter() - began, load.stop()
    finally:
        load.kill()


def _shop(name: str, version: int, abort_at: int | None) -> Json:
    """At the weight where it is to be aborted it waits for a person: so it cannot be promoted before."""
    made = service(name, TINY, replicas=ROLLED_REPLICAS, env={**WORK, "VERSION": str(version)})
    steps: list[Json] = [{"weight": weight, **({"pause": True} if weight == abort_at else {})} for weight in WEIGHTS]
    made["spec"]["rollout"] = {"steps": steps, "analysis": {"enabled": False}}
    return made


def _take_turns(home: Home, name: str, turns: queue.SimpleQueue[tuple[int, int | None]], rolled: Rolled) -> None:
    while True:
        try:
            version, abort_at = turns.get_nowait()
        except queue.Empty:
            return
        _turn(home, name, version, abort_at, rolled)


def _turn(home: Home, name: str, version: int, abort_at: int | None, rolled: Rolled) -> None:
    client, began = home.client, time.perf_counter()
    rollout = client.apply([_shop(name, version, abort_at)])["results"][0]["rollout"]

    def status() -> Json:
        found: Json = client.get("Rollout", "default", rollout, finished=True)["status"]
        return found

    def has_ended() -> bool:
        return status()["state"] in ("succeeded", "rolled_back")

    def answers_there() -> bool:
        now = status()
        is_there = now["state"] == "judging" and now["shownWeight"] == (abort_at or 0) * 100
        return bool(now["state"] == "rolled_back" or (is_there and now["new"].get("requests", 0) > 0))

    if abort_at is not None:
        wait_for(f"{rollout} answers at {abort_at} %", answers_there, ROLLOUT_SECONDS_MAX)
        if not has_ended():
            client.rollout("default", rollout, "abort", why="bench")
    wait_for(f"{rollout} has ended", has_ended, ROLLOUT_SECONDS_MAX)
    end = status()
    rolled.new_requests += sum(step["new"].get("requests", 0) for step in end["steps"])
    # One that was sent back by something else is no abort of ours.
    wanted = ("succeeded", "") if abort_at is None else ("rolled_back", "Aborted")
    if (end["state"], end.get("stoppedReason", "")) != wanted:
        rolled.other.append(f"{rollout}: {end['state']} instead of {wanted[0]}: {end.get('stopped', '')}")
    else:
        (rolled.rollouts if abort_at is None else rolled.aborts).append(time.perf_counter() - began)


# -- the peer ----------------------------------------------------------------------------------------------------------


def _naive(count: int, out: Path) -> tuple[int, float, LoadResult]:
    with naive_gateway(TINY, REPLICAS, WORK) as gateway:
        load = LoadProcess(LoadSpec(f"http://{gateway.address}", RATE, 3000, _mix([host_of("app")])), out)
        began = time.perf_counter()
        try:
            time.sleep(1)
            for _ in range(count):
                gateway.replace_one()
            time.sleep(1)
            return count, time.perf_counter() - began, load.stop()
        finally:
            load.kill()
