"""`python -m tests.sim.run --seed N [--count M] [--minutes X] [--resume FILE] [--spinouts]`: seeds of the simulated
world. `--spinouts`: runs of that sort, which have seeds of their own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from spinyard.testing.simulation.scenario import Scenario, make
from spinyard.testing.simulation.shrink import shrink
from spinyard.testing.simulation.spinouts import make_spinouts
from spinyard.testing.simulation.world import Result
from tests.sim.parts import simulate, simulate_spinouts


def main() -> int:
    options = _options()
    first, failed = options.seed, []
    if options.resume is not None and options.resume.exists():
        state = json.loads(options.resume.read_text())
        first, failed = state["next"], state["failed"]
    until = time.monotonic() + options.minutes * 60 if options.minutes else None
    count = options.count if options.count else (1 if until is None else 1_000_000_000)
    begun, cpu, done = time.monotonic(), time.process_time(), 0
    for seed in range(first, first + count):
        if until is not None and time.monotonic() > until:
            break
        result = simulate_spinouts(seed) if options.spinouts else simulate(seed)
        done += 1
        if not result.ok:
            failed.append(seed)
            print(report(result, tail=options.tail), flush=True)
            if not options.no_shrink:
                small = (make_spinouts, simulate_spinouts) if options.spinouts else (make, simulate)
                print(shrunk(small[0](seed), result, small[1]), flush=True)
            if len(failed) >= options.failures:
                break
        elif options.verbose:
            print("\n".join(result.log))
            print(
                f"seed {seed} ok, trace {result.trace}, healed in {result.healed_seconds:.0f} s, {result.passes} passes"
            )
        if options.resume is not None:
            options.resume.write_text(json.dumps({"next": seed + 1, "failed": failed}))
    used = time.process_time() - cpu
    print(f"{done} seeds from {first}, {len(failed)} failed {failed}, {used / max(done, 1):.3f} s of CPU each, "
          f"{time.monotonic() - begun:.0f} s in all")  # fmt: skip
    return 1 if failed else 0


def report(result: Result, *, tail: int = 60) -> str:
    lines = [f"seed {result.seed} at commit {_commit()} is broken:"]
    lines += [f"  {what}: {detail}" for what, detail in result.broken[:5]]
    lines += ["its last events:", *(f"  {line}" for line in result.log[len(result.log) - min(tail, len(result.log)) :])]
    lines.append(f"again: python -m tests.sim.run --seed {result.seed}")
    return "\n".join(lines)


def shrunk(scenario: Scenario, result: Result, run: Callable[[Scenario], Result] = simulate) -> str:
    what = result.broken[0][0]
    small = shrink(scenario, lambda candidate: any(found == what for found, _ in run(candidate).broken))
    lines = [f"it is still broken ({what}) with only:"]
    lines += [f"  {name} at a rate of {rate:.3f}" for name, rate in small.rates]
    lines += [f"  {step}" for step in small.steps]
    again = run(small)
    lines += ["and then its last events are:", *(f"  {line}" for line in again.log[-40:])]
    return "\n".join(lines)


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--failures", type=int, default=1, help="stop after so many")
    parser.add_argument("--tail", type=int, default=60)
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument("--spinouts", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
