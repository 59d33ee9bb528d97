"""One side against a fixed rate: seldom wrong however often it is asked, and not slow."""

from __future__ import annotations

import random

import pytest

from spinyard.core.verdict import Counts, Verdict, judge_alone

ALPHA = 0.05
RUNS = 300


def verdicts(rate: float, limit: float, requests: int, seed: int) -> list[Verdict]:
    """Asked after every ten requests, up to the first answer that decides."""
    chance, out = random.Random(seed), []
    for _ in range(RUNS):
        failures, verdict = 0, Verdict.INCONCLUSIVE
        for n in range(1, requests + 1):
            failures += chance.random() < rate
            if n % 10 == 0:
                verdict, _ = judge_alone(limit, Counts(n, failures), alpha=ALPHA)
                if verdict is not Verdict.INCONCLUSIVE:
                    break
        out.append(verdict)
    return out


@pytest.mark.parametrize("limit", [0.02, 0.05, 0.15, 0.4])
def test_at_the_limit_itself_each_verdict_is_seldom_wrong(limit: float) -> None:
    found = verdicts(limit, limit, 1500, seed=int(limit * 1000))
    assert found.count(Verdict.FAIL) <= RUNS * ALPHA * 1.5
    assert found.count(Verdict.PASS) <= RUNS * ALPHA * 1.5


def test_a_healthy_version_passes_and_one_with_a_fifth_of_errors_fails_soon() -> None:
    assert set(verdicts(0.01, 0.06, 600, seed=1)) == {Verdict.PASS}
    assert set(verdicts(0.2, 0.05, 200, seed=2)) == {Verdict.FAIL}


def test_it_tells_how_many_more_good_requests_it_needs() -> None:
    verdict, needs = judge_alone(0.05, Counts(), alpha=ALPHA)
    assert verdict is Verdict.INCONCLUSIVE
    assert needs is not None
    assert 59 <= needs <= 110
    assert judge_alone(0.05, Counts(needs, 0), alpha=ALPHA)[0] is Verdict.PASS
    assert judge_alone(0.05, Counts(needs - 1, 0), alpha=ALPHA)[0] is Verdict.INCONCLUSIVE


def test_what_is_no_count_decides_nothing() -> None:
    assert judge_alone(0.05, Counts(5, 9), alpha=ALPHA) == (Verdict.ERROR, None)
    with pytest.raises(ValueError, match="limit"):
        judge_alone(0.0, Counts(), alpha=ALPHA)
