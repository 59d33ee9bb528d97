"""`spinyard get`: objects as a table, as data, or as they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.columns import headers_of, row_of
from spinyard.cli.commands.hold import HOLDS, show_holds
from spinyard.cli.exits import Exit, Usage
from spinyard.cli.kinds import KINDS, kinds_of, target
from spinyard.cli.options import COMMON, SCOPE, Common, Labels, Scope
from spinyard.cli.output import list_of, print_data, reference
from spinyard.cli.table import print_table
from spinyard.client import Client
from spinyard.clock import SystemClock
from spinyard.errors import NotFound

Json = dict[str, Any]


def get(
    *words: Annotated[
        str, Parameter(name="KIND-NAME", help="KIND [NAME ...], or KIND/NAME ...; `all` for every kind.")
    ],
    all_namespaces: Annotated[bool, Parameter(name=["--all-namespaces", "-A"], help="Of every namespace.")] = False,
    selector: Labels = (),
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help="Go on showing what changes.")] = False,
    finished: Annotated[bool, Parameter(name="--finished", help="Kept records of what is gone, too.")] = False,
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Show objects: services (svc), rollouts (ro), spinouts (so), spins (sp), jobs, pools, claims, templates, all."""
    if not words:
        raise Usage("which kind? for example: spinyard get services")
    if words[0].lower() in HOLDS:
        if len(words) > 1 or watch or finished or selector:
            raise Usage("holds are listed all together", next_step="spinyard get holds [-A] [-o json]")
        return show_holds(common.client(), None if all_namespaces else scope.namespace, common)
    client = common.client()
    labels = labels_of(selector)
    if len(words) > 1 or "/" in words[0]:
        return _named(client, target(words), common, scope, watch, finished)
    namespace = None if all_namespaces else scope.namespace
    kinds = kinds_of(words[0])
    pages = [client.list(kind, namespace, labels=labels, finished="all" if finished else "") for kind in kinds]
    if watch:
        from spinyard.cli.follow import follow_lists

        return follow_lists(client, kinds, namespace, labels, pages, common.output)
    items = [_with_kind(item, kind) for kind, page in zip(kinds, pages, strict=True) for item in page["items"]]
    version = str((pages[0].get("metadata") or {}).get("resourceVersion", "")) if len(pages) == 1 else ""
    if common.is_data:
        print_data(list_of(items, version), common.output)
        return Exit.OK
    items = with_stats(client, items, common)
    _show(items, common.output, all_namespaces, kinds, "in any namespace" if namespace is None else "in " + namespace)
    return Exit.OK


def labels_of(selectors: Sequence[str]) -> dict[str, str]:
    """`a=b,c=d` and repeated options, as one mapping; all must match."""
    out = {}
    for part in ",".join(selectors).split(","):
        name, equals, value = part.strip().partition("=")
        if part.strip() and (not equals or not name):
            raise Usage(f"{part!r} is not KEY=VALUE", next_step="for example: -l app=web,tier=front")
        if name:
            out[name] = value.removeprefix("=")
    return out


def _named(
    client: Client,
    targets: Sequence[tuple[str, str]],
    common: Common,
    scope: Scope,
    watch: bool,
    finished: bool,
) -> int:
    if watch:
        from spinyard.cli.follow import follow_one

        if len(targets) > 1:
            raise Usage("--watch takes one object, or a kind")
        if targets[0][0] == "Rollout":
            from spinyard.cli.rollout_watch import follow_rollout

            item = client.get("Rollout", scope.namespace, targets[0][1], finished=True)
            return follow_rollout(client, item, common.output)
        if targets[0][0] == "Spinout":
            from spinyard.cli.spinout_watch import follow_spinout

            item = client.get("Spinout", scope.namespace, targets[0][1], finished=True)
            return follow_spinout(client, item, common.output)
        return follow_one(client, *targets[0], scope.namespace, common.output)
    items = [_with_kind(client.get(kind, scope.namespace, name, finished=finished), kind) for kind, name in targets]
    if common.is_data:
        print_data(items[0] if len(items) == 1 else list_of(items), common.output)
    else:
        items = with_stats(client, items, common)
        _show(items, common.output, False, tuple(dict.fromkeys(kind for kind, _ in targets)), "")
    return Exit.OK


def with_stats(client: Client, items: Sequence[Json], common: Common) -> list[Json]:
    """Pools with how they did in the last hour, as columns show it."""
    if common.output == "name":
        return list(items)
    return [{**item, "stats": _stats(client, item)} if item["kind"] == "WarmPool" else item for item in items]


def _stats(client: Client, item: Json) -> Json:
    try:
        return client.pool_stats(item["metadata"]["namespace"], item["metadata"]["name"])
    except NotFound:
        return {}


def _with_kind(item: Json, kind: str) -> Json:
    return item if item.get("kind") else {**item, "kind": kind}


def _show(items: Sequence[Json], output: str, all_namespaces: bool, kinds: Sequence[str], where: str) -> None:
    if output == "name":
        for item in items:
            print(reference(item))
        return
    if not items:
        print(f"no {' or '.join(kind.lower() + 's' for kind in kinds)} {where}")
        if kinds == ("Rollout",):
            print("those that have ended: spinyard get rollouts --finished")
        return
    now = SystemClock().now()
    shown = 0
    for kind in KINDS:
        rows = [
            row_of(item, kind, now, wide=output == "wide", all_namespaces=all_namespaces)
            for item in _ordered(items, kind)
        ]
        if not rows:
            continue
        if shown:
            print()
        if len(kinds) > 1:
            print(f"{kind}s" if len(rows) != 1 else kind)
        print_table(headers_of(kind, wide=output == "wide", all_namespaces=all_namespaces), rows)
        shown += 1


def _ordered(items: Sequence[Json], kind: str) -> list[Json]:
    """Names of rollouts end in chance letters: they are shown in the order in which they began."""
    mine = [item for item in items if item["kind"] == kind]
    if kind == "Rollout":
        mine.sort(key=lambda item: str(item["metadata"].get("creationTimestamp")))
    return mine
