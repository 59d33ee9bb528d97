"""The list of rows, their programs and docs/bench.md tell of the same ones."""

import ast
import re

import pytest

from bench import __main__ as bench

ROWS = bench.ROOT / "bench" / "rows"
DOCS = (bench.ROOT / "docs" / "bench.md").read_text()


def test_every_row_has_a_program_and_a_line_in_the_docs_and_there_are_no_others() -> None:
    listed = {row.lower() for row in bench.LIMIT_SECONDS}
    assert listed == {path.stem for path in ROWS.glob("*.py")} - {"__init__"}
    assert listed == {row.lower() for row in re.findall(r"^\| (N\d+|SDK) \|", DOCS, re.MULTILINE)}


@pytest.mark.parametrize("row", bench.LIMIT_SECONDS)
def test_a_row_says_what_it_is_and_can_be_measured(row: str) -> None:
    """Read, not imported: peers are in the set of packages of the bench alone."""
    tree = ast.parse((ROWS / f"{row.lower()}.py").read_bytes())
    assert (ast.get_docstring(tree) or "").startswith(row)
    assert "measure" in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
    quick, normal, full = bench.LIMIT_SECONDS[row]
    assert 0 < quick <= normal <= full
