"""`spinyard events`: what happened, in order."""

from __future__ import annotations

import json
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.exits import Exit
from spinyard.cli.follow import endless
from spinyard.cli.kinds import target
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import dig, list_of, print_data, print_line
from spinyard.cli.table import hanging
from spinyard.cli.words import BAD, clock_time, paint

Json = dict[str, Any]


def events(
    *words: Annotated[
        str, Parameter(name="KIND-NAME", help="Of one object, and of what it owns; else of the namespace.")
    ],
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on with what comes.")] = False,
    all_namespaces: Annotated[bool, Parameter(name=["--all-namespaces", "-A"], help="Of every namespace.")] = False,
    tail: Annotated[int, Parameter(name="--tail", help="How many of the last ones (at most 200).")] = 50,
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """What happened, in order: each change of a state, with its reason and who asked."""
    client = common.client()
    involved, owner, owner_name, namespace = "", "", "", "" if all_namespaces else scope.namespace
    if words:
        kind, name = target(words)[0]
        uid = str(client.get(kind, scope.namespace, name, finished=True)["metadata"]["uid"])
        involved, namespace = uid, ""
        owner, owner_name = (uid, name) if kind in ("Service", "Job", "WarmPool", "Claim") else ("", "")
    limit = max(1, min(tail, 200))
    past = client.events(involved=involved, namespace=namespace, limit=limit, newest=True)["items"]
    if owner:
        past += client.events(owner=owner, limit=limit, newest=True)["items"]
    past = sorted(past, key=lambda event: _order(str(event.get("token", ""))))[-limit:]
    if common.is_data and not follow:
        print_data(list_of(past), common.output)
        return Exit.OK
    for event in past:
        _print(event, common)
    if not follow:
        return Exit.OK
    token = str(past[-1].get("token", "")) if past else ""
    # One stream serves: an owner's stream is that of its children, its own changes come by the namespace's.
    stream_namespace = namespace or (scope.namespace if words else "")
    wanted = {involved} if words else set()
    for sent in endless(client, lambda resume: client.watch_events(namespace=stream_namespace, resume=resume), token):
        event = json.loads(sent.data)
        if not wanted or _concerns(event, wanted, owner_name):
            _print(event, common)
    return Exit.OK


def event_line(event: Json, indent: str = "") -> str:
    """Time, object, state, reason, message, and who when it was not the engine."""
    involved = event.get("involved") or {}
    who = f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
    actor = str(event.get("actor") or "")
    by = f"  (by {actor})" if actor and actor != "engine" else ""
    reason = str(event.get("reason") or "")
    lead = f"{indent}{clock_time(event.get('at'))}  {who}  {event.get('state') or '-'}  "
    line = hanging(lead, f"{reason}: {event.get('message') or ''}{by}")
    return line.replace(reason, paint(reason, BAD), 1) if reason and event.get("type") == "Warning" else line


def _print(event: Json, common: Common) -> None:
    if common.is_data:
        print_line(event)
    else:
        print(event_line(event), flush=True)


def _order(token: str) -> tuple[int, int]:
    sequence, _, index = token.partition(".")
    return (int(sequence) if sequence.isdigit() else 0, int(index) if index.isdigit() else 0)


def _concerns(event: Json, wanted: set[str], owner_name: str) -> bool:
    """The object itself, or one of its spins: these are named after their owner (core.ids.child_name)."""
    if str(dig(event, "involved", "uid")) in wanted:
        return True
    spin = str(dig(event, "involved", "name") or "")
    return bool(owner_name) and dig(event, "involved", "kind") == "Spin" and spin[:-7] == owner_name[:40]
