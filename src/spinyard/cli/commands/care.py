"""`doctor`, `orphans`, `gc`, `backup`, `restore`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import COMMON, Common
from spinyard.cli.output import list_of, print_data
from spinyard.cli.settings_file import load_settings, make_home
from spinyard.cli.start import answering
from spinyard.cli.table import print_table
from spinyard.cli.words import BAD, BUSY, GOOD, paint
from spinyard.errors import Conflict

Json = dict[str, Any]


def doctor(common: Common = COMMON) -> int:
    """Check this machine and this home: what is in force, what is missing, what to do. Exit code 1 for a failure."""
    from spinyard.wiring import doctor as checks_of

    checks = [dict(check) for check in checks_of(load_settings(common.home_path))]
    if common.is_data:
        print_data({"apiVersion": "spinyard.dev/v1", "kind": "Doctor", "checks": checks}, common.output)
    else:
        for check in checks:
            _print_check(check)
    return Exit.FAILED if any(check.get("ok") is False for check in checks) else Exit.OK


def orphans(common: Common = COMMON) -> int:
    """What carries this installation's tag and nobody wants. Exit code 1 when there is some."""
    items = common.client().orphans()["items"]
    if common.is_data:
        print_data(list_of(items), common.output)
    elif items:
        rows = [[str(one.get(name) or "") for name in ("key", "provider", "why")] for one in items]
        print_table(["KEY", "PROVIDER", "WHY"], rows)
    else:
        print("no orphans")
    return Exit.FAILED if items else Exit.OK


def gc(
    dry_run: Annotated[bool, Parameter(name="--dry-run", help="Only say what would be removed.")] = False,
    common: Common = COMMON,
) -> int:
    """Remove orphans now, instead of at the next sweep."""
    answer = common.client().gc(dry_run=dry_run)
    items: Sequence[Json] = answer.get("items") or []
    if common.is_data:
        print_data(answer, common.output)
        return Exit.OK
    for one in items:
        print(f"{one.get('key')} ({one.get('provider')}): {one.get('action')}, {one.get('why')}")
    word = "would be removed" if dry_run else "removed or being removed"
    print(f"{len(items)} {word}" if items else "nothing to remove")
    return Exit.OK


def backup(
    path: Annotated[str, Parameter(name="FILE", help="A file that does not exist yet.")], common: Common = COMMON
) -> int:
    """Write a consistent copy of the store, while the server runs."""
    target = os.path.abspath(path)
    if os.path.exists(target):
        raise Conflict(f"{target} exists already", next_step="give another name, a backup never overwrites")
    answer = common.client().backup(target)
    if common.is_data:
        print_data({"apiVersion": "spinyard.dev/v1", "kind": "Backup", **answer}, common.output)
    else:
        print(f"backup written to {answer.get('path') or target}")
    return Exit.OK


def restore(
    path: Annotated[str, Parameter(name="FILE", help="A file that `spinyard backup` wrote.")], common: Common = COMMON
) -> int:
    """Make the store of a home from a backup. The server must not run, and a store that is there must be moved away
    first; what runs and the backup does not know is found by the sweep."""
    home = common.home_path
    source = os.path.abspath(path)
    if not os.path.isfile(source):
        raise Usage(f"{source} is not a file")
    server = answering(home)
    if server is not None:
        raise Conflict(
            f"a server runs for home {home} (pid {server.pid})",
            next_step="stop it with `spinyard down`, restore, and start it again",
        )
    from spinyard.wiring import restore_backup

    make_home(home)
    restore_backup(load_settings(home), Path(source))
    if common.is_data:
        print_data({"apiVersion": "spinyard.dev/v1", "kind": "Restore", "path": source}, common.output)
    else:
        print(f"restored {source}; start the server with `spinyard server`")
    return Exit.OK


def _print_check(check: Json) -> None:
    ok = check.get("ok")
    word, colour = ("ok", GOOD) if ok is True else ("failed", BAD) if ok is False else ("warning", BUSY)
    detail = f": {check['detail']}" if check.get("detail") else ""
    print(f"{paint(f'{word:<7}', colour)}  {check.get('name')}{detail}")
    if ok is not True and check.get("next_step"):
        print(f"         next: {check['next_step']}")
