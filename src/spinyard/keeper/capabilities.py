"""What limits and isolation are in force on this machine, in words for `spinyard doctor`."""

from __future__ import annotations

import os

from spinyard.keeper import isolation


def describe() -> dict[str, dict[str, object]]:
    root = os.geteuid() == 0
    namespaces = isolation.refusal_of("namespaces")
    return {
        "no_new_privs": _has(True, "always"),
        "memory_bytes": _has(True, "sampled four times a second; the tree is killed when it is over"),
        "open_files": _has(True, "RLIMIT_NOFILE"),
        "processes": _has(not root, "RLIMIT_NPROC, per user" if not root else "RLIMIT_NPROC does not bind root"),
        "cpu": _has(False, "needs a writable cgroup v2 with the cpu controller"),
        "log_bytes": _has(True, "output beyond it is rotated away"),
        "namespaces": _has(not namespaces, namespaces or "own processes, own /tmp"),
    }


def _has(enforced: bool, how: str) -> dict[str, object]:
    return {"enforced": enforced, "how": how}
