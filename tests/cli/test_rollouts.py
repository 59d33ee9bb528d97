"""Rollouts at the command line: the verbs, the table, the picture, and what a watch says and ends with."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard.cli.rollout_picture import picture, text_of
from spinyard.cli.rollout_view import rollout_view
from tests.cli.conftest import Run
from tests.cli.stub import Stub, make_object, problem

ONE = "/v1/namespaces/default/rollouts/web"
PAUSED = "paused: it keeps its weight, and its guards hold"
NEEDS = "success rate: about 40 more requests on the new side; 12 s to pass"
OLD = {
    "requests": 1204,
    "failures": 2,
    "perSecond": 41.2,
    "low": 0.994,
    "high": 0.9996,
    "p95": 0.04,
    "ready": 3,
    "alive": 3,
}
NEW = {
    "requests": 71,
    "failures": 2,
    "perSecond": 4.2,
    "low": 0.904,
    "high": 0.99,
    "p50": 0.0042,
    "ready": 1,
    "alive": 2,
}
GATES = [
    {"name": "success rate", "verdict": "inconclusive", "why": "neither is refuted yet", "needs": 40},
    {"name": "p95 latency", "verdict": "pass", "why": "40 ms, the limit is 300 ms"},
]
LEFT = {
    "weight": 1000,
    "begunAt": "2026-01-01T00:00:01.000Z",
    "leftAt": "2026-01-01T00:00:12.000Z",
    "how": "passed",
    "why": "success rate: pass",
}


def rollout(state: str = "judging", **status: Any) -> dict[str, Any]:
    steps = [{"weight": 10}, {"weight": 50, "pause": 30}, {"weight": 100, "pause": True}]
    spec = {
        "service": "web",
        "oldTemplateDigest": "sha256:aaaa",
        "templateDigest": "sha256:bbbb",
        "strategy": {"type": "canary", "steps": steps},
    }
    present = {"step": 1, "weight": 5000, "shownWeight": 1000, "needs": NEEDS, "old": OLD, "new": NEW, "gates": GATES}
    return make_object("Rollout", "web-k2", spec=spec, state=state, **(present | {"steps": [LEFT]} | status))


def drawn(item: dict[str, Any], *, width: int = 120, plain: bool = False) -> list[str]:
    now = 1767225660.0  # a minute after it was made
    return [text_of(line) for line in picture(rollout_view(item, now), width=width, plain=plain)]


def line_with(lines: list[str], words: str) -> str:
    (found,) = [line for line in lines if words in line]
    return found


# -- the picture -------------------------------------------------------------------------------------------------------


def test_the_picture_says_where_it_is_and_how_it_came_there() -> None:
    lines = drawn(rollout())
    assert lines[0] == "Rollout web-k2 of service web  judging  60s"
    assert lines[1:4] == [
        "✔     10 %  passed       in 11s",
        "▶     50 %  judging      pause 30s",
        "     100 %               pause until promoted",
    ]


def test_the_weight_asked_for_and_the_weight_confirmed_are_bars_of_their_own() -> None:
    lines = drawn(rollout())
    assert line_with(lines, "weight asked").count("█") == 20
    assert line_with(lines, "weight confirmed").count("█") == 4


def test_both_sides_show_success_with_its_interval_and_their_instances() -> None:
    lines = drawn(rollout())
    old, new = line_with(lines, "  old "), line_with(lines, "  new ")
    assert "99.8 %  99.4 % - 99.9 %" in old
    assert "97.1 %  90.4 % - 99.0 %" in new
    assert "41.2" in old and "4.2 ms" in new
    assert old.endswith("3/3") and new.endswith("1/2")
    assert new.index("●") < old.index("●"), "the worse side stands further left"


def test_the_instances_that_go_are_not_counted_any_more() -> None:
    assert line_with(drawn(rollout("removing")), "  new ").endswith("going")
    assert line_with(drawn(rollout("rolled_back")), "  new ").endswith("gone")
    assert line_with(drawn(rollout("rolled_back")), "  old ").endswith("3/3")
    assert line_with(drawn(rollout("succeeded")), "  old ").endswith("gone")
    assert line_with(drawn(rollout("succeeded")), "  new ").endswith("1/2")


def test_what_the_judge_says_itself_is_not_said_twice() -> None:
    gate = GATES[0] | {"why": "not decided: needs about 40 more requests on the new side"}
    assert sum("40 more" in line for line in drawn(rollout(gates=[gate], needs=""))) == 1


def test_each_gate_says_its_verdict_and_what_it_still_needs() -> None:
    lines = drawn(rollout())
    gate = line_with(lines, "neither is refuted")
    assert gate == "  success rate  inconclusive  neither is refuted yet; needs about 40 more requests on the new side"
    assert "pass " in line_with(lines, "p95 latency")


@pytest.mark.parametrize(
    ("item", "last"),
    [
        (rollout(), f"waits for {NEEDS}"),
        (rollout("retreating", stopped="it is bad", needs="0 %"), "going back: it is bad; waits for 0 %"),
        (rollout("rolled_back", stopped="success rate: bad", needs="old words"), "rolled back: success rate: bad"),
        (rollout("succeeded", message="all of it"), "done: all of it"),
    ],
    ids=["judging", "retreating", "rolled back", "succeeded"],
)  # fmt: skip
def test_the_last_line_says_what_it_waits_for_or_how_it_ended(item: dict[str, Any], last: str) -> None:
    assert drawn(item)[-1] == last


def test_a_rollout_that_has_just_been_made_can_be_drawn() -> None:
    item = make_object("Rollout", "web-k2", spec=rollout()["spec"])
    lines = drawn(item)
    assert "100 %" not in line_with(lines, "  new "), "nothing is known of a side without requests"
    assert line_with(lines, "weight confirmed").count("█") == 0


def test_plain_letters_where_the_terminal_has_no_others() -> None:
    assert all(line.isascii() for line in drawn(rollout(), plain=True))


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=200)
rates = st.none() | st.floats(0, 1)
sides = st.fixed_dictionaries(
    {"requests": st.integers(0, 10**9), "failures": st.integers(0, 10**9), "low": rates, "high": rates, "p99": rates}
)


@given(st.integers(20, 200), st.integers(0, 10_000), st.integers(0, 9), sides, sides, words)
def test_whatever_the_figures_it_is_drawn_within_the_width(
    width: int, weight: int, step: int, old: dict[str, Any], new: dict[str, Any], needs: str
) -> None:
    lines = drawn(rollout(weight=weight, step=step, old=old, new=new, needs=needs), width=width)
    asked = line_with(lines, "weight asked").count("█")
    assert (asked == 0, asked == 40) == (weight == 0, weight == 10_000)
    table = [line.startswith(("  old ", "  new ")) for line in lines]
    wrapped = lines[max(n for n, is_row in enumerate(table) if is_row) + 1 :]
    assert max(len(line) for line in wrapped) <= max(width, 60)


# -- get, describe -----------------------------------------------------------------------------------------------------


def test_get_shows_the_weight_both_sides_and_what_is_waited_for(run: Run, stub: Stub) -> None:
    stub.add(rollout())
    head, row = run("get", "rollouts").out.splitlines()
    assert re.split(r" {3,}", head) == ["NAME", "STATE", "SERVICE", "STEP", "WEIGHT", "OLD", "NEW", "AGE", "NOW"]
    cells = re.split(r" {3,}", row)
    assert cells[:7] == ["web-k2", "judging", "web", "2/3", "10 % (asked: 50 %)", "99.8 % of 1204", "97.1 % of 71"]
    assert cells[8] == f"waits for {NEEDS}"


def test_get_as_data_is_what_the_server_says(run: Run, stub: Stub) -> None:
    stub.answers[("GET", ONE)] = (200, rollout())
    assert json.loads(run("get", "rollout", "web", "-o", "json").out) == rollout()


def test_describe_has_the_picture(run: Run, stub: Stub) -> None:
    stub.add(rollout())
    out = run("describe", "rollout", "web-k2").out
    assert "weight confirmed" in out and "sha256:bbbb" in out
    assert f"waits for {NEEDS}" in out


# -- a watch -----------------------------------------------------------------------------------------------------------


def watched(stub: Stub, *items: dict[str, Any]) -> None:
    stub.answers[("GET", ONE)] = (200, items[0])
    path = "/v1/namespaces/default/rollouts/web-k2"
    stub.answers[("WATCH", path)] = (200, [("MODIFIED", item) for item in items[1:]])


def test_a_watch_into_a_pipe_is_a_line_for_each_change_and_ends_well(run: Run, stub: Stub) -> None:
    same = rollout(needs=NEEDS.replace("40", "39"), new=NEW | {"requests": 72})
    watched(stub, rollout(), same, rollout(shownWeight=5000), rollout("succeeded", message="all of it"))
    found = run("get", "rollout", "web", "-w")
    lines = found.out.splitlines()
    assert (found.code, len(lines)) == (0, 3), "figures alone are no change"
    assert "judging; step 2 of 3; weight 10 % (asked: 50 %); old 99.8 % of 1204; new 97.1 % of 71; waits" in lines[0]
    assert lines[-1].endswith("done: all of it")


def test_a_watch_of_one_that_goes_back_ends_with_1(run: Run, stub: Stub) -> None:
    watched(stub, rollout(), rollout("rolled_back", stopped="success rate: bad"), rollout("never seen"))
    found = run("get", "rollout/web", "-w")
    assert found.code == 1
    assert found.out.endswith("rolled back: success rate: bad\n")


def test_a_watch_of_one_that_has_ended_says_so_at_once(run: Run, stub: Stub) -> None:
    watched(stub, rollout("rolled_back", stopped="aborted: by me"))
    found = run("get", "rollout", "web", "-w")
    assert (found.code, len(found.out.splitlines())) == (1, 1)


def test_a_watch_as_json_is_an_object_for_each_change(run: Run, stub: Stub) -> None:
    watched(stub, rollout(), rollout("succeeded"))
    found = run("get", "rollout", "web", "-w", "-o", "json")
    states = [json.loads(line)["object"]["status"]["state"] for line in found.out.splitlines()]
    assert (found.code, states) == (0, ["judging", "succeeded"])


def test_on_a_terminal_the_picture_redraws_itself_and_the_last_one_stays(
    run: Run, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout", terminal)
    evil = "bad\x1b[2J"
    watched(stub, rollout(), rollout("rolled_back", stopped=evil))
    assert run("get", "rollout", "web", "-w").code == 1
    text = terminal.getvalue()
    assert "rolled back: bad\\x1b[2J" in text, "words of others do not act on the terminal"
    assert "weight confirmed" in text and "\x1b[2J" not in text


# -- the verbs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "path", "body", "said"),
    [
        (["promote", "web"], "promote", {"full": False}, "rollout/web-k2 is past its present step (judging)"),
        (["promote", "web", "--full"], "promote", {"full": True}, "rollout/web-k2 is past all its steps (judging)"),
        (["pause", "rollout/web"], "pause", None, f"rollout/web-k2 {PAUSED} (judging)"),
        (["resume", "web"], "resume", None, "rollout/web-k2 goes on (judging)"),
        (["abort", "web", "--why", "ugly"], "abort", {"why": "ugly"}, "rollout/web-k2 goes back to 0 % (judging)"),
    ],
    ids=lambda value: value[0] + value[-1] if isinstance(value, list) else "",
)  # fmt: skip
def test_a_verb_is_sent_and_told(run: Run, stub: Stub, words: list[str], path: str, body: Any, said: str) -> None:
    stub.answers[("POST", f"{ONE}/{path}")] = (200, rollout())
    found = run("rollout", *words)
    assert (found.code, found.out) == (0, said + "\n")
    ((_, _, headers, sent),) = stub.sent("POST")
    assert sent == body
    assert headers["idempotency-key"].startswith("cli-")
    assert json.loads(run("rollout", *words, "-o", "json").out) == rollout()


def test_rollback_says_what_it_did(run: Run, stub: Stub) -> None:
    service = make_object("Service", "web")
    answer = {"kind": "RollbackResult", "did": "changed", "message": "web goes back to sha256:aaaa.", "object": service}
    stub.answers[("POST", f"{ONE}/rollback")] = (200, answer)
    assert run("rollout", "rollback", "web").out == "service/web web goes back to sha256:aaaa.\n"


@pytest.mark.parametrize("words", [["pause", "web", "--full"], ["promote", "web", "--why", "x"], ["stop", "web"], []])
def test_a_word_that_means_nothing_is_refused_and_nothing_is_sent(run: Run, stub: Stub, words: list[str]) -> None:
    assert run("rollout", *words).code == 2
    assert stub.sent("POST") == []


def test_a_refusal_of_the_server_is_told_with_what_to_do(run: Run, stub: Stub) -> None:
    stub.answers[("POST", f"{ONE}/abort")] = problem(409, "rollout_over", "it is over", nextStep="apply again")
    found = run("rollout", "abort", "web")
    assert found.code == 8
    assert "it is over" in found.err and "apply again" in found.err


def test_a_plan_says_what_each_step_needs(run: Run, stub: Stub) -> None:
    first = {
        "weight": 0.5,
        "instances": 1,
        "holdSeconds": 0,
        "waitsForPromotion": False,
        "requestsNeeded": 68,
        "seconds": 13.6,
    }
    last = {
        "weight": 100.0,
        "instances": 3,
        "holdSeconds": 30,
        "waitsForPromotion": True,
        "requestsNeeded": "unknown",
        "seconds": "unknown",
    }
    answer = {
        "kind": "RolloutPlan", "service": "web", "strategy": {"type": "canary"}, "running": "web-k2",
        "requestsPerSecond": 50.0, "steps": [first, last], "estimatedSeconds": "unknown",
    }  # fmt: skip
    stub.answers[("GET", f"{ONE}/plan")] = (200, answer)
    lines = run("rollout", "plan", "web").out.splitlines()
    assert lines[1] == "refused at present: rollout web-k2 runs"
    assert lines[2] == "its requests at present: 50.0 per second"
    assert re.split(r" {3,}", lines[5]) == ["0.5 %", "1 instance", "68", "14s", "-"]
    assert re.split(r" {3,}", lines[6])[2:] == [
        "not known",
        "not known",
        "stays at least 30s, waits until it is promoted",
    ]
    assert lines[-1] == "together: not known"


def test_apply_says_that_a_rollout_began_and_how_to_watch_it(run: Run, stub: Stub, manifest: str) -> None:
    result = {"result": "configured", "object": make_object("Service", "web"), "rollout": "web-k2"}
    stub.answers[("POST", "/v1/apply")] = (200, {"results": [result]})
    lines = run("apply", "-f", manifest).out.splitlines()
    assert lines == ["service/web configured", "  rollout web-k2 started; watch it: spinyard get rollout web-k2 -w"]


def test_abort_of_one_that_is_back_says_so(run: Run, stub: Stub) -> None:
    stub.answers[("POST", f"{ONE}/abort")] = (200, rollout("rolled_back"))
    assert run("rollout", "abort", "web").out == "rollout/web-k2 has gone back already (rolled_back)\n"


def test_where_none_runs_the_ended_ones_are_pointed_at(run: Run) -> None:
    assert "spinyard get rollouts --finished" in run("get", "rollouts").out


def test_wide_has_both_templates_before_the_words(run: Run, stub: Stub) -> None:
    stub.add(rollout())
    head, row = run("get", "rollouts", "-o", "wide").out.splitlines()
    assert re.split(r" {3,}", head)[-4:] == ["FROM", "TO", "UID", "NOW"]
    assert re.split(r" {3,}", row)[-4:-2] == ["sha256:aaaa", "sha256:bbbb"]


def test_waiting_for_success_ends_when_it_went_back(run: Run, stub: Stub) -> None:
    stub.add(rollout("rolled_back"))
    found = run("wait", "rollout/web-k2", "--for", "state=succeeded")
    assert found.code == 1
    assert "is rolled_back, it will not come to state=succeeded" in found.err


def test_waiting_for_success_ends_with_it(run: Run, stub: Stub) -> None:
    stub.add(rollout("succeeded"))
    assert run("wait", "rollout/web-k2", "--for", "available").code == 0


def test_ended_ones_stand_in_the_order_in_which_they_began(run: Run, stub: Stub) -> None:
    for name, hour in (("web-a", "03"), ("web-b", "01"), ("web-c", "02")):
        item = make_object("Rollout", name, spec=rollout()["spec"])
        item["metadata"]["creationTimestamp"] = f"2026-01-01T{hour}:00:00.000Z"
        stub.add(item)
    rows = run("get", "rollouts", "--finished").out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["web-b", "web-c", "web-a"]


def test_a_service_says_which_rollout_runs(run: Run, stub: Stub) -> None:
    brief = {"name": "web-k2", "state": "judging", "step": 0, "weight": 1000, "shownWeight": 1000}
    stub.add(make_object("Service", "web", rollout=brief))
    assert "web-k2 judging, 10 % to the new version" in run("describe", "svc", "web").out
