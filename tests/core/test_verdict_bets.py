"""Each block is a fair bet or a losing one for whoever bets against a true hypothesis: by adding up all outcomes, and
over whole ramps with a fixed seed (Ville).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from statistics import median

import pytest

from spinyard.core.verdict import Counts, Evidence, Increment, Verdict, fold, judge
from spinyard.core.verdict.evidence import RATIOS
from spinyard.core.verdict.stakes import _log_mean_bound, log_not_worse, log_worse, nearest

SIZES = [(4, 4), (1, 7), (9, 4), (2, 12), (12, 3)]
RATES = [0.0, 0.001, 0.02, 0.1, 0.35, 0.5, 0.9, 1.0]


def outcomes(n_old: int, n_new: int, p_old: float, p_new: float) -> Iterator[tuple[float, Counts, Counts]]:
    for f_old in range(n_old + 1):
        for f_new in range(n_new + 1):
            old = math.comb(n_old, f_old) * p_old**f_old * (1 - p_old) ** (n_old - f_old)
            new = math.comb(n_new, f_new) * p_new**f_new * (1 - p_new) ** (n_new - f_new)
            yield old * new, Counts(n_old, f_old), Counts(n_new, f_new)


@pytest.mark.parametrize(("n_old", "n_new"), SIZES)
def test_a_bet_on_worse_does_not_win_when_the_new_side_is_no_worse(n_old: int, n_new: int) -> None:
    for p_old in RATES:
        for p_new in (rate for rate in RATES if rate <= p_old):
            means = [0.0] * len(RATIOS)
            for chance, old, new in outcomes(n_old, n_new, p_old, p_new):
                for i, log in enumerate(log_worse(old, new, RATIOS)):
                    means[i] += chance * math.exp(log)
            assert max(means) <= 1.0 + 1e-9, (p_old, p_new)


@pytest.mark.parametrize("failures", [1, 3, 9])
def test_a_bet_on_worse_is_exactly_fair_for_any_placing_of_given_failures(failures: int) -> None:
    """Which requests failed may depend on the time in any way: only their placing is random."""
    n_old, n_new = 11, 5
    ways = [
        (math.comb(n_new, k) * math.comb(n_old, failures - k), k)
        for k in range(max(0, failures - n_old), min(n_new, failures) + 1)
    ]
    total = sum(way for way, _ in ways)
    for ratio in RATIOS:
        mean = sum(
            way / total * math.exp(log_worse(Counts(n_old, failures - k), Counts(n_new, k), (ratio,))[0])
            for way, k in ways
        )
        assert mean == pytest.approx(1.0)


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.3])
@pytest.mark.parametrize(("n_old", "n_new"), SIZES)
def test_a_bet_on_not_worse_does_not_win_when_it_is_worse_by_the_margin(n_old: int, n_new: int, margin: float) -> None:
    guesses = [(0.001, 0.001), (0.02, 0.02), (0.3, 0.3), (0.5, 0.05), (0.04, 0.045), (0.9, 0.9)]
    for p_old in (rate for rate in RATES if rate + margin <= 1.0):
        for p_new in {p_old + margin, min(1.0, p_old + 2 * margin), 1.0}:
            means = [0.0] * len(guesses)
            for chance, old, new in outcomes(n_old, n_new, p_old, p_new):
                for i, (a, b) in enumerate(guesses):
                    means[i] += chance * math.exp(log_not_worse(old, new, a, b, margin))
            assert max(means) <= 1.0 + 1e-7, (p_old, p_new)


def test_the_bound_for_large_counts_only_lowers_the_bet() -> None:
    random = Random(4)
    for _ in range(300):
        old, new = Counts(random.randint(1, 200)), Counts(random.randint(1, 200))
        old = Counts(old.requests, random.randint(0, old.requests))
        new = Counts(new.requests, random.randint(0, new.requests))
        if not old.failures + new.failures:
            continue
        for ratio in RATIOS:
            exact = log_worse(old, new, (ratio,))[0]
            assert new.failures * math.log(ratio) - _log_mean_bound(old, new, ratio) <= exact + 1e-9


def test_the_nearest_point_is_the_nearest() -> None:
    def distance(q: float, n_old: int, n_new: int, a: float, b: float, margin: float) -> float:
        s = q + margin
        old = a * math.log(a / q) + (1 - a) * math.log((1 - a) / (1 - q))
        return n_old * old + n_new * (b * math.log(b / s) + (1 - b) * math.log((1 - b) / (1 - s)))

    random = Random(1)
    for _ in range(200):
        margin = random.choice([0.001, 0.05, 0.4])
        a = random.uniform(1e-4, 0.95 - margin)
        case = (random.randint(1, 10**6), random.randint(1, 10**6), a, random.uniform(1e-4, 1.0) * (a + margin), margin)
        q = nearest(*case)
        for other in (q * 0.99, q * 1.01):
            if 0.0 < other < 1.0 - margin:
                assert distance(q, *case) <= distance(other, *case) + 1e-6


@pytest.mark.parametrize(
    ("difference", "is_false"),
    [(0.0, Verdict.FAIL), (0.05, Verdict.PASS)],
    ids=["alike, failed", "worse by the margin, passed"],
)
def test_looking_after_every_block_is_wrong_in_at_most_alpha_of_ramps(difference: float, is_false: Verdict) -> None:
    """The base rate drifts by a factor of five and the weight changes on the way. A large alpha lets few ramps tell."""
    alpha, ramps, random = 0.2, 150, Random(20260101)
    wrong = 0
    for _ in range(ramps):
        evidence = Evidence(margin=0.05)
        for poll in range(80):
            base = 0.06 + 0.04 * math.sin(poll / 5.0)
            step = poll // 30
            n_new = (2, 10, 15)[step]
            f_old = sum(random.random() < base for _ in range(20 - n_new))
            f_new = sum(random.random() < base + difference for _ in range(n_new))
            evidence = fold(evidence, Increment(step, Counts(20 - n_new, f_old), Counts(n_new, f_new)))
            passes = evidence.not_worse.log_total >= math.log(1 / alpha)
            fails = evidence.worse.log_total >= math.log(1 / alpha)
            if passes if is_false is Verdict.PASS else fails:
                wrong += 1
                break
    assert wrong / ramps <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / ramps)
    assert wrong, "it does look: at this alpha some ramps go wrong"


@pytest.mark.parametrize(("p_old", "p_new", "share"), [(0.01, 0.01, 0.1), (0.0, 0.0, 0.5), (0.02, 0.2, 0.5)])
def test_what_is_needed_is_what_is_needed(p_old: float, p_new: float, share: float) -> None:
    """Told after the first requests, the number is typically within a factor of two of what it then takes."""
    random = Random(7)
    told: list[int] = []
    taken: list[int] = []
    for _ in range(31):
        evidence = Evidence(margin=0.05)
        while len(told) == len(taken) or judge(evidence, alpha=0.05).verdict is Verdict.INCONCLUSIVE:
            while True:
                is_new = random.random() < share
                one, none = Counts(1, int(random.random() < (p_new if is_new else p_old))), Counts()
                evidence = fold(evidence, Increment(0, none if is_new else one, one if is_new else none))
                if is_new:
                    break
            if evidence.new.requests == 12:
                told.append(judge(evidence, alpha=0.05).needs or 0)
        taken.append(evidence.new.requests - 12)
    assert median(told) / 2 <= median(taken) <= median(told) * 2
