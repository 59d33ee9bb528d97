"""`plan`, `diff` and `apply`: from files to changes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.commands.get import labels_of
from spinyard.cli.exits import Exit
from spinyard.cli.manifests import read_manifests
from spinyard.cli.options import COMMON, SCOPE, Common, Files, Labels, Scope
from spinyard.cli.output import list_of, print_data, reference
from spinyard.cli.table import hanging
from spinyard.cli.words import BAD, BUSY, GOOD, paint
from spinyard.client import Client
from spinyard.clock import SystemClock
from spinyard.errors import TooLarge

Json = dict[str, Any]

OBJECTS_MAX = 500
BODY_BYTES_MAX = (1 << 20) - 4096

_MARKS = {"create": ("+", GOOD), "update": ("~", BUSY), "delete": ("-", BAD), "unchanged": (" ", "")}
_CHECKS = {"ok": ("ok", GOOD), "warning": ("warning", BUSY), "failed": ("failed", BAD)}


def apply(
    file: Files,
    prune: Annotated[
        bool,
        Parameter(name="--prune", help="Delete what an earlier apply of this set made and the files no longer have."),
    ] = False,
    applied_set: Annotated[
        str, Parameter(name="--set", help="The name of the set for --prune; else made from the file names.")
    ] = "",
    selector: Labels = (),
    dry_run: Annotated[bool, Parameter(name="--dry-run", help="The same as `spinyard plan`.")] = False,
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Create or change what the files say; what is equal stays untouched."""
    if dry_run:
        return plan(file, prune=prune, applied_set=applied_set, common=common, scope=scope)
    objects = read_manifests(file, scope.namespace)
    results = send(common.client(), objects, set_name(file, applied_set, prune), prune, labels_of(selector))
    if common.is_data:
        print_data(list_of([one["object"] for one in results]), common.output)
    else:
        print_results(results, common.output)
    return Exit.OK


def plan(
    file: Files,
    prune: Annotated[bool, Parameter(name="--prune", help="With the deletions that apply --prune would make.")] = False,
    applied_set: Annotated[str, Parameter(name="--set", help="The name of the set for --prune.")] = "",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """What an apply would change, and whether this machine can do it. Exit code 1 when a check failed."""
    answer = _planned(file, prune, applied_set, common, scope)
    checks = answer.get("preflight") or []
    if common.is_data:
        print_data(answer, common.output)
    else:
        for change in answer.get("changes") or []:
            _print_change(change, with_diff=True)
        if checks:
            print("\nPreflight")
        for check in checks:
            _print_check(check)
        _print_sum(answer.get("changes") or [])
    return Exit.FAILED if any(check.get("status") == "failed" for check in checks) else Exit.OK


def diff(
    file: Files,
    prune: Annotated[bool, Parameter(name="--prune", help="With the deletions that apply --prune would make.")] = False,
    applied_set: Annotated[str, Parameter(name="--set", help="The name of the set for --prune.")] = "",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """The differences between the files and the server. Exit code 0: none, 1: some."""
    answer = _planned(file, prune, applied_set, common, scope)
    changes = [change for change in answer.get("changes") or [] if change.get("action") != "unchanged"]
    if common.is_data:
        print_data({**answer, "changes": changes}, common.output)
    else:
        for change in changes:
            _print_change(change, with_diff=True)
    return Exit.FAILED if changes else Exit.OK


def send(client: Client, objects: Sequence[Json], applied_set: str, prune: bool, labels: dict[str, str]) -> list[Json]:
    """One transaction. The key is made once: a request sent again over a broken connection is the same request."""
    _check_bounds(objects)
    key = f"cli-{SystemClock().new_uid()}"
    answer = client.apply(objects, applied_set=applied_set, prune=prune, prune_selector=labels, key=key)
    return list(answer.get("results") or [])


def set_name(files: Sequence[str], given: str, prune: bool) -> str:
    """The same files from the same place are the same set. Without --prune objects join no set unless one is named."""
    if given or not prune:
        return given
    places = "\n".join(sorted(os.path.abspath(name) if name != "-" else name for name in files))
    return "files-" + hashlib.sha256(places.encode()).hexdigest()[:12]


def print_results(results: Sequence[Json], output: str = "text") -> None:
    for one in results:
        if output == "name":
            print(reference(one["object"]))
        else:
            word = str(one.get("result", ""))
            colour = {"created": GOOD, "configured": BUSY, "deleted": BAD}.get(word, "")
            print(f"{reference(one['object'])} {paint(word, colour)}")
            if one.get("rollout"):
                _print_rollout(one)


def _print_rollout(one: Json) -> None:
    """Its template is the old one still: who applied it is told where the new one is."""
    space = one["object"]["metadata"].get("namespace", "default")
    where = "" if space == "default" else f" -n {space}"
    print(f"  rollout {one['rollout']} started; watch it: spinyard get rollout {one['rollout']} -w{where}")


def _planned(file: Sequence[str], prune: bool, applied_set: str, common: Common, scope: Scope) -> Json:
    objects = read_manifests(file, scope.namespace)
    _check_bounds(objects)
    return common.client().apply(objects, applied_set=set_name(file, applied_set, prune), prune=prune, dry_run=True)


def _check_bounds(objects: Sequence[Json]) -> None:
    size = len(json.dumps(objects))
    if len(objects) > OBJECTS_MAX or size > BODY_BYTES_MAX:
        raise TooLarge(
            f"{len(objects)} objects of {size >> 10} KiB together are more than one transaction takes"
            f" ({OBJECTS_MAX} objects, {BODY_BYTES_MAX >> 10} KiB)",
            next_step="apply the files one after the other",
        )


def _print_change(change: Json, *, with_diff: bool) -> None:
    action = str(change.get("action", ""))
    mark, colour = _MARKS.get(action, ("?", ""))
    name = f"{str(change.get('kind', '')).lower()}/{change.get('name', '')}"
    space = change.get("namespace", "default")
    print(f"{paint(mark, colour)} {name}{'' if space == 'default' else f' in {space}'}: {paint(action, colour)}")
    for line in change.get("details") or []:
        print(hanging("    ", str(line)))
    for one in (change.get("diff") or []) if with_diff else []:
        print(f"    {one.get('path')}: {_value(one, 'before')} -> {_value(one, 'after')}")


def _value(one: Json, side: str) -> str:
    return json.dumps(one[side], ensure_ascii=False) if one.get(side) is not None else "(not set)"


def _print_check(check: Json) -> None:
    word, colour = _CHECKS.get(str(check.get("status")), (str(check.get("status")), ""))
    where = f"{check['object']}: " if check.get("object") else ""
    print(f"  {paint(f'{word:<7}', colour)}  {where}{check.get('message') or check.get('check')}")
    if check.get("nextStep") and word != "ok":
        print(f"           next: {check['nextStep']}")


def _print_sum(changes: Sequence[Json]) -> None:
    actions = [str(change.get("action")) for change in changes]
    words = [f"{actions.count(action)} to {action}" for action in ("create", "update", "delete") if action in actions]
    same = actions.count("unchanged")
    print("\n" + (", ".join(words) or "nothing to do") + (f", {same} unchanged" if same else ""), file=sys.stdout)
