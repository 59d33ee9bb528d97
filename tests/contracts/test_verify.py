"""A running unit is asked: one that keeps its contract, one that breaks it in each of its ways, and odd places."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from spinyard.cli import contract_verify
from spinyard.cli.contract_verify import check_place, conclude
from spinyard.cli.exits import Usage
from spinyard.errors import Unreachable
from spinyard_sdk.unit import serve
from tests.cli.conftest import Run, home, run, stub  # noqa: F401 - fixtures
from tests.contracts import marked
from tests.contracts.unit import BREAKS, KNOWN, app, make, serving


@pytest.fixture
def contract(tmp_path: Path) -> str:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(app.openapi()))
    return str(path)


@pytest.mark.timeout(90)
def test_a_unit_that_keeps_its_contract_passes(run: Run, contract: str) -> None:  # noqa: F811
    with serving(make()) as url:
        words = ("--seconds", "60", "--requests", "80", "--param", f"id={KNOWN}", "-o", "json")
        result = run("contract", "verify", url, "--contract", contract, *words)
    found = json.loads(result.out)
    assert (found["verdict"], result.code) == ("pass", 0), found
    assert len(found["operations"]) == 2 + len(BREAKS)
    assert all(one["statuses"].get("200") for one in found["operations"])
    assert 50 < found["requests"] <= 80
    assert len(found["contractDigest"]) == 64


@pytest.mark.timeout(90)
def test_a_unit_that_breaks_its_contract_fails_with_a_sample_of_each_break(run: Run, contract: str) -> None:  # noqa: F811
    with serving(make(breaks=True)) as url:
        result = run(
            *("contract", "verify", url, "--contract", contract, "--seconds", "60", "--requests", "50", "-o", "json"),
            *("--request-seconds", "3", "--header", "Authorization: Bearer do-not-show", "--param", f"id={KNOWN}"),
        )
    found = json.loads(result.out)
    assert (found["verdict"], result.code) == ("fail", 1)
    checks = {(one["operation"], one["check"], one["status"]) for one in found["samples"]}
    assert {
        ("POST /fails", "ServerError", "500"),
        ("POST /lies", "JsonSchemaError", "200"),
        ("POST /undeclared", "UndefinedStatusCode", "201"),
        ("POST /redirects", "UndefinedStatusCode", "307"),
        ("POST /plain", "UndefinedContentType", "200"),
        ("POST /hangs", "NoAnswer", ""),
    } <= checks
    assert {operation for operation, _, _ in checks} == {f"POST /{name}" for name in BREAKS}
    assert all(one["request"].startswith("curl ") for one in found["samples"])
    assert "do-not-show" not in result.out + result.err


@pytest.mark.timeout(90)
def test_a_unit_that_never_succeeds_keeps_nothing_that_could_be_seen(run: Run, contract: str) -> None:  # noqa: F811
    with serving(make()) as url:
        words = ("--route", "GET /photos/{id}", "--seconds", "60", "--requests", "15", "--seed", "5")
        result = run("contract", "verify", url, "--contract", contract, *words)
    assert result.code == 3, result.out
    assert "GET /photos/{id} never succeeded" in result.out
    assert "--param NAME=VALUE" in result.out


@pytest.mark.timeout(90)
def test_a_unit_served_by_the_sdk_keeps_the_contract_that_was_extracted_from_it(
    run: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Two readings of the same type hints, of the contract and of the server, agree."""
    document = tmp_path / "thumbnails.json"
    document.write_text(run("contract", "extract", marked.__file__, "-o", "json").out)
    with serving(serve(marked)) as url:
        words = ("--seconds", "60", "--requests", "60", "-o", "json")
        result = run("contract", "verify", url, "--contract", str(document), *words)
    found = json.loads(result.out)
    assert (found["verdict"], result.code) == ("pass", 0), found
    assert {one["operation"] for one in found["operations"]} == {
        *("POST /thumbnails/count", "POST /thumbnails/draw", "POST /thumbnails/move", "POST /thumbnails/tags")
    }


def asked(**statuses: int) -> dict[str, Any]:
    return {"kind": "asked", "operation": "GET /a", "statuses": {k[1:]: n for k, n in statuses.items()}, "why": ""}


BROKEN = {"kind": "broken", "operation": "GET /a", "check": "ServerError", "status": "500"}
ENDED = {"kind": "ended", "requests": 9, "inTime": True}
CONCLUSIONS: list[Any] = [
    pytest.param([asked(_200=9), ENDED], "pass", "9 answers", id="kept"),
    pytest.param([BROKEN, asked(_200=9), ENDED], "fail", "broken: GET /a", id="broken"),
    pytest.param([BROKEN], "fail", "broken: GET /a", id="broken, and ended early"),
    pytest.param([], "error", "ended with exit code 1", id="no answer of the process"),
    pytest.param([asked(_200=9)], "error", "ended with exit code 1", id="not to its end"),
    pytest.param([asked(_404=9), ENDED], "inconclusive", "never succeeded (9 x 404)", id="only 404"),
    pytest.param([asked(), ENDED], "inconclusive", "never succeeded (not asked in time)", id="no time"),
    pytest.param([ENDED], "inconclusive", "no operation", id="nothing to ask"),
    pytest.param(
        [{**asked(), "why": "no value"}, ENDED], "inconclusive", "could not be asked: no value", id="no value"
    ),
    pytest.param(
        [asked(_200=1), {"kind": "skipped", "why": "x"}, ENDED], "inconclusive", "not understood", id="skipped"
    ),
]


@pytest.mark.parametrize(("lines", "verdict", "why"), CONCLUSIONS)
def test_missing_answers_never_pass(lines: list[dict[str, Any]], verdict: str, why: str) -> None:
    found = conclude(lines, "ended with exit code 1")
    assert found.verdict == verdict
    assert why in found.why


def test_a_unit_elsewhere_is_not_asked_unless_somebody_says_so() -> None:
    with pytest.raises(Usage, match="is not this machine") as caught:
        check_place("http://192.0.2.1:80", allow_remote=False)
    assert caught.value.code == "remote_refused"
    for url in ("ftp://127.0.0.1/", "127.0.0.1:80", "http://", "http://127.0.0.1:99999"):
        with pytest.raises(Usage):
            check_place(url, allow_remote=True)


def test_a_unit_that_does_not_run_is_no_broken_contract(run: Run, contract: str) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable):
        check_place(f"http://127.0.0.1:{port}", allow_remote=False)
    assert run("contract", "verify", f"http://127.0.0.1:{port}", "--contract", contract).code == 4


def test_without_schemathesis_it_says_what_to_install(
    run: Run,  # noqa: F811
    contract: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contract_verify.importlib.util, "find_spec", lambda name: None)
    result = run("contract", "verify", "http://127.0.0.1:1", "--contract", contract)
    assert result.code == 4
    assert "pip install 'spinyard[contracts]'" in result.err
    assert "code:  extra_missing" in result.err
