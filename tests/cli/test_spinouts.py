"""Spinouts at the command line: the verbs, the table, the picture, and what a watch says and ends with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.cli.side_picture import text_of
from spinyard.cli.spinout_picture import picture
from spinyard.cli.spinout_view import PHASES, spinout_view
from spinyard.spinout.status import FORWARD
from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object, problem

ONE = "/v1/namespaces/default/spinouts/thumbnails"
NEEDS = "success rate: about 40 more requests on the unit's side"
OLD = {"requests": 1204, "failures": 2, "perSecond": 41.2, "low": 0.994, "high": 0.9996, "p95": 0.04, "ready": 3}
NEW = {"requests": 71, "failures": 2, "perSecond": 4.2, "low": 0.904, "high": 0.99, "p50": 0.0042, "ready": 1}
GATES = [
    {"name": "success rate", "verdict": "inconclusive", "why": "neither is refuted yet", "needs": 40},
    {"name": "latency p95", "verdict": "pass", "why": "40 ms, the limit is 300 ms"},
]
LEFT = {
    "phase": "ramping",
    "weight": 1000,
    "begunAt": "2026-01-01T00:00:01.000Z",
    "leftAt": "2026-01-01T00:00:12.000Z",
    "how": "passed",
    "why": "success rate: pass",
}
VERIFIED = {"kind": "SpinoutVerification", "whole": True, "records": 3, "head": "0123456789abcdef", "why": ""}
BROKEN = VERIFIED | {"whole": False, "brokenAt": 2, "why": "its content is not what was written"}


def spinout(state: str = "ramping", **status: Any) -> dict[str, Any]:
    steps = [{"weight": 10}, {"weight": 50, "pause": 30}, {"weight": 100, "pause": True}]
    spec = {"parent": "gallery", "unit": "thumbs", "steps": steps}
    present: dict[str, Any] = {"attempt": 1, "step": 1, "weight": 5000, "shownWeight": 1000, "needs": NEEDS,
                               "old": OLD, "new": NEW, "gates": GATES, "passed": [LEFT]}  # fmt: skip
    return make_object("Spinout", "thumbnails", spec=spec, state=state, **(present | status))


def drawn(item: dict[str, Any], *, width: int = 120, plain: bool = False, events: Any = ()) -> list[str]:
    now = 1767225660.0  # a minute after it was made
    return [text_of(line) for line in picture(spinout_view(item, now, events), width=width, plain=plain)]


def line_with(lines: list[str], words: str) -> str:
    (found,) = [line for line in lines if words in line]
    return found


# -- the picture -------------------------------------------------------------------------------------------------------


def test_the_whole_picture() -> None:
    """As docs/spinouts.md shows it."""
    event = {"at": "2026-01-01T00:00:12.000Z", "reason": "StepPassed", "message": "10 % passed"}
    lines = drawn(spinout(), events=[event], width=110)
    assert "\n".join(lines) in (Path(__file__).parents[2] / "docs" / "spinouts.md").read_text()
    assert lines == [
        "Spinout thumbnails  gallery -> thumbs  ramping  60s",
        "",
        "✔ proposed  ✔ analysed  ✔ decided  ✔ contracted  ✔ scaffolded  ✔ instrumented  ✔ baselined  ✔ shadowing",
        "▶ ramping  · switched  · soaking  · retiring  · completed",
        "",
        "✔     10 %  passed       in 11s",
        "▶     50 %  ramping      pause 30s",
        "     100 %               pause until promoted",
        "  weight asked         50 %  ████████████████████░░░░░░░░░░░░░░░░░░░░",
        "  weight confirmed     10 %  ████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░",
        "",
        "           SUCCESS  95 % INTERVAL                          REQUESTS  PER S     P50    P95  P99  INSTANCES",
        "  gallery   99.8 %  99.4 % - 99.9 %                    ─●     1,204   41.2       -  40 ms    -          3",
        "  thumbs    97.1 %  90.4 % - 99.0 %   ─────────────●───          71    4.2  4.2 ms      -    -          1",
        "",
        "  success rate  inconclusive  neither is refuted yet; needs about 40 more requests on the unit",
        "  latency p95   pass          40 ms, the limit is 300 ms",
        "",
        "00:00:12  StepPassed: 10 % passed",
        "",
        f"waits for {NEEDS}",
    ]


def test_the_phases_of_the_picture_are_those_of_the_engine() -> None:
    assert tuple(map(str, FORWARD)) == PHASES


@pytest.mark.parametrize(
    ("item", "marked", "last"),
    [
        (spinout("held", heldFrom="ramping", heldWhy="by ann: lunch", needs="by ann: lunch"), "‖ ramping",
         "held: by ann: lunch"),
        (spinout("held", heldFrom="soaking", heldWhy="not decided", needs="more"), "‖ soaking",
         "held: not decided; waits for more"),
        (spinout("rolling_back", stopped="it is bad", needs="0 %"), "✘ ramping",
         "going back: it is bad; waits for 0 %"),
        (spinout("rolling_back", stopped="it is bad", needs="0 %", paged=True), "✘ ramping",
         "going back: it is bad; waits for 0 %; it takes too long, and pages"),
        (spinout("rolled_back", stopped="success rate: bad"), "✘ ramping", "rolled back: success rate: bad"),
        (spinout("abandoned", stopped="no-go", passed=[]), "✘ proposed", "abandoned: no-go"),
        (spinout("completed", message="all of it"), "✔ completed", "done: all of it"),
        (spinout("proposed", needs="a start", passed=[]), "▶ proposed", "waits for a start"),
    ],
    ids=["held", "held soaking", "going back", "paged", "back", "abandoned", "completed", "proposed"],
)  # fmt: skip
def test_the_present_phase_is_marked_and_the_last_line_says_why(item: dict[str, Any], marked: str, last: str) -> None:
    lines = drawn(item)
    assert marked in " ".join(lines[2:4])
    assert lines[-1] == last


def test_a_step_that_sent_it_back_says_why() -> None:
    bad = LEFT | {"weight": 5000, "how": "failed", "why": "success rate: worse"}
    lines = drawn(spinout("rolled_back", stopped="success rate: worse", passed=[LEFT, bad]))
    failed = next(n for n, line in enumerate(lines) if line.startswith("✘     50 %"))
    assert "failed" in lines[failed] and lines[failed + 1].strip() == "success rate: worse"


def test_steps_of_an_attempt_before_are_not_this_ones() -> None:
    lines = drawn(spinout(attempt=2, attemptAt="2026-01-01T00:00:30.000Z", step=0))
    assert "✔     10 %" not in "\n".join(lines) and "attempt 2" in lines[0]


def test_copies_and_the_baseline_are_shown_while_there_are_some() -> None:
    item = spinout("shadowing", mirror=10_000, baseline={"requests": 200, "p95": 0.03}, passed=[], weight=0)
    lines = drawn(item)
    assert "100 % of the safe requests are copied to thumbs" in line_with(lines, "copied")
    assert line_with(lines, "gallery before") == "  gallery before: 100 % of 200, p95 30 ms"


def test_plain_letters_where_the_terminal_has_no_others() -> None:
    for item in (spinout(), spinout("held", heldFrom="ramping"), spinout("rolled_back")):
        assert all(line.isascii() for line in drawn(item, plain=True))


def test_one_that_has_just_been_made_can_be_drawn() -> None:
    lines = drawn(make_object("Spinout", "thumbnails", spec={"parent": "a", "unit": "b"}, state="proposed"))
    assert line_with(lines, "weight confirmed").count("█") == 0


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=200)


@given(st.integers(40, 200), st.integers(0, 10_000), st.sampled_from([*PHASES, "held", "rolled_back"]), words, words)
def test_whatever_it_says_it_is_drawn_within_the_width(
    width: int, weight: int, state: str, needs: str, stopped: str
) -> None:
    lines = drawn(spinout(state, weight=weight, needs=needs, stopped=stopped, heldWhy=needs), width=width)
    asked = line_with(lines, "weight asked").count("█")
    assert (asked == 0, asked == 40) == (weight == 0, weight == 10_000)
    assert max(len(line) for line in lines[2:4]) <= width
    table = [line.startswith(("  gallery ", "  thumbs ")) for line in lines]
    wrapped = lines[max(n for n, is_row in enumerate(table) if is_row) + 1 :]
    assert max(len(line) for line in wrapped) <= max(width, 60)


# -- get, status, watch ------------------------------------------------------------------------------------------------


def test_get_shows_the_weight_both_sides_and_what_is_waited_for(run: Run, stub: Stub) -> None:
    stub.add(spinout())
    head, row = run("get", "spinouts").out.splitlines()
    assert re.split(r" {3,}", head) == [
        "NAME", "STATE", "PARENT", "UNIT", "WEIGHT", "PARENT OK", "UNIT OK", "AGE", "NOW"
    ]  # fmt: skip
    cells = re.split(r" {3,}", row)
    assert cells[:7] == [
        "thumbnails", "ramping", "gallery", "thumbs", "10 % (asked: 50 %)", "99.8 % of 1204", "97.1 % of 71"
    ]  # fmt: skip
    assert cells[8] == f"waits for {NEEDS}"


@pytest.mark.parametrize(
    ("state", "code"), [("ramping", 0), ("completed", 0), ("held", 3), ("rolled_back", 1), ("abandoned", 1)]
)
def test_the_exit_code_of_status_says_how_it_stands(run: Run, stub: Stub, state: str, code: int) -> None:
    stub.add(spinout(state))
    assert run("spinout", "status", "thumbnails").code == code
    found = run("spinout", "status", "thumbnails", "-o", "json")
    assert (found.code, json.loads(found.out)["status"]["state"]) == (code, state)


def test_describe_has_the_picture(run: Run, stub: Stub) -> None:
    stub.add(spinout())
    out = run("describe", "spinout", "thumbnails").out
    assert "weight confirmed" in out and f"waits for {NEEDS}" in out


def watched(stub: Stub, *items: dict[str, Any]) -> None:
    stub.answers[("GET", ONE)] = (200, items[0])
    stub.answers[("WATCH", ONE)] = (200, [("MODIFIED", item) for item in items[1:]])


def test_a_watch_into_a_pipe_is_a_line_for_each_change_and_ends_when_it_is_held(run: Run, stub: Stub) -> None:
    same = spinout(needs=NEEDS.replace("40", "39"), new=NEW | {"requests": 72})
    held = spinout("held", heldFrom="ramping", heldWhy="not decided in time")
    watched(stub, spinout(), same, spinout(shownWeight=5000), held, spinout("never seen"))
    found = run("spinout", "status", "thumbnails", "-w")
    lines = found.out.splitlines()
    assert (found.code, len(lines)) == (3, 3), "figures alone are no change"
    assert "ramping; step 2 of 3; weight 10 % (asked: 50 %); parent 99.8 % of 1204; unit 97.1 % of 71" in lines[0]
    assert "held in ramping" in lines[-1] and "held: not decided in time" in lines[-1]


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("rolled_back", 1), ("abandoned", 1)])
def test_a_watch_ends_with_the_spinout(run: Run, stub: Stub, state: str, code: int) -> None:
    watched(stub, spinout(), spinout(state), spinout("never seen"))
    assert run("get", "spinout", "thumbnails", "-w").code == code


def test_a_watch_as_json_is_an_object_for_each_change(run: Run, stub: Stub) -> None:
    watched(stub, spinout(), spinout("completed"))
    found = run("spinout", "status", "thumbnails", "-w", "-o", "json")
    states = [json.loads(line)["object"]["status"]["state"] for line in found.out.splitlines()]
    assert (found.code, states) == (0, ["ramping", "completed"])


# -- the verbs ---------------------------------------------------------------------------------------------------------

APPROVAL = {"phase": "", "through": False, "evidence": "x", "decision": None, "waive": "", "expiresSeconds": None}
VERBS: list[tuple[list[str], str, Any, str]] = [
    (["start", "thumbnails"], "start", {"evidence": ""}, "is started"),
    (["start", "spinout/thumbnails", "--evidence", "- minutes"], "start", {"evidence": "- minutes"}, "is started"),
    (["approve", "thumbnails", "analysed", "--evidence", "x"], "approve", APPROVAL | {"phase": "analysed"},
     "approved: analysed"),
    (["approve", "thumbnails", "--through", "contracted", "--evidence", "x"], "approve",
     APPROVAL | {"phase": "contracted", "through": True}, "approved: contracted"),
    (["approve", "thumbnails", "decided", "--decision", "no-go", "--evidence", "x"], "approve",
     APPROVAL | {"decision": "no-go"}, "decided: no-go"),
    (["approve", "thumbnails", "--waive", "success rate", "--expires", "2h", "--evidence", "x"], "approve",
     APPROVAL | {"waive": "success rate", "expiresSeconds": 7200.0}, "may go on without success rate"),
    (["hold", "thumbnails", "--why", "lunch"], "hold", {"why": "lunch"},
     "is held: nothing rises, and its guards go on"),
    (["resume", "thumbnails"], "resume", {"why": ""}, "goes on"),
    (["abort", "thumbnails", "--why", "slow"], "abort", {"why": "slow"}, "goes back to 0 %"),
    (["promote", "thumbnails"], "promote", {"full": False, "to": None, "evidence": ""}, "is past its present step"),
    (["promote", "thumbnails", "--to", "50"], "promote", {"full": False, "to": 50.0, "evidence": ""}, "goes to 50 %"),
    (["promote", "thumbnails", "--full"], "promote", {"full": True, "to": None, "evidence": ""},
     "is past all its steps"),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "path", "body", "said"), VERBS, ids=[" ".join(v[0][::2])[:40] for v in VERBS])
def test_a_verb_is_sent_and_told(run: Run, stub: Stub, asked: list[str], path: str, body: Any, said: str) -> None:
    stub.answers[("POST", f"{ONE}/{path}")] = (200, spinout())
    found = run("spinout", *asked)
    assert (found.code, found.out) == (0, f"spinout/thumbnails {said} (ramping)\n")
    ((_, _, headers, sent),) = stub.sent("POST")
    assert sent == body
    assert headers["idempotency-key"].startswith("cli-")
    assert json.loads(run("spinout", *asked, "-o", "json").out) == spinout()


@pytest.mark.parametrize(
    "asked",
    [
        ["start", "x", "--why", "y"],
        ["hold", "x", "analysed"],
        ["status", "x", "--evidence", "y"],
        ["plan", "x", "-w"],
        ["promote", "x", "--full", "--to", "5"],
        ["approve", "x"],
        ["approve", "x", "analysed"],
        ["approve", "x", "analysed", "--waive", "g", "--evidence", "y"],
        ["approve", "x", "analysed", "--expires", "2h", "--evidence", "y"],
        ["approve", "x", "--waive", "g", "--expires", "soon", "--evidence", "y"],
        ["stop", "x"],
        ["start"],
    ],
    ids=lambda asked: " ".join(asked)[:50],
)
def test_a_word_that_means_nothing_is_refused_and_nothing_is_sent(run: Run, stub: Stub, asked: list[str]) -> None:
    assert run("spinout", *asked).code == 2
    assert stub.sent("POST") == []


def test_a_token_stands_alone_on_stdout(run: Run, stub: Stub) -> None:
    made = {"kind": "SideToken", "token": "aaa.bbb.ccc", "header": "x-spinyard-force", "side": "unit",
            "expiresAt": "2026-01-01T00:10:00.000Z"}  # fmt: skip
    stub.answers[("POST", f"{ONE}/token")] = (200, made)
    found = run("spinout", "token", "thumbnails", "--side", "unit", "--for", "10m")
    assert (found.code, found.out) == (0, "aaa.bbb.ccc\n")
    assert "x-spinyard-force" in found.err
    assert stub.sent("POST")[0][3] == {"side": "unit", "forSeconds": 600.0}
    assert json.loads(run("spinout", "token", "thumbnails", "--side", "unit", "-o", "json").out) == made
    assert run("spinout", "token", "thumbnails").code == 2


def test_differences_are_told_by_field_with_samples(run: Run, stub: Stub) -> None:
    sample = {"at": "2026-01-01T00:00:12.000Z", "method": "GET", "path": "/a",
              "fields": [{"name": "body /size", "parent": "12", "unit": "13"}]}  # fmt: skip
    answer = {"kind": "SpinoutDiffs", "known": True, "compared": 50, "different": 2, "errors": 0, "skipped": 1,
              "fields": [{"name": "body /size", "count": 2}], "samples": [sample]}  # fmt: skip
    stub.answers[("GET", f"{ONE}/diffs")] = (200, answer)
    found = run("spinout", "diffs", "thumbnails")
    assert (found.code, found.out.splitlines()) == (1, [
        "50 answers compared, 2 differ beyond the noise; 0 could not be had, 1 were not looked at",
        "",
        "FIELD        DIFFERED",
        "body /size   2",
        "",
        "00:00:12  GET /a",
        "  body /size: 12 -> 13",
    ])  # fmt: skip
    stub.answers[("GET", f"{ONE}/diffs")] = (200, {"kind": "SpinoutDiffs", "known": False})
    found = run("spinout", "diffs", "thumbnails")
    assert (found.code, found.out) == (0, "nothing has been compared since this server began\n")


def test_evidence_may_be_the_text_of_a_file(run: Run, stub: Stub, tmp_path: Path) -> None:
    stub.answers[("POST", f"{ONE}/start")] = (200, spinout())
    minutes = tmp_path / "minutes.md"
    minutes.write_text("we decided\nto do it\n")
    assert run("spinout", "start", "thumbnails", "--evidence", f"@{minutes}").code == 0
    assert stub.sent("POST")[0][3] == {"evidence": "we decided\nto do it\n"}
    for content in (b"x" * 16_001, b"\xff"):
        minutes.write_bytes(content)
        assert run("spinout", "start", "thumbnails", "--evidence", f"@{minutes}").code == 2
    assert run("spinout", "start", "thumbnails", "--evidence", "@/nowhere").code == 2


def test_a_refusal_of_the_server_is_told_with_what_to_do(run: Run, stub: Stub) -> None:
    stub.answers[("POST", f"{ONE}/abort")] = problem(409, "spinout_over", "it is over", nextStep="read its history")
    found = run("spinout", "abort", "thumbnails")
    assert found.code == 8
    assert "it is over" in found.err and "read its history" in found.err


def test_abort_of_one_that_is_back_says_so(run: Run, stub: Stub) -> None:
    stub.answers[("POST", f"{ONE}/abort")] = (200, spinout("rolled_back"))
    assert run("spinout", "abort", "thumbnails").out == "spinout/thumbnails has gone back already (rolled_back)\n"


# -- plan, history, verify ---------------------------------------------------------------------------------------------

PLAN: dict[str, Any] = {
    "kind": "SpinoutPlan", "name": "thumbnails", "state": "proposed", "parent": "gallery", "unit": "thumbs",
    "routes": [{"route": "GET /a", "moves": True, "copied": True, "why": ""},
               {"route": "POST /b", "moves": False, "copied": False, "why": "it writes"}],
    "phases": [{"phase": "analysed", "by": "people", "needs": "evidence", "done": True},
               {"phase": "scaffolded", "by": "engine", "needs": "Service thumbs available", "done": False}],
    "requestsPerSecond": 50.0, "requestsOf": "parent", "soakSeconds": 60,
    "baseline": {"requestsNeeded": 100, "seconds": 5.0}, "shadow": {"compared": 50, "seconds": 1.0},
    "steps": [{"weight": 10, "holdSeconds": 30, "waitsForPromotion": True, "requestsNeeded": 68, "seconds": 30.0}],
    "estimatedSeconds": 96.0,
    "refused": [{"code": "route_writes", "message": "POST /b stays.", "nextStep": "Say forwardToOwner."}],
}  # fmt: skip


def test_a_plan_says_what_happens_what_it_needs_and_what_is_refused(run: Run, stub: Stub) -> None:
    stub.answers[("GET", f"{ONE}/plan")] = (200, PLAN)
    found = run("spinout", "plan", "thumbnails")
    lines = found.out.splitlines()
    assert found.code == 0
    assert lines[1] == "refused: POST /b stays. Say forwardToOwner."
    assert lines[2] == "requests at present: 50.0 per second (all of gallery, so fewer)"
    assert re.split(r" {3,}", line_with(lines, "POST /b  ")) == ["POST /b", "no", "no", "it writes"]
    assert re.split(r" {3,}", line_with(lines, "scaffolded")) == [
        "scaffolded", "no", "engine", "Service thumbs available"
    ]  # fmt: skip
    step = re.split(r" {3,}", line_with(lines, "10 %"))
    assert step == ["10 %", "at least 68", "30s", "stays at least 30s, waits until it is promoted"]
    assert lines[-3] == "before: 100 requests of the parent alone, 50 answers compared, about 6.0s"
    assert lines[-1] == "together: about 96s, without what waits for people"


def test_a_plan_that_cannot_run_ends_with_1(run: Run, stub: Stub) -> None:
    refused = [{"code": "service_not_found", "message": "Its unit is not there.", "nextStep": "Apply it."}]
    stub.answers[("GET", f"{ONE}/plan")] = (200, PLAN | {"refused": refused})
    assert run("spinout", "plan", "thumbnails").code == 1


def record(seq: int, kind: str, **body: Any) -> dict[str, Any]:
    return {"seq": seq, "at": "2026-01-01T00:00:01.000Z", "actor": "ann", "kind": kind, "body": body, "hash": "h"}


def test_the_history_is_told_line_by_line_over_all_its_pages(run: Run, stub: Stub) -> None:
    records = [
        record(1, "verb", verb="start", evidence="minutes\nof May"),
        record(2, "transition", **{"from": "baselined", "to": "shadowing", "why": "enough"}),
        record(3, "weight", fromWeight=0, toWeight=1000, why="asked for"),
    ]
    page = {"kind": "SpinoutHistory", "metadata": {"continue": ""}, "verification": VERIFIED, "items": records}
    stub.answers[("GET", f"{ONE}/history")] = (200, page)
    found = run("spinout", "history", "thumbnails")
    lines = found.out.splitlines()
    assert found.code == 0
    assert re.split(r" {3,}", lines[1]) == ["1", "2026-01-01 00:00:01", "ann", "verb", "start: minutes of May"]
    assert lines[2].endswith("baselined -> shadowing: enough")
    assert lines[3].endswith("0 % -> 10 %: asked for")
    assert lines[-1] == "whole: 3 records, each follows the one before; the last is 0123456789ab"
    assert json.loads(run("spinout", "history", "thumbnails", "-o", "json").out) == page


def test_a_history_that_is_not_what_was_written_ends_with_1_and_says_where(run: Run, stub: Stub) -> None:
    stub.answers[("GET", f"{ONE}/verify")] = (200, BROKEN)
    found = run("spinout", "verify", "thumbnails")
    assert (found.code, found.out) == (1, "broken: at record 2 of 3 records: its content is not what was written\n")
    assert json.loads(run("spinout", "verify", "thumbnails", "-o", "json").out)["brokenAt"] == 2


def test_explain_is_that_of_every_object(run: Run, stub: Stub) -> None:
    answer = {"cause": "it waits", "who": "user", "evidence": [], "nextStep": "promote it"}
    stub.answers[("GET", f"{ONE}/explain")] = (200, answer)
    found = run("spinout", "explain", "thumbnails")
    assert found.code == 0 and "promote it" in found.out


def test_waiting_for_its_end_stops_when_it_went_back(run: Run, stub: Stub) -> None:
    stub.add(spinout("rolled_back"))
    found = run("wait", "spinout/thumbnails", "--for", "state=completed")
    assert found.code == 1
    assert "is rolled_back, it will not come to state=completed" in found.err
