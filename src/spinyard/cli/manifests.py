"""Files to the JSON objects that the API takes. All that is wrong in all files is told at once, as a compiler does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from spinyard.cli.exits import Usage
from spinyard.errors import InvalidInput

Json = dict[str, Any]

FILE_BYTES_MAX = 64 << 20
PROBLEMS_SHOWN_MAX = 200


class _Problem(Protocol):
    @property
    def source(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def expected(self) -> str: ...
    @property
    def suggestion(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Named:
    """Which object a document is about."""

    kind: str
    namespace: str
    name: str


def read_manifests(files: Sequence[str], namespace: str = "default") -> list[Json]:
    """Checked objects in the order of the files, each with its namespace filled in.

    Raises Usage for a file that cannot be read, InvalidInput with every problem of every file.
    """
    from spinyard.manifest import load
    from spinyard.manifest.compose import Composer

    if not files:
        raise Usage("which file? give -f FILE")
    problems: list[Any] = []
    objects: list[Json] = []
    for path in _expand(files):
        text, source = _read(path)
        _, found = load(text, source)
        if found:
            problems += found
            continue
        objects += [_placed(node.value, namespace) for node in Composer(text, source, []).documents()]
    if problems:
        raise _invalid(problems)
    return objects


def named(item: Json) -> Named:
    meta = item.get("metadata") or {}
    return Named(str(item["kind"]), str(meta.get("namespace") or "default"), str(meta["name"]))


def problem_text(problem: _Problem) -> str:
    """`file:line:col: path: message (expected …; did you mean …?)`"""
    place = f"{problem.source}:{problem.line}:{problem.column}" if problem.line else problem.source
    what = f"{problem.path}: {problem.message}" if problem.path else problem.message
    hints = [f"expected {problem.expected}"] if problem.expected else []
    if problem.suggestion:
        hints.append(_hint(problem.suggestion))
    return f"{place}: {what} ({'; '.join(hints)})" if hints else f"{place}: {what}"


def _hint(suggestion: str) -> str:
    """A single word is a field that was meant; a sentence is an advice of its own."""
    return suggestion if " " in suggestion else f"did you mean {suggestion}?"


def _invalid(problems: Sequence[_Problem]) -> InvalidInput:
    count = len(problems)
    shown = [
        {"text": problem_text(problem), "source": problem.source, "line": problem.line, "column": problem.column}
        | {"path": problem.path, "message": problem.message}
        for problem in problems[:PROBLEMS_SHOWN_MAX]
    ]
    if count > PROBLEMS_SHOWN_MAX:
        shown.append({"text": f"… and {count - PROBLEMS_SHOWN_MAX} more"})
    return InvalidInput(
        f"{count} problem{'s' if count != 1 else ''} in the manifest; nothing was changed",
        code="invalid_manifest",
        next_step="mend the lines above; `spinyard schema` gives editors the fields",
        details={"errors": shown},
    )


def _expand(files: Sequence[str]) -> list[str]:
    """A directory stands for its .yaml, .yml and .json files, by name."""
    out: list[str] = []
    for name in files:
        path = Path(name)
        if name == "-" or not path.is_dir():
            out.append(name)
            continue
        inside = sorted(str(one) for one in path.iterdir() if one.suffix in (".yaml", ".yml", ".json"))
        if not inside:
            raise Usage(f"{name} has no .yaml, .yml or .json file")
        out += inside
    return out


def _read(path: str) -> tuple[str, str]:
    try:
        if path == "-":
            data, source = sys.stdin.buffer.read(FILE_BYTES_MAX + 1), "<stdin>"
        else:
            with open(path, "rb") as file:
                data, source = file.read(FILE_BYTES_MAX + 1), path
    except OSError as cause:
        raise Usage(f"cannot read {path}: {cause.strerror}") from cause
    if len(data) > FILE_BYTES_MAX:
        raise Usage(f"{source} is larger than {FILE_BYTES_MAX >> 20} MiB", next_step="split it into several files")
    try:
        return data.decode(), source
    except UnicodeDecodeError as cause:
        raise Usage(f"{source} is not UTF-8 text (byte {cause.start})") from cause


def _placed(document: object, namespace: str) -> Json:
    assert isinstance(document, dict), "load() lets only mappings pass"
    meta = {**(document.get("metadata") or {})}
    meta.setdefault("namespace", namespace)
    return {**document, "metadata": meta}
