"""What others wrote cannot act on the terminal; a closed, full or ASCII output ends no command in a traceback."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spinyard import cli
from spinyard.cli.streams import Printable, coloured
from spinyard.cli.table import hanging, table_lines
from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object

EVIL = "me\x1b[2J\x1b[1;1H\x07\r\x9b31m\u202e\nState:  serving"
ACTING = "\x1b\x07\r\x9b\u202e"


@pytest.fixture(autouse=True)
def a_service_of_somebody_else(stub: Stub) -> None:
    service = make_object("Service", "web", spec={"owner": EVIL, "template": {"command": ["run", EVIL]}}, message=EVIL)
    service["metadata"]["annotations"] = {"note": EVIL}
    service["status"]["conditions"] = [{"type": "Available", "status": "False", "reason": "No", "message": EVIL}]
    stub.add(service)
    spin = make_object("Spin", "web-aaaaaa", state="failed", message=EVIL)
    spin["metadata"]["ownerReferences"] = [{"uid": "uid-service-web"}]
    stub.add(spin)
    stub.logs["web-aaaaaa"] = EVIL.encode() + b"\n"
    stub.answers[("GET", "/v1/namespaces/default/services/web/explain")] = (
        200,
        {"cause": EVIL, "evidence": [{"source": "log", "text": EVIL}], "who": "user", "nextStep": EVIL},
    )


@pytest.mark.parametrize(
    "words",
    [
        ["get", "all"],
        ["get", "svc", "-o", "wide"],
        ["get", "spins"],
        ["describe", "svc", "web"],
        ["explain", "svc", "web"],
        ["get", f"svc/{EVIL}"],
        ["apply", "-f", f"/no/{EVIL}"],
    ],
    ids=lambda words: " ".join(words[:3])[:20],
)
def test_nothing_that_others_wrote_acts_on_the_terminal_or_begins_a_line(run: Run, words: list[str]) -> None:
    result = run(*words)
    shown = result.out + result.err
    assert "me\\x1b[2J" in shown or words[1] == "all", "it is shown, in letters"
    assert not set(shown) & set(ACTING)
    forged = [line for line in shown.splitlines() if line.startswith("State:") and "pending" not in line]
    assert forged == []


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_data_is_what_it_was_and_still_does_not_act(run: Run, output: str) -> None:
    text = run("get", "svc/web", "-o", output).out
    assert not set(text) & set(ACTING)
    found = json.loads(text) if output == "json" else yaml.safe_load(text)
    assert found["spec"]["owner"] == EVIL


def test_a_log_keeps_its_colours_and_loses_what_moves_the_cursor() -> None:
    assert coloured("\x1b[31mred\x1b[2Jgone") == "\x1b[31mred\\x1b[2Jgone\x1b[0m"
    assert coloured("plain\rforged") == "plain\\rforged"


def test_a_log_line_cannot_write_over_the_name_before_it(run: Run, stub: Stub) -> None:
    other = make_object("Spin", "web-bbbbbb", state="serving")
    other["metadata"]["ownerReferences"] = [{"uid": "uid-service-web"}]
    stub.add(other)
    stub.logs["web-bbbbbb"] = b"progress\rweb-aaaaaa  forged\n"
    assert "web-bbbbbb  progress\\rweb-aaaaaa  forged" in run("logs", "web").out.splitlines()


def test_our_own_colours_pass() -> None:
    written = io.StringIO()
    Printable(written).write("\x1b[32mserving\x1b[0m \x1b[8mhidden")
    assert written.getvalue() == "\x1b[32mserving\x1b[0m \\x1b[8mhidden"


def test_a_colour_ends_with_the_text_that_has_it() -> None:
    written = io.StringIO()
    Printable(written).write("Owner:  me\x1b[31m")
    assert written.getvalue() == "Owner:  me\x1b[31m\x1b[0m"


def test_a_newline_begins_no_line_of_ours() -> None:
    assert hanging("Owner:  ", "a\nState:  ok", io.StringIO()) == "Owner:  a\n        State:  ok"
    assert table_lines(["A", "B"], [["x\ny", "z"]])[1:] == ["x y   z"]


def spinyard(*words: str, home: Path, shell: str = "", **env: str) -> subprocess.CompletedProcess[bytes]:
    command = f'exec "$0" -m spinyard.cli "$@" {shell}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, *words],
        env={**os.environ, "SPINYARD_HOME": str(home), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "shell", "code"),
    [
        (["get", "all"], ">&-", 0),
        (["get", "all", "-o", "json"], ">&-", 0),
        (["get", "all"], ">/dev/full", 4),
        (["get", "all", "-o", "json"], ">/dev/full", 4),
        (["logs", "web"], ">/dev/full", 4),
        (["get", "nope"], "2>/dev/full", 4),
        (["get", "nope"], "2>&-", 2),
        (["get", "all"], "| true", 0),
        (["apply", "-f", "-"], "<&-", 2),
        (["get", "all", "--home", "~nobody-of-that-name/x"], "", 2),
        (["get", "svc", "-l", "a=$(printf '\\377')"], "", 2),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_no_stream_and_no_argument_ends_in_a_traceback(home: Path, words: list[str], shell: str, code: int) -> None:
    words = [word if "$(" not in word else "a=\udcff" for word in words]
    result = spinyard(*words, home=home, shell=shell)
    assert result.returncode == code, result.stderr.decode(errors="replace")
    assert b"Traceback" not in result.stderr
    assert b"Exception ignored" not in result.stderr


@pytest.mark.parametrize("words", [["describe", "svc", "web"], ["get", "svc", "-o", "json"], ["logs", "web"]])
def test_letters_that_the_encoding_lacks_are_spelt(home: Path, stub: Stub, words: list[str]) -> None:
    stub.add(make_object("Service", "other", spec={"owner": "müller"}))
    result = spinyard(*words, home=home, PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    if "json" in words:
        owners = [item["spec"]["owner"] for item in json.loads(result.stdout)["items"]]
        assert "müller" in owners


def test_ctrl_c_while_it_is_still_being_imported_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "spinyard.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "spinyard.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert cli.main(["version"]) == 3
    assert capfd.readouterr().err == "spinyard: interrupted before anything was asked\n"
