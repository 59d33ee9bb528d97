"""How a Spinout's plan, history and differences are told."""

from __future__ import annotations

from typing import Any, TypeGuard

from spinyard.cli.output import dig
from spinyard.cli.rollout_view import one_line
from spinyard.cli.table import hanging, print_table
from spinyard.cli.words import BAD, BUSY, GOOD, clock_time, duration, paint

Json = dict[str, Any]

TEXT_SHOWN_MAX = 300
HASH_SHOWN = 12


def print_plan(found: Json) -> None:
    print(f"Spinout {found.get('name')} ({found.get('state')}): {found.get('parent')} -> {found.get('unit')}")
    for refusal in found.get("refused") or ():
        print(hanging(paint("refused: ", BUSY), f"{refusal.get('message')} {refusal.get('nextStep')}"))
    rate = found.get("requestsPerSecond")
    of = "the boundary" if found.get("requestsOf") == "boundary" else f"all of {found.get('parent')}, so fewer"
    print(f"requests at present: {f'{rate:.1f} per second ({of})' if _is_known(rate) else 'not known'}\n")
    routes = [[str(one.get("route")), *_route_words(one)] for one in found.get("routes") or ()]
    print_table(["ROUTE", "MOVES", "COPIED", ""], routes, state_column="")
    print()
    phases = [
        [
            str(one.get("phase")),
            "yes" if one.get("done") else "no",
            str(one.get("by")),
            one_line(one.get("needs")),
        ]
        for one in found.get("phases") or ()
    ]
    print_table(["PHASE", "DONE", "BY", "REACHED WITH"], phases, state_column="")
    print()
    steps = [_step_row(step) for step in found.get("steps") or ()]
    print_table(["WEIGHT", "REQUESTS NEEDED", "TAKES ABOUT", "AND"], steps, state_column="")
    print(f"\nbefore: {_before(found)}\nafter: soaks for {duration(float(found.get('soakSeconds') or 0))}")
    total = found.get("estimatedSeconds")
    takes = f"about {duration(float(total))}" if _is_known(total) else "not known"
    print(f"together: {takes}{', without what waits for people' if _is_known(total) else ''}")


def print_history(found: Json) -> None:
    rows = [
        [
            str(one.get("seq")),
            f"{str(one.get('at'))[:10]} {clock_time(one.get('at'))}",
            str(one.get("actor")),
            str(one.get("kind")),
            record_text(one),
        ]
        for one in found.get("items") or ()
    ]
    print_table(["", "AT (UTC)", "BY", "WHAT", ""], rows, state_column="")
    print()
    print_verification(found["verification"])


def print_verification(found: Json) -> None:
    count = f"{found.get('records')} records"
    if found.get("whole"):
        head = str(found.get("head") or "")[:HASH_SHOWN]
        print(paint(f"whole: {count}, each follows the one before{f'; the last is {head}' if head else ''}", GOOD))
        return
    print(hanging(paint("broken: ", BAD), f"at record {found.get('brokenAt')} of {count}: {found.get('why')}"))


def print_diffs(found: Json) -> None:
    if not found.get("known"):
        print("nothing has been compared since this server began")
        return
    counts = f"{found.get('compared')} answers compared, {found.get('different')} differ beyond the noise"
    print(f"{counts}; {found.get('errors')} could not be had, {found.get('skipped')} were not looked at")
    fields = [[str(one.get("name")), str(one.get("count"))] for one in found.get("fields") or ()]
    if fields:
        print()
        print_table(["FIELD", "DIFFERED"], fields, state_column="")
    for one in found.get("samples") or ():
        print(f"\n{clock_time(one.get('at'))}  {one.get('method')} {one.get('path')}")
        for field in one.get("fields") or ():
            print(hanging(f"  {field.get('name')}: ", f"{field.get('parent')} -> {field.get('unit')}"))


def record_text(record: Json) -> str:
    """One line of what happened, from its body."""
    body = record.get("body")
    if not isinstance(body, dict):
        return one_line(body)[:TEXT_SHOWN_MAX]
    said = one_line(body.get("why") or body.get("evidence"))
    match record.get("kind"):
        case "transition":
            words = f"{body.get('from')} -> {body.get('to')}: {said}"
        case "weight":
            words = f"{_percent(body.get('fromWeight'))} -> {_percent(body.get('toWeight'))}: {said}"
        case "verdict":
            words = f"{body.get('how')} at {_percent(body.get('weight'))}: {said}"
        case "approval" | "waiver" | "decision":
            what = body.get("gate") or body.get("decision") or body.get("phase")
            words = f"{what}: {said}"
        case "verb" | "config":
            words = ": ".join(part for part in (str(body.get("verb") or ""), said) if part)
        case _:
            words = said
    return words[:TEXT_SHOWN_MAX]


def _route_words(one: Json) -> list[str]:
    return ["yes" if one.get("moves") else "no", "yes" if one.get("copied") else "no", one_line(one.get("why"))]


def _step_row(step: Json) -> list[str]:
    """`requests needed`: on the unit, when none of them fails."""
    needed, takes, hold = step.get("requestsNeeded"), step.get("seconds"), float(step.get("holdSeconds") or 0)
    also = [f"stays at least {duration(hold)}"] if hold else []
    if step.get("waitsForPromotion"):
        also.append("waits until it is promoted")
    return [
        f"{step.get('weight'):g} %",
        f"at least {needed}" if _is_known(needed) else "not known",
        duration(float(takes)) if _is_known(takes) else "not known",
        ", ".join(also),
    ]


def _before(found: Json) -> str:
    parts = [f"{dig(found, 'baseline', 'requestsNeeded')} requests of the parent alone"]
    if found.get("shadow"):
        parts.append(f"{dig(found, 'shadow', 'compared')} answers compared")
    takes = [dig(found, "baseline", "seconds"), dig(found, "shadow", "seconds") if found.get("shadow") else 0.0]
    known = [float(one) for one in takes if _is_known(one)]
    return ", ".join(parts) + (f", about {duration(sum(known))}" if len(known) == len(takes) else "")


def _percent(parts: object) -> str:
    return f"{parts / 100:g} %" if isinstance(parts, int | float) else "0 %"


def _is_known(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float)
