"""What the demo promised, and what was seen: the tables at its end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from rich.markup import escape

from examples.gallery.claims import ClaimAct, seconds_text
from examples.gallery.rollouts import BAD, RolloutAct
from examples.gallery.show import Show
from examples.gallery.stage import Json
from spinyard.testing.load_result import Failure, LoadResult

# The life of a spin, in order; the one that is killed passes through `failed`.
STATES = ["planned", "provisioning", "bootstrapping", "registering", "failed", "draining", "terminating", "cleaning"]
WAITING = ("serving", "ready", "warm")
LINES_MAX = 10


@dataclass(frozen=True, slots=True)
class Blame:
    """Whose each failed request is. `unsafe`: in flight on the killed instance, and nobody may repeat them. `own`: the
    bad version answered them itself, and said so in a header that only it sends. `lost`: all others; 0 is promised."""

    unsafe: int
    own: int
    lost: int
    failures: tuple[Failure, ...]
    """those of `lost` that were kept"""


def blame(result: LoadResult) -> Blame:
    own = [one for one in result.failures if one.apart and one.headers.get("x-gallery-version") == BAD]
    unsafe = [
        one
        for one in result.failures
        if not one.apart and one.unsafe and "kill instance" in (one.phase, one.phase_at_end)
    ]
    lost = result.totals.failed + result.totals.apart - len(own) - len(unsafe)
    rest = tuple(one for one in result.failures if one not in own and one not in unsafe)
    return Blame(len(unsafe), len(own), lost, rest)


def report(
    show: Show,
    claims: ClaimAct,
    rollouts: RolloutAct,
    result: LoadResult,
    left: list[str] | None,
    records: list[Json],
) -> bool:
    """The tables; True when every promise was kept. `left` None: it goes on, and only what has ended is judged."""
    found = blame(result)
    clean = sum(is_clean(record) for record in records)
    latency = result.totals.latency_ms
    answers = result.headers.get("x-gallery-version", {}).get(BAD, 0)
    zero, last = rollouts.zero, result.times[BAD][1]
    why = rollouts.ended[0]["status"].get("stoppedReason", "")
    rows: list[tuple[str, str, bool | None]] = [
        ("requests", str(result.totals.sent), None),
        ("failed", str(found.lost), found.lost == 0),
        ("  unsafe requests in flight on the killed instance", str(found.unsafe), None),
        (f"  errors that version {BAD} itself answered", f"{found.own} of {answers}", None),
        (f"version {BAD}: why it went back", why, why == "GateFailed"),
        ("  first request to verified 0 %", f"{zero - rollouts.first:.1f} s", None),
        ("  its last request before that", f"{zero - last:.1f} s", last <= zero),
        ("claim to first answer, cold / warm", f"{seconds_text(claims.cold)} / {seconds_text(claims.warm)}", None),
        ("latency p50 / p99", f"{latency.p50:.1f} / {latency.p99:.1f} ms", None),
        ("spins started" if left is not None else "spins ended", str(len(records)), None),
        ("  verified clean", str(clean), clean == len(records)),
        *([("resources left", str(len(left)), not left)] if left is not None else []),
    ]
    show.table("What was promised, and what was seen", rows)
    for line in [failure_text(one) for one in found.failures[:LINES_MAX]] + (left or [])[:LINES_MAX]:
        show.say(f"    [red]{escape(line)}[/]")
    if result.failures_not_kept:
        show.say(f"    [red]and {result.failures_not_kept} failures more than the load keeps[/]")
    show.judged("What the judge saw", rollouts.judged())
    show.durations("Where the time of the spins went", durations(records))
    return result.failures_not_kept == 0 and all(kept is not False for _, _, kept in rows)


def failure_text(failure: Failure) -> str:
    what = failure.status or failure.error
    return f"{failure.at_seconds:.1f}s {failure.phase}: {failure.method} {failure.path} {what}"


def is_clean(record: Json) -> bool:
    conditions = {one["type"]: one["status"] for one in record["status"].get("conditions", [])}
    return record["status"]["state"] == "terminated" and conditions.get("CleanupVerified") == "True"


def durations(records: list[Json]) -> list[tuple[str, int, float, float]]:
    """(state, spins, mean ms, worst ms) of the time spent in each state on the way up and on the way down."""
    spent: dict[str, list[float]] = defaultdict(list)
    for record in records:
        timeline = record["status"].get("timeline") or []
        for here, after in pairwise(timeline):
            if here["state"] not in WAITING:
                spent[here["state"]].append((seconds_of(after["at"]) - seconds_of(here["at"])) * 1000)
    ordered = sorted(spent, key=lambda state: STATES.index(state) if state in STATES else len(STATES))
    return [(state, len(spent[state]), sum(spent[state]) / len(spent[state]), max(spent[state])) for state in ordered]


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
