"""`spinyard contract extract` and `diff`: sources, exit codes, and the user's code, which may do anything."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from spinyard.cli import contract_source
from spinyard.spinout.contract import CHECKS, Severity
from tests.cli.conftest import Run, home, run, stub  # noqa: F401 - fixtures
from tests.contracts.unit import make, serving

ROOT = Path(__file__).resolve().parents[2]
MARKED = """
from spinyard_sdk.boundary import boundary
print("a program may say something when it starts")

@boundary("thumbnails", key=lambda photo_id: photo_id)
def render(photo_id: str, size: int = 100) -> bytes:
    raise NotImplementedError
"""


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = tmp_path / "marked.py"
    path.write_text(MARKED)
    return path


def test_a_file_with_marked_functions_gives_yaml_that_is_the_same_each_time(run: Run, marked: Path) -> None:  # noqa: F811
    first, second = (run("contract", "extract", str(marked)) for _ in range(2))
    assert (first.code, first.err) == (0, "")
    assert first.out == second.out
    assert list(yaml.safe_load(first.out)["paths"]) == ["/thumbnails/render"]
    assert json.loads(run("contract", "extract", str(marked), "-o", "json").out) == yaml.safe_load(first.out)


def test_what_was_extracted_differs_in_nothing_from_where_it_came_from(run: Run, marked: Path, tmp_path: Path) -> None:  # noqa: F811
    kept = tmp_path / "contract.yaml"
    kept.write_text(run("contract", "extract", str(marked)).out)
    same = run("contract", "diff", str(kept), str(marked))
    assert (same.code, same.out) == (0, "no difference that a caller could tell\n")
    marked.write_text(MARKED.replace("size: int = 100", "size: int"))
    result = run("contract", "diff", str(kept), str(marked))
    assert result.code == 1
    assert "request-property-became-required" in result.out
    assert "POST /thumbnails/render body.size" in result.out
    assert "not compatible: 1 breaking, 1 note, 0 safe" in result.out
    accepted = run("contract", "diff", str(kept), str(marked), "--accept", "request-property-became-required")
    assert accepted.code == 0
    found = json.loads(run("contract", "diff", str(kept), str(marked), "-o", "json").out)
    assert (found["kind"], found["compatible"], found["counts"]["breaking"]) == ("ContractDiff", False, 1)


def test_an_application_a_url_and_a_module_are_sources(run: Run) -> None:  # noqa: F811
    by_name = run("contract", "extract", "tests.contracts.unit:app", "--route", "GET /photos/{id}", "-o", "json")
    assert by_name.code == 0, by_name.err
    assert list(json.loads(by_name.out)["paths"]) == ["/photos/{id}"]
    with serving(make()) as url:
        by_url = run("contract", "extract", f"{url}/openapi.json", "--route", "GET /photos/{id}", "-o", "json")
        missing = run("contract", "extract", f"{url}/nothing")
        page = run("contract", "extract", f"{url}/photos/7")
    assert by_url.out == by_name.out
    assert (missing.code, page.code) == (7, 2)
    assert "answered 404" in missing.err
    assert "no OpenAPI document" in page.err
    assert run("contract", "extract", f"{url}/openapi.json").code == 4


def test_a_module_of_a_package_may_import_its_neighbours(run: Run, tmp_path: Path) -> None:  # noqa: F811
    package = tmp_path / "parent"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("from typing import Literal\nSize = Literal['small', 'big']\n")
    (package / "thumbs.py").write_text("from .words import Size\n" + MARKED.replace("size: int = 100", "size: Size"))
    result = run("contract", "extract", str(package / "thumbs.py"))
    assert result.code == 0, result.err
    assert "small" in result.out


REFUSED: list[Any] = [
    pytest.param(
        "import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'", id="import"
    ),
    pytest.param("raise SystemExit(0)", "SystemExit: 0", id="exit"),
    pytest.param("import os\nos._exit(7)", "ended its process (exit code 7)", id="gone"),
    pytest.param("import os\nos.kill(os.getpid(), 9)", "ended its process (exit code -9)", id="killed"),
    pytest.param("x = (", "SyntaxError", id="syntax"),
    pytest.param("x = 1", "has no function or class that is marked with @boundary", id="nothing marked"),
    pytest.param("class A: __spinyard_boundary__ = 1", "not that of @boundary", id="another mark"),
    pytest.param(
        "from fastapi import FastAPI\na, b = FastAPI(), FastAPI()", "and 2 applications", id="two applications"
    ),
    pytest.param(MARKED.replace("photo_id: str", "photo_id"), "marked.py:5: NotTyped", id="no hint"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_code_that_gives_no_contract_is_told_in_words(run: Run, marked: Path, text: str, words: str) -> None:  # noqa: F811
    marked.write_text(text)
    result = run("contract", "extract", str(marked), "-o", "json")
    assert result.code == 2
    assert words in result.err
    assert "code:  cannot_extract" in result.err
    assert json.loads(result.out)["kind"] == "Error"


def test_code_that_never_ends_is_ended_with_all_that_it_started(
    run: Run,  # noqa: F811
    marked: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pid_file = tmp_path / "pid"
    marked.write_text(
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen(['sleep', '300'])\nopen({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(300)\n"
    )
    monkeypatch.setattr(contract_source, "IMPORT_SECONDS", 3.0)
    result = run("contract", "extract", str(marked))
    assert result.code == 2
    assert "did not end within 3 s" in result.err
    deadline = time.monotonic() + 10
    while is_running(int(pid_file.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """A zombie that waits for its parent to look is not running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


WRONG: list[Any] = [
    pytest.param(("extract",), 2, "0 sources were given", id="no source"),
    pytest.param(("extract", "a.yaml", "b.yaml"), 2, "2 sources were given", id="two sources"),
    pytest.param(("extract", "--rout", "x"), 2, "unknown option --rout", id="unknown option"),
    pytest.param(("extract", "nothing.yaml"), 7, "there is no file nothing.yaml", id="no file"),
    pytest.param(("extract", "nothing.py"), 7, "there is no file nothing.py", id="no program"),
    pytest.param(("extract", "."), 2, "cannot read .", id="a directory"),
    pytest.param(("extract", "json:nothing"), 2, "json has no nothing", id="no object"),
    pytest.param(("extract", "json:dumps"), 2, "json:dumps is a function", id="no contract"),
    pytest.param(
        ("extract", "a.yaml", "--accept", "path-removed"), 2, "--accept means nothing for extract", id="accept"
    ),
    pytest.param(("diff", "-", "-"), 2, "standard input can be read once only", id="input twice"),
    pytest.param(("diff", "a", "b", "--accept", "no-such-id"), 2, "there is no finding no-such-id", id="no such id"),
    pytest.param(("verify", "http://127.0.0.1:1"), 2, "which contract?", id="no contract given"),
    pytest.param(("verify", "http://127.0.0.1:1", "--contract", "a", "--seconds", "0"), 2, "--seconds", id="no time"),
    pytest.param(
        ("verify", "http://x", "--contract", "a", "--header", "tok"), 2, "each --header is NAME:VALUE", id="header"
    ),
    pytest.param(("change",), 2, "", id="no such verb"),
]


@pytest.mark.parametrize(("words", "code", "message"), WRONG)
def test_a_wrong_command_says_what_is_wrong(run: Run, words: tuple[str, ...], code: int, message: str) -> None:  # noqa: F811
    result = run("contract", *words)
    assert result.code == code, result.err
    assert message in result.err


def test_with_routes_only_those_are_compared_and_one_that_is_gone_is_a_break(run: Run, tmp_path: Path) -> None:  # noqa: F811
    def photos(*methods: str) -> str:
        path = tmp_path / f"{'-'.join(methods)}.json"
        operations = {method: {"responses": {"200": {"description": "x"}}} for method in methods}
        path.write_text(json.dumps({"openapi": "3.1.0", "paths": {"/photos": operations, "/users": operations}}))
        return str(path)

    assert run("contract", "diff", photos("get", "put"), photos("get"), "--route", "GET /photos").code == 0
    result = run("contract", "diff", photos("get", "put"), photos("get"), "--route", "/photos")
    assert (result.code, result.out.count("method-removed")) == (1, 1)


def test_each_breaking_id_stands_in_the_documentation() -> None:
    text = (ROOT / "docs" / "contracts.md").read_text()
    known = set(re.findall(r"`([a-z-]+)`", text))
    eight = (
        "minimum",
        "maximum",
        "min-length",
        "max-length",
        "min-items",
        "max-items",
        "min-properties",
        "max-properties",
    )
    assert {*eight, "-tightened", "-loosened"} <= known
    known |= {f"{word}-{way}" for word in eight for way in ("tightened", "loosened")}
    breaking = {check for check, severity in CHECKS.items() if severity is Severity.BREAKING}
    missing = {one for one in breaking if not {one, one.partition("-")[2]} & known}
    assert not missing
