"""The contract of a Spinout: a file that the command line reads, put into the object as the text that is sent.

Nothing here opens a file: who may read one brings `read_file`. The server does not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from posixpath import dirname, join, normpath

from spinyard.manifest.compose import Composer, Node
from spinyard.manifest.objects import PROBLEMS_MAX, Problem
from spinyard.manifest.report import Path, Report
from spinyard.manifest.scalars import shown
from spinyard.manifest.spinout_shapes import CONTRACT_BYTES_MAX, ContractShape

ReadFile = Callable[[str], bytes]
"""An absolute path to at most CONTRACT_BYTES_MAX + 1 bytes. Raises OSError."""

_AT: Path = ("spec", "contract")


def inline(raw: object, report: Report, base_dir: str, read_file: ReadFile | None) -> None:
    """Puts `text` in the place of `file`. What is wrong inside the file is told with its own lines. Changes `raw`."""
    spec = raw.get("spec") if isinstance(raw, dict) else None
    contract = spec.get("contract") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(contract, dict) or read_file is None:
        return
    named = contract.get("file")
    if not isinstance(named, str) or not named or "text" in contract:
        return
    try:
        data = read_file(normpath(join(base_dir, named)))
        text = data.decode("utf-8-sig")
    except OSError as cause:
        code = "no_such_file" if isinstance(cause, FileNotFoundError) else "unreadable_file"
        report.add((*_AT, "file"), code, f"cannot read {named[:200]}: {cause.strerror or cause}", "an OpenAPI document")
        text = ""
    except UnicodeDecodeError as cause:
        report.add((*_AT, "file"), "invalid_contract", f"{named[:200]} is not UTF-8 text (byte {cause.start})")
        text = ""
    else:
        if len(data) > CONTRACT_BYTES_MAX:
            message = f"{named[:200]} is larger than {CONTRACT_BYTES_MAX >> 10} KiB"
            report.add((*_AT, "file"), "too_large", message, "a contract of this boundary alone")
            text = ""
    if not text:
        del spec["contract"]
        return
    source = named if named.startswith("/") or report.source.startswith("<") else join(dirname(report.source), named)
    found, problems = read(text, source)
    del contract["file"]
    contract["text"] = text if found is None else canonical(found)
    report.problems.extend(problems[: max(0, PROBLEMS_MAX - len(report.problems))])
    if problems:
        del spec["contract"]


def check_text(raw: object, report: Report) -> None:
    """A text that came as it is, such as from another client."""
    spec = raw.get("spec") if isinstance(raw, dict) else None
    contract = spec.get("contract") if isinstance(spec, dict) else None
    text = contract.get("text") if isinstance(contract, dict) else None
    if not isinstance(text, str):
        return
    if len(text.encode(errors="replace")) > CONTRACT_BYTES_MAX:
        return
    _, problems = read(text, report.source)
    for problem in problems:
        place = f"line {problem.line}, column {problem.column}: " if problem.line else ""
        report.add((*_AT, "text"), problem.code, place + problem.message, problem.expected, problem.suggestion)


def contract_of(shape: ContractShape | None) -> tuple[str, str]:
    """Its canonical JSON, and the digest that names it."""
    if shape is None or not shape.text:
        return "", ""
    found, _ = read(shape.text, "")
    assert found is not None, "checked before"
    text = canonical(found)
    return text, "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def read(text: str, source: str) -> tuple[dict[str, object] | None, list[Problem]]:
    """One OpenAPI document of version 3, as YAML or JSON."""
    problems: list[Problem] = []
    roots = list(Composer(text, source, problems).documents())
    if problems:
        return None, problems
    if len(roots) != 1:
        return None, [_problem(source, None, f"there are {len(roots)} documents", "one OpenAPI document")]
    root = roots[0]
    document = root.value
    if not isinstance(document, dict):
        return None, [_problem(source, root, f"got {shown(document)}", "an OpenAPI document")]
    version = document.get("openapi")
    if not (isinstance(version, str) and version.startswith(("3.0", "3.1"))):
        said = "it does not say which version of OpenAPI it is" if version is None else f"openapi is {shown(version)}"
        problems.append(_problem(source, _child(root, "openapi"), said, 'openapi: "3.0.x" or "3.1.x"'))
    paths = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        said = "paths is missing or empty" if not paths else f"paths is {shown(paths)}"
        problems.append(_problem(source, _child(root, "paths"), said, "a mapping of paths to operations"))
    return (None if problems else document), problems


def _child(root: Node, name: str) -> Node:
    return root.children.get(name, root) if isinstance(root.children, dict) else root


def _problem(source: str, node: Node | None, message: str, expected: str) -> Problem:
    line, column = (node.line, node.column) if node is not None else (1, 1)
    return Problem(source, line, column, "", "invalid_contract", message, expected)
