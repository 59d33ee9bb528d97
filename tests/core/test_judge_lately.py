"""A guard over a long good time: quick when it turns bad, and not wrong more often for having looked for so long."""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass

import pytest

from spinyard.core.verdict import Counts, Verdict, judge_lately, stretch_is_over

LIMIT, ALPHA = 0.05, 0.05
NONE = Counts()


@dataclass
class Guard:
    """Looked at after every `look` requests."""

    chance: random.Random
    look: int = 10
    whole: Counts = NONE
    stretch: Counts = NONE
    nth: int = 0
    fails: bool = False

    def answers(self, requests: int, rate: float) -> int:
        """How many until it failed."""
        for n in range(self.look, requests + self.look, self.look):
            seen = Counts(self.look, sum(self.chance.random() < rate for _ in range(self.look)))
            self.whole, self.stretch = self.whole + seen, self.stretch + seen
            verdict, _, _ = judge_lately(LIMIT, self.whole, self.stretch, self.nth, alpha=ALPHA)
            if verdict is Verdict.FAIL:
                self.fails = True
                return n
            if stretch_is_over(LIMIT, self.stretch, alpha=ALPHA):
                self.stretch, self.nth = NONE, self.nth + 1
        return requests


def test_a_fifth_of_errors_after_a_million_good_requests_is_found_within_hundreds() -> None:
    guard = Guard(random.Random(1), look=500)
    assert guard.answers(1_000_000, 0.01) == 1_000_000 and not guard.fails
    guard.look = 10
    assert guard.answers(10_000, 0.2) <= 300
    assert guard.fails


def test_it_takes_about_two_hundred_wherever_in_a_stretch_it_begins() -> None:
    took = []
    for seed in range(100):
        guard = Guard(random.Random(seed), whole=Counts(1_000_000, 10_000), nth=5_000)
        guard.answers(random.Random(-seed).randrange(10, 200), 0.01)
        took.append(guard.answers(5_000, 0.2))
        assert guard.fails
    assert statistics.median(took) <= 240
    assert sorted(took)[93] <= 400


@pytest.mark.parametrize("rate", [0.0, 0.015])
def test_ten_thousand_stretches_under_the_limit_end_without_an_alarm(rate: float) -> None:
    guard = Guard(random.Random(7), look=50)
    while guard.nth < 10_000 and not guard.fails:
        guard.answers(50_000, rate)
    assert guard.nth >= 10_000


def test_at_the_limit_itself_it_is_wrong_no_more_often_than_alpha_says() -> None:
    wrong = 0
    for seed in range(120):
        guard = Guard(random.Random(seed))
        guard.answers(1_500, LIMIT)
        wrong += guard.fails
    assert wrong <= 120 * ALPHA * 1.5


def test_a_pass_is_a_pass_of_the_whole_and_counts_that_make_no_sense_decide_nothing() -> None:
    assert judge_lately(LIMIT, Counts(1_000, 5), NONE, 3, alpha=ALPHA)[0] is Verdict.PASS
    assert judge_lately(LIMIT, Counts(1_000, 5), Counts(100, 60), 3, alpha=ALPHA) == (Verdict.FAIL, None, True)
    assert judge_lately(LIMIT, Counts(5, 9), NONE, 0, alpha=ALPHA)[0] is Verdict.ERROR
    assert judge_lately(LIMIT, Counts(9, 5), Counts(5, 9), 0, alpha=ALPHA)[0] is Verdict.ERROR
