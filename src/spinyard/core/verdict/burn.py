"""How fast an objective's budget of errors is spent: several windows, several rates (Google's SRE workbook, chapter 5).

    series = BurnSeries()                                        # kept in the status of who is judged
    series = add(series, objective, at=now, good=990, bad=10)    # once for each reading, also of one without events
    judgement = judge_burn(series, objective, now=now)

A burn rate of 1 spends the whole budget (1 - target) in just the objective's window. A pair of windows fails when the
rate over the long one and over its short one are both above the pair's: the long one so that a moment does not count,
the short one so that what is over does not go on failing. Not a sequential test: its error rate depends on the traffic.
It rests on counts alone, so a reading with no events is data (nobody asked), and no reading is none.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, replace

from spinyard.core.verdict.counts import Counts
from spinyard.core.verdict.judgement import Judgement, Verdict, plain

DAY = 86_400.0
PERIOD = 30.0 * DAY
TEST = "burn rate of an objective"
PARTS = 3
"""buckets in a short window; a window is judged with the buckets that begin in it, so it may be a third shorter"""
WIDTH_MIN = 1.0
"""seconds of a bucket: an objective over minutes has short windows below what is measured"""
COUNT_MAX = (1 << 32) - 1
BUCKETS_MAX = 250
_HEAD, _TIER, _BUCKET = struct.Struct("<dB"), struct.Struct("<dqB"), struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Pair:
    rate: float
    long_seconds: float
    short_seconds: float


PAIRS = (
    Pair(14.4, 3_600.0, 300.0),
    Pair(6.0, 21_600.0, 1_800.0),
    Pair(3.0, DAY, 7_200.0),
    Pair(1.0, 3.0 * DAY, 21_600.0),
)
"""for a period of 30 days; for another one all windows are scaled alike"""


@dataclass(frozen=True, slots=True)
class BurnObjective:
    """`target`: share of good events. `window_seconds`: in which 1 - target of them may be bad. Below `events_min` in
    the long window nothing is said of a pair, below `errors_min` bad ones it does not fail. `absent_seconds`: so long
    without a reading counts as an outage; `stale_seconds`: so long, and it does not pass. ValueError for nonsense."""

    target: float
    window_seconds: float = PERIOD
    events_min: int = 50
    errors_min: int = 5
    stale_seconds: float = 15.0
    absent_seconds: float = 90.0
    pairs: tuple[Pair, ...] = PAIRS

    def __post_init__(self) -> None:
        if not 0.0 < self.target < 1.0:
            raise ValueError(f"target must be between 0 and 1, it is {self.target}")
        if not 0.0 < self.window_seconds < math.inf:
            raise ValueError(f"window_seconds must be above 0, it is {self.window_seconds}")
        if not 0.0 < self.stale_seconds <= self.absent_seconds < math.inf:
            raise ValueError("stale_seconds must be above 0 and at most absent_seconds")
        if self.events_min < 1 or self.errors_min < 1 or not 1 <= len(self.pairs) <= 8:
            raise ValueError("events_min and errors_min must be at least 1, and there must be 1 to 8 pairs")
        if not all(0.0 < pair.short_seconds <= pair.long_seconds and pair.rate > 0.0 for pair in self.pairs):
            raise ValueError("a pair's short window must not be longer than its long one, and its rate above 0")
        if max(self.buckets(pair, pair.long_seconds) for pair in self.pairs) > BUCKETS_MAX:
            raise ValueError(f"a long window must not have more than {BUCKETS_MAX} buckets: {PARTS} in each short one")

    @property
    def scale(self) -> float:
        return self.window_seconds / PERIOD

    def width(self, pair: Pair) -> float:
        return max(WIDTH_MIN, pair.short_seconds * self.scale / PARTS)

    def buckets(self, pair: Pair, seconds: float) -> int:
        return max(1, math.ceil(seconds * self.scale / self.width(pair)))


@dataclass(frozen=True, slots=True)
class Tier:
    """The buckets of one pair, `width` seconds each, up to the one with the number `last` (time / width)."""

    width: float = 0.0
    last: int = 0
    good: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()

    def over(self, count: int, last: int) -> Counts:
        """Of the `count` buckets up to number `last`, which is not before ours."""
        begin = max(0, len(self.good) - max(0, count - (last - self.last)))
        bad = sum(self.bad[begin:])
        return Counts(sum(self.good[begin:]) + bad, bad)


@dataclass(frozen=True, slots=True)
class BurnSeries:
    """Bounded: 36 buckets for each of the four pairs. `pack`: at most 1.3 kB; as JSON at most 3.5 kB."""

    seen_at: float = 0.0
    """of the last reading; 0: none yet"""
    tiers: tuple[Tier, ...] = ()


def add(series: BurnSeries, objective: BurnObjective, *, at: float, good: int, bad: int) -> BurnSeries:
    """What came between the last reading and this one. ValueError for negative counts; a clock that goes back counts
    into the bucket that is there. A series of another objective's windows begins anew."""
    if good < 0 or bad < 0:
        raise ValueError(f"{good} good and {bad} bad events are no counts")
    tiers = series.tiers if _is_of(series, objective) else (Tier(),) * len(objective.pairs)
    return BurnSeries(
        max(series.seen_at, at),
        tuple(_added(tier, objective, pair, at, good, bad) for tier, pair in zip(tiers, objective.pairs, strict=True)),
    )


def judge_burn(series: BurnSeries, objective: BurnObjective, *, now: float, since: float = 0.0) -> Judgement:
    """Fail: a pair fails, or there was no reading for `absent_seconds` (then `missing` says so, for who must not act on
    missing data alone). Inconclusive: too few events, or a stale reading. `since`: when readings were to begin."""
    silent = now - (series.seen_at or since)
    if (series.seen_at or since) and silent > objective.absent_seconds:
        return _absent(objective, silent)
    if not series.seen_at:
        return plain(Verdict.INCONCLUSIVE, "no reading yet", test=TEST, missing="a first reading")
    if not _is_of(series, objective):
        return plain(Verdict.INCONCLUSIVE, "the series is of other windows", test=TEST, missing="a reading for these")
    said = [_spent(tier, objective, pair, now) for tier, pair in zip(series.tiers, objective.pairs, strict=True)]
    failing = [one for one in said if one.fails(objective)]
    if failing:
        return _answer(Verdict.FAIL, failing[0], objective, "the budget of errors is spent too fast")
    widest = max(said, key=lambda one: one.long.requests)
    few = objective.events_min - widest.long.requests
    nearest = max(said, key=lambda one: one.rate(one.long, objective) / one.pair.rate)
    if few > 0:
        return replace(
            _answer(Verdict.INCONCLUSIVE, widest, objective, f"not decided: needs {few} more events"),
            needs=few,
            missing=f"{few} more events",
        )
    if silent > objective.stale_seconds:
        why = f"not decided: no data for {silent:.0f} s"
        return replace(_answer(Verdict.INCONCLUSIVE, nearest, objective, why), missing="a reading that is not stale")
    return _answer(Verdict.PASS, nearest, objective, "the budget of errors lasts")


def pack(series: BurnSeries) -> bytes:
    out = [_HEAD.pack(series.seen_at, len(series.tiers))]
    for tier in series.tiers:
        out.append(_TIER.pack(tier.width, tier.last, len(tier.good)))
        out += [_BUCKET.pack(good, bad) for good, bad in zip(tier.good, tier.bad, strict=True)]
    return b"".join(out)


def unpack(packed: bytes) -> BurnSeries:
    """Of nothing: an empty series. ValueError for what `pack` did not make."""
    if not packed:
        return BurnSeries()
    try:
        seen_at, count = _HEAD.unpack_from(packed)
        at, tiers = _HEAD.size, []
        for _ in range(count):
            width, last, length = _TIER.unpack_from(packed, at)
            at += _TIER.size
            pairs = [_BUCKET.unpack_from(packed, at + n * _BUCKET.size) for n in range(length)]
            at += length * _BUCKET.size
            tiers.append(Tier(width, last, tuple(good for good, _ in pairs), tuple(bad for _, bad in pairs)))
    except struct.error as error:
        raise ValueError(f"not a packed series: {error}") from error
    if at != len(packed):
        raise ValueError(f"not a packed series: {len(packed) - at} bytes too many")
    return BurnSeries(seen_at, tuple(tiers))


@dataclass(frozen=True, slots=True)
class _Spent:
    pair: Pair
    long: Counts
    short: Counts

    def rate(self, counts: Counts, objective: BurnObjective) -> float:
        return counts.rate / (1.0 - objective.target)

    def fails(self, objective: BurnObjective) -> bool:
        is_enough = self.long.requests >= objective.events_min and self.long.failures >= objective.errors_min
        rates = self.rate(self.long, objective), self.rate(self.short, objective)
        return is_enough and min(rates) > self.pair.rate


def _is_of(series: BurnSeries, objective: BurnObjective) -> bool:
    return [tier.width for tier in series.tiers] == [objective.width(pair) for pair in objective.pairs]


def _added(tier: Tier, objective: BurnObjective, pair: Pair, at: float, good: int, bad: int) -> Tier:
    width = objective.width(pair)
    number = math.floor(at / width)
    number = max(number, tier.last) if tier.good else number
    size = objective.buckets(pair, pair.long_seconds)
    goods, bads = list(tier.good), list(tier.bad)
    fresh = number - tier.last if goods else 1
    goods += [0] * min(fresh, size)
    bads += [0] * min(fresh, size)
    goods[-1] = min(COUNT_MAX, goods[-1] + good)
    bads[-1] = min(COUNT_MAX, bads[-1] + bad)
    return Tier(width, number, tuple(goods[-size:]), tuple(bads[-size:]))


def _spent(tier: Tier, objective: BurnObjective, pair: Pair, now: float) -> _Spent:
    last = max(tier.last, math.floor(now / objective.width(pair)))
    long, short = (tier.over(objective.buckets(pair, s), last) for s in (pair.long_seconds, pair.short_seconds))
    return _Spent(pair, long, short)


def _absent(objective: BurnObjective, silent: float) -> Judgement:
    why = f"no data for {silent:.0f} s counts as an outage (after {objective.absent_seconds:g} s)"
    return plain(Verdict.FAIL, why, test=TEST, missing="any reading")


def _answer(verdict: Verdict, spent: _Spent, objective: BurnObjective, words: str) -> Judgement:
    rates = spent.rate(spent.long, objective), spent.rate(spent.short, objective)
    why = (
        f"{words}: {rates[0]:.3g} times as fast as allowed over {_span(spent.pair.long_seconds * objective.scale)} "
        f"({spent.long.failures} of {spent.long.requests} bad), {rates[1]:.3g} over "
        f"{_span(spent.pair.short_seconds * objective.scale)}; the limit is {spent.pair.rate:g}, "
        f"the objective {objective.target:.6g} over {_span(objective.window_seconds)}"
    )
    return plain(verdict, why, test=TEST, new=spent.long, value=rates[0], limit=spent.pair.rate, unit="x the budget")


def _span(seconds: float) -> str:
    for size, unit in ((DAY, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
