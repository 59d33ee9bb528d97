"""`spinout`: carry a responsibility out of one service into another, and what may be said on the way."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import print_data, reference, state_of
from spinyard.cli.spinout_plan import print_diffs, print_history, print_plan, print_verification
from spinyard.cli.spinout_watch import SpinoutDrawing, exit_of_state, follow_spinout
from spinyard.cli.words import seconds_of
from spinyard.client import Client
from spinyard.clock import SystemClock

Json = dict[str, Any]
Verb = Literal[
    "plan",
    "start",
    "status",
    "approve",
    "hold",
    "resume",
    "abort",
    "promote",
    "token",
    "diffs",
    "history",
    "verify",
    "explain",
]
Decision = Literal["go", "no-go", "postpone"]

EVIDENCE_CHARACTERS_MAX = 16_000
_TAKES: Mapping[str, frozenset[str]] = {
    "start": frozenset({"--evidence"}),
    "status": frozenset({"-w"}),
    "approve": frozenset({"PHASE", "--through", "--evidence", "--decision", "--waive", "--expires"}),
    "hold": frozenset({"--why"}),
    "resume": frozenset({"--why"}),
    "abort": frozenset({"--why"}),
    "promote": frozenset({"--to", "--full", "--evidence"}),
    "token": frozenset({"--side", "--for"}),
}
_DONE = {
    "start": "is started",
    "hold": "is held: nothing rises, and its guards go on",
    "resume": "goes on",
    "abort": "goes back to 0 %",
}


def spinout(
    verb: Annotated[
        Verb,
        Parameter(
            name="VERB",
            help="plan: what it goes through, and what that needs. start: an attempt begins. status: the picture, once"
            " or with -w. approve: a phase people judge, or a gate that may fail. hold, resume: stop rising; go on."
            " abort: back to 0 % at once. promote: past the present step. token: to choose a side as a tester."
            " diffs: what copied requests were answered differently. history, verify: what was recorded, and"
            " whether it is whole. explain: the numbers behind it.",
        ),
    ],
    name: Annotated[str, Parameter(name="NAME", help="The spinout.")],
    phase: Annotated[
        str, Parameter(name="PHASE", help="With approve: analysed, decided, contracted or completed.")
    ] = "",
    /,
    *,
    evidence: Annotated[
        str,
        Parameter(name="--evidence", allow_leading_hyphen=True, help="What it rests on: text, @FILE, or @- for input."),
    ] = "",
    through: Annotated[
        str, Parameter(name="--through", help="With approve: that phase, and all of people on the way to it.")
    ] = "",
    decision: Annotated[
        Decision | None, Parameter(name="--decision", help="With approve: go, no-go, postpone.")
    ] = None,
    waive: Annotated[str, Parameter(name="--waive", help="With approve: the name of a gate that may fail.")] = "",
    expires: Annotated[str, Parameter(name="--expires", help="With --waive: for so long (2h).")] = "",
    why: Annotated[str, Parameter(name="--why", help="With hold, resume, abort: the reason, kept with it.")] = "",
    to: Annotated[float | None, Parameter(name="--to", help="With promote: past the steps below this weight.")] = None,
    full: Annotated[bool, Parameter(name="--full", help="With promote: past all steps.")] = False,
    side: Annotated[
        Literal["parent", "unit"] | None, Parameter(name="--side", help="With token: who answers who sends it.")
    ] = None,
    for_: Annotated[str, Parameter(name="--for", help="With token: how long it is good (15m).")] = "",
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help="With status: until it stops.")] = False,
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Carry a responsibility out of a service: plan, start and watch it, say your word, read its history."""
    given = {
        "PHASE": phase, "--evidence": evidence, "--through": through, "--decision": decision, "--waive": waive,
        "--expires": expires, "--why": why, "--to": to, "--full": full, "--side": side, "--for": for_,
        "-w": watch,
    }  # fmt: skip
    for option, value in given.items():
        if value not in ("", None, False) and option not in _TAKES.get(verb, ()):
            raise Usage(f"{option} means nothing for {verb}", next_step="spinyard spinout --help")
    bare = name.rpartition("/")[2]
    readers: dict[str, Callable[[], int]] = {
        "plan": lambda: _plan(common.client(), scope.namespace, bare, common),
        "status": lambda: _status(common.client(), scope.namespace, bare, common, watch=watch),
        "history": lambda: _history(common.client(), scope.namespace, bare, common),
        "verify": lambda: _verify(common.client(), scope.namespace, bare, common),
        "diffs": lambda: _diffs(common.client(), scope.namespace, bare, common),
        "explain": lambda: _explain(bare, common, scope),
        "token": lambda: _token(common.client(), scope.namespace, bare, side, for_, common),
    }
    if verb in readers:
        return readers[verb]()
    body = _body(verb, phase, evidence, through, decision, waive, expires, why, to, full)
    key = f"cli-{SystemClock().new_uid()}"
    item = {"kind": "Spinout"} | common.client().spinout(scope.namespace, bare, verb, body, key=key)
    _tell(verb, item, body, common)
    return Exit.OK


def _body(
    verb: str, phase: str, evidence: str, through: str, decision: str | None, waive: str, expires: str, why: str,
    to: float | None, full: bool,
) -> Json:  # fmt: skip
    match verb:
        case "start":
            return {"evidence": evidence_of(evidence)}
        case "approve":
            return _approval(phase, evidence, through, decision, waive, expires)
        case "promote":
            if full and to is not None:
                raise Usage("--full and --to say different things", next_step="give one of them")
            return {"full": full, "to": to, "evidence": evidence_of(evidence)}
        case "hold" | "abort" | "resume":
            return {"why": why}
        case _:
            raise AssertionError(verb)


def _approval(phase: str, evidence: str, through: str, decision: str | None, waive: str, expires: str) -> Json:
    asked = [word for word in (phase, through, decision, waive) if word]
    # `--decision go` beside the phase it is about says nothing else.
    if phase == "decided" and decision:
        asked.remove(phase)
    if len(asked) != 1:
        example = "spinyard spinout approve NAME decided --evidence 'minutes of 12 May'"
        raise Usage("approve takes one of PHASE, --through PHASE, --decision, --waive GATE", next_step=example)
    if expires and not waive:
        raise Usage("--expires means nothing without --waive")
    if not evidence:
        raise Usage("an approval rests on evidence", next_step="--evidence TEXT, or --evidence @FILE")
    return {
        "phase": "" if decision else through or phase,
        "through": bool(through),
        "evidence": evidence_of(evidence),
        "decision": decision,
        "waive": waive,
        "expiresSeconds": seconds_of(expires) if expires else None,
    }


def evidence_of(words: str) -> str:
    """Text, or with @ that of a file. Raises Usage."""
    if not words.startswith("@"):
        return words
    try:
        if words == "@-":
            text = sys.stdin.read(EVIDENCE_CHARACTERS_MAX + 1)
        else:
            with Path(words[1:]).open(encoding="utf-8") as file:
                text = file.read(EVIDENCE_CHARACTERS_MAX + 1)
    except OSError as cause:
        raise Usage(f"cannot read {words[1:]}: {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise Usage(f"{words[1:]} is not UTF-8 text (byte {cause.start})") from cause
    if len(text) > EVIDENCE_CHARACTERS_MAX:
        raise Usage(
            f"{words[1:]} is longer than {EVIDENCE_CHARACTERS_MAX} characters", next_step="say where it is instead"
        )
    return text


def _tell(verb: str, item: Json, body: Json, common: Common) -> None:
    if common.is_data:
        print_data(item, common.output)
    elif common.output == "name":
        print(reference(item))
    else:
        print(f"{reference(item)} {_said(verb, item, body)} ({state_of(item)})")


def _said(verb: str, item: Json, body: Json) -> str:
    if verb == "approve":
        if body["waive"]:
            return f"may go on without {body['waive']}"
        return f"decided: {body['decision']}" if body["decision"] else f"approved: {body['phase']}"
    if verb == "promote":
        if body["full"]:
            return "is past all its steps"
        return "is past its present step" if body["to"] is None else f"goes to {body['to']:g} %"
    if verb == "abort" and state_of(item) == "rolled_back":
        return "has gone back already"
    return _DONE[verb]


# -- reading -----------------------------------------------------------------------------------------------------------


def _status(client: Client, namespace: str, name: str, common: Common, *, watch: bool) -> int:
    item = client.get("Spinout", namespace, name, finished=True)
    if watch:
        return follow_spinout(client, item, common.output)
    if common.is_data:
        print_data({"kind": "Spinout"} | item, common.output)
    elif common.output == "name":
        print(f"{reference({'kind': 'Spinout'} | item)} {state_of(item)}")
    else:
        from spinyard.cli.drawn_watch import print_drawn

        print_drawn(item, SpinoutDrawing(client))
    return exit_of_state(state_of(item))


def _plan(client: Client, namespace: str, name: str, common: Common) -> int:
    """Exit code 1 when it cannot run as things are."""
    found = client.spinout_plan(namespace, name)
    if common.is_data:
        print_data(found, common.output)
    else:
        print_plan(found)
    stops = [one for one in found.get("refused") or () if one.get("code") not in ("route_writes", "held")]
    return Exit.FAILED if stops else Exit.OK


def _history(client: Client, namespace: str, name: str, common: Common) -> int:
    """Exit code 1 when it is not what was written."""
    found = client.spinout_history(namespace, name)
    if common.is_data:
        print_data(found, common.output)
    else:
        print_history(found)
    return Exit.OK if found["verification"]["whole"] else Exit.FAILED


def _verify(client: Client, namespace: str, name: str, common: Common) -> int:
    found = client.spinout_verify(namespace, name)
    if common.is_data:
        print_data(found, common.output)
    else:
        print_verification(found)
    return Exit.OK if found["whole"] else Exit.FAILED


def _diffs(client: Client, namespace: str, name: str, common: Common) -> int:
    """Exit code 1 when some differ, as that of `diff`."""
    found = client.spinout_diffs(namespace, name)
    if common.is_data:
        print_data(found, common.output)
    else:
        print_diffs(found)
    return Exit.FAILED if found.get("different") or found.get("errors") else Exit.OK


def _token(client: Client, namespace: str, name: str, side: str | None, lasting: str, common: Common) -> int:
    """Alone on stdout, so that it can be put into a variable."""
    if side is None:
        raise Usage(
            "which side? give --side unit, or --side parent", next_step=f"spinyard spinout token {name} --side unit"
        )
    key = f"cli-{SystemClock().new_uid()}"
    made = client.spinout_token(namespace, name, side, seconds_of(lasting or "15m"), key=key)
    if common.is_data:
        print_data(made, common.output)
    else:
        print(made["token"])
        print(f"send it as {made['header']}; good until {made['expiresAt']}", file=sys.stderr)
    return Exit.OK


def _explain(name: str, common: Common, scope: Scope) -> int:
    from spinyard.cli.commands.describe import explain

    return explain("Spinout", name, common=common, scope=scope)
