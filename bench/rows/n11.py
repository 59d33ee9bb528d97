"""N11: a version of which one answer in five is an error, at 50 requests/s: how long until none reaches it any more.

From the first request at the new version, which its program writes down itself, to the moment the Rollout left
`retreating`: the data plane has confirmed 0 % and the new side's counter stood still. States and their times are the
Rollout's events. Several Services at once, each with its own load. The program's list must end before that moment.

Peer in the same run: a threshold judge (bench/n13_judges.py) as Flagger publishes it: a check a minute (its default),
back after five failed ones, success below 99 % fails. It takes minutes, so it is not run live: it sees the requests
that our new sides had, second by second, drawn again and again.
"""

from __future__ import annotations

import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random

from bench.home import Home, Json, at_once, first_200, host_of, running_home, service, wait_for
from bench.measured import Measured, Scale, figures
from bench.n13_judges import threshold
from bench.n13_traffic import Traffic
from spinyard.testing.load_mix import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess

RUNS = {Scale.QUICK: 3, Scale.NORMAL: 30, Scale.FULL: 100}
"""of each first step"""
AT_ONCE = 3
FIRST_STEPS = (10, 25)
REPLICAS = 2
RATE = 50.0
FAIL_PERCENT = 20
FLOOR, AIM, DECISION_MS_MAX = 15.0, 5.0, 200.0
SECONDS_MAX = 180.0
"""of one Rollout; then it has missed"""
FLAKY = (sys.executable, "-m", "bench.programs.flaky")
FLAGGER_FAILS_ABOVE = 0.01
Arrival = tuple[float, bool]
"""(unix time, failed) of a request at the new version"""


@dataclass(frozen=True, slots=True)
class Run:
    seconds: float
    """first request at the new version -> verified at 0 %"""
    decided_ms: float
    """decision -> verified"""
    stopped_ms: float
    """decision -> last request that arrived at the new version; 0: there was none after it"""
    late: int
    """requests that arrived after the moment it was said to be verified"""
    was_raised: bool
    reason: str
    arrivals: tuple[Arrival, ...]


def measure(scale: Scale) -> Measured:
    with _folder() as folder, running_home() as home:
        runs = {weight: _all_of(home, Path(folder), weight, RUNS[scale]) for weight in FIRST_STEPS}
    ours = figures([run.seconds for run in runs[10]])
    every = [run for of_step in runs.values() for run in of_step]
    peer = _peer([run.arrivals for run in runs[10]], len(runs[10]))
    late = sum(run.late for run in every)
    decided = figures([run.decided_ms for run in every], 0)
    return Measured(
        unit="s",
        ours=ours,
        peers={"threshold judge, 60 s x 5 (replayed)": figures(peer)},
        floor=FLOOR,
        aim=AIM,
        ok=ours.p99 <= FLOOR and late == 0 and decided.p99 <= DECISION_MS_MAX,
        notes={
            "floor_is_of": "p99, first step 10 %",
            "aim_is_of": "p99, first step 25 %",
            **{f"first_step_{weight}": _words(of_step) for weight, of_step in runs.items()},
            "decision_to_verified_ms": {"p50": decided.p50, "p99": decided.p99, "max": decided.max,
                                        "limit": DECISION_MS_MAX, "is_within": decided.p99 <= DECISION_MS_MAX,
                                        "from": "events of the Rollout"},
            "arrived_after_verified": late,
            "per_second": RATE,
            "services_at_once": AT_ONCE,
        },
    )  # fmt: skip


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sy-n11-", dir="/tmp", ignore_cleanup_errors=True)


def _words(runs: Sequence[Run]) -> Json:
    seconds, stopped = figures([run.seconds for run in runs]), figures([run.stopped_ms for run in runs], 0)
    requests = figures([float(len(run.arrivals)) for run in runs], 0)
    errors = figures([float(sum(failed for _, failed in run.arrivals)) for run in runs], 0)
    return {
        "p50_s": seconds.p50, "p99_s": seconds.p99, "max_s": seconds.max, "n": seconds.n,
        "decision_to_last_request_ms": {"p50": stopped.p50, "p99": stopped.p99, "max": stopped.max},
        "requests_on_new_side": {"p50": requests.p50, "max": requests.max},
        "errors_seen": {"p50": errors.p50, "max": errors.max},
        "raised_before": sum(run.was_raised for run in runs),
        "reasons": dict(Counter(run.reason for run in runs)),
    }  # fmt: skip


# -- one Service and its bad versions ----------------------------------------------------------------------------------


def _all_of(home: Home, folder: Path, weight: int, count: int) -> list[Run]:
    names = [f"shop-{weight}-{number}" for number in range(min(AT_ONCE, count))]
    shares = [count // len(names) + (index < count % len(names)) for index in range(len(names))]
    found = at_once(lambda name, share: _one_by_one(home, folder, name, weight, share), names, shares)
    return [run for of_service in found for run in of_service]


def _one_by_one(home: Home, folder: Path, name: str, weight: int, count: int) -> list[Run]:
    home.client.apply([_shop(name, weight, {})])
    first_200(home.gateway, "/", host_of(name))
    wait_for("all serve", lambda: len(home.serving(name)) == REPLICAS, 60)
    mix = Mix(requests=[MixEntry(path="/", expect=[200, 500])])
    out = folder / f"{name}.json"
    load = LoadProcess(LoadSpec(f"http://{home.gateway}", RATE, 3600, mix, host=host_of(name)), out)
    try:
        return [_turn(home, name, weight, folder / f"{name}-{number}.log") for number in range(count)]
    finally:
        result = load.stop()
        home.delete(name)
        assert not result.totals.failed, f"requests of {name} failed otherwise: {result.failures[:3]}"


def _shop(name: str, weight: int, env: dict[str, str]) -> Json:
    made = service(name, FLAKY, replicas=REPLICAS, env=env)
    made["spec"]["rollout"] = {"steps": [{"weight": weight}, {"weight": 50}, {"weight": 100}]}
    return made


def _turn(home: Home, name: str, weight: int, log: Path) -> Run:
    time.sleep(random.random())  # so that the turns do not fall into step with the server's looks
    bad = _shop(name, weight, {"FAIL_PERCENT": str(FAIL_PERCENT), "LOG": str(log)})
    rollout = home.client.apply([bad])["results"][0]["rollout"]

    def status() -> Json:
        found: Json = home.client.get("Rollout", "default", rollout, finished=True)["status"]
        return found

    wait_for(f"{rollout} has ended", lambda: status()["state"] in ("rolled_back", "succeeded"), SECONDS_MAX, every=0.2)
    found, began = status(), _moments(home, rollout)
    if found["state"] != "rolled_back" or "retreating" not in began:
        raise RuntimeError(
            f"{rollout}, of which {FAIL_PERCENT} % fail, ended as {found['state']}: {found.get('stopped')}"
        )
    arrivals = _arrivals(log)
    verified = min(began[state] for state in ("removing", "rolled_back") if state in began)
    return Run(
        seconds=verified - arrivals[0][0],
        decided_ms=(verified - began["retreating"]) * 1000,
        stopped_ms=max(0.0, arrivals[-1][0] - began["retreating"]) * 1000,
        late=sum(1 for at, _ in arrivals if at > verified),
        was_raised=len(found["steps"]) > 1,
        reason=found.get("stoppedReason", ""),
        arrivals=tuple(arrivals),
    )


def _moments(home: Home, rollout: str) -> dict[str, float]:
    """When each state was first written, to the millisecond."""
    out: dict[str, float] = {}
    for event in home.client.events(involved=f"Rollout/default/{rollout}")["items"]:
        out.setdefault(event["state"], datetime.fromisoformat(event["at"]).timestamp())
    return out


def _arrivals(log: Path) -> list[Arrival]:
    lines = (line.split() for line in log.read_text().splitlines())
    return sorted((float(at), status != "200") for at, status in lines)


# -- the peer ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded(Traffic):
    """(requests, failures) of single seconds at the new side, drawn with replacement."""

    recorded: tuple[tuple[int, int], ...] = ()

    def window(self, share: float, step: int, at: float, seconds: float, random: Random) -> tuple[int, int, int, int]:
        drawn = random.choices(self.recorded, k=round(seconds))
        return 0, 0, sum(n for n, _ in drawn), sum(f for _, f in drawn)


def recorded(seconds: Sequence[tuple[int, int]]) -> Recorded:
    return Recorded(RATE, lambda step, at: (0.0, FAIL_PERCENT / 100), recorded=tuple(seconds))


def _peer(arrivals: Sequence[Sequence[Arrival]], count: int) -> list[float]:
    seconds: list[tuple[int, int]] = []
    for of_run in arrivals:
        begun, whole = of_run[0][0], math.floor(of_run[-1][0] - of_run[0][0])
        for second in range(whole):
            here = [failed for at, failed in of_run if second <= at - begun < second + 1]
            seconds.append((len(here), sum(here)))
    traffic = recorded(seconds)
    ends = [threshold(traffic, FLAGGER_FAILS_ABOVE, Random(number)) for number in range(count)]
    assert all(end.rolled_back for end in ends), "the peer let the bad version pass"
    return [end.seconds for end in ends]
