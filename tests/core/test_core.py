"""Small pure things that everything else rests on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import Uid, child_name, child_uid, fraction_of, owner_of, resource_key, short_hash
from spinyard.core.machine import Machine, edges


@given(attempt=st.integers(1, 10_000), key=st.text(max_size=30))
def test_backoff_grows_is_bounded_and_is_the_same_for_the_same_key(attempt: int, key: str) -> None:
    wait = backoff_seconds(attempt, key, first=0.1, limit=30.0)
    assert 0.075 <= wait <= 37.5
    assert wait == backoff_seconds(attempt, key, first=0.1, limit=30.0)
    if attempt <= 8:  # 0.1 * 2**7 < 30
        assert backoff_seconds(attempt + 2, key) > wait


def test_the_first_try_is_not_put_off() -> None:
    assert backoff_seconds(0, "any") == 0.0


@given(owner=st.text(min_size=1, max_size=20), slot=st.integers(0, 10**6), generation=st.integers(1, 10**6))
def test_ids_of_children_follow_from_what_they_are(owner: str, slot: int, generation: int) -> None:
    uid = child_uid(Uid(owner), str(slot), generation)
    assert uid == child_uid(Uid(owner), str(slot), generation)
    assert uid != child_uid(Uid(owner), str(slot + 1), generation)
    assert uid != child_uid(Uid(owner), str(slot), generation + 1)
    assert len(uid) == 20 and owner_of(resource_key(uid, "dir/a/b")) == uid


def test_a_name_of_a_child_is_bounded() -> None:
    assert len(child_name("x" * 200, Uid("abcdefgh"))) <= 47


@given(text=st.text(max_size=50), length=st.integers(1, 24))
def test_hashes_spell_no_words_and_fractions_are_fractions(text: str, length: int) -> None:
    made = short_hash(text, length)
    assert len(made) == length and not set(made) & set("aeiouAEIOU01")
    assert 0.0 <= fraction_of(text) < 1.0


def test_a_machine_knows_its_moves_and_draws_them() -> None:
    machine = Machine("M", "a", frozenset({"c"}), edges({"a": ["b"], "b": ["c", "a"], "c": [], "lost": ["c"]}))
    assert machine.may("a", "a") and machine.may("b", "c") and not machine.may("a", "c")
    assert machine.reachable() == {"a", "b", "c"}
    assert machine.states() == ("a", "b", "c", "lost")
    picture = machine.mermaid()
    assert picture.splitlines()[:2] == ["stateDiagram-v2", "    [*] --> a"] and "    c --> [*]" in picture


@pytest.mark.parametrize("state", ["a", "b"])
def test_staying_is_always_allowed(state: str) -> None:
    assert Machine("M", "a", frozenset(), edges({})).may(state, state)
