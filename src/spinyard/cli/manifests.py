"""Files to the JSON objects that the API takes. All that is wrong in all files is told at once, as a compiler does."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinyard.cli.exits import Usage
from spinyard.cli.output import dig
from spinyard.errors import InvalidInput

if TYPE_CHECKING:
    from spinyard.manifest import Manifest, Problem

Json = dict[str, Any]

FILE_BYTES_MAX = 64 << 20
PROBLEMS_SHOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class Named:
    """Which object a document is about."""

    kind: str
    namespace: str
    name: str


def read_manifests(files: Sequence[str], namespace: str = "default") -> list[Json]:
    """Checked objects in the order of the files. Relative paths in a file are taken from the file's own directory.

    `namespace` is for those that name none. Raises Usage for a file that cannot be read, InvalidInput with every
    problem of every file.
    """
    from spinyard.manifest import load

    if not files:
        raise Usage("which file? give -f FILE")
    problems: list[Problem] = []
    objects: list[Json] = []
    for path in _expand(files):
        text, source = _read(path)
        base_dir = os.getcwd() if path == "-" else os.path.dirname(os.path.abspath(path))
        manifests, found = load(text, source, base_dir=base_dir, read_file=_read_contract)
        problems += found
        if not problems:
            objects += _published(manifests, text, namespace)
    if problems:
        raise _invalid(problems)
    if not objects:
        raise Usage(f"no object in {', '.join(files)}")
    return objects


def named(item: Json) -> Named:
    meta = item.get("metadata") or {}
    return Named(str(item["kind"]), str(meta.get("namespace") or "default"), str(meta["name"]))


def problem_text(problem: Problem) -> str:
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


def _invalid(problems: Sequence[Problem]) -> InvalidInput:
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
            if sys.stdin is None:
                raise Usage("standard input is closed")
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


def _read_contract(path: str) -> bytes:
    from spinyard.manifest.spinout_shapes import CONTRACT_BYTES_MAX

    with open(path, "rb") as file:
        return file.read(CONTRACT_BYTES_MAX + 1)


def _published(manifests: Sequence[Manifest], text: str, namespace: str) -> list[Json]:
    from spinyard.manifest import to_json

    given = _namespaces_given(text)
    out: list[Json] = []
    for index, manifest in enumerate(manifests):
        is_given = len(given) != len(manifests) or given[index]
        meta = {"name": manifest.name, "namespace": manifest.namespace if is_given else namespace}
        more = {"labels": dict(manifest.labels), "annotations": dict(manifest.annotations)}
        template = next(iter(manifest.templates.values()), None)
        out.append(to_json(manifest.kind, {**meta, **more}, manifest.spec, template))
    return out


def _namespaces_given(text: str) -> list[bool]:
    """For each object of a text that is right, whether it names its namespace itself."""
    from spinyard.manifest.compose import Composer

    items: list[object] = []
    for node in Composer(text, "", []).documents():
        document = node.value
        listed = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
        items += listed if isinstance(listed, list) else [document]
    return [bool(dig(item, "metadata", "namespace")) for item in items]
