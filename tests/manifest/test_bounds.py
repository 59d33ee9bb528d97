"""Files made to hurt: each ends soon, with a problem, and without harm."""

from __future__ import annotations

import time

import pytest

from spinyard.manifest import load
from spinyard.manifest.objects import BYTES_MAX, OBJECTS_MAX, PROBLEMS_MAX

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)

HOSTILE = [
    pytest.param("x" * (BYTES_MAX + 1), "too_large", id="too large"),
    pytest.param("é" * (BYTES_MAX // 2 + 1), "too_large", id="too large in bytes"),
    pytest.param("[" * 100_000, "too_deep", id="deep lists"),
    pytest.param("{a: " * 100_000, "too_deep", id="deep mappings"),
    pytest.param("- " * 100_000, "too_deep", id="deep blocks"),
    pytest.param(BOMB, "too_many_aliases", id="billion laughs"),
    pytest.param("a: &a [*a]", "invalid_alias", id="alias to itself"),
    pytest.param("a: *b", "invalid_alias", id="alias to nothing"),
    pytest.param("a: !!python/object/apply:os.system [id]", "invalid_tag", id="python tag"),
    pytest.param("a: !foo b", "invalid_tag", id="own tag"),
    pytest.param("? [a]\n: b", "invalid_key", id="list as a key"),
    pytest.param("1: b", "invalid_key", id="number as a key"),
    pytest.param("<<: b", "invalid_merge", id="merge of text"),
    pytest.param("a: b\n\tc: d", "invalid_yaml", id="tab"),
    pytest.param("a: 'b", "invalid_yaml", id="open quote"),
    pytest.param("a: \x00", "invalid_yaml", id="NUL"),
    pytest.param("{", "invalid_yaml", id="open brace"),
    pytest.param("---\na\n" * (OBJECTS_MAX + 10), "wrong_type", id="too many documents"),
    pytest.param("a: 1\n" * 100_000, "duplicate_field", id="many duplicates"),
    pytest.param("a: " + "9" * 100_000, "missing_field", id="a long number"),
    pytest.param("\ud800: 1", "invalid_yaml", id="half a character"),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("text", "code"), HOSTILE)
def test_a_hostile_file_is_refused_soon(text: str, code: str) -> None:
    began = time.process_time()
    manifests, problems = load(text)
    assert manifests == []
    assert code in {problem.code for problem in problems}
    assert len(problems) <= PROBLEMS_MAX + 1
    assert time.process_time() - began < 5


def test_an_empty_file_holds_nothing_and_is_not_wrong() -> None:
    assert load("") == ([], [])
    assert load("# only words\n---\n---\nnull\n") == ([], [])


def services(count: int) -> str:
    return "---\n".join(
        "apiVersion: spinyard.dev/v1\nkind: Service\n"
        f"metadata: {{name: s{index}}}\nspec: {{templateRef: {{name: t}}}}\n"
        for index in range(count)
    )


@pytest.mark.timeout(60)
def test_ten_thousand_services_load_in_seconds() -> None:
    text = services(OBJECTS_MAX)
    began = time.process_time()
    manifests, problems = load(text, bytes_max=16 << 20)
    seconds = time.process_time() - began
    assert problems == []
    assert len(manifests) == OBJECTS_MAX
    assert seconds < 20  # measured: 2 s


@pytest.mark.timeout(60)
def test_one_more_is_too_many() -> None:
    manifests, problems = load(services(OBJECTS_MAX + 1), bytes_max=16 << 20)
    assert [problem.code for problem in problems] == ["too_many"]
    assert len(manifests) == OBJECTS_MAX


@pytest.mark.timeout(60)
def test_a_long_chain_of_dependencies_is_no_recursion() -> None:
    text = "---\n".join(
        f"apiVersion: spinyard.dev/v1\nkind: Service\nmetadata: {{name: s{index}}}\n"
        f"spec: {{templateRef: {{name: t}}, dependsOn: [s{(index + 1) % 3000}]}}\n"
        for index in range(3000)
    )
    _, problems = load(text, bytes_max=16 << 20)
    assert [problem.code for problem in problems] == ["dependency_cycle"]
    assert len(problems[0].message) < 2000
