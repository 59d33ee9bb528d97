"""What scripts/check_docs.py reads out of a document, and what it says of commands that do not exist."""

from pathlib import Path
from types import ModuleType

import pytest

PAGE = """
<!-- run -->
```console
$ echo one \\
    two
this is output
$ test -f web.yaml
```

<!-- file: web.yaml -->

```yaml
kind: Service
```

Prose between takes a mark away:
<!-- run -->
like this.

```sh
# a comment
spinyard get spins
```
"""


def test_blocks_their_marks_and_their_commands_are_read(check_docs: ModuleType) -> None:
    run, file, asked = check_docs.blocks_of(PAGE, Path("page.md"))
    assert (run.run, run.commands) == (True, ["echo one  two", "test -f web.yaml"])
    assert (file.run, file.file_name, file.text) == (False, "web.yaml", "kind: Service")
    assert (asked.run, asked.commands, asked.place) == (False, ["spinyard get spins"], "page.md:20")


@pytest.fixture
def helped(check_docs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    known = {"get": "Usage: spinyard get KIND\n --output -o  how\n --wait --no-wait", "up": "Usage: spinyard up"}
    monkeypatch.setattr(check_docs, "spinyard_help", known.get)
    return check_docs


@pytest.mark.parametrize(
    ("command", "problems"),
    [
        pytest.param("spinyard get spins -o json --output=json", [], id="known"),
        pytest.param("spinyard --help", [], id="no subcommand"),
        pytest.param("FOO=1 .venv/bin/spinyard get spins --no-wait | head", [], id="prefix, path and pipe"),
        pytest.param("spinyard gte spins", ["`spinyard gte` does not exist"], id="unknown command"),
        pytest.param("spinyard get --out", ["`spinyard get` does not know --out"], id="part of an option"),
        pytest.param("cd x && spinyard up --fast", ["`spinyard up` does not know --fast"], id="second in a chain"),
        pytest.param("spinyard up -- curl --fail", [], id="words after -- belong to somebody else"),
        pytest.param("make demo ARGS=--keep", [], id="make target"),
        pytest.param("make dmeo", ["`make dmeo` does not exist"], id="no such make target"),
        pytest.param("ls --whatever", [], id="other programs are not asked"),
    ],
)
def test_commands_that_are_not_run_are_asked_for(helped: ModuleType, command: str, problems: list[str]) -> None:
    assert list(helped.unknown_words(command)) == problems


def test_blocks_of_a_document_share_one_directory(check_docs: ModuleType) -> None:
    page = "<!-- run -->\n```sh\necho 1 > a\n```\n<!-- run -->\n```sh\ntest -f a\n```\n"
    assert check_docs.run_blocks(list(check_docs.blocks_of(page, Path("page.md")))) == []


def test_a_command_that_fails_is_told_with_its_output(check_docs: ModuleType) -> None:
    page = "<!-- run -->\n```sh\necho this is why; false\necho not reached\n```\n"
    (problem,) = check_docs.run_blocks(list(check_docs.blocks_of(page, Path("page.md"))))
    assert problem.startswith("page.md:2: exit code 1")
    assert "this is why" in problem and "not reached" not in problem


def test_a_block_that_hangs_is_ended(check_docs: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_docs, "RUN_SECONDS", 0.3)
    page = "<!-- run -->\n```sh\nsleep 60\n```\n"
    (problem,) = check_docs.run_blocks(list(check_docs.blocks_of(page, Path("page.md"))))
    assert "not finished" in problem
