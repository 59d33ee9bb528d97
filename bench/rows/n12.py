"""N12: a Spinout whose unit goes bad at 1,000 requests/s: from the verdict to the last new request at the unit.

The unit has half of the requests, or all of them, in turn; then one answer in five is a 500. The verdict is the moment
its gate failed (`leftAt` of what was left, before anything is written); the last request is the last line that the
unit's program wrote as it arrived. "Verified" is the event of `rolled_back`: 0 % is confirmed and the unit's counter
stood still; the program's list must end before it.

Peers in the same run: an Envoy of its own to which a file with the other route is given, under the same load; and for
the way from the first bad answer, a threshold judge as in N11 (replayed, it takes minutes).
"""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import cycle, islice
from pathlib import Path
from random import Random

from bench import naive
from bench.home import TINY, Home, Json, first_200, free_port, host_of, running_home, service, wait_for
from bench.measured import Figures, Measured, Scale, figures
from bench.n13_judges import threshold
from bench.rows.n11 import FLAGGER_FAILS_ABOVE, FLAKY, Arrival, recorded
from spinyard.testing.load_mix import LoadSpec, Mix, MixEntry
from spinyard.testing.load_process import LoadProcess
from spinyard.testing.load_result import LoadResult

RUNS = {Scale.QUICK: 3, Scale.NORMAL: 20, Scale.FULL: 50}
RATE, LOADS = 1_000.0, 2
"""requests a second, from so many processes"""
LOAD_SECONDS = 1_900.0
RATE_SHARE_MIN = 0.9
"""a floor that was held at a lower rate was not held"""
FAIL_PERCENT = 20
FLOOR, AIM = 500.0, 250.0
SPINOUT, PARENT, UNIT = "move", "shop", "thumbs"
PATH = "/thumbs/1"
USERS = 100
HALF, ALL = 50, 100
GOOD_REQUESTS = 500
"""at the unit, at the weight at which it goes bad"""
SECONDS_MAX = 120.0
SETTLE_SECONDS = 0.3
"""in which what is still under way would arrive"""


@dataclass(frozen=True, slots=True)
class Run:
    weight: int
    stopped_ms: float
    """verdict -> last request that arrived at the unit; 0: there was none after it"""
    written_ms: float
    """verdict -> its commit, before which nothing is asked of the data plane"""
    verified_ms: float
    """verdict -> verified at 0 %"""
    first_bad_s: float
    """first bad answer -> verified at 0 %"""
    bad: int
    """bad answers in all"""
    late: int
    """requests that arrived after the moment it was said to be verified"""
    at_unit: float
    """requests a second at the unit, from shortly before the first bad answer to the verdict"""
    arrivals: tuple[Arrival, ...]
    """from the first bad one on"""


def measure(scale: Scale) -> Measured:
    weights = list(islice(cycle((HALF, ALL)), RUNS[scale]))
    with _folder() as name:
        folder = Path(name)
        runs, ours_load = _ours(folder, weights)
        alone, alone_load = _envoy_alone(folder, weights)
    stopped, peer = figures([run.stopped_ms for run in runs], 1), figures(alone, 1)
    late = sum(run.late for run in runs)
    is_loaded = all(one["reached_per_second"] >= RATE * RATE_SHARE_MIN for one in (ours_load, alone_load))
    return Measured(
        unit="ms",
        ours=stopped,
        peers={"Envoy alone, another route": peer},
        floor=FLOOR,
        aim=AIM,
        ok=stopped.p99 <= FLOOR and late == 0 and is_loaded and not ours_load["failed_otherwise"],
        notes={
            "floor_is_of": "p99, verdict -> last request that arrived at the unit",
            "at_50_percent_ms": _of(runs, HALF),
            "at_100_percent_ms": _of(runs, ALL),
            "verdict_to_commit_ms": asdict(figures([run.written_ms for run in runs], 1)),
            "verdict_to_verified_ms": asdict(figures([run.verified_ms for run in runs], 1)),
            "first_bad_answer_to_verified_s": asdict(figures([run.first_bad_s for run in runs])),
            "the_same_by_a_threshold_judge_60_s_x_5_s": asdict(_threshold(runs)),
            "bad_answers": asdict(figures([float(run.bad) for run in runs], 0)),
            "arrived_after_verified": late,
            "at_unit_per_second": [round(run.at_unit) for run in runs],
            "load": ours_load,
            "load_of_envoy_alone": alone_load,
        },
    )


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sy-n12-", dir="/tmp", ignore_cleanup_errors=True)


def _of(runs: Sequence[Run], weight: int) -> Json:
    found = [run.stopped_ms for run in runs if run.weight == weight]
    return asdict(figures(found, 1)) if found else {}


# -- ours --------------------------------------------------------------------------------------------------------------


def _ours(folder: Path, weights: Sequence[int]) -> tuple[list[Run], Json]:
    log, switch = folder / "unit.log", folder / "bad"
    with running_home() as home:
        bad = {"FAIL_PERCENT": str(FAIL_PERCENT), "LOG": str(log), "SWITCH": str(switch)}
        home.client.apply([service(PARENT, TINY), service(UNIT, FLAKY, env=bad), _spinout()])
        for name in (PARENT, UNIT):
            first_200(home.gateway, "/healthz", host_of(name))
        with _load(home.gateway, host_of(PARENT), folder) as loads:
            runs = [_turn(home, weight, log, switch) for weight in weights]
            return runs, _words([load.stop() for load in loads])


def _spinout() -> Json:
    spec: Json = {
        "parent": PARENT,
        "unit": UNIT,
        "owner": "bench",
        "boundary": {"routes": ["GET /thumbs/*"]},
        "key": {"header": "x-user"},
        "steps": [{"weight": 25}, {"weight": HALF, "pause": True}, {"weight": ALL}],
        "shadow": {"enabled": False},
        "baseline": {"duration": "1s", "minRequests": 100},
        "soak": "1h",
    }
    return {"apiVersion": "spinyard.dev/v1", "kind": "Spinout", "metadata": {"name": SPINOUT}, "spec": spec}


def _turn(home: Home, weight: int, log: Path, switch: Path) -> Run:
    began = time.time()
    _raise(home, weight)
    time.sleep(random.random())  # so that the turns do not fall into step with the server's looks
    already = log.stat().st_size
    switch.touch()
    try:
        wait_for("it is back", lambda: _status(home)["state"] == "rolled_back", SECONDS_MAX, every=0.1)
    finally:
        switch.unlink()
    time.sleep(SETTLE_SECONDS)
    status, events = _status(home), _events(home, began)
    verdict = _unix(status["passed"][-1]["leftAt"])
    written = min(at for at, state in events if state == "rolling_back")
    verified = min(at for at, state in events if state == "rolled_back" and at > written)
    arrivals = _arrivals(log, already)
    first = next((index for index, (_, failed) in enumerate(arrivals) if failed), None)
    if status["stoppedReason"] != "GateFailed" or first is None:
        raise RuntimeError(f"it went back for another reason: {status['stopped']}")
    return Run(
        weight=weight,
        stopped_ms=max(0.0, arrivals[-1][0] - verdict) * 1000,
        written_ms=(written - verdict) * 1000,
        verified_ms=(verified - verdict) * 1000,
        first_bad_s=verified - arrivals[first][0],
        bad=sum(failed for _, failed in arrivals),
        late=sum(at > verified for at, _ in arrivals),
        at_unit=sum(at <= verdict for at, _ in arrivals) / (verdict - arrivals[0][0]),
        arrivals=tuple(arrivals[first:]),
    )


def _raise(home: Home, weight: int) -> None:
    """Another attempt, up to that weight, and good answers there."""
    before = _status(home).get("attempt", 0)
    _say(home, "start", evidence="the bench")

    def is_there() -> bool:
        status = _status(home)
        is_at = status["shownWeight"] == status["weight"] == weight * 100
        if status["attempt"] > before and status["state"] in ("held", "rolling_back", "rolled_back"):
            raise RuntimeError(f"it is {status['state']} before anything is bad: {status.get('stopped')}")
        return bool(status["attempt"] > before and is_at and status["new"].get("requests", 0) >= GOOD_REQUESTS)

    def waits_for_person() -> bool:
        return "spinout promote" in str(_status(home).get("needs"))

    if weight == ALL:
        wait_for(f"{HALF} % passed", waits_for_person, SECONDS_MAX, every=0.2)
        _say(home, "promote", evidence="the bench")
    wait_for(f"good answers at {weight} %", is_there, SECONDS_MAX, every=0.2)


def _say(home: Home, verb: str, **body: str) -> None:
    home.client.spinout("default", SPINOUT, verb, body)


def _status(home: Home) -> Json:
    found: Json = home.client.get("Spinout", "default", SPINOUT)["status"]
    return found


def _events(home: Home, since: float) -> list[tuple[float, str]]:
    """When it was written, to the millisecond, and in which state it was then."""
    newest = home.client.events(involved=f"Spinout/default/{SPINOUT}", newest=True)["items"]
    found = ((_unix(event["at"]), str(event["state"])) for event in newest)
    return [(at, state) for at, state in found if at >= since]


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _arrivals(log: Path, already: int) -> list[Arrival]:
    """From that byte on."""
    with log.open() as file:
        file.seek(already)
        lines = (line.split() for line in file)
        return sorted((float(at), status != "200") for at, status in lines)


# -- load --------------------------------------------------------------------------------------------------------------


@contextmanager
def _load(address: str, host: str, folder: Path) -> Iterator[list[LoadProcess]]:
    users = [MixEntry(path=PATH, headers={"x-user": f"user-{n}"}, expect=[200, 500]) for n in range(USERS)]
    rate = RATE / LOADS
    loads = [
        LoadProcess(
            LoadSpec(f"http://{address}", rate, LOAD_SECONDS, Mix(requests=users), host=host, seed=number),
            folder / f"{address.rpartition(':')[2]}-{number}.json",
        )
        for number in range(LOADS)
    ]
    try:
        yield loads
    finally:
        for load in loads:
            load.kill()


def _words(results: Sequence[LoadResult]) -> Json:
    failed = [failure for result in results for failure in result.failures]
    return {
        "asked_per_second": RATE,
        "reached_per_second": round(sum(result.totals.ok / result.seconds for result in results), 1),
        "sent": sum(result.totals.sent for result in results),
        "failed_otherwise": sum(result.totals.failed for result in results),
        "failures": [f"{failure.status}: {failure.error}" for failure in failed[:3]],
        "latency_p50_ms": max(result.totals.latency_ms.p50 for result in results),
        "latency_p99_ms": max(result.totals.latency_ms.p99 for result in results),
        "generator_late_p99_ms": max(result.generator.late_p99_ms for result in results),
    }


# -- the peers ---------------------------------------------------------------------------------------------------------


def _envoy_alone(folder: Path, weights: Sequence[int]) -> tuple[list[float], Json]:
    """Milliseconds from before the file is put into its place to the last request that arrived at the unit."""
    log, port = folder / "alone.log", free_port()
    gateway = f"127.0.0.1:{port}"
    sides = [naive.Gateway(folder, TINY, {}, gateway), naive.Gateway(folder, FLAKY, {"LOG": str(log)}, gateway)]
    with ExitStack() as stack:
        for side in sides:
            stack.callback(side.stop)
            side.start_one()
        _route(folder, 0)
        clusters = [_cluster(name, side) for name, side in zip((PARENT, UNIT), sides, strict=True)]
        routing = {"rds": {"route_config_name": "all", "config_source": naive.from_file(folder, "rds.json")}}
        stack.enter_context(naive.envoy(folder, naive.config(port, routing, clusters)))
        first_200(gateway, "/healthz", "localhost")
        loads = stack.enter_context(_load(gateway, "localhost", folder))
        log.touch()
        found = [_switched(folder, weight, log) for weight in weights]
        return found, _words([load.stop() for load in loads])


def _switched(folder: Path, weight: int, log: Path) -> float:
    already = log.stat().st_size
    _route(folder, weight)
    wait_for("the unit has requests", lambda: len(_arrivals(log, already)) >= GOOD_REQUESTS, SECONDS_MAX)
    time.sleep(random.random() / 10)
    began = time.time()
    _route(folder, 0)
    time.sleep(SETTLE_SECONDS)
    return max(0.0, _arrivals(log, already)[-1][0] - began) * 1000


def _route(folder: Path, weight: int) -> None:
    shares = [{"name": PARENT, "weight": 100 - weight}, {"name": UNIT, "weight": weight}]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": shares}}}
    routes = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "all",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
    }
    naive.publish(folder, "rds.json", routes)


def _cluster(name: str, side: naive.Gateway) -> Json:
    endpoints = [{"endpoint": {"address": naive.address(port)}} for port, _ in side.instances]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment}


def _threshold(runs: Sequence[Run]) -> Figures:
    """What the judge of N11 needs for the same seconds, from the first bad answer on."""
    seconds = [second for run in runs for second in _by_second(run.arrivals)]
    traffic = recorded(seconds)
    ends = [threshold(traffic, FLAGGER_FAILS_ABOVE, Random(number)) for number in range(len(runs))]
    assert all(end.rolled_back for end in ends), "the peer let the bad version pass"
    return figures([end.seconds for end in ends])


def _by_second(arrivals: Sequence[Arrival]) -> list[tuple[int, int]]:
    """(requests, failures); of the last one, which is not whole, too when there is no other."""
    began = arrivals[0][0]
    whole = max(1, math.floor(arrivals[-1][0] - began))
    seconds = [[failed for at, failed in arrivals if second <= at - began < second + 1] for second in range(whole)]
    return [(len(here), sum(here)) for here in seconds]
