"""The contract of a Spinout: a file that the command line reads, put into the object as the text that is sent.

Nothing here opens a file: who may read one brings `read_file`. The server does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from posixpath import dirname, join, normpath

from spinyard.manifest.compose import Composer, Node
from spinyard.manifest.objects import PROBLEMS_MAX, Problem
from spinyard.manifest.report import Path, Report
from spinyard.manifest.spinout_shapes import CONTRACT_BYTES_MAX, ContractShape
from spinyard.spinout.contract import document
from spinyard.spinout.contract.validate import check

ReadFile = Callable[[str], bytes]
"""An absolute path to at most CONTRACT_BYTES_MAX + 1 bytes. Raises OSError."""

_SAID_PLACE = re.compile(r"\bline (\d+)(?:, column (\d+))?")
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
    found, problem = read(text, source)
    if problem is None and len(found) > CONTRACT_BYTES_MAX:
        problem = Problem(source, 1, 1, "", "too_large", f"as JSON it is larger than {CONTRACT_BYTES_MAX >> 10} KiB")
    if problem is None:
        del contract["file"]
        contract["text"] = found
        return
    del spec["contract"]
    if len(report.problems) < PROBLEMS_MAX:
        report.problems.append(problem)


def check_text(raw: object, report: Report) -> None:
    """A text that came as it is, such as from another client."""
    spec = raw.get("spec") if isinstance(raw, dict) else None
    contract = spec.get("contract") if isinstance(spec, dict) else None
    text = contract.get("text") if isinstance(contract, dict) else None
    if not isinstance(text, str):
        return
    if len(text.encode(errors="replace")) > CONTRACT_BYTES_MAX:
        return
    _, problem = read(text, report.source)
    if problem is not None:
        place = f"line {problem.line}: " if problem.line > 1 else ""
        report.add((*_AT, "text"), problem.code, place + problem.message, "", problem.suggestion)


def contract_of(shape: ContractShape | None) -> tuple[str, str]:
    """Its canonical JSON, and the digest that names it."""
    if shape is None or not shape.text:
        return "", ""
    found = document.read(shape.text)
    return document.canonical(found.data), "sha256:" + document.digest(found.data)


def read(text: str, source: str) -> tuple[str, Problem | None]:
    """Canonical JSON of a valid OpenAPI document, or what is wrong with it, with the line of `source`."""
    try:
        found = document.read(text)
        check(found)
    except document.InvalidContract as error:
        return "", _problem(error, text, source)
    return document.canonical(found.data), None


def _problem(error: document.InvalidContract, text: str, source: str) -> Problem:
    said = _SAID_PLACE.search(error.message)
    line, column = (int(said[1]), int(said[2] or 1)) if said else _place(text, error.pointer)
    return Problem(source, line, column, "", error.code, error.message, suggestion=error.next_step)


def _place(text: str, pointer: str) -> tuple[int, int]:
    """Of a JSON pointer, as near as the text has anything of it."""
    roots = list(Composer(text, "", []).documents())
    if not roots:
        return 1, 1
    node: Node = roots[0]
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        children = node.children
        if isinstance(children, dict) and key in children:
            node = children[key]
        elif isinstance(children, list) and key.isdecimal() and int(key) < len(children):
            node = children[int(key)]
        else:
            break
    return node.line, node.column
