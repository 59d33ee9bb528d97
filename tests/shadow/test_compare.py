"""What counts as different, what is noise, and what is never kept."""

from __future__ import annotations

import json

import pytest

from spinyard.spinout.compare import (
    BODY_BYTES_MAX,
    KINDS_MAX,
    REDACTED,
    SAMPLES_MAX,
    Answer,
    Findings,
    Rules,
    differing,
    fields_of,
    sample,
)

NONE = Rules()


def answer(body: object, *headers: tuple[str, str], status: int = 200) -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = () if isinstance(body, bytes) else (("content-type", "application/json"),)
    return Answer(status, (*kind, *headers), text)


def found(old: Answer, new: Answer, rules: Rules = NONE) -> tuple[str, ...]:
    return differing(fields_of(old, rules), fields_of(new, rules))


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        pytest.param(answer({"a": 1}), answer({"a": 1}), (), id="the same"),
        pytest.param(answer({"a": 1, "b": 2}), answer({"b": 2, "a": 1}), (), id="keys in another order"),
        pytest.param(answer({"a": 1}), answer({"a": "1"}), ("body /a",), id="another type"),
        pytest.param(answer({"a": 1}), answer({}), ("body /", "body /a"), id="a field is gone"),
        pytest.param(answer([{"b": 1}, {"b": 2}]), answer([{"b": 1}]), ("body /*/b",), id="a shorter list"),
        pytest.param(answer([1, 2]), answer([2, 1]), ("body /*",), id="a list in another order"),
        pytest.param(answer({"a": None}), answer({"a": 0}), ("body /a",), id="null is not nought"),
        pytest.param(answer(b"\xff\xd8a"), answer(b"\xff\xd8b"), ("body",), id="bytes"),
        pytest.param(answer({}, status=200), answer({"x": 1}, status=404), ("status",), id="another status is all"),
        pytest.param(answer({}, ("X-One", "a")), answer({}, ("x-one", "b")), ("header x-one",), id="a header"),
        pytest.param(
            answer({}, ("date", "a"), ("x-envoy-x", "1")), answer({}, ("date", "b")), (), id="headers of one connection"
        ),
    ],
)  # fmt: skip
def test_fields_that_differ_are_named(old: Answer, new: Answer, names: tuple[str, ...]) -> None:
    assert found(old, new) == names
    assert found(new, old) == names


def test_lists_without_order_and_fields_that_may_differ() -> None:
    old, new = answer({"tags": [1, 2], "at": 5}, ("x-host", "a")), answer({"tags": [2, 1], "at": 6}, ("x-host", "b"))
    assert found(old, new) == ("body /at", "body /tags/*", "header x-host")
    rules = Rules(ignore=frozenset({"at", "x-host"}), unordered=frozenset({"tags"}))
    assert found(old, new, rules) == ()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"{" + b"x" * 10, id="no JSON"),
        pytest.param(b"[1]" + b" " * BODY_BYTES_MAX, id="long"),
        pytest.param(json.dumps({str(n): n for n in range(5_000)}).encode(), id="wide"),
        pytest.param(b'{"a": NaN}', id="not a number"),
    ],
)
def test_hostile_bodies_are_compared_as_bytes_or_fields_and_end(body: bytes) -> None:
    old = Answer(200, (("content-type", "application/json"),), body)
    new = Answer(200, (("content-type", "application/json"),), body + b" ")
    assert found(old, old) == ()
    assert len(fields_of(old, NONE)) < 510
    assert found(old, new) in ((), ("body",))


def test_names_are_bounded_and_what_is_redacted_is_one_field() -> None:
    wide = answer({"k" * 20_000: {f"a{n}": n for n in range(400)}})
    assert sum(map(len, fields_of(wide, NONE))) < 50_000
    assert len(found(wide, answer({}))) <= 21
    people = {"people": {"ann@example.org": 1, "bob@example.org": 2}}
    rules = Rules(redact=frozenset({"people"}))
    assert fields_of(answer(people), rules).keys() == {"status", "header content-type", "body /people"}
    assert found(answer(people), answer({"people": {"ann@example.org": 1}}), rules) == ("body /people",)


def test_an_error_is_counted_once() -> None:
    findings = Findings(0.0)
    for n in range(100):
        findings.note_noise(())
        findings.note(("status 500",) if n < 3 else (), None, is_error=n < 3)
    told = findings.found()
    assert (told.compared, told.different, told.errors, told.fields) == (100, 0, 3, (("status 500", 3),))


def test_secrets_are_never_kept_and_long_values_are_cut() -> None:
    old = answer({"email": "a@b", "password": "p", "text": "x" * 500}, ("Set-Cookie", "s=1"))
    new = answer({"email": "c@d", "password": "q", "text": "y" * 500}, ("Set-Cookie", "s=2"))
    rules = Rules(redact=frozenset({"email"}))
    kept = sample(1.0, "GET", "/users/1?token=hidden", fields_of(old, rules), fields_of(new, rules), rules)
    text = repr(kept)
    assert kept.path == "/users/1"
    assert text.count(REDACTED) == 6
    for secret in ("a@b", "c@d", "'p'", "s=1", "hidden", "x" * 100):
        assert secret not in text


def test_noise_is_learned_and_a_real_difference_beside_it_is_seen() -> None:
    findings = Findings(0.0)
    for _ in range(20):
        findings.note_noise(("body /at",))
    for n in range(100):
        findings.note(("body /at",) if n % 10 else ("body /at", "body /price"), None)
    told = findings.found()
    assert (told.compared, told.different, told.fields) == (100, 10, (("body /price", 10),))


def test_a_field_that_differs_clearly_more_often_than_by_itself_is_no_noise() -> None:
    findings = Findings(0.0)
    for n in range(100):
        findings.note_noise(("body /x",) if n == 0 else ())
    for _ in range(100):
        findings.note(("body /x",), None)
    assert findings.found().different == 100


def test_nothing_counts_before_the_noise_is_known() -> None:
    findings = Findings(0.0)
    for _ in range(10):
        findings.note(("body /x",), None, is_error=True)
    early = findings.found()
    assert (early.compared, early.different, early.errors, early.fields) == (0, 0, 0, (("body /x", 10),))
    for _ in range(5):
        findings.note_noise(())
    later = findings.found()
    assert (later.compared, later.different, later.errors) == (10, 0, 10)


def test_what_is_kept_is_bounded() -> None:
    findings = Findings(0.0)
    one = sample(1.0, "GET", "/", {"a": "1"}, {"a": "2"}, NONE)
    for n in range(2 * KINDS_MAX):
        findings.note((f"body /{n}",), one)
        findings.note_noise((f"body /{n}",))
    assert len(findings.differed) <= KINDS_MAX + 1
    assert len(findings.samples) == SAMPLES_MAX
    assert findings.found().compared == 2 * KINDS_MAX
