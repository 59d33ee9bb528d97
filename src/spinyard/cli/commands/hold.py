"""`hold`, `release-hold`, and what `get holds` shows."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.exits import Exit, Usage
from spinyard.cli.kinds import kind_of
from spinyard.cli.options import COMMON, SCOPE, Common, Scope
from spinyard.cli.output import dig, print_data
from spinyard.cli.table import hanging, print_table
from spinyard.cli.words import age, duration, epoch_of, seconds_of
from spinyard.client import Client
from spinyard.clock import SystemClock

Json = dict[str, Any]

HOLDS = frozenset({"hold", "holds"})
_HOLDABLE = frozenset({"Service", "WarmPool", "Job", "Rollout", "Spinout"})
What = Annotated[
    str,
    Parameter(
        name="SCOPE",
        help="Nothing: everything. namespace/NAME, or KIND/NAME: a service, pool, job, rollout or spinout there.",
    ),
]


def hold(
    what: What = "",
    /,
    *,
    why: Annotated[str, Parameter(name="--why", help="The reason, for all who see it.")] = "",
    for_: Annotated[str, Parameter(name="--for", help="Ends by itself after 30m, 2h ...; else never.")] = "",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Nothing is started by itself: no replacements, refills, retries, steps of rollouts. What you ask for still is."""
    if not why.strip():
        raise Usage("a hold needs a reason", next_step=f"spinyard hold {what or ''} --why '...'".replace("  ", " "))
    wanted = _scope(what)
    seconds = seconds_of(for_) if for_ else None
    if seconds is not None and seconds <= 0:
        raise Usage(f"--for {for_}: more than 0", next_step="leave it out: then it lasts until it is released")
    item = common.client().hold(wanted, scope.namespace, why, for_seconds=seconds, key=_key())
    if common.is_data:
        print_data(item, common.output)
    else:
        lasts = f"for {duration(seconds)}" if seconds is not None else "until `spinyard release-hold" + _again(item)
        print(hanging(f"{item['scope']} ", f"held {lasts}: {item['why']}"))
    return Exit.OK


def release_hold(what: What = "", /, *, common: Common = COMMON, scope: Scope = SCOPE) -> int:
    """What was held goes on."""
    item = common.client().release_hold(_scope(what), scope.namespace, key=_key())
    if common.is_data:
        print_data(item, common.output)
    else:
        print(f"{item['scope']} goes on")
    return Exit.OK


def show_holds(client: Client, namespace: str | None, common: Common) -> int:
    """The table behind `get holds`."""
    found = client.holds(namespace)
    items = found["items"]
    if common.is_data:
        print_data(found, common.output)
    elif common.output == "name":
        for item in items:
            print(item["scope"])
    elif not items:
        print("nothing is held" + (f" in {namespace}" if namespace else ""))
    else:
        now = SystemClock().now()
        print_table(["SCOPE", "NAMESPACE", "BY", "AGE", "LEFT", "WHY"], [_row(item, now) for item in items])
    return Exit.OK


def _row(item: Json, now: float) -> list[str]:
    until = epoch_of(dig(item, "until"))
    left = "" if until is None else duration(max(0.0, until - now))
    place = str(item["namespace"]) if "/" in str(item["scope"]) else ""
    return [str(item["scope"]), place, str(item["by"]), age(dig(item, "since"), now), left, str(item["why"])]


def _scope(what: str) -> str:
    """As the server knows it. A word that is no scope at all is answered here, without a server."""
    word, slash, name = what.partition("/")
    if not what or what == "everything" or (word == "namespace" and name):
        return what
    if not slash or not name or "/" in name:
        raise Usage(f"{what!r} is not a scope of holds", next_step="nothing, namespace/NAME, service/NAME, pool/NAME")
    kind = kind_of(word)
    if kind not in _HOLDABLE:
        raise Usage(
            f"a {kind.lower()} cannot be held: it starts nothing by itself",
            next_step="hold its service, pool, job, rollout or spinout",
        )
    return f"{kind.lower()}/{name}"


def _again(item: Json) -> str:
    scope = str(item["scope"])
    if "/" not in scope:
        return "`"
    where = f" -n {item['namespace']}" if not scope.startswith("namespace/") and item["namespace"] != "default" else ""
    return f" {scope}{where}`"


def _key() -> str:
    return f"cli-{SystemClock().new_uid()}"
