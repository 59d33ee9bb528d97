"""`rollout`: what a person may say to a Service on its way to another template."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from cyclopts import Parameter

from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import print_data, reference, state_of
from spinyard.cli.rollout_view import ROLLED_BACK
from spinyard.cli.table import hanging, print_table
from spinyard.cli.words import BUSY, counted, duration, paint
from spinyard.client import Client
from spinyard.clock import SystemClock

Json = dict[str, Any]
Verb = Literal["plan", "promote", "pause", "resume", "abort", "rollback"]

_DONE = {
    "promote": "is past its present step",
    "pause": "paused: it keeps its weight, and its guards hold",
    "resume": "goes on",
    "abort": "goes back to 0 %",
}


def rollout(
    verb: Annotated[
        Verb,
        Parameter(
            name="VERB",
            help="plan: what another template would go through. promote: past the present step. pause, resume: stay,"
            " go on. abort: back to 0 % at once. rollback: abort, or after its success the version before.",
        ),
    ],
    name: Annotated[
        str, Parameter(name="NAME", help="A service: its present rollout, else its last; or a rollout's own name.")
    ],
    /,
    *,
    full: Annotated[bool, Parameter(name="--full", help="With promote: past all steps.")] = False,
    why: Annotated[str, Parameter(name="--why", help="With abort: the reason, kept with it.")] = "",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Steer a service on its way to another version: plan, promote, pause, resume, abort, rollback."""
    if full and verb != "promote":
        raise Usage(f"--full means nothing for {verb}", next_step=f"spinyard rollout promote {name} --full")
    if why and verb != "abort":
        raise Usage(f"--why means nothing for {verb}", next_step=f"spinyard rollout abort {name} --why '...'")
    client = common.client()
    bare = name.rpartition("/")[2]
    if verb == "plan":
        _plan(client, bare, common, scope)
        return Exit.OK
    key = f"cli-{SystemClock().new_uid()}"
    answer = client.rollout(scope.namespace, bare, verb, full=full, why=why, key=key)
    item = {"kind": "Rollout"} | (answer if verb != "rollback" else answer.get("object") or {})
    if common.is_data:
        print_data(answer, common.output)
    elif common.output == "name":
        print(reference(item))
    elif verb == "rollback":
        print(hanging(f"{reference(item)} ", str(answer.get("message") or answer.get("did") or "")))
    else:
        done = "is past all its steps" if full else _DONE[verb]
        if state_of(item) == ROLLED_BACK:
            done = "has gone back already"
        print(f"{reference(item)} {done} ({state_of(item)})")
    return Exit.OK


def _plan(client: Client, name: str, common: Common, scope: Scope) -> None:
    found = client.rollout_plan(scope.namespace, name)
    if common.is_data:
        print_data(found, common.output)
        return
    strategy = found.get("strategy") or {}
    print(f"Service {found.get('service')}: another template would be rolled out as {strategy.get('type')}")
    if found.get("running"):
        print(paint(f"refused at present: rollout {found['running']} runs", BUSY))
    rate = found.get("requestsPerSecond")
    print(f"its requests at present: {_known(rate, f'{rate:.1f} per second' if _is_known(rate) else '')}\n")
    rows = [_plan_row(step) for step in found.get("steps") or ()]
    print_table(["WEIGHT", "NEW INSTANCES", "REQUESTS NEEDED", "TAKES ABOUT", "AND"], rows, state_column="")
    total = found.get("estimatedSeconds")
    takes = f"about {duration(float(total))}, without the start of instances" if _is_known(total) else "not known"
    print(f"\ntogether: {takes}")


def _plan_row(step: Json) -> list[str]:
    """`requests needed`: on the new side, when none of them fails."""
    needed, takes, hold = step.get("requestsNeeded"), step.get("seconds"), float(step.get("holdSeconds") or 0)
    also = [f"stays at least {duration(hold)}"] if hold else []
    if step.get("waitsForPromotion"):
        also.append("waits until it is promoted")
    return [
        f"{step.get('weight'):g} %",
        counted(int(step.get("instances") or 0), "instance"),
        _known(needed, str(needed)),
        _known(takes, duration(float(takes)) if _is_known(takes) else ""),
        ", ".join(also),
    ]


def _is_known(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float)


def _known(value: object, text: str) -> str:
    return text if _is_known(value) else "not known"
