"""`describe` and `explain`: one object from all sides, and the one line that matters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.attend import spins_of
from spinyard.cli.columns import headers_of, hosts, ready_count, row_of
from spinyard.cli.commands.events import event_line
from spinyard.cli.drawn_watch import print_drawn
from spinyard.cli.exits import Exit, Usage
from spinyard.cli.kinds import target
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import dig, print_data, state_of
from spinyard.cli.rollout_view import percent_of, percent_text
from spinyard.cli.rollout_watch import print_picture
from spinyard.cli.spinout_watch import SpinoutDrawing
from spinyard.cli.table import hanging, print_fields, print_table
from spinyard.cli.words import BAD, BUSY, GOOD, age, byte_size, clock_time, colour_of, duration, epoch_of, paint
from spinyard.client import Client
from spinyard.clock import SystemClock
from spinyard.errors import NotFound

Json = dict[str, Any]

EVENTS_SHOWN_MAX = 20
_WHO = {
    "user": "you",
    "provider": "whoever runs the machine or the outside service",
    "spinyard": "Spinyard (a bug, please report it)",
    "nobody": "nobody, it goes on by itself",
}


def describe(
    *words: Annotated[str, Parameter(name="KIND-NAME", help="KIND NAME, or KIND/NAME.")],
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Everything about one object: what was asked, what is, its spins and resources, and its last events."""
    kind, name = _one(words)
    client = common.client()
    item = client.get(kind, scope.namespace, name, finished=True)
    item.setdefault("kind", kind)
    if common.is_data:
        print_data(item, common.output)
        return Exit.OK
    now = SystemClock().now()
    print_fields(_head(item, now) | _facts(item))
    if kind == "Rollout":
        print()
        print_picture(item)
    if kind == "Spinout":
        print()
        print_drawn(item, SpinoutDrawing())
    _print_diagnostics(item)
    _print_conditions(item, now)
    _print_timeline(item)
    _print_spins(client, item, now)
    uid = str(item["metadata"]["uid"])
    _print_resources(client.resources(owner=uid)["items"])
    _print_events(client.events(involved=uid, newest=True, limit=EVENTS_SHOWN_MAX)["items"])
    return Exit.OK


def explain(
    *words: Annotated[str, Parameter(name="KIND-NAME", help="KIND NAME, KIND/NAME, or a name alone.")],
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Why an object is as it is: the cause in a line, the evidence, who must act, when it is tried next."""
    client = common.client()
    kind, name = _find(client, scope.namespace, words)
    found = client.explain(kind, scope.namespace, name)
    if common.is_data:
        print_data(found, common.output)
        return Exit.OK
    print(hanging(f"{kind} {name}: ", str(found.get("cause") or "nothing is wrong")))
    evidence = found.get("evidence") or []
    if evidence:
        print("\nEvidence")
    for one in evidence:
        stamp = f"{clock_time(one['at'])}  " if one.get("at") else ""
        first, *rest = str(one.get("text") or "").rstrip().splitlines() or [""]
        lead = f"  {one.get('source', ''):<9}  {stamp}"
        print(hanging(lead, first))
        for line in rest:
            print(hanging(" " * len(lead), line))
    print()
    next_try = epoch_of(found.get("nextTryAt"))
    wait = max(0.0, next_try - SystemClock().now()) if next_try is not None else None
    print_fields(
        {
            "Who must act": _WHO.get(str(found.get("who")), found.get("who")),
            "Next": found.get("nextStep"),
            "Tried again": None if wait is None else f"in {duration(wait)}",
        }
    )
    return Exit.OK


def _one(words: tuple[str, ...]) -> tuple[str, str]:
    found = target(words)
    if len(found) != 1:
        raise Usage("one object, please")
    return found[0]


def _find(client: Client, namespace: str, words: tuple[str, ...]) -> tuple[str, str]:
    if len(words) != 1 or "/" in words[0]:
        return _one(words)
    for kind in ("Service", "Job", "WarmPool", "Claim", "Rollout", "Spinout", "Spin", "Template"):
        try:
            client.get(kind, namespace, words[0], finished=True)
        except NotFound:
            continue
        return kind, words[0]
    raise NotFound(f"there is no object named {words[0]!r} in namespace {namespace!r}", next_step="spinyard get all")


def _head(item: Json, now: float) -> Json:
    meta, status = item["metadata"], item.get("status") or {}
    state = state_of(item)
    deleting = meta.get("deletionTimestamp")
    return {
        "Name": meta["name"],
        "Kind": item["kind"],
        "Namespace": meta.get("namespace"),
        "UID": meta.get("uid"),
        "Labels": _pairs(meta.get("labels")),
        "Annotations": _pairs(meta.get("annotations")),
        "Age": age(meta.get("creationTimestamp"), now),
        "Generation": meta.get("generation"),
        "State": paint(state, colour_of(state)) + _for(status.get("stateSince"), now),
        "Reason": status.get("reason"),
        "Message": status.get("message"),
        "Deletion": f"asked for {age(deleting, now)} ago" if deleting else None,
        "Outcome": status.get("outcome"),
        "Paused": "yes" if status.get("paused") else None,
        "Stuck": paint("yes", BAD) if status.get("stuck") else None,
        "Last error": status.get("lastError"),
    }


def _facts(item: Json) -> Json:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    template = spec.get("template") or {}
    ended = status.get("exit") or {}
    return {
        "Ready": ready_count(item) if item["kind"] == "Service" else None,
        "Rollout": _rollout(status.get("rollout")),
        "Owner": spec.get("owner"),
        "Service": spec.get("serviceName") or spec.get("service"),
        "From": spec.get("oldTemplateDigest"),
        "Template": spec.get("templateDigest"),
        "Command": " ".join([*template.get("command", []), *template.get("args", [])]),
        "Route": hosts(item),
        "Depends on": ", ".join(f"{one.get('kind')}/{one.get('name')}" for one in spec.get("dependsOn") or []),
        "Address": status.get("address"),
        "Ports": _pairs(status.get("ports")),
        "Exit code": ended.get("code"),
        "Exit signal": ended.get("signal"),
        "Peak memory": byte_size(ended.get("peakMemoryBytes")) if ended else None,
        "CPU": duration(float(ended.get("cpuSeconds") or 0)) if ended else None,
    }


def _rollout(found: object) -> str:
    """What its Service says of the one that runs."""
    if not isinstance(found, dict):
        return ""
    weight = percent_text(percent_of(found.get("shownWeight")))
    return f"{found.get('name')} {found.get('state')}, {weight} to the new version"


def _print_diagnostics(item: Json) -> None:
    diagnostics = str(dig(item, "status", "diagnostics") or "")
    if diagnostics:
        print("\nDiagnostics")
    for line in diagnostics.rstrip().splitlines():
        print(f"  {line}")


def _print_conditions(item: Json, now: float) -> None:
    conditions = dig(item, "status", "conditions") or []
    if not conditions:
        return
    print("\nConditions")
    rows = [
        [
            "  " + str(one.get("type", "")),
            str(one.get("status", "")),
            age(one.get("lastTransitionTime"), now),
            str(one.get("reason") or ""),
            str(one.get("message") or "").replace("\n", " "),
        ]
        for one in conditions
    ]
    print_table(["  TYPE", "STATUS", "SINCE", "REASON", "MESSAGE"], rows)


def _print_timeline(item: Json) -> None:
    """Each state with how long it took: where the time of a spin went."""
    timeline = dig(item, "status", "timeline") or []
    entries = [(str(one.get("state")), epoch_of(one.get("at"))) for one in timeline if isinstance(one, dict)]
    stamps = [(state, at) for state, at in entries if at is not None]
    if len(stamps) < 2:
        return
    print("\nTimeline")
    for (state, at), (_, until) in pairwise(stamps):
        print(f"  {state:<14}  {(until - at) * 1000:7.0f} ms")
    print(f"  {stamps[-1][0]:<14}  since {clock_time(dig(timeline[-1], 'at'))} UTC")


def _print_spins(client: Client, item: Json, now: float) -> None:
    spins = spins_of(client, item)
    if not spins:
        return
    print("\nSpins")
    rows = [
        ["  " + row[0], *row[1:]]
        for row in (row_of(spin, "Spin", now, wide=False, all_namespaces=False) for spin in spins)
    ]
    headers = headers_of("Spin", wide=False, all_namespaces=False)
    print_table(["  " + headers[0], *headers[1:]], rows)


def _print_resources(resources: Sequence[Json]) -> None:
    if not resources:
        return
    print("\nResources (open lines of the ledger)")
    for one in resources:
        word = "retained" if one.get("retained") else "wanted" if one.get("wanted") else "being removed"
        colour = GOOD if one.get("wanted") or one.get("retained") else BUSY
        print(f"  {one.get('type', ''):<10}  {one.get('key', '')}  {paint(word, colour)}")


def _print_events(newest_first: Sequence[Json]) -> None:
    if newest_first:
        print("\nEvents")
    for event in reversed(newest_first):
        print(event_line(event, "  "))


def _for(since: object, now: float) -> str:
    return f" for {age(since, now)}" if since else ""


def _pairs(values: object) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items()) if isinstance(values, dict) else ""
