"""Run as a process of its own: asks a unit what its contract allows, with Schemathesis, and tells what came back.

One JSON line for each thing learned, so that what was found is known also when this process is ended: `broken` once for
each operation, check and status, `asked` with the counts of an operation, and `ended` at last.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import hypothesis
import hypothesis.configuration
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Err
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from spinyard.clock import SystemClock

CHECKS: list[Any] = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
ROUNDS_MAX = 20
EXAMPLES = (3, 10, 25)
"""in the first rounds, the last for all that follow: every operation is asked something before one is asked much"""
UNANSWERED_MAX = 2
ANSWER_SHOWN_MAX = 400
SAFE = ("get", "head", "options", "trace")


@dataclass(frozen=True, slots=True)
class Task:
    document: dict[str, Any]
    url: str
    seconds: float
    request_seconds: float
    requests_max: int
    seed: int
    headers: dict[str, str]
    parameters: dict[str, str]
    only_safe: bool


@dataclass(slots=True)
class Asked:
    """What one operation was asked, and how it answered."""

    statuses: Counter[str] = field(default_factory=Counter)
    broken: set[tuple[str, str]] = field(default_factory=set)
    unanswered: int = 0
    not_asked: str = ""
    trouble: str = ""
    """what could not be generated, when something was: often there is nothing that the contract forbids"""


class Fuzzer:
    def __init__(self, task: Task, out: IO[str]) -> None:
        self._task, self._out = task, out
        self._clock = SystemClock()
        self._end = self._clock.monotonic() + task.seconds
        self._sent = 0
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment would take the requests elsewhere
        self._asked: dict[str, Asked] = {}

    def run(self) -> None:
        operations = []
        # With settings of our own, not those of a file that happens to lie about.
        schema = schemathesis.openapi.from_dict(_askable(self._task.document), config=schemathesis.Config())
        for found in schema.get_all_operations():
            if isinstance(found, Err):
                self._tell("skipped", why=_first_line(found.err()))
                continue
            operation = found.ok()
            if not self._task.only_safe or operation.method.lower() in SAFE:
                operations.append(operation)
                self._asked[operation.label] = Asked()
        for round_number in range(ROUNDS_MAX):
            for operation in operations:
                if not self._is_over and not self._asked[operation.label].not_asked:
                    self._round(operation, round_number)
        for label, asked in self._asked.items():
            self._tell(
                "asked", operation=label, statuses=dict(asked.statuses), why=asked.not_asked, trouble=asked.trouble
            )
        self._tell("ended", requests=self._sent, inTime=self._clock.monotonic() < self._end)

    @property
    def _is_over(self) -> bool:
        return self._sent >= self._task.requests_max or self._clock.monotonic() >= self._end

    def _round(self, operation: Any, round_number: int) -> None:
        asked = self._asked[operation.label]
        try:
            for strategy, is_forbidden in self._strategies(operation, round_number):
                self._ask_all(operation, strategy, round_number, is_forbidden=is_forbidden)
        except Exception as error:  # noqa: BLE001 - whatever the generator cannot do is told of this operation
            if asked.statuses:
                asked.trouble = _first_line(error)
            else:
                asked.not_asked = _first_line(error)

    def _strategies(self, operation: Any, round_number: int) -> Iterator[tuple[Any, bool]]:
        """Examples of the contract first, then what it allows, then, less often, what it forbids (which is True)."""
        fixed = self._fixed(operation)
        if round_number == 0:
            for strategy in operation.get_strategies_from_examples(**fixed):
                yield strategy, False
        yield operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE, **fixed), False
        if round_number % 2 and not fixed:
            yield operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE), True

    def _fixed(self, operation: Any) -> dict[str, Any]:
        given_names = self._task.parameters
        fixed: dict[str, Any] = {}
        for place, known in (("path_parameters", operation.path_parameters), ("query", operation.query)):
            values = {one.name: given_names[one.name] for one in known if one.name in given_names}
            if values:
                fixed[place] = values
        return fixed

    def _ask_all(self, operation: Any, strategy: Any, round_number: int, *, is_forbidden: bool) -> None:
        @hypothesis.seed(self._task.seed + round_number)
        @settings(
            max_examples=EXAMPLES[min(round_number, len(EXAMPLES) - 1)],
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: schemathesis.Case[Any]) -> None:
            if not self._is_over:
                self._ask(operation, case, is_forbidden)

        ask()

    def _ask(self, operation: Any, case: schemathesis.Case[Any], is_forbidden: bool) -> None:
        """Never raises for what the unit did: it is written down, and the next request goes on."""
        asked = self._asked[operation.label]
        if asked.unanswered >= UNANSWERED_MAX:
            return
        left = self._end - self._clock.monotonic()
        self._sent += 1
        try:
            answer = case.call(
                base_url=self._task.url,
                session=self._session,
                headers=dict(self._task.headers),
                timeout=max(0.1, min(self._task.request_seconds, left)),
                allow_redirects=False,
            )
        except (requests.Timeout, requests.ConnectionError) as error:
            is_late = isinstance(error, requests.Timeout)
            if left > self._task.request_seconds or not is_late:
                late = f"no answer within {self._task.request_seconds:.1f} s"
                message = late if is_late else "the connection ended without an answer"
                asked.unanswered += 1
                self._broken(operation.label, case, "NoAnswer", message, None)
            return
        asked.unanswered = 0
        asked.statuses[str(answer.status_code)] += 1
        if is_forbidden and 400 <= answer.status_code < 500:
            return  # a contract says what happens to requests that it allows; others may be refused in any way
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as group:
            for failure in group.exceptions:
                if isinstance(failure, Failure):
                    name = type(failure).__name__
                    self._broken(operation.label, case, name, f"{failure.title}: {failure.message}", answer)

    def _broken(self, label: str, case: schemathesis.Case[Any], check: str, message: str, answer: Any) -> None:
        status = str(answer.status_code) if answer is not None else ""
        asked = self._asked[label]
        if (check, status) in asked.broken:
            return
        asked.broken.add((check, status))
        body = answer.content[:ANSWER_SHOWN_MAX].decode(errors="replace") if answer is not None else ""
        self._tell(
            "broken",
            operation=label,
            check=check,
            message=message.strip()[:1000],
            request=case.as_curl_command()[:2000],
            status=status,
            answer=body,
        )

    def _tell(self, kind: str, **what: object) -> None:
        self._out.write(json.dumps({"kind": kind, **what}) + "\n")
        self._out.flush()


def _askable(value: Any) -> Any:
    """The generator knows base64 by its name in OpenAPI 3.0 only; any other text would be refused each time."""
    if isinstance(value, list):
        return [_askable(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _askable(one) for key, one in value.items()}
    return {"format": "byte", **found} if found.get("contentEncoding") == "base64" else found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:500]


def main() -> None:
    # Whatever a library prints is none of our answer.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        with tempfile.TemporaryDirectory(prefix="spinyard-contract-") as kept:
            hypothesis.configuration.set_hypothesis_home_dir(kept)
            Fuzzer(Task(**json.load(sys.stdin)), out).run()


if __name__ == "__main__":
    main()
