"""E-values about one quantile of two sides, from counts between bounds (docs/judge.md, "Latency").

Let v be the old side's true quantile. Then at most a share q of the old side's requests is faster than v and at least q
is no slower; and if the new side is within its limit, at least q of its requests are no slower than limit(v), else
fewer. Each of these is a statement about a coin, and a bet against it is a likelihood ratio. Nobody knows v: so the
evidence is what the bets returned at the v where they returned least. Between two bounds the counts are taken as they
are worst for the bet.

The bets on both coins are tied: of each distance (in log odds) the old side gets the new one's share of the traffic
and the new side the old one's. Then what is won hardly depends on v near the truth, and the least costs little. Some is
staked on the new side alone, and some on v's being elsewhere.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from spinyard.core.verdict.histogram import Histogram, count_below, count_up_to
from spinyard.core.verdict.stakes import log_sum

DISTANCES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""in log odds, of both sides together"""
DISTANCE_SHARES = (0.05, 0.1, 0.2, 0.25, 0.2, 0.12, 0.08)
PLACE_DISTANCES = (0.2, 0.5, 1.2, 3.0, 7.0)
PLACE_SHARE = 0.1
"""staked on "v is not the old side's quantile", each way"""
NEW_DISTANCES = (0.4, 0.8, 1.6, 3.2)
NEW_SHARE = 0.2
"""staked on the new side alone: in the tail both sides' shares run into 1 and the tied bets win less"""
SHARE_MIN = 0.02
FORECAST_WEIGHT = 100
"""A forecast of "within" supposes so many requests of the new side beforehand that took as long as the old side's."""
FORECAST_UNITS = 1_000
SCALE_MAX = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Limit:
    """The new side's quantile may be the old side's times `factor` plus `plus_ms`."""

    factor: float
    plus_ms: float

    def of(self, ms: float) -> float:
        return ms * self.factor + self.plus_ms


@dataclass(frozen=True, slots=True)
class Bet:
    """Log of: what is staked; what a hit (no slower than the place) and a miss return, on each side. `at_least`: it
    is about the old side's count of those that were surely faster."""

    log_stake: float
    old_hit: float
    old_miss: float
    new_hit: float
    new_miss: float
    at_least: bool


Columns = tuple[tuple[float, float, float, float, float], ...]
Place = tuple[int, int, int]
"""of the old side: surely faster than v, possibly no slower; of the new side: no slower than limit(v), at worst"""


def log_e_within(
    q: float, limit: Limit, share: float, old: Histogram, new: Histogram, enough: float = math.inf
) -> float:
    """Against "the new side's quantile is above its limit". `enough`: then it is only right whether it is as much;
    math.inf: the number is right."""
    return _least(_columns(q, share, True), _places(q, limit, old, new, within=True), old, new, enough)


def log_e_beyond(
    q: float, limit: Limit, share: float, old: Histogram, new: Histogram, enough: float = math.inf
) -> float:
    """Against "the new side's quantile is within its limit"; otherwise as `log_e_within`."""
    return _least(_columns(q, share, False), _places(q, limit, old, new, within=False), old, new, enough)


def log_e_share(q: float, hits: int, total: int, *, above: bool) -> float:
    """One side alone. `above`: against "at most q of all are hits", else against "at least q are"."""
    misses = total - hits
    return log_sum(tuple(stake + hits * hit + misses * miss for stake, hit, miss in _alone(q, above)))


def quantile_range(q: float, side: Histogram, alpha: float) -> tuple[float, float | None]:
    """(lower, upper) in ms between which the quantile lies with probability 1 - alpha, at all times together; upper
    None: perhaps above all bounds. Without requests it may be anywhere."""
    total, bound = side.total, math.log(2.0 / alpha)
    low = 0.0
    for ms, hits in zip(side.bounds_ms, side.cumulative(), strict=False):
        if log_e_share(q, hits, total, above=False) >= bound:
            low = ms
        elif log_e_share(q, hits, total, above=True) >= bound:
            return low, ms
    return low, None


def scale_until(
    q: float, limit: Limit, share: float, old: Histogram, new: Histogram, bound: float, *, within: bool
) -> float | None:
    """How many times as much, of about the same shape, would bring the evidence to the bound. None: not foreseeable."""
    bets = _bets(q, share, within)
    old, new = _foreseen(old, new, FORECAST_WEIGHT if within else 0)
    n_old, n_new = old.total, new.total
    places = [_gains(bets, place, n_old, n_new) for place in set(_places(q, limit, old, new, within=within))]

    def reaches(scale: float) -> bool:
        part = scale / FORECAST_UNITS
        return all(log_sum(tuple(stake + part * gain for stake, gain in place)) >= bound for place in places)

    return _first(reaches)


def scale_until_share(q: float, hits: int, total: int, bound: float, *, above: bool) -> float | None:
    gains = [(stake, hits * hit + (total - hits) * miss) for stake, hit, miss in _alone(q, above)]
    return _first(lambda scale: log_sum(tuple(stake + scale * gain for stake, gain in gains)) >= bound)


def _foreseen(old: Histogram, new: Histogram, weight: int) -> tuple[Histogram, Histogram]:
    """Both times FORECAST_UNITS, the new one's shape on its way from the old one's to its own."""
    n_old, n_new = old.total, new.total
    own, given = n_new / (n_new + weight), n_new * weight / (n_new + weight) / n_old
    shape = tuple(round(FORECAST_UNITS * (own * b + given * a)) for a, b in zip(old.counts, new.counts, strict=True))
    return Histogram(old.bounds_ms, tuple(FORECAST_UNITS * count for count in old.counts)), Histogram(
        new.bounds_ms, shape
    )


def _least(
    columns: tuple[Columns, Columns], places: Iterator[Place], old: Histogram, new: Histogram, enough: float
) -> float:
    on_faster, on_no_slower = (_all_missed(one, old.total, new.total) for one in columns)
    most = math.log(len(on_faster) + len(on_no_slower))
    least, done = math.inf, set[Place]()
    for place in places:
        if place in done:
            continue
        done.add(place)
        faster, no_slower, hits = place
        logs = [base + faster * old_gap + hits * new_gap for base, old_gap, new_gap in on_faster]
        logs += [base + no_slower * old_gap + hits * new_gap for base, old_gap, new_gap in on_no_slower]
        top = max(logs)
        if top + most < enough < math.inf:
            return top + most
        least = min(least, top if top >= enough else log_sum(tuple(logs)))
        if least < enough < math.inf:
            break
    return least


def _all_missed(columns: Columns, n_old: int, n_new: int) -> list[tuple[float, float, float]]:
    """What each bet is worth if nothing was a hit, and what a hit on each side adds."""
    return [
        (stake + n_old * old_miss + n_new * new_miss, old_gap, new_gap)
        for stake, old_miss, new_miss, old_gap, new_gap in columns
    ]


def _gains(bets: tuple[Bet, ...], place: Place, n_old: int, n_new: int) -> list[tuple[float, float]]:
    faster, no_slower, hits = place
    misses = n_new - hits
    out = []
    for bet in bets:
        count = faster if bet.at_least else no_slower
        gain = count * bet.old_hit + (n_old - count) * bet.old_miss + hits * bet.new_hit + misses * bet.new_miss
        out.append((bet.log_stake, gain))
    return out


def _places(q: float, limit: Limit, old: Histogram, new: Histogram, *, within: bool) -> Iterator[Place]:
    """All of them, those first where the old side's quantile seems to be: there the least is found soonest."""
    bounds = old.bounds_ms or new.bounds_ms
    last = len(bounds)
    nothing = (0,) * (last + 1)
    olds, news = old.cumulative() or nothing, new.cumulative() or nothing
    middle = min(last, bisect_right(olds, q * olds[-1]))
    for away in range(last + 1):
        for at in (middle - away, middle + away) if away else (middle,):
            if 0 <= at <= last:
                reached = _reached_within if within else _reached_beyond
                yield olds[at - 1] if at else 0, olds[at], reached(bounds, news, limit, at)


def _reached_within(bounds: tuple[float, ...], news: tuple[int, ...], limit: Limit, at: int) -> int:
    return count_below(bounds, news, limit.of(bounds[at - 1] if at else 0.0))


def _reached_beyond(bounds: tuple[float, ...], news: tuple[int, ...], limit: Limit, at: int) -> int:
    return count_up_to(bounds, news, limit.of(bounds[at])) if at < len(bounds) else news[-1]


@lru_cache(maxsize=256)
def _bets(q: float, share: float, within: bool) -> tuple[Bet, ...]:
    share = min(1.0 - SHARE_MIN, max(SHARE_MIN, share))
    sign = 1.0 if within else -1.0
    tied = math.log1p(-2.0 * PLACE_SHARE - NEW_SHARE)
    out = []
    for distance, part in zip(DISTANCES, DISTANCE_SHARES, strict=True):
        old = _moved(q, -sign * distance * share)
        new = _moved(q, sign * distance * (1.0 - share))
        out.append(Bet(tied + math.log(part), *old, *new, at_least=not within))
    each = math.log(NEW_SHARE / len(NEW_DISTANCES))
    out += [Bet(each, 0.0, 0.0, *_moved(q, sign * distance), at_least=False) for distance in NEW_DISTANCES]
    each = math.log(PLACE_SHARE / len(PLACE_DISTANCES))
    for distance in PLACE_DISTANCES:
        out.append(Bet(each, *_moved(q, distance), 0.0, 0.0, at_least=True))
        out.append(Bet(each, *_moved(q, -distance), 0.0, 0.0, at_least=False))
    return tuple(out)


@lru_cache(maxsize=256)
def _columns(q: float, share: float, within: bool) -> tuple[Columns, Columns]:
    """The bets about the surely faster, and those about the no slower."""
    bets = _bets(q, share, within)
    faster, no_slower = (
        tuple(
            (bet.log_stake, bet.old_miss, bet.new_miss, bet.old_hit - bet.old_miss, bet.new_hit - bet.new_miss)
            for bet in bets
            if bet.at_least is at_least
        )
        for at_least in (True, False)
    )
    return faster, no_slower


@lru_cache(maxsize=256)
def _alone(q: float, above: bool) -> tuple[tuple[float, float, float], ...]:
    sign = 1.0 if above else -1.0
    return tuple(
        (math.log(part), *_moved(q, sign * distance)) for distance, part in zip(DISTANCES, DISTANCE_SHARES, strict=True)
    )


def _moved(q: float, distance: float) -> tuple[float, float]:
    """What a hit and a miss return, in logs, when it is staked that the odds of a hit are exp(distance) times q's."""
    scale = math.log1p(q * math.expm1(distance))
    return distance - scale, -scale


def _first(reaches: Callable[[float], bool]) -> float | None:
    if reaches(1.0):
        return 1.0
    if not reaches(SCALE_MAX):
        return None
    low, high = 1.0, SCALE_MAX
    while high > 1.01 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high
