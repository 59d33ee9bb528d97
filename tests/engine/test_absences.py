"""How long a thing has been absent is counted by the steady clock, and from the last other answer on."""

from __future__ import annotations

import pytest

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, Unknown
from spinyard.engine import absences
from spinyard.engine.absences import Absences

KEY = ResourceKey("a" * 20 + "/process")


def test_the_first_absence_is_no_time_and_the_later_ones_count_from_it() -> None:
    seen = Absences()
    assert seen.told("cloud", KEY, Absent(), 100.0) == Absent(0.0)
    assert seen.told("cloud", KEY, Absent(), 107.5) == Absent(7.5)
    assert seen.told("other", KEY, Absent(), 108.0) == Absent(0.0)


def test_any_other_answer_begins_it_anew() -> None:
    seen = Absences()
    seen.told("cloud", KEY, Absent(), 100.0)
    assert seen.told("cloud", KEY, Unknown("no answer"), 103.0) == Unknown("no answer")
    assert seen.told("cloud", KEY, Absent(), 104.0) == Absent(0.0)


def test_an_absence_seen_before_it_was_asked_for_does_not_count() -> None:
    seen = Absences()
    seen.told("cloud", KEY, Absent(), 100.0)
    seen.forget("cloud", KEY)
    seen.forget("cloud", ResourceKey("never seen"))
    assert seen.told("cloud", KEY, Absent(), 160.0) == Absent(0.0)


def test_what_is_looked_at_is_kept_and_what_nobody_looks_at_any_more_is_forgotten_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(absences, "KEPT_MAX", 2)
    seen = Absences()
    seen.told("cloud", ResourceKey("waited for"), Absent(), 0.0)
    for n in range(5):
        seen.told("cloud", ResourceKey(f"closed {n}"), Absent(), float(n))
        assert seen.told("cloud", ResourceKey("waited for"), Absent(), n + 0.5) == Absent(n + 0.5)


def test_the_longest_known_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absences, "KEPT_MAX", 2)
    seen = Absences()
    for n in range(3):
        seen.told("cloud", ResourceKey(f"{n}"), Absent(), float(n))
    assert seen.told("cloud", ResourceKey("2"), Absent(), 10.0) == Absent(8.0)
    assert seen.told("cloud", ResourceKey("0"), Absent(), 10.0) == Absent(0.0)
