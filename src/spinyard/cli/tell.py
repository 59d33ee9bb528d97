"""How an error is told: what happened, whose fault, what next, and the stable code."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from spinyard import errors
from spinyard.cli.exits import Exit, exit_of
from spinyard.cli.table import hanging

_FAULTS = {
    "user": "the request or the file",
    "provider": "the machine or an outside service",
    "spinyard": "Spinyard or the machine it runs on",
}


def error_lines(error: errors.SpinyardError) -> list[str]:
    """For stderr; the first line is always `spinyard: <what happened>`."""
    lines = [_line("spinyard: ", error.message)]
    lines += ["  " + "\n    ".join(line.splitlines()) for line in problem_lines(error)]
    if error.fault in _FAULTS:
        lines.append(f"  fault: {_FAULTS[error.fault]}")
    if error.next_step:
        lines.append(_line("  next:  ", error.next_step))
    lines.append(f"  code:  {error.code}")
    return lines


def _line(lead: str, text: str) -> str:
    return hanging(lead, text, sys.stderr)


def problem_lines(error: errors.SpinyardError) -> list[str]:
    """The single problems inside an error, where it carries some: `where: message`."""
    problems = error.details.get("errors") or error.details.get("problems") or []
    if not isinstance(problems, list):
        return []
    return [_problem_line(problem) for problem in problems]


def _problem_line(problem: object) -> str:
    if not isinstance(problem, dict):
        return str(problem)
    if problem.get("text"):
        return str(problem["text"])
    path = problem.get("path") or problem.get("pointer") or ""
    message = problem.get("message") or problem.get("detail") or ""
    where = ":".join(str(problem[part]) for part in ("source", "line", "column") if problem.get(part))
    hints = [str(problem[part]) for part in ("expected",) if problem.get(part)]
    hints = [f"expected {hint}" for hint in hints]
    if problem.get("suggestion"):
        hints.append(f"did you mean {problem['suggestion']}?")
    text = ": ".join(part for part in (where, str(path), str(message)) if part)
    return f"{text} ({'; '.join(hints)})" if hints else text


def error_object(error: errors.SpinyardError) -> dict[str, Any]:
    """What `-o json` prints on stdout instead of the result."""
    return {
        "apiVersion": "spinyard.dev/v1",
        "kind": "Error",
        "code": error.code,
        "message": error.message,
        "fault": error.fault,
        "nextStep": error.next_step,
        "retryable": error.retryable,
        "retryAfter": error.retry_after_seconds,
        "exitCode": int(exit_of(error)),
        "details": dict(error.details),
    }


def tell(error: errors.SpinyardError, *, as_json: bool) -> Exit:
    """Words always go to stderr; with `-o json` the error object goes to stdout, so that a pipe always reads JSON."""
    for line in error_lines(error):
        print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(error_object(error), default=str))
    return exit_of(error)


def wants_json(argv: Sequence[str]) -> bool:
    """Whether `-o json` was asked for, also when the rest of the command line is wrong."""
    own = list(argv[: argv.index("--")]) if "--" in argv else list(argv)
    pairs = zip(own, [*own[1:], ""], strict=True)
    return any(
        (word in ("-o", "--output") and after == "json") or word in ("-ojson", "-o=json", "--output=json")
        for word, after in pairs
    )
