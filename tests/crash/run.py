"""`make crash`: the real server is killed at every failpoint, and everything else at random moments; then a look at
what is left. `python -m tests.crash.run --times 20 [--only PLACE,PLACE] [--seed S]`.

A run is one home and one scenario with GROUP places in it, dealt by the seed, each at a random passing: one start of a
home is dear, one more kill in it is not. In one round of COLD_EACH, and in all accidents, the keeper executes the
server as it does for a user; in the others a warm one is forked (tests/crash/warm.py): they cost a third.
`--only` with the line that a failed run prints repeats that run: what begins with `rollouts/` has the scenario of pools
and rollouts, which is dealt only the places that the first scenario does not pass.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.crash.accidents import VICTIMS, Accidents
from tests.crash.scenario import Findings, Scenario
from tests.crash.scenario_rollouts import RolloutScenario
from tests.crash.warm import WarmHouse
from tests.e2e.house import House

GROUP = 10
GROUP_COLD = 5
"""more kills in one home would only wait: the keeper puts off the start of a server that keeps dying"""
COLD_EACH = 20
START_UP = ("store:", "epoch:", "proxy:", "catch_up:", "supervise:", "ready:")
RAISABLE = ("claim:", "release:", "wake:", "commit:", "ensure:", "remove:", "sweep:")
"""where the engine lives with a failure too; elsewhere it is told to whoever asked, or the start has failed"""
RAISES_GROUP = 12
SCENARIOS: dict[str, type[Scenario]] = {"": Scenario, "rollouts/": RolloutScenario}
NOT_ALWAYS = ("extend:",)
"""passed only when a heartbeat falls into the scenario: not asked for"""


@dataclass(slots=True)
class Row:
    times: int = 0
    leaked: int = 0
    doubled: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Run:
    """One home. `entries`: failpoints; or with a seed: accidents."""

    entries: tuple[str, ...]
    accident_seed: int | None = None
    cold: bool = True
    scenario: str = ""
    found: Findings = field(default_factory=Findings)
    error: str = ""

    @property
    def label(self) -> str:
        return self.scenario + self.point if self.accident_seed is None else f"accidents, seed {self.accident_seed}"

    @property
    def point(self) -> str:
        return ",".join(self.entries)

    @property
    def missed(self) -> list[str]:
        return [entry for entry in self.entries if entry not in self.found.fired]

    @property
    def problems(self) -> list[str]:
        out = [f"leaked: {one}" for one in self.found.leaked] + [f"doubled: {one}" for one in self.found.doubled]
        out += [self.error] if self.error else [f"never reached: {entry}" for entry in self.missed]
        return out


def perform(run: Run) -> Run:
    """A kill may take away the occasion for another (what the ledger restores need not be made, and each server counts
    its passings anew): what was not reached is tried again without the others, for as long as that reaches any."""
    _perform(run)
    seconds = run.found.seconds
    tried = len(run.entries) + 1
    while not run.error and (missed := run.missed) and len(missed) < tried:
        tried = len(missed)
        again = _perform(Run(tuple(missed), cold=run.cold, scenario=run.scenario))
        run.error = again.error
        run.found.fired += again.found.fired
        run.found.leaked += again.found.leaked
        run.found.doubled += again.found.doubled
        seconds += again.found.seconds
    run.found.seconds = seconds
    return run


def _perform(run: Run) -> Run:
    began = time.monotonic()
    house = House() if run.cold else WarmHouse()
    try:
        if run.accident_seed is None:
            run.found = SCENARIOS[run.scenario](house, run.point).play()
        else:
            run.found = Scenario(house, accidents=Accidents(house, run.accident_seed)).play()
    except Exception as error:  # noqa: BLE001  the table names it; the other runs go on
        run.error = f"{type(error).__name__}: {error}"
        run.found.seconds = time.monotonic() - began
        shutil.copytree(house.home / "logs", f"{house.home}-logs", dirs_exist_ok=True)
        run.error += f"\nlogs are kept in {house.home}-logs"
    finally:
        house.close()
    return run


def list_places(scenario: str = "") -> Counter[str]:
    """Every place that one run of that scenario passes, and how often."""
    house = House()
    try:
        found = SCENARIOS[scenario](house, "list").play()
        assert not found.leaked and not found.doubled, f"without any kill: {found}"
        places = Counter((house.home / "run" / "failpoints.seen").read_text().splitlines())
    finally:
        house.close()
    return Counter({place: n for place, n in places.items() if not place.startswith(NOT_ALWAYS)})


def list_all() -> dict[str, Counter[str]]:
    """By scenario: each place belongs to the first that passes it."""
    out: dict[str, Counter[str]] = {}
    for scenario in SCENARIOS:
        known = {place for places in out.values() for place in places}
        passed = list_places(scenario)
        out[scenario] = Counter({place: n for place, n in passed.items() if place not in known})
    return out


def deal(scenario: str, places: Counter[str], times: int, chance: random.Random, *, all_cold: bool) -> list[Run]:
    runs = []
    for number in range(times):
        cold = all_cold or number % COLD_EACH == 0
        groups = groups_of(at_random(places, chance), GROUP_COLD if cold else GROUP)
        runs += [Run(group, cold=cold, scenario=scenario) for group in groups]
    failing = [place for place in at_random(places, chance) if place.startswith(RAISABLE)]
    raising = groups_of([f"{place}=raise" for place in failing], RAISES_GROUP)
    return runs + [Run(group, cold=all_cold, scenario=scenario) for group in raising]


def only(text: str, *, cold: bool) -> Run:
    scenario = next(name for name in reversed(SCENARIOS) if text.startswith(name))
    return Run(tuple(text.removeprefix(scenario).split(",")), cold=cold, scenario=scenario)


def groups_of(entries: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Places of the start are dealt first, so that they are spread: a start that is killed often is given up."""
    first = [entry for entry in entries if entry.startswith(START_UP)]
    rest = [entry for entry in entries if not entry.startswith(START_UP)]
    count = -(-len(entries) // size)
    dealt: list[list[str]] = [[] for _ in range(count)]
    for index, entry in enumerate(first + rest):
        dealt[index % count].append(entry)
    return [tuple(group) for group in dealt]


def at_random(places: Counter[str], chance: random.Random) -> list[str]:
    """Each place once, at a passing that half of the runs or more will see: a killed server passes fewer."""
    entries = [f"{place}@{chance.randint(1, max(1, count // 2))}" for place, count in sorted(places.items())]
    chance.shuffle(entries)
    return entries


def perform_all(runs: Iterable[Run], jobs: int, tell: Callable[[Run], None]) -> list[Run]:
    lock = threading.Lock()

    def one(run: Run) -> Run:
        perform(run)
        with lock:
            tell(run)
        return run

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, runs))


def table(runs: Sequence[Run]) -> str:
    rows: dict[str, Row] = {}
    for run in runs:
        for entry in run.entries or ("accidents",):
            row = rows.setdefault(entry.partition("@")[0].partition("=")[0], Row())
            row.times += 1
            row.leaked += len(run.found.leaked)
            row.doubled += len(run.found.doubled)
            row.failed += bool(run.problems)
            row.seconds += run.found.seconds
    width = max([len(place) for place in rows], default=5)
    lines = [f"{'place':{width}}  times  leaked  doubled  failed  seconds"]
    for place, row in sorted(rows.items()):
        mean = row.seconds / row.times
        lines.append(f"{place:{width}}  {row.times:5}  {row.leaked:6}  {row.doubled:7}  {row.failed:6}  {mean:7.1f}")
    leaked = sum(len(run.found.leaked) for run in runs)
    doubled = sum(len(run.found.doubled) for run in runs)
    failed = sum(bool(run.problems) for run in runs)
    cold = sum(run.cold for run in runs)
    return "\n".join([*lines, f"{len(runs)} runs, {cold} cold: leaked {leaked}, doubled {doubled}, failed {failed}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--only", default="", help="these places (PLACE[@N][=MODE], commas), in one home")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--jobs", type=int, default=3, help="homes at a time; more than cores: part of a run is waiting"
    )
    parser.add_argument("--cold", action="store_true", help="every server executed, as the keeper does it for a user")
    parser.add_argument("--list", action="store_true", help="only list the places, with how often they are passed")
    options = parser.parse_args()
    if options.only:
        runs = [only(options.only, cold=options.cold) for _ in range(options.times)]
    else:
        listed = list_all()
        count = sum(len(places) for places in listed.values())
        print(f"{count} places, victims of accidents: {', '.join(VICTIMS)}", flush=True)
        if options.list:
            for scenario, places in listed.items():
                print("\n".join(f"{count:5} {scenario}{place}" for place, count in sorted(places.items())))
            return 0
        chance = random.Random(options.seed)
        runs = []
        for scenario, places in listed.items():
            runs += deal(scenario, places, options.times, chance, all_cold=options.cold)
        runs += [Run((), options.seed * 1000 + index) for index in range(options.times)]

    def tell(run: Run) -> None:
        verdict = "ok    " if not run.problems else "FAILED"
        print(
            f"{verdict} {run.found.seconds:5.1f} s  {'cold' if run.cold else 'warm'}  {run.label}",
            *run.problems,
            sep="\n       ",
            flush=True,
        )

    done = perform_all(runs, options.jobs, tell)
    print(table(done))
    return 1 if any(run.problems for run in done) else 0


if __name__ == "__main__":
    sys.exit(main())
