"""When callers come before what follows from what they asked."""

from __future__ import annotations

from spinyard.engine.callers import MANY, PRECEDENCE_SECONDS, STILL_SECONDS, Callers


def test_a_few_who_wait_change_nothing() -> None:
    callers = Callers()
    callers.waiting(MANY - 1, 10.0)
    assert not callers.come_first(10.0)


def test_many_come_first_also_between_two_batches_of_theirs() -> None:
    callers = Callers()
    callers.waiting(MANY, 10.0)
    callers.waiting(1, 10.01)
    assert callers.come_first(10.0 + STILL_SECONDS)
    assert not callers.come_first(10.0 + STILL_SECONDS + 0.001)


def test_they_do_not_come_first_for_ever() -> None:
    callers, now, begun = Callers(), 10.0, 10.0
    while now <= begun + PRECEDENCE_SECONDS:
        callers.waiting(MANY, now)
        assert callers.come_first(now)
        now += STILL_SECONDS / 2
    callers.waiting(MANY, now)
    assert not callers.come_first(now), "who was answered long ago waits too"
    later = now + 2 * STILL_SECONDS
    callers.waiting(MANY, later)
    assert callers.come_first(later), "the next burst is another one"
