"""Environment and directory of a running program, read from /proc when a command is to run beside it."""

from __future__ import annotations

import os
from typing import NamedTuple

from spinyard.keeper import kernel, tree
from spinyard.keeper.instances import Instance

_NOT_YET = ("spinyard-shim", "spinyard-keepe", "spinyard-keeper")


class Surroundings(NamedTuple):
    """`environ` None: the program wrote over it (setproctitle does); only the usual few variables are left to give."""

    pid: int
    environ: dict[str, str] | None
    directory: str
    isolated: bool


def of(instance: Instance) -> Surroundings | None:
    """None while the program has not been executed, or when it is gone."""
    identity = instance.identity
    if identity is None:
        return None
    pid, isolated = identity["pid"], False
    if _name_of(pid) == "spinyard-init":
        # The program is the init's eldest child; orphans that the init takes over come after it.
        pid, isolated = next(iter(tree.children_of(pid)), 0), True
    if _name_of(pid) in _NOT_YET:
        # Before the environment is read, not after: else it may be that of before the exec, and the name that of after.
        return None
    try:
        entries, directory = kernel.read_environ(pid), os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None
    # Read first, verified after: while the shim lives and the pid of its child agrees, it has not changed hands.
    stat = kernel.read_stat(identity["pid"])
    if stat is None or (stat.ppid, stat.start_ticks) != (instance.shim_pid, identity["pid_start"]):
        return None
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    environ = {name: value for name, separator, value in pairs if separator and name}
    is_whole = environ.get("SPINYARD_KEY") == instance.key
    return Surroundings(pid, environ if is_whole else None, directory, isolated)


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""
